//! Why a sync failed.

use std::time::Duration;

use thiserror::Error;
use uuid::Uuid;

use crate::common::constants::RETRY_AFTER_OUTAGE;
use crate::common::error::{Coded, ErrorCode};
use crate::infrastructure::interfaces::ProviderError;
use crate::infrastructure::persistence::DatabaseError;

/// Why a sync failed. Pages that were stored before it did stay.
#[derive(Clone, Debug, Error)]
pub enum SyncError {
    /// The provider did not deliver.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The database did not take part.
    #[error("the bars could not be stored")]
    Database(#[from] DatabaseError),
    /// The server is stopping.
    #[error("the server is stopping; the sync was interrupted, what it had stored stays")]
    Interrupted,
    /// Somebody cancelled it.
    #[error("the sync was cancelled; what it had stored stays")]
    Cancelled,
    /// There is no sync of this id, or it ended too long ago.
    #[error("there is no sync `{0}`, or it ended more than 24 hours ago; StartSync gives the ids")]
    NotFound(Uuid),
    /// Too many syncs are waiting.
    #[error("too many syncs are waiting")]
    Overloaded,
    /// A defect of ours; the log has it.
    #[error("the sync failed inside")]
    Crashed,
}

impl Coded for SyncError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Provider(error) => error.code(),
            Self::Database(error) => error.code(),
            Self::Interrupted => ErrorCode::Draining,
            Self::Cancelled => ErrorCode::Cancelled,
            Self::NotFound(_) => ErrorCode::SyncNotFound,
            Self::Overloaded => ErrorCode::Overloaded,
            Self::Crashed => ErrorCode::Internal,
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Provider(error) => error.metadata(),
            Self::Database(error) => error.metadata(),
            Self::Interrupted
            | Self::Cancelled
            | Self::NotFound(_)
            | Self::Overloaded
            | Self::Crashed => Vec::new(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Provider(error) => error.retry_after(),
            Self::Database(error) => error.retry_after(),
            Self::Interrupted | Self::Overloaded => Some(RETRY_AFTER_OUTAGE),
            Self::Cancelled | Self::NotFound(_) | Self::Crashed => None,
        }
    }

    fn resource(&self) -> Option<(&'static str, String)> {
        match self {
            Self::Provider(error) => error.resource(),
            Self::NotFound(sync_id) => Some(("sync", sync_id.to_string())),
            Self::Database(_)
            | Self::Interrupted
            | Self::Cancelled
            | Self::Overloaded
            | Self::Crashed => None,
        }
    }

    fn quota(&self) -> Option<(String, String)> {
        match self {
            Self::Provider(error) => error.quota(),
            Self::Database(_)
            | Self::Interrupted
            | Self::Cancelled
            | Self::NotFound(_)
            | Self::Overloaded
            | Self::Crashed => None,
        }
    }
}
