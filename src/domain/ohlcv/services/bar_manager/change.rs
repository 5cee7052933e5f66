//! What happened to the bars, for the service that writes and tells it.

use std::cmp::Ordering;

use jiff::Timestamp;

use crate::domain::ohlcv::{Bar, BarRange, StoredBar};
use crate::domain::quote::SymbolId;
use crate::domain::shared::Series;

/// One thing that happened. Within one call they come ordered by close time, symbol and interval
/// (shortest first), a bar before the notice that its interval is over.
#[derive(Clone, Debug, PartialEq)]
pub enum BarChange {
    /// A bar is final for the first time: revision 1. Write it.
    Closed {
        /// Whose bar.
        series: Series,
        /// The bar.
        bar: Bar,
    },
    /// A final bar has other values: the next revision. Write it.
    Revised {
        /// Whose bar.
        series: Series,
        /// What it was.
        old: StoredBar,
        /// What it is.
        bar: Bar,
    },
    /// The time of a bar is over, whether there was one or not.
    IntervalClosed {
        /// Whose.
        series: Series,
        /// When it closed.
        close_time: Timestamp,
    },
    /// Closed bars in this time are in doubt, or missing: fetch them from the provider and hand
    /// them to [`apply_repair`](super::BarManager::apply_repair).
    Refetch {
        /// Whose.
        series: Series,
        /// From the first bar's open to the last one's close.
        range: BarRange,
    },
    /// A bar has a repaired child that is no longer in memory: roll its children up again over
    /// `[range.open, until)` (for weeks and months: days that are over, then minutes). Where
    /// `until` is the bar's close, the result is a bar for
    /// [`apply_repair`](super::BarManager::apply_repair), else for
    /// [`replace_head`](super::BarManager::replace_head).
    Reroll {
        /// Whose.
        series: Series,
        /// The bar.
        range: BarRange,
        /// How far.
        until: Timestamp,
    },
    /// The symbol had ticks: its forming bars, as [`forming`](super::BarManager::forming) tells
    /// them, are new. Once a call for each symbol, after everything else.
    FormingChanged {
        /// Which symbol.
        symbol: SymbolId,
    },
}

impl BarChange {
    fn key(&self) -> (Timestamp, Option<&Series>, u8) {
        match self {
            Self::Closed { series, bar } => (bar.range.close(), Some(series), 0),
            Self::Revised { series, bar, .. } => (bar.range.close(), Some(series), 1),
            Self::IntervalClosed { series, close_time } => (*close_time, Some(series), 2),
            Self::Refetch { series, range } => (range.close(), Some(series), 3),
            Self::Reroll { series, range, .. } => (range.close(), Some(series), 4),
            Self::FormingChanged { .. } => (Timestamp::MAX, None, 5),
        }
    }

    /// The order in which changes of one call are told.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// What became of the ticks so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TickCounts {
    /// All that came in.
    pub received: u64,
    /// Of a symbol that is not tracked.
    pub untracked: u64,
    /// With a price, size or volume that is no number to trade at.
    pub invalid: u64,
    /// More than five seconds ahead of the machine's clock; refused.
    pub future: u64,
    /// Outside of the session's hours; no bar.
    pub off_session: u64,
    /// Late, and merged into a bar that was closed.
    pub late: u64,
    /// Too late: no change, the bar is to be fetched again.
    pub too_late: u64,
    /// Late for a bar that the provider has corrected; no change.
    pub outranked: u64,
    /// Whose day's volume was lowered by the provider.
    pub restated: u64,
}
