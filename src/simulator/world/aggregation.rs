//! Longer bars from shorter ones, and the bar that is not over.

use std::sync::Arc;

use jiff::Timestamp;

use super::WorldBar;
use crate::domain::ohlcv::services::{BarClock, roll_up};
use crate::domain::ohlcv::{BarRange, Ohlcv};
use crate::domain::shared::Interval;
use crate::domain::symbol::TradingSession;

impl WorldBar {
    /// The bar that opens at `open_time`.
    pub(in crate::simulator) fn new(open_time: Timestamp, values: &Ohlcv) -> Self {
        Self {
            open_time,
            open: values.open(),
            high: values.high(),
            low: values.low(),
            close: values.close(),
            volume: values.volume(),
        }
    }

    fn child(&self) -> Option<(Timestamp, Ohlcv)> {
        let values = Ohlcv::new(self.open, self.high, self.low, self.close, self.volume);
        values.ok().map(|values| (self.open_time, values))
    }
}

/// Rolls `children` up to `interval`. A bar that makes no sense counts for nothing.
pub(in crate::simulator) fn rolled(
    children: &[WorldBar],
    session: &Arc<TradingSession>,
    interval: Interval,
) -> Vec<WorldBar> {
    let parents = roll_up(children.iter().filter_map(WorldBar::child), session, interval);
    parents.iter().map(|parent| WorldBar::new(parent.range.open(), &parent.values)).collect()
}

/// `bars` with `more` after them, the first of which may go on where the last of `bars` ended.
pub(super) fn joined(
    bars: &[WorldBar],
    more: Vec<WorldBar>,
    closes: impl Fn(Timestamp) -> Timestamp,
) -> Vec<WorldBar> {
    let mut joined = bars.to_vec();
    let mut more = more.into_iter().peekable();
    let shares_bar = |last: &WorldBar, first: &WorldBar| closes(last.open_time) > first.open_time;
    if let (Some(last), Some(first)) = (joined.last_mut(), more.peek().copied())
        && shares_bar(last, &first)
    {
        last.high = last.high.max(first.high);
        last.low = last.low.min(first.low);
        last.close = first.close;
        last.volume = match (last.volume, first.volume) {
            (Some(volume), Some(next)) => Some(volume + next),
            (volume, next) => volume.or(next),
        };
        more.next();
    }
    joined.extend(more);
    joined
}

/// Whether bars of `child` come to bars of `parent` without remainder.
pub(super) fn fits(child: Interval, parent: Interval) -> bool {
    match (child.minutes(), parent.minutes()) {
        (Some(child), Some(parent)) => child < parent && parent.is_multiple_of(child),
        (Some(_), None) => true,
        (None, Some(_)) => false,
        // Weeks do not fit into months.
        (None, None) => child == Interval::D1 && parent != Interval::D1,
    }
}

/// The last bar of `bars` where its time is not over at `now`.
pub(super) fn unfinished(
    bars: &[WorldBar],
    session: &Arc<TradingSession>,
    interval: Interval,
    now: Timestamp,
) -> Option<BarRange> {
    let last = bars.last()?;
    let range = BarClock::new(Arc::clone(session), interval).bounds_of(last.open_time);
    (!range.is_over(now)).then_some(range)
}

/// What the `children` in `range` come to; none where there are none.
pub(super) fn merged(children: &[WorldBar], range: BarRange) -> Option<WorldBar> {
    let inside = children.iter().filter(|child| range.contains(child.open_time));
    let values = inside.filter_map(WorldBar::child).map(|(_, values)| values);
    let values = values.reduce(|bar, next| bar.followed_by(&next))?;
    Some(WorldBar::new(range.open(), &values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_even_parts_fit() {
        let fitting = |parent| -> Vec<&str> {
            let all = Interval::ALL.into_iter();
            all.filter(|child| fits(*child, parent)).map(Interval::as_str).collect()
        };
        assert_eq!(fitting(Interval::M1), Vec::<&str>::new());
        assert_eq!(fitting(Interval::M45), ["1m", "3m", "5m", "15m"]);
        assert_eq!(fitting(Interval::H4), ["1m", "3m", "5m", "15m", "30m", "1h", "2h"]);
        assert_eq!(fitting(Interval::D1).len(), 10);
        assert_eq!(fitting(Interval::Mo1).last(), Some(&"1d"));
    }
}
