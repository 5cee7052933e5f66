//! What the feed's task has written for it, in order.

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::oneshot;

use super::ring::LiveChange;
use crate::domain::ohlcv::{Bar, BarRange, StoredBar};
use crate::domain::shared::{Series, Symbol};

/// Something to write.
#[derive(Debug)]
pub(super) enum Job {
    /// Bars and what goes with them, in order.
    Decided(Vec<Decided>),
    /// What a crash would cost; behind all that was decided before.
    Keep(Vec<(Symbol, Bytes)>),
    /// A bar that is not over when the feed stops.
    Forming(Series, StoredBar),
    /// From where on a subscribed symbol's closed bars are logged.
    LoggedFrom(Symbol, Timestamp),
    /// Tells when all before it is safe, and where.
    Barrier(oneshot::Sender<Safe>),
}

/// Where what was written outlives the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::features::market_data) enum Safe {
    /// In the database, where all see it.
    Stored,
    /// In the spool, on its way to the database.
    Spooled,
}

/// Something that was decided.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Decided {
    /// A bar closed, or was corrected.
    Bar {
        /// Whose.
        series: Series,
        /// What it is.
        bar: Bar,
        /// What it was, where it was closed before.
        old: Option<StoredBar>,
    },
    /// Something that is told and not stored.
    Live(LiveChange),
    /// A bar's children are to be read back.
    Reroll {
        /// Whose.
        series: Series,
        /// The bar.
        range: BarRange,
        /// How far.
        until: Timestamp,
        /// Which of all roll-ups.
        number: u64,
    },
}
