//! Run a job now, and wait for the end.

use std::time::Duration;

use super::list_jobs::elapsed;
use super::{JobError, JobService};
use crate::common::mediator::{Handler, Request};
use crate::infrastructure::persistence::JobRun;

/// Run a job now, whatever its schedule and its switch say. Where it runs already, that run is
/// joined. It goes on when nobody waits any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunJob {
    /// Which.
    pub job_id: String,
}

impl Request for RunJob {
    /// The run, and how long it took.
    type Output = (JobRun, Duration);
    type Error = JobError;
    const NAME: &'static str = "system.run_job";
}

pub(super) struct RunJobHandler {
    pub(super) service: JobService,
}

impl Handler<RunJob> for RunJobHandler {
    async fn handle(&self, command: RunJob) -> Result<(JobRun, Duration), JobError> {
        let run = self.service.run_now(&command.job_id).await?;
        let elapsed = elapsed(&run, self.service.now());
        Ok((run, elapsed))
    }
}
