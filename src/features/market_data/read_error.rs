//! Why something stored cannot be served: what every query of market data answers with.

use std::time::Duration;

use thiserror::Error;

use super::PageTokenInvalid;
use crate::common::error::{Coded, ErrorCode, FieldViolation, InvalidFields};
use crate::domain::shared::{Series, Symbol};
use crate::domain::sync::SyncStatus;
use crate::infrastructure::persistence::DatabaseError;

/// Why something stored cannot be served.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The request is wrong.
    #[error(transparent)]
    Fields(#[from] InvalidFields),
    /// The page token is not one of this query.
    #[error(transparent)]
    PageToken(#[from] PageTokenInvalid),
    /// There is no bar, and the series was never synced.
    #[error("{series} was never synced: {}", remedy(failure.as_deref()))]
    NotSynced {
        /// Which series.
        series: Series,
        /// Why its newest sync failed, where one was tried.
        failure: Option<String>,
    },
    /// The registry has no such symbol.
    #[error("`{0}` is not in the registry: a symbol gets there with its first SyncSymbol")]
    SymbolUnknown(Symbol),
    /// The database did not answer.
    #[error("the database cannot be read")]
    Database(#[from] DatabaseError),
}

impl ReadError {
    /// There is nothing of `series`; `status` says how its newest sync stands, if one was tried.
    pub fn not_synced(series: Series, status: Option<SyncStatus>) -> Self {
        let failure = status.and_then(|status| status.error_message);
        Self::NotSynced { series, failure }
    }
}

/// What to do about a series that was never synced.
fn remedy(failure: Option<&str>) -> String {
    match failure {
        Some(failure) => format!("its last sync failed ({failure}): call SyncSymbol again"),
        None => "call SyncSymbol for it first".to_owned(),
    }
}

impl Coded for ReadError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Fields(error) => error.code(),
            Self::PageToken(error) => error.code(),
            Self::NotSynced { .. } => ErrorCode::NotSynced,
            Self::SymbolUnknown(_) => ErrorCode::SymbolUnknown,
            Self::Database(error) => error.code(),
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::NotSynced { series, .. } => vec![
                ("call", "pocketquant.v1.MarketData/SyncSymbol".to_owned()),
                ("symbol", series.symbol.to_string()),
                ("interval", series.interval.to_string()),
            ],
            Self::Database(error) => error.metadata(),
            Self::Fields(_) | Self::PageToken(_) | Self::SymbolUnknown(_) => Vec::new(),
        }
    }

    fn violations(&self) -> Vec<FieldViolation> {
        match self {
            Self::Fields(error) => error.violations(),
            Self::PageToken(_)
            | Self::NotSynced { .. }
            | Self::SymbolUnknown(_)
            | Self::Database(_) => Vec::new(),
        }
    }

    fn resource(&self) -> Option<(&'static str, String)> {
        match self {
            Self::SymbolUnknown(symbol) => Some(("symbol", symbol.to_string())),
            Self::Fields(_) | Self::PageToken(_) | Self::NotSynced { .. } | Self::Database(_) => {
                None
            }
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Database(error) => error.retry_after(),
            Self::Fields(_)
            | Self::PageToken(_)
            | Self::NotSynced { .. }
            | Self::SymbolUnknown(_) => None,
        }
    }
}
