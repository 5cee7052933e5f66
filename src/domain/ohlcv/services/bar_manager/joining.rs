//! How a symbol's bars begin: at a join with a seed, and again after the feed was away.

use jiff::Timestamp;

use super::change::BarChange;
use super::minute::MinuteBar;
use super::rolled::{Rolled, joined};
use super::rules::{BarRules, FeedClock, before};
use super::track::{Track, is_period};
use crate::domain::ohlcv::{BarRange, Ohlcv};
use crate::domain::quote::Quote;
use crate::domain::shared::Interval;

/// Daily bars kept of a seed: two months.
const MAX_DAYS: usize = 62;

/// What the snapshot after a (re)subscription says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct JoinPoint {
    /// When the last price was traded.
    pub time: Option<Timestamp>,
    /// The volume of the trading day so far.
    pub volume: Option<f64>,
    /// No trade yet on this trading day: its bars are complete from their ticks.
    pub before_first_trade: bool,
    /// Whether a [`Seed`] will follow.
    pub seed_follows: bool,
}

/// Bars of the provider's that make the first bars complete, each by its open time and in order.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seed<'a> {
    /// One-minute bars since the session opened.
    pub minutes: &'a [(Timestamp, Ohlcv)],
    /// Daily bars since the earlier of the week's and the month's first session.
    pub days: &'a [(Timestamp, Ohlcv)],
}

impl From<&Quote> for JoinPoint {
    fn from(quote: &Quote) -> Self {
        Self {
            time: quote.last_time,
            volume: quote.volume,
            before_first_trade: quote.is_before_first_trade(),
            seed_follows: true,
        }
    }
}

impl Track {
    /// The feed joined, or joined again, at `now`.
    pub(super) fn join(&mut self, now: Timestamp, point: &JoinPoint, rules: &BarRules) {
        let last_minute = self.last_tick.and_then(|time| self.base.bar_at(time));
        if !self.catch_up(point, last_minute) {
            self.volume.rebase(point.volume, point.time, point.before_first_trade);
        }
        self.event_time = self.event_time.max(point.time);
        let restored = std::mem::take(&mut self.restored);
        let clock = self.clock(now, rules);
        // Where no trade was seen yet, all that closed without one was.
        let seen = self.last_tick.or(self.cursor);
        if let (true, Some(last), Some(clock)) = (restored, seen, clock) {
            self.add_doubt(last, clock.max(last));
            // Bars went on to close while the feed was away before the restart.
            let cursor = self.cursor.unwrap_or(last);
            self.refetch_closed(self.cut.unwrap_or(cursor).min(cursor), cursor, rules);
            self.leap = clock;
        }
        let traded = point.time.filter(|_| !point.before_first_trade);
        self.joined = traded.and_then(|time| self.base.bar_at(time));
        self.awaits_seed = point.seed_follows;
        if let Some(clock) = clock {
            // Before a day's first trade, the time of the last one is an earlier day's.
            let is_of_day = !point.before_first_trade || rules.clock == FeedClock::Wall;
            if self.cursor.is_none() && is_of_day {
                self.begin(before(clock, rules.grace), clock);
                self.floor = self.first_tracked();
            }
            if !point.before_first_trade {
                let open = self.joined.filter(|minute| !self.is_closed(*minute));
                let from = open.map_or(clock, |minute| minute.open().min(clock));
                self.add_doubt(from, clock);
            }
        }
        self.cut = None;
        self.unsaved = true;
    }

    /// Where the last price was traded in the minute of the last tick, so was the volume that was
    /// missed since; answers whether it was.
    fn catch_up(&mut self, point: &JoinPoint, last_minute: Option<BarRange>) -> bool {
        let Some((time, told)) = point.time.zip(point.volume) else { return false };
        let Some(range) = last_minute.filter(|minute| minute.contains(time)) else { return false };
        let day = self.session.trading_day_at(time).and_then(|day| self.session.day_range(day));
        let minute = self.minutes.iter_mut().find(|minute| minute.range == range);
        let (Some(day), Some(minute)) = (day, minute.filter(|minute| minute.is_open())) else {
            return false;
        };
        if self.volume.last().is_none() {
            return false;
        }
        minute.add_step(self.volume.step(told, time, day));
        true
    }

    /// Where the bars begin that the feed makes, at the first join: those before are not its own.
    fn first_tracked(&self) -> Timestamp {
        match self.joined {
            Some(minute) if self.is_closed(minute) => self.cursor.unwrap_or(Timestamp::MIN),
            Some(minute) => minute.open(),
            None => self.first_day(),
        }
    }

