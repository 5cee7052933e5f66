//! Protobuf to commands and queries, jobs and runs to protobuf.

use std::time::Duration;

use super::{JobSummary, ListJobs, RunJob};
use crate::common::error::{FieldViolations, InvalidFields};
use crate::domain::job::JobOutcome;
use crate::features::market_data::wire::{count, duration, timestamp};
use crate::infrastructure::persistence::JobRun;
use crate::proto::v1 as pb;

/// Longest name of a job.
const MAX_JOB_ID: usize = 64;

impl From<pb::ListJobsRequest> for ListJobs {
    fn from(_: pb::ListJobsRequest) -> Self {
        Self
    }
}

impl TryFrom<pb::RunJobRequest> for RunJob {
    type Error = InvalidFields;

    fn try_from(request: pb::RunJobRequest) -> Result<Self, InvalidFields> {
        let pb::RunJobRequest { job_id } = request;
        let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let mut violations = FieldViolations::default();
        if !(1..=MAX_JOB_ID).contains(&job_id.len()) || !job_id.chars().all(is_part) {
            violations.push("job_id", "must be the name of a job, such as market_data_sync_all");
        }
        violations.finish(Some(Self { job_id }))
    }
}

impl From<Vec<JobSummary>> for pb::ListJobsResponse {
    fn from(jobs: Vec<JobSummary>) -> Self {
        Self { jobs: jobs.into_iter().map(Into::into).collect() }
    }
}

impl From<JobSummary> for pb::Job {
    fn from(job: JobSummary) -> Self {
        Self {
            job_id: job.job_id.to_owned(),
            schedule: job.schedule,
            enabled: job.enabled,
            next_run_time: job.next_run_at.map(timestamp),
            last_run: job.last_run.map(|(run, elapsed)| wire_run(run, elapsed)),
        }
    }
}

impl From<(JobRun, Duration)> for pb::RunJobResponse {
    fn from((run, elapsed): (JobRun, Duration)) -> Self {
        Self { run: Some(wire_run(run, elapsed)) }
    }
}

fn wire_run(run: JobRun, elapsed: Duration) -> pb::JobRun {
    let (outcome, message) = match run.ended {
        None => (pb::JobOutcome::Running, String::new()),
        Some(end) => (outcome(end.outcome), end.message),
    };
    pb::JobRun {
        run_id: run.run_id.to_string(),
        job_id: run.job_id,
        start_time: Some(timestamp(run.started_at)),
        elapsed: Some(duration(elapsed)),
        outcome: outcome.into(),
        message,
        scheduled_time: run.instant.map(timestamp),
        attempt: count(run.attempt.into()),
    }
}

const fn outcome(outcome: JobOutcome) -> pb::JobOutcome {
    match outcome {
        JobOutcome::Succeeded => pb::JobOutcome::Succeeded,
        JobOutcome::Partial => pb::JobOutcome::Partial,
        JobOutcome::Failed => pb::JobOutcome::Failed,
        JobOutcome::TimedOut => pb::JobOutcome::TimedOut,
        JobOutcome::Interrupted => pb::JobOutcome::Interrupted,
    }
}
