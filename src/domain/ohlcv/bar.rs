//! A bar with its finality and its origin.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use thiserror::Error;

use super::{BarRange, Ohlcv};

/// Whether a bar can still change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BarState {
    /// Its time is not over. Revision 0.
    Forming,
    /// Its time is over. Revision 1.
    Closed,
    /// It was closed, and was corrected since. Revision 2 or higher.
    Revised,
}

/// Where a bar's values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BarSource {
    /// The provider's history.
    Provider,
    /// Built from live ticks.
    Ticks,
    /// Fetched again from the provider to mend a hole or a doubt.
    Repair,
}

/// A word that names no state or source.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` names no bar state or source")]
pub struct UnknownBarWord(pub String);

impl BarState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Forming, Self::Closed, Self::Revised];

    /// The word used in storage and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forming => "FORMING",
            Self::Closed => "CLOSED",
            Self::Revised => "REVISED",
        }
    }
}

impl BarSource {
    /// Every source.
    pub const ALL: [Self; 3] = [Self::Provider, Self::Ticks, Self::Repair];

    /// The word used in storage and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "PROVIDER",
            Self::Ticks => "TICKS",
            Self::Repair => "REPAIR",
        }
    }
}

impl FromStr for BarState {
    type Err = UnknownBarWord;

    fn from_str(text: &str) -> Result<Self, UnknownBarWord> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| UnknownBarWord(text.to_owned()))
    }
}

impl FromStr for BarSource {
    type Err = UnknownBarWord;

    fn from_str(text: &str) -> Result<Self, UnknownBarWord> {
        let found = Self::ALL.into_iter().find(|source| source.as_str() == text);
        found.ok_or_else(|| UnknownBarWord(text.to_owned()))
    }
}

impl fmt::Display for BarState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for BarSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A bar as it is kept: keyed by its open time. Its state always agrees with its revision
/// (0 forming, 1 closed, 2 and more revised). When it closes is the session's business:
/// see [`TradingSession::bounds_of`](crate::domain::symbol::TradingSession::bounds_of).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StoredBar {
    /// When it opens, UTC, whole milliseconds.
    pub open_time: Timestamp,
    /// Its prices and volume.
    pub values: Ohlcv,
    revision: u32,
    /// Where the values come from.
    pub source: BarSource,
    /// Ticks it was built from, where it was.
    pub tick_count: Option<u32>,
    /// Stored by a version that kept no finality: it reads as closed, but was perhaps not over
    /// when it was stored.
    pub finality_unknown: bool,
}

impl StoredBar {
    /// A bar whose time is not over.
    pub const fn forming(open_time: Timestamp, values: Ohlcv, source: BarSource) -> Self {
        Self::with_revision(open_time, values, 0, source)
    }

    /// A bar that is final for the first time.
    pub const fn closed(open_time: Timestamp, values: Ohlcv, source: BarSource) -> Self {
        Self::with_revision(open_time, values, 1, source)
    }

    /// A bar of any revision, as read from storage.
    pub const fn with_revision(
        open_time: Timestamp,
        values: Ohlcv,
        revision: u32,
        source: BarSource,
    ) -> Self {
        let tick_count = None;
        Self { open_time, values, revision, source, tick_count, finality_unknown: false }
    }

    /// The same bar corrected: the next revision, with `values` from `source`.
    #[must_use]
    pub const fn revised(&self, values: Ohlcv, source: BarSource) -> Self {
        // A bar is final before it is revised, so a correction is never below revision 2.
        let revision = if self.revision == 0 { 2 } else { self.revision.saturating_add(1) };
        Self::with_revision(self.open_time, values, revision, source)
    }

    /// Whether it can still change.
    pub const fn state(&self) -> BarState {
        match self.revision {
            0 => BarState::Forming,
            1 => BarState::Closed,
            _ => BarState::Revised,
        }
    }

    /// 0 while forming, 1 when closed, one more with each correction. Higher replaces lower.
    pub const fn revision(&self) -> u32 {
        self.revision
    }

    /// Whether it is final: closed, or closed and corrected.
    pub const fn is_final(&self) -> bool {
        self.revision > 0
    }

    /// Whether it is stored instead of `stored`, which has its key: a final bar replaces one that
    /// is forming, a higher revision a lower one, of two forming ones the newest wins. What is
    /// stored without finality gives way to all that has one.
    pub const fn replaces(&self, stored: &Self) -> bool {
        if stored.finality_unknown || !stored.is_final() {
            return true;
        }
        self.revision > stored.revision
    }
}

/// A stored bar with the time it covers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bar {
    /// From its open to its close.
    pub range: BarRange,
    /// What is kept of it.
    pub stored: StoredBar,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_gives_way_only_to_a_higher_revision() {
        let values = Ohlcv::new(1.0, 2.0, 0.5, 1.5, None).unwrap();
        let open = Timestamp::UNIX_EPOCH;
        let forming = StoredBar::forming(open, values, BarSource::Ticks);
        let closed = StoredBar::closed(open, values, BarSource::Ticks);
        let revised = closed.revised(values, BarSource::Provider);
        let unknown = StoredBar { finality_unknown: true, ..closed };
        let ranks = [(unknown, 0), (forming, 1), (closed, 2), (revised, 3)];
        for (new, new_rank) in ranks.into_iter().skip(1) {
            for (old, old_rank) in ranks {
                let newest_of_forming = new_rank == 1 && old_rank == 1;
                let expected = new_rank > old_rank || newest_of_forming;
                assert_eq!(new.replaces(&old), expected, "{new_rank} over {old_rank}");
            }
        }
    }
}
