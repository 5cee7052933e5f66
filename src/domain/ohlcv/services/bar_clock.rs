//! Tells, for times that mostly rise, which bar each lies in.

use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::ohlcv::BarRange;
use crate::domain::shared::Interval;
use crate::domain::symbol::TradingSession;

/// The bars of one interval on one session. Remembers where it was last, so that neighbouring
/// times cost no calendar work.
#[derive(Clone, Debug)]
pub struct BarClock {
    session: Arc<TradingSession>,
    interval: Interval,
    hours: Option<BarRange>,
    period: Option<BarRange>,
}

impl BarClock {
    /// A clock for bars of `interval` on `session`.
    pub const fn new(session: Arc<TradingSession>, interval: Interval) -> Self {
        Self { session, interval, hours: None, period: None }
    }

    /// The bar that holds `time`; none outside of the session.
    pub fn bar_at(&mut self, time: Timestamp) -> Option<BarRange> {
        let known = self.hours.filter(|hours| hours.contains(time));
        let hours = known.or_else(|| self.session.hours_at(time))?;
        self.hours = Some(hours);
        if let Some(minutes) = self.interval.minutes() {
            return hours.cell(minutes, time);
        }
        let known = self.period.filter(|period| period.contains(time));
        let period = known.or_else(|| self.session.bar_range(self.interval, time))?;
        self.period = Some(period);
        Some(period)
    }

    /// The time that a provider's bar which opens at `open_time` covers, on the grid or off it.
    pub fn bounds_of(&mut self, open_time: Timestamp) -> BarRange {
        match self.bar_at(open_time) {
            Some(range) => BarRange::new(open_time, range.close()).unwrap_or(range),
            None => self.session.bounds_of(self.interval, open_time),
        }
    }
}
