//! Why something live cannot be had.

use std::time::Duration;

use thiserror::Error;

use crate::common::constants::RETRY_AFTER_OUTAGE;
use crate::common::error::{Coded, ErrorCode, FieldViolation, InvalidFields};
use crate::domain::shared::{Series, Symbol};
use crate::infrastructure::interfaces::ProviderError;
use crate::infrastructure::persistence::DatabaseError;

/// Why something live cannot be had.
#[derive(Debug, Error)]
pub enum QuoteError {
    /// The request is wrong.
    #[error(transparent)]
    Fields(#[from] InvalidFields),
    /// Nobody follows the symbol.
    #[error("`{0}` is not subscribed: call Subscribe for it first")]
    NotSubscribed(Symbol),
    /// The symbol is followed and has no price yet.
    #[error("`{0}` has no quote yet: see GetFeedStatus for how the feed is")]
    NoQuote(Symbol),
    /// Nothing was traded in the time of the bar so far.
    #[error("{0} has no bar that is forming: nothing was traded in its time so far")]
    NoFormingBar(Series),
    /// The provider refused every symbol.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The cursor lies before what is kept.
    #[error(
        "the cursor lies before the oldest entry that is kept: resume from `earliest_cursor`, or give start_time"
    )]
    CursorExpired {
        /// The earliest place to resume from.
        earliest: String,
    },
    /// The reader read nothing for too long.
    #[error("nothing was read for {:.1} s: read faster, and resume from `cursor` where there is one", .waited.as_secs_f64())]
    SlowConsumer {
        /// Where to resume, if that can be done.
        cursor: Option<String>,
        /// How long nothing was read.
        waited: Duration,
    },
    /// What the feed has decided is not in the database yet.
    #[error("bars that the feed has built wait for the database: call again once they are stored")]
    Unsettled,
    /// The database did not answer.
    #[error("the database cannot be used")]
    Database(#[from] DatabaseError),
    /// The server is stopping.
    #[error("the server is stopping")]
    Draining,
}

impl Coded for QuoteError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Fields(error) => error.code(),
            Self::NotSubscribed(_) => ErrorCode::NotSubscribed,
            Self::NoQuote(_) => ErrorCode::NoQuote,
            Self::NoFormingBar(_) => ErrorCode::NoFormingBar,
            Self::Provider(error) => error.code(),
            Self::CursorExpired { .. } => ErrorCode::CursorExpired,
            Self::SlowConsumer { .. } => ErrorCode::SlowConsumer,
            Self::Unsettled => ErrorCode::DatabaseUnavailable,
            Self::Database(error) => error.code(),
            Self::Draining => ErrorCode::Draining,
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        let remedy = |call: &str| vec![("remedy", call.to_owned())];
        match self {
            Self::NotSubscribed(_) => remedy("pocketquant.v1.QuoteStream/Subscribe"),
            Self::NoQuote(_) | Self::NoFormingBar(_) => {
                remedy("pocketquant.v1.QuoteStream/GetFeedStatus")
            }
            Self::Provider(error) => error.metadata(),
            Self::CursorExpired { earliest } => vec![("earliest_cursor", earliest.clone())],
            Self::SlowConsumer { cursor, .. } => {
                cursor.iter().map(|cursor| ("cursor", cursor.clone())).collect()
            }
            Self::Database(error) => error.metadata(),
            Self::Fields(_) | Self::Unsettled | Self::Draining => Vec::new(),
        }
    }

    fn violations(&self) -> Vec<FieldViolation> {
        if let Self::Fields(error) = self { error.violations() } else { Vec::new() }
    }

    fn resource(&self) -> Option<(&'static str, String)> {
        if let Self::Provider(error) = self { error.resource() } else { None }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Provider(error) => error.retry_after(),
            Self::Database(error) => error.retry_after(),
            Self::Unsettled | Self::Draining => Some(RETRY_AFTER_OUTAGE),
            Self::Fields(_)
            | Self::NotSubscribed(_)
            | Self::NoQuote(_)
            | Self::NoFormingBar(_)
            | Self::CursorExpired { .. }
            | Self::SlowConsumer { .. } => None,
        }
    }
}
