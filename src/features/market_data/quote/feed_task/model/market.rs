//! A market, and the provider that tells of it: quotes as they change, and history up to now.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::domain::ohlcv::services::FeedClock;
use crate::domain::ohlcv::{BarRange, Ohlcv};
use crate::domain::quote::{Field, QuoteUpdate};
use crate::domain::shared::Interval;
use crate::domain::symbol::{SessionSpec, TradingSession};
use crate::infrastructure::interfaces::{HistoryEnd, HistoryPage, RawBar};

const SESSIONS: [[&str; 3]; 5] = [
    ["Etc/UTC", "24x7", ""],
    ["America/New_York", "0930-1600", "0930-1300:20121224;dayoff:20121225,20130101"],
    ["America/Chicago", "1700-1600", "1700-1030:20130902"],
    ["America/New_York", "0000-0000:1234567", ""],
    ["Asia/Tokyo", "0900-1130,1230-1530", ""],
];

/// Before clock changes, holidays, early closes, ends of weeks and of months.
const STARTS: [&str; 8] = [
    "2012-12-20T15:00:00Z",
    "2013-01-29T23:58:00Z",
    "2013-03-07T20:55:00Z",
    "2013-03-29T06:50:00Z",
    "2013-08-30T15:20:00Z",
    "2013-10-31T05:30:00Z",
    "2013-11-29T17:00:00Z",
    "2024-01-07T23:00:00Z",
];

#[derive(Clone, Copy, Debug)]
pub(super) struct Trade {
    /// When the provider tells it: later than `time` where it is late.
    pub(super) told: Timestamp,
    pub(super) time: Timestamp,
    pub(super) price: f64,
    pub(super) size: f64,
}

/// The bounds of bars, each computed once: the calendar is most of the work.
#[derive(Default)]
pub(super) struct Calendar(RefCell<HashMap<(Interval, Timestamp), BarRange>>);

impl Calendar {
    /// The bar of `interval` that holds `time`, which lies in the session.
    pub(super) fn bar_at(
        &self,
        session: &TradingSession,
        interval: Interval,
        time: Timestamp,
    ) -> BarRange {
        let found = || session.bar_range(interval, time).unwrap();
        *self.0.borrow_mut().entry((interval, time)).or_insert_with(found)
    }
}

/// A tape of trades, as far as it has come.
pub(super) struct Market {
    pub(super) session: Arc<TradingSession>,
    pub(super) calendar: Rc<Calendar>,
    pub(super) clock: FeedClock,
    pub(super) trades: Vec<Trade>,
    /// How many have happened.
    pub(super) happened: usize,
    /// On the event clock, the time of what happened last; else the machine's.
    pub(super) now: Timestamp,
    pub(super) has_volume: bool,
    /// Whether a new day's snapshot says 0 before its first trade.
    resets: bool,
    day: Option<BarRange>,
    volume: f64,
    newest: Option<Trade>,
    minutes: BTreeMap<Timestamp, Minute>,
}

#[derive(Clone, Copy)]
struct Minute {
    newest: Timestamp,
    first: Timestamp,
    values: [f64; 5],
}

impl Market {
    pub(super) fn random(random: &mut StdRng, clock: FeedClock, late: bool) -> Self {
        let kind = random.random_range(0..SESSIONS.len());
        let [timezone, session, corrections] = SESSIONS[kind].map(str::to_owned);
        let spec = SessionSpec { timezone, session, corrections, holidays: String::new() };
        let session = Arc::new(TradingSession::parse(&spec).unwrap());
        let start: Timestamp = STARTS[random.random_range(0..STARTS.len())].parse().unwrap();
        let start = seconds_after(start, random.random_range(0..7_000));
        // On the machine's clock every minute is passed one by one.
        let longest = if clock == FeedClock::Event { 45 } else { 4 };
        let longest = if kind == 1 || kind == 4 { 45 } else { longest };
        let days = random.random_range(1..=longest);
        let trades = tape(random, &session, start, days, (clock, late));
        Self {
            now: trades.first().map_or(start, |trade| trade.told),
            session,
            calendar: Rc::default(),
            clock,
            trades,
            happened: 0,
            has_volume: random.random_bool(0.9),
            resets: random.random_bool(0.3),
            day: None,
            volume: 0.0,
            newest: None,
            minutes: BTreeMap::new(),
        }
    }

    /// The next trade happens; what subscribers hear.
    pub(super) fn trade(&mut self) -> Option<QuoteUpdate> {
        let trade = *self.trades.get(self.happened)?;
        self.happened += 1;
        self.now = self.now.max(trade.told);
        let day = self.day_at(trade.time);
        if self.day.is_none_or(|known| known.close() <= day.open()) {
            (self.day, self.volume) = (Some(day), 0.0);
        }
        if self.day.is_some_and(|today| today == day) {
            self.volume += trade.size;
        }
        let is_late = self.newest.is_some_and(|newest| trade.time < newest.time);
        self.newest = self.newest.filter(|_| is_late).or(Some(trade));
        let range = self.session.bar_range(Interval::M1, trade.time).unwrap();
        let Trade { time, price, size, .. } = trade;
        let minute =
            Minute { newest: time, first: time, values: [price, price, price, price, 0.0] };
        let minute = self.minutes.entry(range.open()).or_insert(minute);
        let [open, high, low, close, volume] = &mut minute.values;
        (*high, *low, *volume) = (high.max(price), low.min(price), *volume + size);
        if time >= minute.newest {
            (minute.newest, *close) = (time, price);
        } else if time < minute.first {
            (minute.first, *open) = (time, price);
        }
        Some(self.quote(Some(trade)))
    }

