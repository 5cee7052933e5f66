//! The bars that a replay has made so far.

use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::ohlcv::BarRange;
use crate::domain::ohlcv::services::BarClock;
use crate::domain::shared::Interval;
use crate::domain::symbol::TradingSession;
use crate::simulator::world::{WorldBar, rolled};

/// Minutes that are kept; of older ones only their days are.
const MOST_MINUTES: usize = 100_000;

/// Bars of a minute, made trade by trade; older ones as days, for a loop never ends.
#[derive(Debug)]
pub(super) struct Minutes {
    session: Arc<TradingSession>,
    clock: BarClock,
    recent: Vec<Minute>,
    days: Vec<WorldBar>,
}

#[derive(Clone, Copy, Debug)]
struct Minute {
    range: BarRange,
    newest: Timestamp,
    bar: WorldBar,
}

impl Minutes {
    pub(super) fn new(session: Arc<TradingSession>) -> Self {
        let clock = BarClock::new(Arc::clone(&session), Interval::M1);
        Self { session, clock, recent: Vec::new(), days: Vec::new() }
    }

    /// Counts a trade, which is mostly the newest.
    pub(super) fn add(&mut self, time: Timestamp, price: f64, size: Option<f64>) {
        if let Some(last) = self.recent.last_mut().filter(|last| last.range.contains(time)) {
            return last.add(time, price, size);
        }
        let range = self.clock.bar_at(time).unwrap_or_else(|| self.clock.bounds_of(time));
        // Off the grid a bar opens with its first trade, as roll-up has it.
        let after = self.recent.partition_point(|minute| minute.range.open() <= time);
        let before = after.checked_sub(1).and_then(|at| self.recent.get_mut(at));
        if let Some(minute) = before.filter(|minute| minute.range.contains(time)) {
            return minute.add(time, price, size);
        }
        let bar = WorldBar {
            open_time: range.open(),
            open: price,
            high: price,
            low: price,
            close: price,
            volume: size,
        };
        self.recent.insert(after, Minute { range, newest: time, bar });
        if self.recent.len() > MOST_MINUTES {
            self.forget_half();
        }
    }

    /// Keeps the newer half; whole days go, and stay as days.
    fn forget_half(&mut self) {
        let Some(middle) = self.recent.get(MOST_MINUTES / 2) else { return };
        let mut days = BarClock::new(Arc::clone(&self.session), Interval::D1);
        let day = days.bounds_of(middle.bar.open_time);
        let kept = self.recent.partition_point(|minute| minute.bar.open_time < day.close());
        let gone: Vec<WorldBar> = self.recent.drain(..kept).map(|minute| minute.bar).collect();
        self.days.extend(rolled(&gone, &self.session, Interval::D1));
    }

    /// Whether there are days without their minutes.
    pub(super) fn is_trimmed(&self) -> bool {
        !self.days.is_empty()
    }

    /// The bars of `interval` so far, the last of which may be partial.
    pub(super) fn bars(&self, interval: Interval) -> Vec<WorldBar> {
        let minutes: Vec<WorldBar> = self.recent.iter().map(|minute| minute.bar).collect();
        if interval == Interval::M1 {
            return minutes;
        }
        if interval.is_intraday() {
            return rolled(&minutes, &self.session, interval);
        }
        let mut days = self.days.clone();
        days.extend(rolled(&minutes, &self.session, Interval::D1));
        if interval == Interval::D1 { days } else { rolled(&days, &self.session, interval) }
    }
}

impl Minute {
    fn add(&mut self, time: Timestamp, price: f64, size: Option<f64>) {
        let bar = &mut self.bar;
        bar.high = bar.high.max(price);
        bar.low = bar.low.min(price);
        if time >= self.newest {
            bar.close = price;
            self.newest = time;
        }
        bar.volume = match (bar.volume, size) {
            (Some(volume), Some(size)) => Some(volume + size),
            (volume, size) => volume.or(size),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_late_trade_counts_to_its_own_minute() {
        let mut minutes = Minutes::new(Arc::new(TradingSession::around_the_clock()));
        for (second, price) in [(10, 5.0), (70, 6.0), (5, 9.0), (130, 7.0), (65, 1.0)] {
            minutes.add(at(second), price, Some(2.0));
        }
        let bars = minutes.bars(Interval::M1);
        let of = |index: usize| {
            let bar: &WorldBar = &bars[index];
            (bar.high, bar.low, bar.close, bar.volume)
        };
        assert_eq!(of(0), (9.0, 5.0, 5.0, Some(4.0)));
        assert_eq!(of(1), (6.0, 1.0, 6.0, Some(4.0)));
        assert_eq!(minutes.bars(Interval::D1)[0].volume, Some(10.0));
    }

    #[test]
    fn what_is_kept_is_bounded_and_days_stay_whole() {
        let mut minutes = Minutes::new(Arc::new(TradingSession::around_the_clock()));
        let count = 250_000_u32;
        for minute in 0..count {
            minutes.add(at(i64::from(minute) * 60), 1.0, Some(1.0));
        }
        assert!(minutes.is_trimmed() && minutes.bars(Interval::M1).len() <= MOST_MINUTES);
        let days = minutes.bars(Interval::D1);
        assert!(days.iter().rev().skip(1).all(|day| day.volume == Some(1_440.0)));
        let total: f64 = days.iter().filter_map(|day| day.volume).sum();
        assert!((total - f64::from(count)).abs() < 1e-6);
    }
}
