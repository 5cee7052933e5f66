//! A market that goes through its tape: what happens next, and what it comes to. Pure: it is told
//! when to go on.

use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::minutes::Minutes;
use super::quote::{Book, Cause, Change, DayPrices, Last, Quote, Sum};
use super::tape::Tape;
use crate::domain::ohlcv::BarRange;
use crate::domain::ohlcv::services::BarClock;
use crate::domain::shared::Interval;
use crate::domain::symbol::TradingSession;
use crate::simulator::world::{Facts, WorldBar};

/// What was before the first trade.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::simulator) struct Opening {
    /// The day that the first trade falls in, where it has begun already.
    pub(in crate::simulator) day: Option<WorldBar>,
    /// The close of the day before.
    pub(in crate::simulator) previous_close: Option<f64>,
}

/// What can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Trade,
    Session,
    End,
    NextPass,
}

/// Whether the session is open, and until when that holds.
#[derive(Clone, Copy, Debug)]
struct Phase {
    market: bool,
    until: Timestamp,
}

/// One instrument's market.
#[derive(Debug)]
pub(super) struct Market {
    tape: Tape,
    session: Arc<TradingSession>,
    zone: TimeZone,
    scale: f64,
    tick: f64,
    looping: bool,
    shift: i64,
    index: usize,
    pass: u64,
    trades: u64,
    phase: Phase,
    quote: Quote,
    volume: Sum,
    has_volume: bool,
    day: Option<BarRange>,
    days: BarClock,
    minutes: Minutes,
    newest: Timestamp,
    ended: bool,
    position: Timestamp,
}

impl Market {
    /// A market before its first trade, its tape moved by `shift`.
    pub(super) fn new(
        tape: Tape,
        facts: &Facts,
        opening: Opening,
        shift: i64,
        looping: bool,
    ) -> Self {
        let session = Arc::clone(&facts.session);
        let start = tape.get(0).map_or(Timestamp::UNIX_EPOCH, |trade| trade.time(shift));
        let mut market = Self {
            zone: TimeZone::get(&facts.spec.timezone).unwrap_or(TimeZone::UTC),
            scale: f64::from(facts.price_scale),
            tick: f64::from(facts.minmov) / f64::from(facts.price_scale),
            looping,
            shift,
            index: 0,
            pass: 1,
            trades: 0,
            phase: Phase::at(&session, start),
            quote: Quote { previous_close: opening.previous_close, ..Quote::default() },
            volume: Sum::default(),
            has_volume: facts.has_volume,
            day: None,
            days: BarClock::new(Arc::clone(&session), Interval::D1),
            minutes: Minutes::new(Arc::clone(&session)),
            newest: start,
            ended: false,
            position: start,
            tape,
            session,
        };
        market.open(opening.day, start);
        market
    }

    /// Takes over the day that had begun before `start`.
    fn open(&mut self, day: Option<WorldBar>, start: Timestamp) {
        self.quote.market = self.phase.market;
        self.quote.volume = self.has_volume.then_some(0.0);
        let Some(bar) = day else { return };
        self.day = self.days.bar_at(start);
        self.volume.add(bar.volume.unwrap_or_default());
        self.quote.volume = self.has_volume.then(|| self.volume.value());
        self.quote.last = Some(Last { price: bar.close, second: start.as_second() - 1 });
        let opened = bar.open_time.as_second();
        self.quote.day = Some(DayPrices { open: bar.open, high: bar.high, low: bar.low, opened });
    }

    /// What happens next, and when; none after the end.
    pub(super) fn next(&self) -> Option<(Timestamp, Step)> {
        let (time, step) = match self.tape.get(self.index) {
            Some(trade) => (trade.time(self.shift), Step::Trade),
            None if !self.ended => (end_after(self.newest), Step::End),
            None if self.looping => return Some((self.position, Step::NextPass)),
            None => return None,
        };
        // At the second of the close the session is over.
        if self.phase.until <= time {
            return Some((self.phase.until, Step::Session));
        }
        Some((time, step))
    }

    /// Lets happen what is next; none where nobody would notice.
    pub(super) fn advance(&mut self) -> Option<Change> {
        let (time, step) = self.next()?;
        self.position = self.position.max(time);
        match step {
            Step::Trade => {
                let trade = *self.tape.get(self.index)?;
                self.index += 1;
                self.trades += 1;
                self.newest = time;
                Some(self.trade(time, trade.price, trade.size()))
            }
            Step::Session => {
                self.phase = Phase::at(&self.session, time);
                self.session_changed()
            }
            Step::End => {
                self.ended = true;
                self.quote.market = false;
                if let Some(last) = &mut self.quote.last {
                    last.second = time.as_second();
                }
                Some(Change { cause: Cause::End, quote: self.quote })
            }
            Step::NextPass => self.next_pass(),
        }
    }

