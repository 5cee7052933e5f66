//! Why something about a webhook cannot be done.

use std::time::Duration;

use thiserror::Error;
use uuid::Uuid;

use crate::common::constants::MAX_WEBHOOKS;
use crate::common::error::{Coded, ErrorCode, FieldViolation, InvalidFields};
use crate::features::market_data::PageTokenInvalid;
use crate::infrastructure::persistence::DatabaseError;

/// Why something about a webhook cannot be done.
#[derive(Debug, Error)]
pub enum WebhookError {
    /// The request is wrong.
    #[error(transparent)]
    Fields(#[from] InvalidFields),
    /// The page token is not one of this query.
    #[error(transparent)]
    PageToken(#[from] PageTokenInvalid),
    /// There is none of this id.
    #[error("there is no webhook `{0}`; ListWebhooks gives the ids")]
    NotFound(Uuid),
    /// There are enough.
    #[error("there are {MAX_WEBHOOKS} webhooks, and there may not be more; delete one first")]
    TooMany,
    /// The database did not take part.
    #[error("the webhooks cannot be read or written")]
    Database(#[from] DatabaseError),
}

impl Coded for WebhookError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Fields(error) => error.code(),
            Self::PageToken(error) => error.code(),
            Self::NotFound(_) => ErrorCode::WebhookNotFound,
            Self::TooMany => ErrorCode::WebhookLimit,
            Self::Database(error) => error.code(),
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Database(error) => error.metadata(),
            Self::Fields(_) | Self::PageToken(_) | Self::NotFound(_) | Self::TooMany => Vec::new(),
        }
    }

    fn violations(&self) -> Vec<FieldViolation> {
        match self {
            Self::Fields(error) => error.violations(),
            Self::PageToken(_) | Self::NotFound(_) | Self::TooMany | Self::Database(_) => {
                Vec::new()
            }
        }
    }

    fn resource(&self) -> Option<(&'static str, String)> {
        match self {
            Self::NotFound(id) => Some(("webhook", id.to_string())),
            Self::Fields(_) | Self::PageToken(_) | Self::TooMany | Self::Database(_) => None,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Database(error) => error.retry_after(),
            Self::Fields(_) | Self::PageToken(_) | Self::NotFound(_) | Self::TooMany => None,
        }
    }
}
