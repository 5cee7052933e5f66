//! What happened, told after it was stored.

use jiff::Timestamp;

use super::{Series, Symbol};
use crate::domain::ohlcv::{Bar, StoredBar};

/// Something that happened to the data, published once it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct DomainEvent {
    /// When it was stored.
    pub time: Timestamp,
    /// What it was.
    pub payload: EventPayload,
}

/// The kinds of [`DomainEvent`].
#[derive(Clone, Debug, PartialEq)]
pub enum EventPayload {
    /// A sync ended well.
    HistoricalDataSynced {
        /// What was synced.
        series: Series,
        /// Bars that were not stored before.
        inserted: u64,
        /// Bars that were stored differently before.
        updated: u64,
    },
    /// The feed closed a bar.
    BarCompleted {
        /// Whose bar.
        series: Series,
        /// The bar, closed.
        bar: Bar,
    },
    /// A bar that was final has other values now.
    BarRevised {
        /// Whose bar.
        series: Series,
        /// What was stored before.
        old: StoredBar,
        /// What is stored now.
        new: StoredBar,
    },
    /// The feed was away from a symbol that it follows while the market was open.
    GapDetected {
        /// Whose bars are in doubt.
        symbol: Symbol,
        /// The last that was heard before it.
        start: Timestamp,
        /// The first that was heard after it.
        end: Timestamp,
    },
}
