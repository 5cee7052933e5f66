//! Why gaps could not be repaired.

use std::time::Duration;

use thiserror::Error;

use crate::common::error::{Coded, ErrorCode, FieldViolation};
use crate::features::market_data::ReadError;
use crate::features::market_data::sync::SyncError;
use crate::infrastructure::persistence::DatabaseError;

/// Why gaps could not be repaired. What was stored before stays, and so do the gaps.
#[derive(Debug, Error)]
pub enum RepairError {
    /// What is missing could not be found out.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It could not be fetched.
    #[error(transparent)]
    Sync(#[from] SyncError),
}

impl From<DatabaseError> for RepairError {
    fn from(error: DatabaseError) -> Self {
        Self::Read(error.into())
    }
}

impl RepairError {
    fn coded(&self) -> &dyn Coded {
        match self {
            Self::Read(error) => error,
            Self::Sync(error) => error,
        }
    }
}

impl Coded for RepairError {
    fn code(&self) -> ErrorCode {
        self.coded().code()
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        self.coded().metadata()
    }

    fn violations(&self) -> Vec<FieldViolation> {
        self.coded().violations()
    }

    fn resource(&self) -> Option<(&'static str, String)> {
        self.coded().resource()
    }

    fn retry_after(&self) -> Option<Duration> {
        self.coded().retry_after()
    }

    fn quota(&self) -> Option<(String, String)> {
        self.coded().quota()
    }
}
