//! What happened, told after it was stored.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use thiserror::Error;

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
    /// A sync ended otherwise, for good.
    SyncFailed {
        /// What was to be synced.
        series: Series,
        /// Why it failed.
        error: String,
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
    /// The feed delivers.
    FeedConnected,
    /// The feed should deliver and does not.
    FeedLost {
        /// What went wrong.
        error: String,
    },
}

/// What a [`DomainEvent`] is called outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventType {
    /// A bar became final.
    BarClosed,
    /// A final bar has other values now.
    BarRevised,
    /// A sync ended well.
    SyncCompleted,
    /// A sync ended otherwise.
    SyncFailed,
    /// The feed was away for a while.
    GapDetected,
    /// The feed does not deliver.
    FeedDown,
    /// The feed delivers.
    FeedUp,
}

/// A text that names no [`EventType`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "unknown event type `{0}`: use one of bar.closed bar.revised sync.completed sync.failed gap.detected feed.down feed.up"
)]
pub struct UnknownEventType(pub String);

impl EventPayload {
    /// What it is called outside.
    pub const fn event_type(&self) -> EventType {
        match self {
            Self::HistoricalDataSynced { .. } => EventType::SyncCompleted,
            Self::SyncFailed { .. } => EventType::SyncFailed,
            Self::BarCompleted { .. } => EventType::BarClosed,
            Self::BarRevised { .. } => EventType::BarRevised,
            Self::GapDetected { .. } => EventType::GapDetected,
            Self::FeedConnected => EventType::FeedUp,
            Self::FeedLost { .. } => EventType::FeedDown,
        }
    }
}

impl EventType {
    /// Every type.
    pub const ALL: [Self; 7] = [
        Self::BarClosed,
        Self::BarRevised,
        Self::SyncCompleted,
        Self::SyncFailed,
        Self::GapDetected,
        Self::FeedDown,
        Self::FeedUp,
    ];

    /// Its name: `bar.closed`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BarClosed => "bar.closed",
            Self::BarRevised => "bar.revised",
            Self::SyncCompleted => "sync.completed",
            Self::SyncFailed => "sync.failed",
            Self::GapDetected => "gap.detected",
            Self::FeedDown => "feed.down",
            Self::FeedUp => "feed.up",
        }
    }

    /// Whether it is about one bar.
    pub const fn is_of_a_bar(self) -> bool {
        matches!(self, Self::BarClosed | Self::BarRevised)
    }
}

impl FromStr for EventType {
    type Err = UnknownEventType;

    fn from_str(text: &str) -> Result<Self, UnknownEventType> {
        let found = Self::ALL.into_iter().find(|each| each.as_str() == text);
        found.ok_or_else(|| UnknownEventType(text.escape_debug().to_string()))
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_type_reads_its_own_name() {
        for each in EventType::ALL {
            assert_eq!(each.as_str().parse(), Ok(each));
        }
        assert_eq!("bar".parse::<EventType>(), Err(UnknownEventType("bar".to_owned())));
    }
}
