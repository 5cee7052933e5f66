//! What decides when a bar is over and what is too late for it.

use std::time::Duration;

use jiff::Timestamp;

/// How far ahead of the machine's clock a tick may be on [`FeedClock::Wall`].
pub const FUTURE_TOLERANCE: Duration = Duration::from_secs(5);

/// What time it is for a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FeedClock {
    /// The machine's, less the symbol's delay: bars close on time without a tick, future ticks
    /// are refused. A newer tick closes bars too, but never before their time.
    Wall,
    /// The symbol's newest tick: for replays, at any speed.
    Event,
}

/// The rules of a [`BarManager`](super::BarManager).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarRules {
    /// What time it is.
    pub clock: FeedClock,
    /// How long after its time a bar waits for late ticks before it closes.
    pub grace: Duration,
    /// How late a tick may be to still correct a closed bar. Closed bars are kept in memory so long.
    pub lateness: Duration,
}

impl Default for BarRules {
    fn default() -> Self {
        Self {
            clock: FeedClock::Wall,
            grace: Duration::from_secs(2),
            lateness: Duration::from_mins(2),
        }
    }
}

/// `time` and `length` after it.
pub(super) fn after(time: Timestamp, length: Duration) -> Timestamp {
    time.saturating_add(length).unwrap_or(Timestamp::MAX)
}

/// `time` less `length`.
pub(super) fn before(time: Timestamp, length: Duration) -> Timestamp {
    time.saturating_sub(length).unwrap_or(Timestamp::MIN)
}
