//! What the provider says again of bars that were closed.

use jiff::Timestamp;

use super::change::BarChange;
use super::closing::News;
use super::lane::Lane;
use super::minute::MinuteBar;
use super::rolled::Rolled;
use super::snapshot::stored_minute;
use super::track::{Track, is_period};
use crate::domain::ohlcv::{BarRange, BarSource, Ohlcv, StoredBar};
use crate::domain::shared::{Interval, Series};

/// Volumes of two sources are equal within this part of the bar's, or the next of the day's.
const BAR_TOLERANCE: f64 = 1e-9;
const DAY_TOLERANCE: f64 = 1e-12;

/// A finished bar as the provider says it now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RepairedBar {
    /// When it opens.
    pub open_time: Timestamp,
    /// Its values.
    pub values: Ohlcv,
    /// What is stored of it, for where it is no longer in memory.
    pub stored: Option<StoredBar>,
}

impl Track {
    /// Takes over a bar. One that is not closed is left alone.
    pub(super) fn repair(
        &mut self,
        interval: Interval,
        bar: &RepairedBar,
        out: &mut Vec<BarChange>,
    ) {
        if interval == Interval::M1 {
            self.repair_minute(bar, out);
        } else {
            self.repair_parent(interval, bar, out);
        }
        self.unsaved = true;
    }

    fn repair_minute(&mut self, bar: &RepairedBar, out: &mut Vec<BarChange>) {
        let range = self.base.bar_at(bar.open_time).filter(|range| range.open() == bar.open_time);
        let range = range.unwrap_or_else(|| self.session.bounds_of(Interval::M1, bar.open_time));
        if !self.is_closed(range) {
            return;
        }
        if range.close() <= self.forgotten || self.base.bar_at(range.open()).is_none() {
            if self.tell_repaired(Interval::M1, range, bar, out) {
                self.reroll(range, |_| true, out);
            }
            return;
        }
        let index = self.minutes.partition_point(|minute| minute.range.open() < range.open());
        let known = self.minutes.get(index).filter(|minute| minute.range == range);
        let stored = bar.stored.filter(StoredBar::is_final);
        let told = known.map_or(stored, |minute| minute.told);
        let confirmed = told.filter(|told| told.is_final() && self.alike(told, &bar.values));
        match (known.is_some(), confirmed) {
            (true, Some(_)) => {}
            (true, None) => {
                self.correct(index, bar.values, told);
                self.lanes.iter_mut().for_each(|lane| lane.repair(range));
                self.reroll_behind(range, out);
            }
            // Another run of the feed has closed it: the bars above it that are made here have it.
            (false, Some(told)) => {
                let minute = stored_minute(&MinuteBar::known(range, told.values), told);
                self.minutes.insert(index, minute);
                let gone = self.gone(range);
                self.add_parents(range, &gone);
                self.lanes_but(&gone).for_each(|lane| lane.complete(range));
                self.late = true;
            }
            (false, None) => {
                self.minutes.insert(index, MinuteBar::known(range, bar.values));
                self.correct(index, bar.values, told);
                let gone = self.gone(range);
                self.add_parents(range, &gone);
                self.lanes_but(&gone).for_each(|lane| lane.repair(range));
                self.reroll(range, |interval| gone.contains(&interval), out);
                self.reroll_behind(range, out);
            }
        }
    }

    fn correct(&mut self, index: usize, values: Ohlcv, told: Option<StoredBar>) {
        if let Some(minute) = self.minutes.get_mut(index) {
            minute.fixed = Some(values);
            minute.told = told;
        }
        self.late = true;
    }

    /// The intervals whose bar above `minute` is closed and not in memory: what else it is made of
    /// is only in the database.
    fn gone(&mut self, minute: BarRange) -> Vec<Interval> {
        let cursor = self.cursor.unwrap_or(Timestamp::MIN);
        let is_gone = |lane: &mut Lane| {
            let parent = lane.bar_at(minute.open())?;
            let gone = parent.close() <= cursor && lane.find(minute.open()).is_none();
            gone.then_some(lane.interval)
        };
        self.lanes.iter_mut().filter_map(is_gone).collect()
    }

