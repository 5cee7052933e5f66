//! List the jobs: when each runs next, and how it went last.

use std::time::Duration;

use jiff::Timestamp;

use super::{JobError, JobService};
use crate::common::mediator::{Handler, Request};
use crate::infrastructure::persistence::JobRun;

/// Which jobs are there?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListJobs;

/// A job as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobSummary {
    /// Its name.
    pub job_id: &'static str,
    /// When it runs: six cron fields, in UTC.
    pub schedule: String,
    /// Whether it runs by itself.
    pub enabled: bool,
    /// When it does next; absent where it does not.
    pub next_run_at: Option<Timestamp>,
    /// Its newest run, which may be under way, and how long that took so far.
    pub last_run: Option<(JobRun, Duration)>,
}

impl Request for ListJobs {
    type Output = Vec<JobSummary>;
    type Error = JobError;
    const NAME: &'static str = "system.list_jobs";
}

pub(super) struct ListJobsHandler {
    pub(super) service: JobService,
}

impl Handler<ListJobs> for ListJobsHandler {
    async fn handle(&self, _: ListJobs) -> Result<Vec<JobSummary>, JobError> {
        let mut summaries = Vec::new();
        for job in self.service.jobs() {
            let last_run = self.service.newest(job).await?;
            summaries.push(JobSummary {
                job_id: job.id(),
                schedule: job.settings.schedule.to_string(),
                enabled: self.service.is_enabled(job),
                next_run_at: self.service.next(job),
                last_run: last_run.map(|run| {
                    let elapsed = elapsed(&run, self.service.now());
                    (run, elapsed)
                }),
            });
        }
        Ok(summaries)
    }
}

/// How long `run` took, or has taken so far at `now`.
pub(super) fn elapsed(run: &JobRun, now: Timestamp) -> Duration {
    let until = run.ended.as_ref().map_or(now, |end| end.at);
    until.duration_since(run.started_at).try_into().unwrap_or_default()
}
