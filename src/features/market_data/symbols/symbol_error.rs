//! Why what is known of a symbol cannot be changed.

use std::time::Duration;

use thiserror::Error;

use crate::common::constants::RETRY_AFTER_OUTAGE;
use crate::common::error::{Coded, ErrorCode};
use crate::domain::shared::Symbol;
use crate::features::market_data::quote::QuoteError;
use crate::infrastructure::persistence::DatabaseError;

/// Why what is known of a symbol cannot be changed.
#[derive(Debug, Error)]
pub enum SymbolError {
    /// The registry has no such symbol.
    #[error("`{0}` is not in the registry: a symbol gets there with its first SyncSymbol")]
    Unknown(Symbol),
    /// A sync of it is not over.
    #[error("a sync of `{0}` is under way: wait for its end, or call CancelSync")]
    Busy(Symbol),
    /// The feed of another process follows it, and would go on to write its bars.
    #[error(
        "the feed of another process follows `{0}`: delete it there, or unsubscribe it and wait \
         until that feed has let it go"
    )]
    Followed(Symbol),
    /// The feed cannot let it go.
    #[error(transparent)]
    Feed(#[from] QuoteError),
    /// The database did not answer.
    #[error("the database cannot be used")]
    Database(#[from] DatabaseError),
    /// The server is stopping.
    #[error("the server is stopping; call again to go on")]
    Draining,
}

impl Coded for SymbolError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Unknown(_) => ErrorCode::SymbolUnknown,
            Self::Busy(_) => ErrorCode::SymbolBusy,
            Self::Followed(_) => ErrorCode::SymbolFollowed,
            Self::Feed(error) => error.code(),
            Self::Database(error) => error.code(),
            Self::Draining => ErrorCode::Draining,
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Busy(_) => {
                vec![("remedy", "wait for the sync's end, or call CancelSync".to_owned())]
            }
            Self::Followed(_) => {
                let remedy = "call DeleteSymbol at the process with the feed, or Unsubscribe first";
                vec![("remedy", remedy.to_owned())]
            }
            Self::Feed(error) => error.metadata(),
            Self::Database(error) => error.metadata(),
            Self::Unknown(_) | Self::Draining => Vec::new(),
        }
    }

    fn resource(&self) -> Option<(&'static str, String)> {
        match self {
            Self::Unknown(symbol) | Self::Busy(symbol) | Self::Followed(symbol) => {
                Some(("symbol", symbol.to_string()))
            }
            Self::Feed(_) | Self::Database(_) | Self::Draining => None,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy(_) | Self::Draining => Some(RETRY_AFTER_OUTAGE),
            Self::Feed(error) => error.retry_after(),
            Self::Database(error) => error.retry_after(),
            Self::Unknown(_) | Self::Followed(_) => None,
        }
    }
}
