//! Why a job was not run, or cannot be shown.

use std::time::Duration;

use thiserror::Error;

use crate::common::constants::RETRY_AFTER_OUTAGE;
use crate::common::error::{Coded, ErrorCode};
use crate::infrastructure::persistence::DatabaseError;

/// Why a job was not run, or cannot be shown.
#[derive(Debug, Error)]
pub enum JobError {
    /// There is no job of this name.
    #[error("there is no job `{0}`; ListJobs names them")]
    NotFound(String),
    /// The database did not take part.
    #[error("the runs of jobs cannot be read or kept")]
    Database(#[from] DatabaseError),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
    /// A defect of ours; the log has it.
    #[error("the job failed inside")]
    Crashed,
}

impl Coded for JobError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound(_) => ErrorCode::JobNotFound,
            Self::Database(error) => error.code(),
            Self::Stopping => ErrorCode::Draining,
            Self::Crashed => ErrorCode::Internal,
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Database(error) => error.metadata(),
            Self::NotFound(_) | Self::Stopping | Self::Crashed => Vec::new(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Database(error) => error.retry_after(),
            Self::Stopping => Some(RETRY_AFTER_OUTAGE),
            Self::NotFound(_) | Self::Crashed => None,
        }
    }

    fn resource(&self) -> Option<(&'static str, String)> {
        match self {
            Self::NotFound(job_id) => Some(("job", job_id.clone())),
            Self::Database(_) | Self::Stopping | Self::Crashed => None,
        }
    }
}
