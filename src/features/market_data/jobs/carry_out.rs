//! One run, from its claim to its outcome.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::meter::RunMeter;
use super::under_way::RunUnderWay;
use super::{Clock, Job, JobReport};
use crate::common::error::with_causes;
use crate::common::shutdown::catch_panic;
use crate::domain::job::JobOutcome;
use crate::infrastructure::persistence::{JobEnd, JobRun, JobRuns, Lease};

/// How long a run is its process's own after that last said so.
pub(super) const LEASE: Duration = Duration::from_secs(15);
/// How often the process says so.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// Runs of a job that are remembered.
const RUNS_KEPT: u32 = 500;
/// How long the outcome is tried to be kept while the database is away.
const KEEP_WITHIN: Duration = Duration::from_mins(2);
/// How long is waited between two tries.
const KEEP_PAUSE: Duration = Duration::from_secs(1);

/// A lease from now on.
pub(super) const fn lease(owner: Uuid) -> Lease {
    Lease { owner, length: LEASE }
}

/// A run that this process has claimed.
pub(super) struct ClaimedRun {
    pub(super) job: Job,
    pub(super) record: JobRun,
    pub(super) runs: JobRuns,
    pub(super) clock: Clock,
    pub(super) owner: Uuid,
    pub(super) stopping: CancellationToken,
    /// Held as long as this is worked at.
    pub(super) _under_way: RunUnderWay,
}

impl ClaimedRun {
    /// Does the work, unless it takes too long, the service stops or the run is lost to another
    /// process; keeps how it ended.
    pub(super) async fn carry_out(self) -> JobRun {
        let meter = RunMeter::start(self.job.id());
        let JobReport { outcome, message } = self.work().await;
        let end = JobEnd { at: self.clock.now().max(self.record.started_at), outcome, message };
        self.log(&end);
        self.keep(&end).await;
        meter.end(outcome);
        JobRun { ended: Some(end), ..self.record }
    }

    async fn work(&self) -> JobReport {
        let Job { timeout: limit, work, .. } = &self.job;
        let working = timeout(*limit, catch_panic("job", work()));
        let interrupted = |why| JobReport::new(JobOutcome::Interrupted, why);
        tokio::select! {
            // What the work says when everything stops is not its outcome.
            biased;
            () = self.stopping.cancelled() => interrupted("the service stopped"),
            () = self.lost() => interrupted("another process took the run over"),
            worked = working => match worked {
                Ok(Ok(report)) => report,
                Ok(Err(_)) => JobReport::new(JobOutcome::Failed, "it failed inside; the log has it"),
                Err(_) => {
                    let limit = humantime::format_duration(*limit);
                    JobReport::new(JobOutcome::TimedOut, format!("it took more than {limit}"))
                }
            },
        }
    }

    /// Says that the run goes on, until it is no longer this process's.
    async fn lost(&self) {
        loop {
            sleep(RENEW_EVERY).await;
            match self.runs.renew(self.record.run_id, lease(self.owner)).await {
                Ok(true) => {}
                Ok(false) => return,
                // Whoever would take the run over needs the database as well.
                Err(error) => warn!(error = with_causes(&error), "a run's lease was not renewed"),
            }
        }
    }

    fn log(&self, end: &JobEnd) {
        let (job_id, outcome, message) = (self.job.id(), end.outcome.as_str(), &end.message);
        match end.outcome {
            JobOutcome::Succeeded => info!(job_id, outcome, "job `{job_id}`: {message}"),
            JobOutcome::Partial
            | JobOutcome::Failed
            | JobOutcome::TimedOut
            | JobOutcome::Interrupted => {
                warn!(job_id, outcome, "job `{job_id}` {outcome}: {message}");
            }
        }
    }

    /// Keeps the outcome, also where the database is away for a while. A run whose outcome cannot
    /// be kept is told as interrupted once its lease has lapsed, and is caught up.
    async fn keep(&self, end: &JobEnd) {
        let give_up = Instant::now() + KEEP_WITHIN;
        loop {
            let kept = self.runs.end(self.record.run_id, self.owner, end).await;
            let job_id = self.job.id();
            match kept {
                Ok(true) => break,
                Ok(false) => {
                    warn!(job_id, "the run of `{job_id}` was no longer this process's");
                    return;
                }
                Err(error) if Instant::now() >= give_up || self.stopping.is_cancelled() => {
                    let error = with_causes(&error);
                    error!(job_id, error, "how `{job_id}` ended cannot be kept");
                    return;
                }
                Err(_) => sleep(KEEP_PAUSE).await,
            }
        }
        if let Err(error) = self.runs.prune(self.job.id(), RUNS_KEPT).await {
            warn!(error = with_causes(&error), "old runs could not be removed");
        }
    }
}
