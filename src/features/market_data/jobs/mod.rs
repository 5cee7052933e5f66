//! What the service does by itself, and when.
//!
//! `domain::job` decides which run is due, `common::schedule` when; the [`JobService`] looks once a
//! second, claims what is due in the database, and runs it. A job is an entry of the `table`.

mod carry_out;
mod job;
mod job_error;
mod job_service;
mod list_jobs;
mod meter;
mod repair;
mod retention;
mod run_job;
mod sync_tracked;
mod table;
mod under_way;
mod wire;

pub use job::{Clock, Job, JobReport, JobWork};
pub use job_error::JobError;
pub use job_service::{JobService, JobTrouble};
pub use list_jobs::{JobSummary, ListJobs};
pub use repair::outage;
pub use run_job::RunJob;
pub use table::{JobParts, table};

use self::list_jobs::ListJobsHandler;
use self::run_job::RunJobHandler;
use crate::common::mediator::MediatorBuilder;

/// Adds this slice's handlers.
pub fn register(mediator: MediatorBuilder, service: &JobService) -> MediatorBuilder {
    mediator
        .register(ListJobsHandler { service: service.clone() })
        .register(RunJobHandler { service: service.clone() })
}
