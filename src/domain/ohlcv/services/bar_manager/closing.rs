//! What the passing of time does to a symbol's bars: they close, are corrected, are forgotten.

use std::time::Duration;

use jiff::Timestamp;

use super::change::BarChange;
use super::rules::{BarRules, before};
use super::track::{Track, is_period};
use crate::domain::ohlcv::{Bar, BarRange, BarSource, Ohlcv, StoredBar};
use crate::domain::shared::{Interval, Series};

/// How far back an interval without a trade is still told as over, after the symbol's time jumped.
const NOTICE_REACH: Duration = Duration::from_hours(24);

/// How long minutes stay in memory for a seed that does not come.
const SEED_PATIENCE: Duration = Duration::from_mins(10);

/// How long minutes stay in memory for those that are fetched again and do not come: what is out of
/// memory is put together anew from the database, which a bar that began before the join cannot be.
const ANSWER_PATIENCE: Duration = Duration::from_hours(4);

/// How time passes over a symbol's intervals.
#[derive(Clone, Copy)]
enum Pace {
    /// From one to the next.
    Step,
    /// Over many that have no trade.
    Jump,
}

impl Track {
    /// Closes what is due at `clock`, tells what changed, forgets what no tick can reach.
    pub(super) fn advance(
        &mut self,
        clock: Option<Timestamp>,
        rules: &BarRules,
        out: &mut Vec<BarChange>,
    ) {
        let closed = clock.is_some_and(|clock| self.close_due(before(clock, rules.grace), out));
        if closed || self.late {
            self.late = false;
            self.unsaved = true;
            self.tell(out);
        }
        for range in std::mem::take(&mut self.unrolled) {
            self.reroll_behind(range, out);
        }
        for range in std::mem::take(&mut self.refetches) {
            self.ask_again(Interval::M1, range, out);
        }
        if let Some(clock) = clock.filter(|_| closed) {
            self.forget(before(clock, rules.lateness));
        }
    }

    /// Closes each scheduled bar that closed by `line`; answers whether there was one. Every
    /// longer bar closes with a minute.
    fn close_due(&mut self, line: Timestamp, out: &mut Vec<BarChange>) -> bool {
        let mut closed = false;
        while let Some(slot) = self.base.slot.filter(|slot| slot.close() <= line) {
            closed = true;
            let reach = before(line, NOTICE_REACH).max(self.leap.min(line));
            // Time jumped, over minutes that had no trade: only the bars there are told.
            if slot.close() < reach && !self.has_minute_in(slot) {
                let next = self.minutes.iter().find(|minute| minute.range.open() >= slot.close());
                let next = next.map_or(reach, |minute| minute.range.open().min(reach));
                self.close_until(next.max(slot.close()), Pace::Jump, out);
            } else {
                self.notice(Interval::M1, slot, out);
                self.close_until(slot.close(), Pace::Step, out);
            }
        }
        closed
    }

    fn has_minute_in(&self, slot: BarRange) -> bool {
        self.minutes.iter().any(|minute| minute.range == slot)
    }

    /// Moves on to `cursor`. After a jump, intervals that passed without a bar are not told, and
    /// those in doubt are fetched as a whole.
    fn close_until(&mut self, cursor: Timestamp, pace: Pace, out: &mut Vec<BarChange>) {
        self.cursor = Some(cursor);
        let minute = self.base.slot;
        self.base.slot = self.base.scheduled(cursor);
        if let (Pace::Jump, Some(slot)) = (pace, minute) {
            self.refetch_jumped(Interval::M1, slot, self.base.slot, out);
        }
        for index in 0..self.lanes.len() {
            let Some(lane) = self.lanes.get_mut(index) else { break };
            let Some(slot) = lane.slot.filter(|slot| slot.close() <= cursor) else { continue };
            lane.slot = lane.scheduled(cursor);
            let (interval, next) = (lane.interval, lane.slot);
            match pace {
                Pace::Step => self.notice(interval, slot, out),
                Pace::Jump => {
                    if lane.find(slot.open()).is_some() {
                        let series = self.series(interval);
                        let close_time = slot.close();
                        out.push(BarChange::IntervalClosed { series, close_time });
                    }
                    self.refetch_jumped(interval, slot, next, out);
                }
            }
        }
    }

    /// Bars from `slot` to the one before `next` passed unseen.
    fn refetch_jumped(
        &mut self,
        interval: Interval,
        slot: BarRange,
        next: Option<BarRange>,
        out: &mut Vec<BarChange>,
    ) {
        let Some(cursor) = self.cursor else { return };
        let end = next.map_or(cursor, |next| next.open().min(cursor)).max(slot.close());
        let jumped =
            BarRange::new(slot.open(), end).filter(|range| self.in_doubt(interval, *range));
        let doubtful = jumped.or_else(|| self.began_before(interval, slot).then_some(slot));
        if let Some(range) = doubtful {
            self.ask_again(interval, range, out);
        }
    }

