//! The trades of one instrument as they were recorded, or as its bars tell.

use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use crate::domain::ohlcv::BarRange;
use crate::domain::ohlcv::services::BarClock;
use crate::domain::shared::Interval;
use crate::domain::symbol::TradingSession;
use crate::simulator::world::WorldBar;

/// Microseconds in a minute, and in a week.
const MINUTE: i64 = 60_000_000;
const WEEK: i64 = 7 * 24 * 60 * MINUTE;

/// Weeks that are tried for a pass of a loop before the next one is taken as it is.
const WEEKS_TRIED: i64 = 104;

/// A trade in 24 bytes: half a million of them are held.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::simulator) struct Trade {
    micros: i64,
    pub(in crate::simulator) price: f64,
    /// Not a number where there is none.
    size: f64,
}

impl Trade {
    pub(in crate::simulator) fn new(time: Timestamp, price: f64, size: Option<f64>) -> Self {
        Self { micros: time.as_microsecond(), price, size: size.unwrap_or(f64::NAN) }
    }

    /// When, moved by `shift` microseconds.
    pub(super) fn time(&self, shift: i64) -> Timestamp {
        instant(self.micros.saturating_add(shift))
    }

    /// How much, where that is known.
    pub(super) fn size(&self) -> Option<f64> {
        (!self.size.is_nan()).then_some(self.size)
    }
}