    /// Makes the bars that were forming at the join complete. Bars of `seed` before the join's
    /// minute enter the bars above the minute; that minute takes its open, high and low; those
    /// after it are ignored.
    pub(super) fn seed(&mut self, seed: &Seed<'_>) {
        self.awaits_seed = false;
        self.unsaved = true;
        let skipped = seed.days.len().saturating_sub(MAX_DAYS);
        self.days = seed.days.iter().skip(skipped).copied().collect();
        let Some(minute) = self.joined else { return self.seed_days() };
        let day = self.session.trading_day_at(minute.open());
        let Some(day) = day.and_then(|day| self.session.day_range(day)) else { return };
        let in_memory = self.minutes.iter().any(|bar| bar.range == minute);
        let is_whole = self.is_closed(minute) && !in_memory;
        let split = if is_whole { minute.close() } else { minute.open() };
        let cursor = self.cursor.unwrap_or(Timestamp::MIN);
        for lane in &mut self.lanes {
            let Some(range) = lane.bar_at(minute.open()) else { continue };
            if range.close() <= cursor {
                continue;
            }
            let (head, until) = if is_period(lane.interval) {
                period_head(seed, range, day, split, cursor)
            } else {
                (rolled(seed.minutes, range.open(), split), split)
            };
            let parent = head.and_then(|head| Some((lane.find_or_add(minute.open())?, head)));
            // A seed that came too late would lose the minutes that have left memory.
            if let Some((parent, head)) = parent.filter(|(parent, _)| parent.until <= until) {
                parent.reseed(head, until);
            }
        }
        let own = seed.minutes.iter().find(|(open, _)| *open == minute.open());
        if let Some((_, values)) = own.filter(|_| !is_whole) {
            self.seed_minute(minute, *values);
        }
    }

    /// The day is complete from its ticks: only the days before it are needed.
    fn seed_days(&mut self) {
        let Some(time) = self.last_tick.or(self.since) else { return };
        let first_day = self.first_day();
        for lane in self.lanes.iter_mut().filter(|lane| is_period(lane.interval)) {
            if let Some(parent) = lane.find(time) {
                parent.take_days(&self.days, first_day, self.since);
            }
        }
    }

    fn seed_minute(&mut self, range: BarRange, values: Ohlcv) {
        let index = self.minutes.partition_point(|bar| bar.range.open() < range.open());
        match self.minutes.get_mut(index).filter(|bar| bar.range == range) {
            Some(bar) if bar.is_open() => bar.seed(values),
            Some(_) => {}
            None => {
                self.minutes.insert(index, MinuteBar::known(range, values));
                self.add_parents(range, &[]);
            }
        }
    }

    /// The feed was away in `[from, to]`, in the symbol's time: bars that overlap it are fetched
    /// again after their close, at once where they are closed.
    pub(super) fn outage(
        &mut self,
        (from, to): (Timestamp, Timestamp),
        rules: &BarRules,
        out: &mut Vec<BarChange>,
    ) {
        self.add_doubt(from, to);
        self.leap = self.leap.max(to);
        let Some(cursor) = self.cursor else { return };
        let mut doubtful = Vec::new();
        for lane in std::iter::once(&mut self.base).chain(&mut self.lanes) {
            // A late trade may be missed, too, that a minute before would still have taken.
            let reach =
                if lane.interval == Interval::M1 { before(from, rules.lateness) } else { from };
            let Some(first) = lane.scheduled(reach).filter(|first| first.open() <= to) else {
                continue;
            };
            let last = lane.bar_at(to).map_or(to, |last| last.close());
            let closed = lane.slot.map_or(cursor, |slot| slot.open()).min(cursor);
            let range = BarRange::new(first.open(), last.min(closed));
            doubtful.extend(range.map(|range| (lane.interval, range)));
        }
        for (interval, range) in doubtful {
            self.ask_again(interval, range, out);
        }
    }

    /// The feed was away from `from` on: closed minutes up to `until` are fetched again, and those
    /// before that a late trade would still have changed.
    fn refetch_closed(&mut self, from: Timestamp, until: Timestamp, rules: &BarRules) {
        let Some(cursor) = self.cursor else { return };
        let first = self.base.scheduled(before(from, rules.lateness));
        let since = first.map_or(cursor, |first| first.open()).max(self.floor);
        if let Some(range) = BarRange::new(since, cursor.min(until)) {
            self.refetch(range);
        }
    }
}

/// What the seed says of a week or a month before `split`, and how far that reaches: daily bars
/// for the days that are over, minutes for the day of the join.
fn period_head(
    seed: &Seed<'_>,
    range: BarRange,
    day: BarRange,
    split: Timestamp,
    cursor: Timestamp,
) -> (Option<Rolled>, Timestamp) {
    let today = seed.days.iter().find(|(open, _)| *open == day.open());
    if today.is_some() && day.close() <= cursor {
        return (rolled(seed.days, range.open(), day.close()), day.close());
    }
    let days = rolled(seed.days, range.open(), day.open());
    (joined(days, rolled(seed.minutes, day.open(), split)), split)
}

fn rolled(bars: &[(Timestamp, Ohlcv)], from: Timestamp, until: Timestamp) -> Option<Rolled> {
    let bars = bars.iter().filter(|(open, _)| from <= *open && *open < until);
    bars.fold(None, |sum, (_, values)| joined(sum, Some(Rolled::seeded(*values))))
}
