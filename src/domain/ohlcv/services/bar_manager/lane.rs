//! The bars of one interval above the minute, as far as they can still change.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;

use super::minute::MinuteBar;
use super::rolled::{Rolled, joined};
use crate::domain::ohlcv::services::BarClock;
use crate::domain::ohlcv::{BarRange, BarSource, Ohlcv, StoredBar};
use crate::domain::shared::Interval;
use crate::domain::symbol::TradingSession;

/// How a bar above the minute stands: what its minutes that left memory come to; those in memory
/// come on top when it is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ParentBar {
    /// The time it covers.
    pub range: BarRange,
    /// Minutes that opened before this are in `head` or `tail`.
    pub until: Timestamp,
    /// What they come to.
    pub head: Option<Rolled>,
    /// Those that left memory after a new roll-up of `head` was asked for.
    pub tail: Option<Rolled>,
    /// Up to where that was asked for.
    pub rerolling: Option<Timestamp>,
    /// What the provider said of it, which its minutes never change.
    pub fixed: Option<Ohlcv>,
    /// Whether it holds the days of it before the join.
    pub has_days: bool,
    /// Whether a minute of it was repaired.
    pub repaired: bool,
    /// Whether a minute of it changed after it was told.
    pub changed: bool,
    /// What was told of it, once it was closed.
    pub told: Option<StoredBar>,
}

/// The bars of one interval.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub(super) interval: Interval,
    clock: BarClock,
    session: Arc<TradingSession>,
    /// The bar whose close comes next, whether it has a trade or not.
    pub(super) slot: Option<BarRange>,
    /// In order of their time.
    pub(super) bars: VecDeque<ParentBar>,
}

impl ParentBar {
    const fn new(range: BarRange) -> Self {
        Self {
            range,
            until: range.open(),
            head: None,
            tail: None,
            rerolling: None,
            fixed: None,
            has_days: false,
            repaired: false,
            changed: false,
            told: None,
        }
    }

    /// Takes over the daily bars of it before `first_day`, once, where it began before tracking did:
    /// from that day on its ticks are in it.
    pub(super) fn take_days(
        &mut self,
        days: &[(Timestamp, Ohlcv)],
        first_day: Timestamp,
        since: Option<Timestamp>,
    ) {
        if self.has_days || days.is_empty() || since.is_none_or(|since| since < self.range.open()) {
            return;
        }
        self.has_days = true;
        let before =
            days.iter().filter(|(open, _)| *open < first_day && self.range.contains(*open));
        let before = before.fold(None, |sum, (_, bar)| joined(sum, Some(Rolled::seeded(*bar))));
        self.head = joined(before, self.head);
    }

    /// Replaces what was known of it before `until`.
    pub(super) fn reseed(&mut self, head: Rolled, until: Timestamp) {
        self.head = Some(head);
        self.tail = None;
        self.rerolling = None;
        self.until = until;
        self.has_days = true;
    }

    /// Moves its minutes in memory before `until` into its head, and asks for them anew.
    pub(super) fn split(&mut self, minutes: &VecDeque<MinuteBar>, until: Timestamp) -> Timestamp {
        for minute in minutes.iter().filter(|minute| minute.range.open() < until) {
            if self.range.contains(minute.range.open()) {
                self.settle(minute);
            }
        }
        self.head = joined(self.head, self.tail.take());
        self.until = self.until.max(until);
        self.rerolling = Some(self.until);
        self.until
    }

    /// A minute of it leaves memory.
    fn settle(&mut self, minute: &MinuteBar) {
        if minute.range.open() < self.until {
            return;
        }
        self.until = minute.range.close();
        let place = if self.rerolling.is_some() { &mut self.tail } else { &mut self.head };
        *place = joined(*place, minute.rolled());
    }

    /// What it comes to with its minutes in memory.
    pub(super) fn rolled(&self, minutes: &VecDeque<MinuteBar>) -> Option<Rolled> {
        let start = minutes.partition_point(|minute| minute.range.open() < self.until);
        let rest = minutes.range(start..).take_while(|m| m.range.open() < self.range.close());
        let settled = joined(self.head, self.tail);
        let rolled = rest.fold(settled, |sum, minute| joined(sum, minute.rolled()))?;
        Some(match self.fixed {
            Some(values) => Rolled { values, ..rolled },
            None => rolled,
        })
    }