/// The time `micros` after 1970, within what a time can be.
fn instant(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(if micros < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

/// One or more trades in order of time, shared by everybody who plays them.
#[derive(Clone, Debug)]
pub(in crate::simulator) struct Tape {
    trades: Arc<[Trade]>,
    /// A trade of each minute: enough to see whether a calendar suits them.
    probes: Arc<[i64]>,
}

impl Tape {
    /// A tape of `trades`, which are in order; none where there are none.
    pub(in crate::simulator) fn new(trades: Vec<Trade>) -> Option<Self> {
        if trades.is_empty() {
            return None;
        }
        let mut probes: Vec<i64> = trades.iter().map(|trade| trade.micros).collect();
        probes.dedup_by_key(|micros| micros.div_euclid(MINUTE));
        Some(Self { trades: trades.into(), probes: probes.into() })
    }

    /// What `bars` tell: open, low, high and close at the quarters of each, its volume in four
    /// parts. A quarter that falls outside of the session waits for it.
    pub(in crate::simulator) fn walked(
        bars: &[WorldBar],
        session: &TradingSession,
        bounds: impl Fn(Timestamp) -> BarRange,
    ) -> Option<Self> {
        let mut trades: Vec<Trade> = Vec::with_capacity(bars.len().saturating_mul(4));
        for bar in bars {
            let range = bounds(bar.open_time);
            let (open, close) = (range.open().as_microsecond(), range.close().as_microsecond());
            let part = bar.volume.filter(|volume| *volume >= 0.0).map(|volume| volume / 4.0);
            for (quarter, price) in (0_i64..).zip([bar.open, bar.low, bar.high, bar.close]) {
                let time = instant(open + (close - open) / 4 * quarter);
                let time = match session.hours_at(time) {
                    Some(_) => time,
                    None => next_within(session, time, range).unwrap_or(time),
                };
                let before = trades.last().map_or(i64::MIN, |trade| trade.micros);
                let time = instant(time.as_microsecond().max(before));
                trades.push(Trade::new(time, price, part));
            }
        }
        Self::new(trades)
    }

    pub(super) fn get(&self, index: usize) -> Option<&Trade> {
        self.trades.get(index)
    }

    pub(super) fn len(&self) -> usize {
        self.trades.len()
    }

    /// When the first trade was.
    pub(in crate::simulator) fn first(&self) -> Timestamp {
        instant(self.first_micros())
    }

    fn first_micros(&self) -> i64 {
        self.trades.first().map_or(0, |trade| trade.micros)
    }

    fn last_micros(&self) -> i64 {
        self.trades.last().map_or(0, |trade| trade.micros)
    }

    /// By how much to move it, in whole seconds, so that the first trade lies in the second of
    /// `time`; in microseconds.
    pub(in crate::simulator) fn shift_to(&self, time: Timestamp) -> i64 {
        let seconds = time.as_second() - self.first_micros().div_euclid(1_000_000);
        seconds.saturating_mul(1_000_000)
    }

    /// How many minutes of it lie in `session` when it is moved by `shift`.
    fn minutes_within(&self, session: &Arc<TradingSession>, shift: i64) -> usize {
        let mut clock = BarClock::new(Arc::clone(session), Interval::D1);
        let moved = self.probes.iter().map(|micros| instant(micros.saturating_add(shift)));
        moved.filter(|time| clock.bar_at(*time).is_some()).count()
    }

    /// Whether `session` suits it, moved by `shift`, as well as it did where it was.
    pub(in crate::simulator) fn suits(&self, session: &Arc<TradingSession>, shift: i64) -> bool {
        self.minutes_within(session, shift) >= self.minutes_within(session, 0)
    }

    /// The shift of the pass that follows the one moved by `shift`: whole weeks later by the
    /// exchange's clock, the first in which the calendar takes its trades as it did in this one.
    pub(super) fn next_shift(
        &self,
        shift: i64,
        session: &Arc<TradingSession>,
        zone: &TimeZone,
    ) -> i64 {
        let first = self.first_micros().saturating_add(shift);
        let length = self.last_micros() - self.first_micros();
        let weeks = length.div_euclid(WEEK) + 1;
        let start = zone.to_datetime(instant(first));
        let weeks_later = |weeks: i64| {
            let later = start.checked_add(weeks.weeks()).ok()?;
            let later = zone.to_timestamp(later).ok()?;
            Some(later.as_microsecond() - self.first_micros())
        };
        let wanted = self.minutes_within(session, shift);
        let mut later = (weeks..weeks + WEEKS_TRIED).filter_map(weeks_later);
        let suiting = later.find(|later| self.minutes_within(session, *later) >= wanted);
        suiting.or_else(|| weeks_later(weeks)).unwrap_or(shift)
    }
}

/// The next opening after `time` that still lies in `range`.
fn next_within(session: &TradingSession, time: Timestamp, range: BarRange) -> Option<Timestamp> {
    let open = session.next_hours(time)?.open();
    range.contains(open).then_some(open)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::symbol::SessionSpec;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn tape(times: &[&str]) -> Tape {
        let trades = times.iter().map(|text| Trade::new(time(text), 1.0, Some(1.0)));
        Tape::new(trades.collect()).unwrap()
    }

    fn new_york(holidays: &str) -> Arc<TradingSession> {
        let spec = SessionSpec {
            timezone: "America/New_York".to_owned(),
            session: "0930-1600".to_owned(),
            holidays: holidays.to_owned(),
            ..SessionSpec::default()
        };
        Arc::new(TradingSession::parse(&spec).unwrap())
    }

    #[test]
    fn a_trade_is_small() {
        assert_eq!(size_of::<Trade>(), 24);
        assert_eq!(Tape::new(Vec::new()).map(|tape| tape.len()), None);
    }

    #[test]
    fn it_is_moved_by_whole_seconds() {
        let tape = tape(&["2013-09-01T22:00:00.083Z"]);
        let shift = tape.shift_to(time("2026-01-05T10:00:00.9Z"));
        assert_eq!(tape.get(0).unwrap().time(shift), time("2026-01-05T10:00:00.083Z"));
    }

    #[test]
    fn passes_are_weeks_apart_by_the_exchanges_clock_and_skip_holidays() {
        let tape = tape(&["2024-03-05T14:30:00Z", "2024-03-05T20:59:00Z"]);
        let zone = TimeZone::get("America/New_York").unwrap();
        let next = |holidays| {
            let shift = tape.next_shift(0, &new_york(holidays), &zone);
            tape.get(0).unwrap().time(shift)
        };
        // Summer time began on the Sunday between.
        assert_eq!(next(""), time("2024-03-12T13:30:00Z"));
        assert_eq!(next("20240312"), time("2024-03-19T13:30:00Z"));
    }

    #[test]
    fn a_calendar_suits_what_it_suited_before() {
        let tape = tape(&["2024-03-05T14:30:00Z", "2024-03-05T20:59:00Z"]);
        let session = new_york("");
        assert!(tape.suits(&session, tape.shift_to(time("2024-03-07T14:30:00Z"))));
        assert!(!tape.suits(&session, tape.shift_to(time("2024-03-09T14:30:00Z"))));
    }

    #[test]
    fn a_bar_is_walked_in_four_steps_within_the_session() {
        let bar = WorldBar {
            open_time: time("2024-03-05T14:30:00Z"),
            open: 2.0,
            high: 4.0,
            low: 1.0,
            close: 3.0,
            volume: Some(8.0),
        };
        let session = new_york("");
        let bounds = |open| session.bounds_of(Interval::W1, open);
        let tape = Tape::walked(&[bar], &session, bounds).unwrap();
        let prices: Vec<f64> = tape.trades.iter().map(|trade| trade.price).collect();
        assert_eq!(prices, [2.0, 1.0, 4.0, 3.0]);
        assert!(tape.trades.iter().all(|trade| trade.size() == Some(2.0)));
        assert_eq!(tape.minutes_within(&session, 0), 4);
    }
}