    fn day_at(&self, time: Timestamp) -> BarRange {
        self.session.day_range(self.session.trading_day_at(time).unwrap()).unwrap()
    }

    fn quote(&self, trade: Option<Trade>) -> QuoteUpdate {
        let Some(newest) = trade else {
            let volume = if self.has_volume { Field::Set(0.0) } else { Field::Unset };
            return QuoteUpdate { volume, ..QuoteUpdate::default() };
        };
        QuoteUpdate {
            last_price: Field::Set(newest.price),
            last_time: Field::Set(newest.time),
            volume: if self.has_volume { Field::Set(self.volume) } else { Field::Unset },
            ..QuoteUpdate::default()
        }
    }

    /// What a subscription begins with.
    pub(super) fn snapshot(&self) -> QuoteUpdate {
        let today = self.session.trading_day_at(self.now).map(|_| self.day_at(self.now));
        let is_new =
            today.is_some_and(|today| self.day.is_some_and(|day| day.close() <= today.open()));
        match self.quote(self.newest) {
            quote if is_new && self.resets && self.has_volume => {
                QuoteUpdate { volume: Field::Set(0.0), ..quote }
            }
            quote => quote,
        }
    }

    /// The minutes so far.
    fn minutes(&self) -> impl Iterator<Item = (Timestamp, Ohlcv)> {
        self.minutes.iter().map(|(at, Minute { values: [open, high, low, close, volume], .. })| {
            let volume = self.has_volume.then_some(*volume);
            (*at, Ohlcv::new(*open, *high, *low, *close, volume).unwrap())
        })
    }

    /// Every bar so far, the last one as far as it has come.
    pub(super) fn bars(&self, interval: Interval) -> Vec<(BarRange, Ohlcv)> {
        let mut bars: Vec<(BarRange, Ohlcv)> = Vec::new();
        for (open, values) in self.minutes() {
            match bars.last_mut().filter(|(range, _)| range.contains(open)) {
                Some((_, bar)) => *bar = bar.followed_by(&values),
                None => bars.push((self.calendar.bar_at(&self.session, interval, open), values)),
            }
        }
        bars
    }

    /// What the provider's history answers; none where it has nothing.
    pub(super) fn history(&self, interval: Interval, newest: usize) -> Option<HistoryPage> {
        let bars = self.bars(interval);
        let skipped = bars.len().saturating_sub(newest);
        let raw = |(range, values): &(BarRange, Ohlcv)| RawBar {
            open_time: range.open(),
            open: values.open(),
            high: values.high(),
            low: values.low(),
            close: values.close(),
            volume: values.volume(),
        };
        let end = (skipped == 0).then_some(HistoryEnd::End);
        let bars: Vec<RawBar> = bars.iter().skip(skipped).map(raw).collect();
        (!bars.is_empty()).then_some(HistoryPage { bars, server_time: self.now, symbol: None, end })
    }
}

pub(super) fn seconds_after(time: Timestamp, seconds: i64) -> Timestamp {
    time + SignedDuration::from_secs(seconds)
}

fn tape(
    random: &mut StdRng,
    session: &TradingSession,
    start: Timestamp,
    days: i64,
    (clock, late): (FeedClock, bool),
) -> Vec<Trade> {
    let end = seconds_after(start, days * 86_400);
    let scales = [40, 400, 4_000, 40_000, 300_000];
    // How likely each kind of gap is differs from tape to tape.
    let liking: Vec<f64> = scales.iter().map(|_| random.random::<f64>().powi(3)).collect();
    let (mut newest, mut trades, mut told) = (start, Vec::new(), start);
    while newest < end && trades.len() < 300 {
        let place = random.random_range(0.0..liking.iter().sum());
        let mut sum = 0.0;
        let scale = liking.iter().position(|each| {
            sum += each;
            place < sum
        });
        let gap = random.random_range(0..scales[scale.unwrap_or(0)]);
        let is_late = late && random.random_bool(0.06);
        let mut time =
            if is_late { seconds_after(newest, -(gap % 110)) } else { seconds_after(newest, gap) };
        if session.hours_at(time).is_none() {
            if is_late {
                continue;
            }
            time =
                seconds_after(session.next_hours(time).unwrap().open(), random.random_range(0..3));
        }
        newest = newest.max(time);
        told = told.max(newest);
        if clock == FeedClock::Wall {
            told = told.max(newest + SignedDuration::from_millis(random.random_range(0..900)));
        }
        let (price, size) =
            (f64::from(random.random_range(1..400)) / 4.0, f64::from(random.random_range(1..50)));
        trades.push(Trade { told, time, price, size });
    }
    trades
}
