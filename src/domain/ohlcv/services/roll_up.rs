//! The roll-up law: a parent bar is first open, highest high, lowest low, last close and sum of
//! volume of its children.

use std::sync::Arc;

use jiff::Timestamp;

use super::BarClock;
use crate::domain::ohlcv::{BarRange, Ohlcv};
use crate::domain::shared::Interval;
use crate::domain::symbol::TradingSession;

/// A bar made of shorter ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RolledBar {
    /// The time it covers, on the session's grid.
    pub range: BarRange,
    /// What its children come to.
    pub values: Ohlcv,
}

/// Rolls `children`, bars in order of their open time, up to `interval` on `session`. A child
/// outside of the session counts to the bar that opens with it.
pub fn roll_up(
    children: impl IntoIterator<Item = (Timestamp, Ohlcv)>,
    session: &Arc<TradingSession>,
    interval: Interval,
) -> Vec<RolledBar> {
    let mut clock = BarClock::new(Arc::clone(session), interval);
    let mut parents: Vec<RolledBar> = Vec::new();
    for (open_time, values) in children {
        if let Some(parent) = parents.last_mut().filter(|parent| parent.range.contains(open_time)) {
            parent.values = parent.values.followed_by(&values);
            continue;
        }
        let range = clock.bar_at(open_time).unwrap_or_else(|| clock.bounds_of(open_time));
        parents.push(RolledBar { range, values });
    }
    parents
}
