//! One symbol's bars: what a tick does to them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::change::TickCounts;
use super::lane::Lane;
use super::minute::MinuteBar;
use super::rules::{BarRules, FeedClock, after, before};
use crate::domain::ohlcv::{BarRange, Ohlcv};
use crate::domain::quote::{CumulativeVolume, QuoteTick, SymbolId, VolumeStep};
use crate::domain::shared::{Interval, Series, Symbol};
use crate::domain::symbol::TradingSession;

/// One symbol's bars.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of one another")]
pub(super) struct Track {
    pub(super) id: SymbolId,
    pub(super) symbol: Symbol,
    pub(super) session: Arc<TradingSession>,
    /// How late the provider says the quotes are.
    pub(super) delay: Duration,
    pub(super) volume: CumulativeVolume,
    /// Minutes that changed behind what a bar above them had summed up.
    pub(super) unrolled: Vec<BarRange>,
    /// The newest time that the feed told.
    pub(super) event_time: Option<Timestamp>,
    pub(super) last_tick: Option<Timestamp>,
    /// All bars that closed by this are closed; absent until the symbol's time is known.
    pub(super) cursor: Option<Timestamp>,
    /// Where tracking began: weeks and months that began on an earlier day are in doubt.
    pub(super) since: Option<Timestamp>,
    /// Ticks before this were there before the feed joined.
    pub(super) floor: Timestamp,
    /// The minute of the snapshot's last price.
    pub(super) joined: Option<BarRange>,
    /// Bars that overlap this are in doubt: fetched again after their close.
    pub(super) doubt: Option<(Timestamp, Timestamp)>,
    /// Bars that are fetched again after their close, as an earlier run was to do.
    pub(super) owed: Vec<(Interval, BarRange)>,
    /// Since when the feed is away, while it is.
    pub(super) cut: Option<Timestamp>,
    /// Restored, and not joined since.
    pub(super) restored: bool,
    /// A seed was announced by a join and has not come: what it replaces stays in memory.
    pub(super) awaits_seed: bool,
    /// Intervals without a trade that closed before this are not told: the feed was away.
    pub(super) leap: Timestamp,
    /// Bars that closed by this are not in memory any more.
    pub(super) forgotten: Timestamp,
    /// Daily bars before the join, for the week and the month that are not made yet.
    pub(super) days: Vec<(Timestamp, Ohlcv)>,
    pub(super) minutes: VecDeque<MinuteBar>,
    /// The one-minute bars' grid; its own bars are unused.
    pub(super) base: Lane,
    pub(super) lanes: Vec<Lane>,
    /// The trading day of the newest tick.
    day: Option<BarRange>,
    pub(super) refetches: Vec<BarRange>,
    /// Minutes that are being fetched again: what they change stays in memory for a while.
    pub(super) awaited: Vec<BarRange>,
    /// A closed bar changed, or was made.
    pub(super) late: bool,
    /// Forming bars changed since that was told.
    pub(super) touched: bool,
    /// Anything changed since it was persisted.
    pub(super) unsaved: bool,
}

impl Track {
    pub(super) fn new(id: SymbolId, symbol: Symbol, session: Arc<TradingSession>) -> Self {
        let lanes = Interval::ALL.into_iter().skip(1);
        Self {
            id,
            symbol,
            delay: Duration::ZERO,
            volume: CumulativeVolume::default(),
            unrolled: Vec::new(),
            event_time: None,
            last_tick: None,
            cursor: None,
            since: None,
            floor: Timestamp::MIN,
            joined: None,
            doubt: None,
            owed: Vec::new(),
            cut: None,
            restored: false,
            awaits_seed: false,
            leap: Timestamp::MIN,
            forgotten: Timestamp::MIN,
            days: Vec::new(),
            minutes: VecDeque::new(),
            base: Lane::new(&session, Interval::M1),
            lanes: lanes.map(|interval| Lane::new(&session, interval)).collect(),
            session,
            day: None,
            refetches: Vec::new(),
            awaited: Vec::new(),
            late: false,
            touched: false,
            unsaved: true,
        }
    }

    pub(super) fn series(&self, interval: Interval) -> Series {
        Series::new(self.symbol.clone(), interval)
    }

    /// What time it is for the symbol; absent on the event clock before its first tick.
    pub(super) fn clock(&self, now: Timestamp, rules: &BarRules) -> Option<Timestamp> {
        match rules.clock {
            FeedClock::Event => self.event_time,
            // Until the join, nobody knows what was missed: time stands still.
            FeedClock::Wall if self.restored => self.event_time,
            FeedClock::Wall => {
                let own = before(now, self.delay);
                // A feed that is ahead closes bars, but none before its time.
                let told = self.event_time.map(|time| time.min(after(now, rules.grace)));
                Some(told.map_or(own, |told| told.max(own)))
            }
        }
    }

    /// When the next bar closes on the machine's clock, without a further tick.
    pub(super) fn deadline(&self, rules: &BarRules) -> Option<Timestamp> {
        if self.restored {
            return None;
        }
        let close = self.base.slot?.close();
        let due = after(close, rules.grace);
        let told = self.event_time.is_some_and(|time| time >= due);
        Some(if told { close } else { after(due, self.delay) })
    }

    /// Takes in a trade. Most lie in the newest bar and cost a comparison and a few sums.
    pub(super) fn tick(
        &mut self,
        tick: &QuoteTick,
        now: Timestamp,
        rules: &BarRules,
        counts: &mut TickCounts,
    ) {
        if let Some(minute) = self.minutes.back_mut()
            && minute.range.contains(tick.time)
            && minute.is_open()
            && self.cursor.is_some_and(|cursor| cursor < minute.range.close())
            && let Some(day) = self.day.filter(|day| day.contains(tick.time))
        {
            self.event_time = self.event_time.max(Some(tick.time));
            self.last_tick = self.last_tick.max(Some(tick.time));
            minute.trade(tick.time, tick.price);
            if let Some(size) = tick.size {
                minute.add_size(size);
            } else if let Some(cumulative) = tick.cumulative {
                let step = self.volume.step(cumulative, tick.time, day);
                counts.restated += u64::from(step == VolumeStep::Restated);
                minute.add_step(step);
            }
            return;
        }
        self.tick_elsewhere(tick, now, rules, counts);
    }

