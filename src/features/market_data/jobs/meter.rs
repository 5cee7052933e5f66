//! Counts and times runs.

use jiff::Timestamp;
use tokio::time::Instant;

use super::Job;
use crate::common::metrics::table::{JOB_DURATION, JOB_NEXT_RUN, JOB_RUNS};
use crate::domain::job::JobOutcome;

/// Shows what can be counted before there is anything to count.
pub(super) fn count_from_zero(jobs: &[Job]) {
    for (job, outcome) in jobs.iter().flat_map(|job| JobOutcome::ALL.map(|outcome| (job, outcome)))
    {
        JOB_RUNS.with([job.id(), outcome.as_str()]).increment(0);
    }
}

/// A run under way.
pub(super) struct RunMeter {
    job_id: &'static str,
    started: Instant,
}

impl RunMeter {
    pub(super) fn start(job_id: &'static str) -> Self {
        Self { job_id, started: Instant::now() }
    }

    /// It ended.
    pub(super) fn end(self, outcome: JobOutcome) {
        JOB_RUNS.with([self.job_id, outcome.as_str()]).increment(1);
        JOB_DURATION.with([self.job_id]).record(self.started.elapsed());
    }
}

/// A run of a process that died was told as interrupted.
pub(super) fn interrupted(jobs: &[Job], job_id: &str) {
    // A job that only an older version had is no label.
    if let Some(job) = jobs.iter().find(|job| job.id() == job_id) {
        JOB_RUNS.with([job.id(), JobOutcome::Interrupted.as_str()]).increment(1);
    }
}

/// When the job runs next.
pub(super) fn next_run(job_id: &'static str, at: Option<Timestamp>) {
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit")]
    let seconds = at.map_or(0.0, |at| at.as_second() as f64);
    JOB_NEXT_RUN.with([job_id]).set(seconds);
}