    pub(super) const fn source(&self, rolled: &Rolled) -> BarSource {
        if self.fixed.is_some() || self.repaired || rolled.repaired {
            BarSource::Repair
        } else {
            BarSource::Ticks
        }
    }

    /// A late tick changed a minute of it. A closed bar that was repaired stays as it is.
    fn disturb(&mut self) {
        self.changed |= self.told.is_some_and(|told| told.source == BarSource::Ticks);
    }

    /// A minute of it was repaired.
    fn repair(&mut self) {
        self.repaired = true;
        self.changed |= self.told.is_some();
    }
}

impl Lane {
    pub(super) fn new(session: &Arc<TradingSession>, interval: Interval) -> Self {
        let clock = BarClock::new(Arc::clone(session), interval);
        let session = Arc::clone(session);
        Self { interval, clock, session, slot: None, bars: VecDeque::new() }
    }

    /// The bar that holds `time`; none outside of the session.
    pub(super) fn bar_at(&mut self, time: Timestamp) -> Option<BarRange> {
        self.clock.bar_at(time)
    }

    /// The first bar that the session has scheduled to close after `time`.
    pub(super) fn scheduled(&mut self, time: Timestamp) -> Option<BarRange> {
        self.clock.bar_at(time).or_else(|| {
            let hours = self.session.next_hours(time)?;
            self.clock.bar_at(hours.open())
        })
    }

    /// Bars that are not closed end as the session says now.
    pub(super) fn recut(&mut self) {
        let clock = &mut self.clock;
        for bar in self.bars.iter_mut().filter(|bar| bar.told.is_none()) {
            let range = clock.bar_at(bar.range.open());
            bar.range = range.filter(|range| range.open() == bar.range.open()).unwrap_or(bar.range);
        }
    }

    fn position(&self, time: Timestamp) -> Result<usize, usize> {
        let index = self.bars.partition_point(|bar| bar.range.close() <= time);
        match self.bars.get(index) {
            Some(bar) if bar.range.contains(time) => Ok(index),
            _ => Err(index),
        }
    }

    pub(super) fn find(&mut self, time: Timestamp) -> Option<&mut ParentBar> {
        let index = self.position(time).ok()?;
        self.bars.get_mut(index)
    }

    /// The bar that holds `time`, made where there is none; none outside of the session.
    pub(super) fn find_or_add(&mut self, time: Timestamp) -> Option<&mut ParentBar> {
        let index = match self.position(time) {
            Ok(index) => index,
            Err(index) => {
                let range = self.bar_at(time)?;
                self.bars.insert(index, ParentBar::new(range));
                index
            }
        };
        self.bars.get_mut(index)
    }

    /// Whether the bar above `minute` has it summed up already, so that it does not see it change.
    pub(super) fn is_past(&mut self, minute: BarRange) -> bool {
        let bar = self.find(minute.open());
        bar.is_some_and(|bar| minute.open() < bar.until && bar.fixed.is_none())
    }

    pub(super) fn settle(&mut self, minute: &MinuteBar) {
        if let Some(bar) = self.find(minute.range.open()) {
            bar.settle(minute);
        }
    }

    pub(super) fn disturb(&mut self, minute: BarRange) {
        if let Some(bar) = self.find_or_add(minute.open()) {
            bar.disturb();
        }
    }

    /// A minute came into memory that was closed elsewhere.
    pub(super) fn complete(&mut self, minute: BarRange) {
        if let Some(bar) = self.find_or_add(minute.open()) {
            bar.changed |= bar.told.is_some();
        }
    }

    pub(super) fn repair(&mut self, minute: BarRange) {
        if let Some(bar) = self.find_or_add(minute.open()) {
            bar.repair();
        }
    }

    /// Lets go of the bars that closed by `line`.
    pub(super) fn forget(&mut self, line: Timestamp) {
        while self.bars.front().is_some_and(|bar| bar.range.close() <= line) {
            self.bars.pop_front();
        }
    }
}
