//! Why a call with an idempotency key is not carried out.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::InvalidIdempotencyKey;
use crate::common::constants::{HEADER_IDEMPOTENCY_KEY, RETRY_AFTER_OUTAGE};
use crate::common::error::{Coded, ErrorCode, FieldViolation};

/// When a caller should ask again for what is still under way.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Why a call with an idempotency key is not carried out.
#[derive(Clone, Debug, Error)]
pub enum IdempotencyError {
    /// The key itself is malformed.
    #[error("invalid request: `{HEADER_IDEMPOTENCY_KEY}` {0}")]
    InvalidKey(#[from] InvalidIdempotencyKey),
    /// The key stands for another request.
    #[error("the idempotency key was used with another request; use a new one")]
    KeyReused,
    /// The call that has the key is not over.
    #[error("the first call with this idempotency key is still under way")]
    InProgress,
    /// Whether the key was used cannot be known now, so nothing was done.
    #[error("what is kept for the idempotency key cannot be reached, and nothing was done")]
    Store(#[from] StoreError),
    /// The process stopped before the command ended.
    #[error("the server is stopping")]
    Stopped,
}

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, Error)]
#[error("{cause}")]
pub struct StoreError {
    code: ErrorCode,
    #[source]
    cause: Arc<dyn Error + Send + Sync>,
}

impl StoreError {
    /// What `cause` means to the caller is `code`.
    pub fn new(code: ErrorCode, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { code, cause: Arc::from(cause.into()) }
    }
}

impl Coded for StoreError {
    fn code(&self) -> ErrorCode {
        self.code
    }
}

impl Coded for IdempotencyError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidKey(_) => ErrorCode::InvalidFields,
            Self::KeyReused => ErrorCode::IdempotencyKeyReused,
            Self::InProgress => ErrorCode::IdempotencyInProgress,
            Self::Store(error) => error.code(),
            Self::Stopped => ErrorCode::Draining,
        }
    }

    fn violations(&self) -> Vec<FieldViolation> {
        match self {
            Self::InvalidKey(invalid) => vec![FieldViolation {
                field: HEADER_IDEMPOTENCY_KEY.to_owned(),
                description: invalid.to_string(),
            }],
            Self::KeyReused | Self::InProgress | Self::Store(_) | Self::Stopped => Vec::new(),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::InProgress => Some(ASK_AGAIN_AFTER),
            Self::Store(error) => error.is_transient().then_some(RETRY_AFTER_OUTAGE),
            Self::Stopped => Some(RETRY_AFTER_OUTAGE),
            Self::InvalidKey(_) | Self::KeyReused => None,
        }
    }
}