    fn lanes_but(&mut self, gone: &[Interval]) -> impl Iterator<Item = &mut Lane> {
        self.lanes.iter_mut().filter(|lane| !gone.contains(&lane.interval))
    }

    fn repair_parent(&mut self, interval: Interval, bar: &RepairedBar, out: &mut Vec<BarChange>) {
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.interval == interval) else {
            return;
        };
        let known = lane.find(bar.open_time).copied();
        let known = known.filter(|known| known.range.open() == bar.open_time);
        let range = match known {
            Some(known) => known.range,
            None => self.session.bounds_of(interval, bar.open_time),
        };
        if !self.is_closed(range) {
            return;
        }
        let Some(told) = known.and_then(|known| known.told) else {
            if self.tell_repaired(interval, range, bar, out) {
                self.reroll_periods(interval, range, out);
            }
            return;
        };
        if self.alike(&told, &bar.values) {
            return;
        }
        let lane = self.lanes.iter_mut().find(|lane| lane.interval == interval);
        if let Some(parent) = lane.and_then(|lane| lane.find(bar.open_time)) {
            parent.fixed = Some(bar.values);
            parent.changed = true;
            self.late = true;
        }
        self.reroll_periods(interval, range, out);
    }

    /// Compares a bar that is not in memory with what is stored of it.
    fn tell_repaired(
        &self,
        interval: Interval,
        range: BarRange,
        bar: &RepairedBar,
        out: &mut Vec<BarChange>,
    ) -> bool {
        let mut told = bar.stored.filter(StoredBar::is_final);
        if told.is_some_and(|told| self.alike(&told, &bar.values)) {
            return false;
        }
        let range = BarRange::new(bar.open_time, range.close()).unwrap_or(range);
        let news = News { range, values: bar.values, ticks: 0, source: BarSource::Repair };
        news.tell(&self.series(interval), &mut told, out);
        true
    }

    /// Weeks and months are made of days.
    fn reroll_periods(&mut self, interval: Interval, range: BarRange, out: &mut Vec<BarChange>) {
        if interval == Interval::D1 {
            self.reroll(range, is_period, out);
        }
    }

    /// A repaired child is out of reach: the bars above it must be rolled up from what is stored.
    fn reroll(
        &mut self,
        child: BarRange,
        chosen: impl Fn(Interval) -> bool,
        out: &mut Vec<BarChange>,
    ) {
        let Some(cursor) = self.cursor else { return };
        let begins = [Interval::M1, Interval::W1].map(|interval| self.first_child(interval));
        for lane in self.lanes.iter_mut().filter(|lane| chosen(lane.interval)) {
            let Some(range) = lane.bar_at(child.open()) else { continue };
            let is_gone = range.close() <= cursor && lane.find(child.open()).is_none();
            let [intraday, period] = begins;
            if range.open() < if is_period(lane.interval) { period } else { intraday } {
                // Its first children were never stored: it is fetched, after its close.
                if is_gone {
                    let series = Series::new(self.symbol.clone(), lane.interval);
                    out.push(BarChange::Refetch { series, range });
                }
                continue;
            }
            let until = if is_gone {
                Some(range.close())
            } else {
                let parent = lane.find_or_add(child.open());
                parent.map(|parent| parent.split(&self.minutes, child.close().min(range.close())))
            };
            if let Some(until) = until {
                let series = Series::new(self.symbol.clone(), lane.interval);
                out.push(BarChange::Reroll { series, range, until });
            }
        }
    }

    /// `minute` changed: the bars that have it summed up already are rolled up again.
    pub(super) fn reroll_behind(&mut self, minute: BarRange, out: &mut Vec<BarChange>) {
        let lanes =
            self.lanes.iter_mut().filter_map(|lane| lane.is_past(minute).then_some(lane.interval));
        let behind: Vec<_> = lanes.collect();
        self.reroll(minute, |interval| behind.contains(&interval), out);
    }

    /// A bar that is not closed is rolled up again, as an earlier run was to do.
    pub(super) fn reroll_forming(
        &mut self,
        interval: Interval,
        range: BarRange,
        out: &mut Vec<BarChange>,
    ) {
        if range.open() < self.first_child(interval) {
            return;
        }
        let lane = self.lanes.iter_mut().find(|lane| lane.interval == interval);
        let parent = lane.and_then(|lane| lane.find(range.open()));
        if let Some(parent) = parent.filter(|parent| parent.range == range) {
            let until = parent.split(&self.minutes, parent.until);
            let series = Series::new(self.symbol.clone(), interval);
            out.push(BarChange::Reroll { series, range, until });
        }
    }

    /// Bars of `interval` that open before this have children that were never stored.
    fn first_child(&self, interval: Interval) -> Timestamp {
        if is_period(interval) { self.first_day().max(self.floor) } else { self.floor }
    }

    /// Whether the bar is in memory, and is being rolled up again or is the provider's.
    pub(super) fn takes_head(&self, interval: Interval, range: BarRange) -> bool {
        let lane = self.lanes.iter().find(|lane| lane.interval == interval);
        let bar = lane.and_then(|lane| lane.bars.iter().find(|bar| bar.range == range));
        bar.is_some_and(|bar| bar.rerolling.is_some() || bar.fixed.is_some())
    }

    /// Replaces what the bar of `interval` in `range` came to before `until`, as asked for; answers
    /// whether that was (still) asked for. One that is out of reach now is asked for as a whole.
    pub(super) fn replace_head(
        &mut self,
        interval: Interval,
        (range, until): (BarRange, Timestamp),
        values: Ohlcv,
        out: &mut Vec<BarChange>,
    ) -> bool {
        let is_closed = self.is_closed(range);
        let lane = self.lanes.iter_mut().find(|lane| lane.interval == interval);
        let parent = lane.and_then(|lane| lane.find(range.open()));
        let Some(parent) = parent.filter(|parent| parent.range.open() == range.open()) else {
            if is_closed {
                let (series, until) = (self.series(interval), range.close());
                out.push(BarChange::Reroll { series, range, until });
            }
            return false;
        };
        if parent.rerolling != Some(until) {
            return false;
        }
        let ticks = parent.head.map_or(0, |head| head.ticks);
        let head = Rolled { values, ticks, repaired: true };
        parent.head = Some(parent.tail.take().map_or(head, |tail| head.followed_by(&tail)));
        parent.rerolling = None;
        parent.repaired = true;
        parent.changed = parent.told.is_some();
        self.late = true;
        self.unsaved = true;
        true
    }

    fn alike(&self, told: &StoredBar, said: &Ohlcv) -> bool {
        let day = self.volume.last().map_or(0.0, |last| last.cumulative);
        alike(&told.values, said, day)
    }
}

/// Whether the provider says of a bar what is known of it, on a day whose volume is `day` so far. A
/// volume it does not tell is no difference.
pub fn alike(known: &Ohlcv, said: &Ohlcv, day: f64) -> bool {
    let prices = |bar: &Ohlcv| [bar.open(), bar.high(), bar.low(), bar.close()];
    #[expect(clippy::float_cmp, reason = "prices compare exactly: they are only copied")]
    let same = prices(known) == prices(said);
    same && match (known.volume(), said.volume()) {
        (_, None) => true,
        (None, Some(_)) => false,
        (Some(known), Some(said)) => {
            (known - said).abs() <= (said * BAR_TOLERANCE).max(day * DAY_TOLERANCE)
        }
    }
}