    /// The time of a bar is over.
    fn notice(&mut self, interval: Interval, slot: BarRange, out: &mut Vec<BarChange>) {
        let series = self.series(interval);
        let doubtful = self.in_doubt(interval, slot)
            || (interval == Interval::M1 && self.is_doubtful_minute(slot))
            || self.began_before(interval, slot);
        out.push(BarChange::IntervalClosed { series, close_time: slot.close() });
        if doubtful {
            self.ask_again(interval, slot, out);
        }
    }

    fn is_doubtful_minute(&self, slot: BarRange) -> bool {
        self.minutes.iter().any(|minute| minute.range == slot && minute.doubtful)
    }

    /// Whether a week or a month began on a day before tracking did.
    fn began_before(&self, interval: Interval, slot: BarRange) -> bool {
        if !is_period(interval) {
            return false;
        }
        self.since.is_some_and(|since| slot.contains(since)) && slot.open() < self.first_day()
    }

    /// When the day opened on which tracking began.
    pub(super) fn first_day(&self) -> Timestamp {
        let Some(since) = self.since else { return Timestamp::MIN };
        let day = self.session.trading_day_at(since).and_then(|day| self.session.day_range(day));
        day.map_or(since, |day| day.open())
    }

    /// Tells closed bars that were not told, or that have other values now.
    pub(super) fn tell(&mut self, out: &mut Vec<BarChange>) {
        let Some(cursor) = self.cursor else { return };
        let is_closed = |range: BarRange| range.close() <= cursor;
        let series = Series::new(self.symbol.clone(), Interval::M1);
        for minute in self.minutes.iter_mut().filter(|m| is_closed(m.range) && !m.is_seed()) {
            let Some(values) = minute.values() else { continue };
            let news =
                News { range: minute.range, values, ticks: minute.ticks, source: minute.source() };
            news.tell(&series, &mut minute.told, out);
        }
        for lane in &mut self.lanes {
            let series = Series::new(self.symbol.clone(), lane.interval);
            for bar in lane.bars.iter_mut().filter(|bar| is_closed(bar.range)) {
                if bar.told.is_some() && !std::mem::take(&mut bar.changed) {
                    continue;
                }
                let Some(rolled) = bar.rolled(&self.minutes) else { continue };
                let source = bar.source(&rolled);
                let news =
                    News { range: bar.range, values: rolled.values, ticks: rolled.ticks, source };
                news.tell(&series, &mut bar.told, out);
            }
        }
    }

    /// Lets go of what no tick can change any more, nor a seed or a minute that is still to come.
    fn forget(&mut self, line: Timestamp) {
        let Some(mut line) = self.cursor.map(|cursor| cursor.min(line)) else { return };
        if let Some(joined) = self.joined.filter(|_| self.awaits_seed) {
            let is_patient = before(line, SEED_PATIENCE) < joined.open();
            line = if is_patient { line.min(joined.open()) } else { line };
        }
        let patience = before(line, ANSWER_PATIENCE);
        self.awaited.retain(|range| patience < range.open());
        line = self.awaited.iter().map(BarRange::open).fold(line, Timestamp::min);
        self.forgotten = self.forgotten.max(line);
        self.owed.retain(|(_, range)| range.close() > line);
        while let Some(minute) = self.minutes.front().filter(|m| m.range.close() <= line) {
            self.lanes.iter_mut().for_each(|lane| lane.settle(minute));
            self.minutes.pop_front();
        }
        self.lanes.iter_mut().for_each(|lane| lane.forget(line));
    }
}

/// How a closed bar is now.
pub(super) struct News {
    pub(super) range: BarRange,
    pub(super) values: Ohlcv,
    pub(super) ticks: u32,
    pub(super) source: BarSource,
}

impl News {
    /// Tells it where it differs from what was `told`.
    pub(super) fn tell(
        &self,
        series: &Series,
        told: &mut Option<StoredBar>,
        out: &mut Vec<BarChange>,
    ) {
        let tick_count = (self.ticks > 0).then_some(self.ticks);
        let old = told.filter(StoredBar::is_final);
        let mut stored = match old {
            Some(old) if old.values == self.values => return,
            Some(old) => old.revised(self.values, self.source),
            None => StoredBar::closed(self.range.open(), self.values, self.source),
        };
        stored.tick_count = tick_count;
        *told = Some(stored);
        let (series, bar) = (series.clone(), Bar { range: self.range, stored });
        out.push(match old {
            Some(old) => BarChange::Revised { series, old, bar },
            None => BarChange::Closed { series, bar },
        });
    }
}