    fn session_changed(&mut self) -> Option<Change> {
        let changed = self.quote.market != self.phase.market;
        self.quote.market = self.phase.market;
        changed.then_some(Change { cause: Cause::Session, quote: self.quote })
    }

    fn next_pass(&mut self) -> Option<Change> {
        self.shift = self.tape.next_shift(self.shift, &self.session, &self.zone);
        self.index = 0;
        self.pass += 1;
        self.ended = false;
        let start = self.tape.get(0)?.time(self.shift);
        self.newest = start;
        self.position = start;
        self.phase = Phase::at(&self.session, start);
        self.session_changed()
    }

    /// A trade that is on no tape. It may be late; it may also come after the end, which comes
    /// again then.
    pub(super) fn inject(&mut self, time: Timestamp, price: f64, size: Option<f64>) -> Change {
        if self.ended {
            self.ended = false;
            self.phase = Phase::at(&self.session, self.position.max(time));
            self.quote.market = self.phase.market;
        }
        self.newest = self.newest.max(time);
        self.trade(time, price, size)
    }

    fn trade(&mut self, time: Timestamp, price: f64, size: Option<f64>) -> Change {
        self.minutes.add(time, price, size);
        self.count_day(time, price, size);
        self.quote.book = Some(self.book_after(price));
        self.quote.last = Some(Last { price, second: time.as_second() });
        Change { cause: Cause::Trade, quote: self.quote }
    }

    fn count_day(&mut self, time: Timestamp, price: f64, size: Option<f64>) {
        let today = self.day.filter(|day| day.contains(time));
        let other = if today.is_some() { None } else { self.days.bar_at(time) };
        if let Some(day) = other {
            if self.day.is_some_and(|known| day.close() <= known.open()) {
                // A late trade of a day that is over changes nothing of today.
                return;
            }
            self.day = Some(day);
            self.volume = Sum::default();
            self.quote.previous_close =
                self.quote.last.map(|last| last.price).or(self.quote.previous_close);
            self.quote.day = None;
        }
        let opened = self.day.map_or(time, |day| day.open());
        self.quote.day.get_or_insert_with(|| DayPrices::opening(price, opened)).add(price);
        if let Some(size) = size.filter(|_| self.has_volume) {
            self.volume.add(size);
            self.quote.volume = Some(self.volume.value());
        }
    }

    /// A trade above the one before took the ask, one below it hit the bid.
    fn book_after(&self, price: f64) -> Book {
        let beside = |ticks: f64| ((price + ticks * self.tick) * self.scale).round() / self.scale;
        match (self.quote.last, self.quote.book) {
            (Some(last), Some(book)) if last.price.total_cmp(&price).is_eq() => book,
            (Some(last), _) if price > last.price => Book { bid: beside(-1.0), ask: price },
            (Some(_) | None, _) => Book { bid: price, ask: beside(1.0) },
        }
    }

    /// The bars of `interval` so far, and whether older ones were forgotten.
    pub(super) fn bars(&self, interval: Interval) -> (Vec<WorldBar>, bool) {
        (self.minutes.bars(interval), self.minutes.is_trimmed() && interval.is_intraday())
    }

    pub(super) const fn quote(&self) -> Quote {
        self.quote
    }

    /// The time of what happened last.
    pub(super) const fn position(&self) -> Timestamp {
        self.position
    }

    pub(super) const fn trades(&self) -> u64 {
        self.trades
    }

    pub(super) const fn pass(&self) -> u64 {
        self.pass
    }

    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn trades_in_pass(&self) -> (usize, usize) {
        (self.index, self.tape.len())
    }
}

impl Phase {
    fn at(session: &TradingSession, time: Timestamp) -> Self {
        if let Some(hours) = session.hours_at(time) {
            return Self { market: true, until: hours.close() };
        }
        let next = session.next_hours(time).map_or(Timestamp::MAX, |hours| hours.open());
        Self { market: false, until: next }
    }
}

/// The second minute boundary after `time`: 18:53:00 for 18:51:44.
fn end_after(time: Timestamp) -> Timestamp {
    let minute = time.as_second().div_euclid(60) * 60;
    let boundary = Timestamp::from_second(minute + 120);
    boundary.unwrap_or_else(|_| time.saturating_add(SignedDuration::from_mins(2)).unwrap_or(time))
}
