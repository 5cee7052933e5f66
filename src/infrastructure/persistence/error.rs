//! How the database can fail, in terms its callers can act on.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::common::constants::RETRY_AFTER_OUTAGE;
use crate::common::error::{Coded, ErrorCode};

/// What an engine said, kept for the log.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// Why the database did not do what it was asked. Texts carry hosts and paths, never credentials.
#[derive(Clone, Debug, Error)]
pub enum DatabaseError {
    /// It cannot be reached, is locked, full, read-only or too slow. The same call may pass later;
    /// whether a write took place is not known, and writing it again is safe.
    #[error("{engine} is unavailable: {detail}")]
    Unavailable {
        /// Which engine.
        engine: &'static str,
        /// What happened.
        detail: String,
        /// What the engine said.
        #[source]
        cause: Option<Cause>,
    },
    /// Something stored cannot be read. Trying again changes nothing; someone must look at it.
    #[error("`{key}` in `{collection}` cannot be read: {detail}")]
    Corrupt {
        /// In which collection or table.
        collection: &'static str,
        /// Which one.
        key: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The database cannot be used as it is set up. Only at start.
    #[error("{message}; {remedy}")]
    Config {
        /// What is wrong.
        message: String,
        /// What to do.
        remedy: String,
    },
    /// It answered and refused. Trying again changes nothing.
    #[error("{engine} refused: {detail}")]
    Refused {
        /// Which engine.
        engine: &'static str,
        /// What happened.
        detail: String,
        /// What the engine said.
        #[source]
        cause: Option<Cause>,
    },
}

impl DatabaseError {
    /// Whether the same call may pass later.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable { .. } => true,
            Self::Corrupt { .. } | Self::Config { .. } | Self::Refused { .. } => false,
        }
    }

    pub(super) fn unavailable(engine: &'static str, detail: impl Into<String>) -> Self {
        Self::Unavailable { engine, detail: detail.into(), cause: None }
    }

    pub(super) fn refused(engine: &'static str, detail: impl Into<String>) -> Self {
        Self::Refused { engine, detail: detail.into(), cause: None }
    }

    pub(super) fn config(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Config { message: message.into(), remedy: remedy.into() }
    }

    pub(super) fn corrupt(
        collection: &'static str,
        key: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        Self::Corrupt { collection, key: key.into(), detail: detail.into() }
    }
}

impl Coded for DatabaseError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Unavailable { .. } => ErrorCode::DatabaseUnavailable,
            Self::Corrupt { .. } | Self::Config { .. } | Self::Refused { .. } => {
                ErrorCode::Internal
            }
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        self.is_transient().then_some(RETRY_AFTER_OUTAGE)
    }
}
