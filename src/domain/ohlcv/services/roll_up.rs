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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::ohlcv::values::tests::any_ohlcv;

    proptest! {
        /// The way up does not matter: minutes to days is minutes to hours to days.
        #[test]
        fn rolling_up_in_steps_equals_rolling_up_at_once(
            values in prop::collection::btree_map(0_i64..4_000, any_ohlcv(), 1..200),
        ) {
            let session = Arc::new(TradingSession::around_the_clock());
            let minutes: Vec<_> = values
                .into_iter()
                .map(|(minute, values)| (Timestamp::from_second(minute * 60).unwrap(), values))
                .collect();
            let at_once = roll_up(minutes.iter().copied(), &session, Interval::D1);
            let hours = roll_up(minutes.iter().copied(), &session, Interval::H1);
            let in_steps = roll_up(
                hours.iter().map(|bar| (bar.range.open(), bar.values)),
                &session,
                Interval::D1,
            );
            prop_assert_eq!(&at_once, &in_steps);
            let rolled = roll_up(minutes.iter().copied(), &session, Interval::M1);
            prop_assert_eq!(rolled.len(), minutes.len());
        }
    }
}