    /// A trade that is not in the newest bar: the first of a bar, or late, or out of hours.
    fn tick_elsewhere(
        &mut self,
        tick: &QuoteTick,
        now: Timestamp,
        rules: &BarRules,
        counts: &mut TickCounts,
    ) {
        self.event_time = self.event_time.max(Some(tick.time));
        let Some((range, day)) = self.place(tick.time) else {
            counts.off_session += 1;
            return;
        };
        let step = tick
            .cumulative
            .filter(|_| tick.size.is_none())
            .map(|cumulative| self.volume.step(cumulative, tick.time, day));
        counts.restated += u64::from(step == Some(VolumeStep::Restated));
        let line = self.clock(now, rules).map(|clock| before(clock, rules.lateness));
        let out_of_reach = line.is_some_and(|line| tick.time < line) || self.is_unseen(range);
        if tick.time < self.floor || out_of_reach {
            counts.too_late += 1;
            if tick.time >= self.floor {
                self.refetch(range);
            }
            return;
        }
        self.begin(range.open(), range.open());
        self.last_tick = self.last_tick.max(Some(tick.time));
        let index = self.minute_for(range, tick);
        let Some(minute) = self.minutes.get_mut(index) else { return };
        if minute.fixed.is_some() {
            counts.outranked += 1;
            // The provider has it by now, perhaps.
            self.refetch(range);
            return;
        }
        let in_doubt = step.is_some_and(is_doubtful) || minute.may_begin_with(tick.time);
        minute.trade(tick.time, tick.price);
        if let Some(size) = tick.size {
            minute.add_size(size);
        } else if let Some(step) = step {
            minute.add_step(step);
        }
        if self.is_closed(range) {
            counts.late += 1;
            self.late = true;
            if in_doubt {
                self.refetch(range);
            }
            for lane in &mut self.lanes {
                lane.disturb(range);
            }
            self.unrolled.push(range);
        }
    }

    /// Whether a minute passed while the feed was away: it is the provider's to tell.
    fn is_unseen(&self, minute: BarRange) -> bool {
        self.is_closed(minute)
            && self.in_doubt(Interval::M1, minute)
            && !self.minutes.iter().any(|known| known.range == minute)
    }

    /// The minute and the trading day that hold `time`; none outside of the session.
    fn place(&mut self, time: Timestamp) -> Option<(BarRange, BarRange)> {
        let range = self.base.bar_at(time)?;
        let day = match self.day.filter(|day| day.contains(time)) {
            Some(day) => day,
            None => self.session.day_range(self.session.trading_day_at(time)?)?,
        };
        self.day = Some(day);
        Some((range, day))
    }

    /// The place of the minute `range`, which is made where there is none.
    fn minute_for(&mut self, range: BarRange, tick: &QuoteTick) -> usize {
        let index = self.minutes.partition_point(|minute| minute.range.open() < range.open());
        if self.minutes.get(index).is_none_or(|minute| minute.range != range) {
            self.minutes.insert(index, MinuteBar::at(range, tick.time, tick.price));
            self.add_parents(range, &[]);
        }
        index
    }

    /// Makes the bars above the minute `range` that are not there, `but` for some; those of a week
    /// and a month with the days before the join.
    pub(super) fn add_parents(&mut self, range: BarRange, but: &[Interval]) {
        let first_day = self.first_day();
        for lane in self.lanes.iter_mut().filter(|lane| !but.contains(&lane.interval)) {
            let interval = lane.interval;
            let Some(parent) = lane.find_or_add(range.open()) else { continue };
            if is_period(interval) {
                parent.take_days(&self.days, first_day, self.since);
            }
        }
    }

    /// Tracking starts at `since`, and bars close after `cursor`, where that is not known yet.
    pub(super) fn begin(&mut self, cursor: Timestamp, since: Timestamp) {
        if self.cursor.is_some() {
            return;
        }
        self.cursor = Some(cursor);
        self.since = Some(since);
        self.reschedule();
    }

    /// Cuts the bars that are not made yet on `session`.
    pub(super) fn change_session(&mut self, session: &Arc<TradingSession>) {
        self.session = Arc::clone(session);
        self.day = None;
        self.base = Lane::new(session, Interval::M1);
        for lane in &mut self.lanes {
            let bars = std::mem::take(&mut lane.bars);
            *lane = Lane::new(session, lane.interval);
            lane.bars = bars;
            lane.recut();
        }
        self.reschedule();
    }

    /// Finds the bars that close next.
    pub(super) fn reschedule(&mut self) {
        let Some(cursor) = self.cursor else { return };
        self.base.slot = self.base.scheduled(cursor);
        for lane in &mut self.lanes {
            lane.slot = lane.scheduled(cursor);
        }
    }

    /// Whether a bar of `range` is closed.
    pub(super) fn is_closed(&self, range: BarRange) -> bool {
        self.cursor.is_some_and(|cursor| range.close() <= cursor)
    }
}

/// Whether the bars of `interval` hold several days.
pub(super) fn is_period(interval: Interval) -> bool {
    interval == Interval::W1 || interval == Interval::Mo1
}

const fn is_doubtful(step: VolumeStep) -> bool {
    matches!(step, VolumeStep::Restated | VolumeStep::Baseline)
}
