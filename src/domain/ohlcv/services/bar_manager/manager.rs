//! The bars of all symbols.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::change::{BarChange, TickCounts};
use super::joining::{JoinPoint, Seed};
use super::repair::RepairedBar;
use super::rules::{BarRules, FUTURE_TOLERANCE, FeedClock, after};
use super::track::Track;
use crate::domain::ohlcv::{Bar, BarRange, Ohlcv};
use crate::domain::quote::{QuoteTick, SymbolId};
use crate::domain::shared::{Interval, Symbol};

/// Builds the bars of all symbols; one a process.
///
/// [`track`](Self::track) or [`restore`](Self::restore), [`join`](Self::join), then batches of
/// [`ticks`](Self::ticks), each followed by [`advance`](Self::advance), and `advance` once more
/// whenever [`next_deadline`](Self::next_deadline) passes. Changes are appended to the caller's
/// buffer. Times of one caller do not run backwards; where they do, nothing closes twice.
#[derive(Clone, Debug)]
pub struct BarManager {
    rules: BarRules,
    pub(super) ids: BTreeMap<Symbol, SymbolId>,
    pub(super) slots: Vec<Slot>,
    pub(super) free: Vec<u32>,
    /// Symbols with ticks since the last advance.
    pub(super) touched: Vec<u32>,
    /// Symbols that have something to tell, or whose time has moved.
    pub(super) pending: Vec<u32>,
    /// The earliest close on the machine's clock.
    pub(super) next_deadline: Option<Timestamp>,
    counts: TickCounts,
}

/// A place for a symbol.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) track: Option<Track>,
    pub(super) is_pending: bool,
}

impl BarManager {
    /// Tracks nothing yet.
    pub fn new(rules: BarRules) -> Self {
        Self {
            rules,
            ids: BTreeMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            touched: Vec::new(),
            pending: Vec::new(),
            next_deadline: None,
            counts: TickCounts::default(),
        }
    }

    /// The rules it follows.
    pub const fn rules(&self) -> BarRules {
        self.rules
    }

    /// The feed joined (or joined again) a symbol: the snapshot that its subscription answered
    /// with. No tick is taken from it. `now` is the machine's clock, here and everywhere.
    pub fn join(&mut self, now: Timestamp, id: SymbolId, point: &JoinPoint) {
        let rules = self.rules;
        if let Some(track) = self.track_mut(id) {
            track.join(now, point, &rules);
            self.mark_pending(id.index);
        }
    }

    /// Makes the bars that were forming at the last [`join`](Self::join) complete. With nothing
    /// in it, it says that there will be none: they are fetched again after their close anyway.
    pub fn seed(&mut self, id: SymbolId, seed: &Seed<'_>) {
        if let Some(track) = self.track_mut(id) {
            track.seed(seed);
            self.mark_touched(id.index);
            self.mark_pending(id.index);
        }
    }

    /// The feed was away from `from`, the last message before, to `to`, the first after; in the
    /// symbol's own time on [`FeedClock::Event`]. Bars that overlap that are in doubt.
    pub fn outage(
        &mut self,
        id: SymbolId,
        from: Timestamp,
        to: Timestamp,
        out: &mut Vec<BarChange>,
    ) {
        let (start, rules) = (out.len(), self.rules);
        if let Some(track) = self.track_mut(id) {
            track.outage((from, to.max(from)), &rules, out);
            self.mark_pending(id.index);
        }
        sort_from(out, start);
    }

    /// The feed is away since `from`, until the next [`join`](Self::join); in the symbol's own time.
    /// A restart before that does not forget it.
    pub fn cut(&mut self, id: SymbolId, from: Timestamp) {
        if let Some(track) = self.track_mut(id) {
            track.cut = track.cut.map_or(Some(from), |known| Some(known.min(from)));
            track.unsaved = true;
        }
    }

    /// Bars of `interval` in `range` were told as [`BarChange::Refetch`] or [`BarChange::Reroll`]
    /// to a process that ended before it was done: asked for again, once they are closed.
    pub fn owe(
        &mut self,
        id: SymbolId,
        interval: Interval,
        range: BarRange,
        out: &mut Vec<BarChange>,
    ) {
        if let Some(track) = self.track_mut(id) {
            track.owe(interval, range, out);
        }
    }

    /// How late the provider says a symbol's quotes are: its bars close so much later on
    /// [`FeedClock::Wall`].
    pub fn set_delay(&mut self, id: SymbolId, delay: Duration) {
        if let Some(track) = self.track_mut(id) {
            track.delay = delay;
            self.mark_pending(id.index);
        }
    }

    /// Takes in ticks, in the order in which they came.
    pub fn ticks(&mut self, now: Timestamp, ticks: &[QuoteTick]) {
        let limit = match self.rules.clock {
            FeedClock::Wall => after(now, FUTURE_TOLERANCE),
            FeedClock::Event => Timestamp::MAX,
        };
        for tick in ticks {
            self.tick(tick, now, limit);
        }
    }

    fn tick(&mut self, tick: &QuoteTick, now: Timestamp, limit: Timestamp) {
        let counts = &mut self.counts;
        counts.received += 1;
        let slot = usize::try_from(tick.symbol.index).ok().and_then(|i| self.slots.get_mut(i));
        let slot = slot.filter(|slot| slot.generation == tick.symbol.generation);
        let Some((slot, track)) = slot.and_then(Slot::split) else {
            counts.untracked += 1;
            return;
        };
        if !is_valid(tick) {
            counts.invalid += 1;
            return;
        }
        if tick.time > limit {
            counts.future += 1;
            return;
        }
        track.tick(tick, now, &self.rules, counts);
        if !track.touched {
            track.touched = true;
            track.unsaved = true;
            self.touched.push(tick.symbol.index);
        }
        let moved = track.base.slot.is_none_or(|slot| slot.close() <= tick.time);
        if (moved || track.late || !track.refetches.is_empty()) && !*slot {
            *slot = true;
            self.pending.push(tick.symbol.index);
        }
    }

    /// A symbol's time has moved without a trade: an update out of session.
    pub fn move_time(&mut self, now: Timestamp, id: SymbolId, time: Timestamp) {
        if self.rules.clock == FeedClock::Wall && time > after(now, FUTURE_TOLERANCE) {
            self.counts.future += 1;
            return;
        }
        if let Some(track) = self.track_mut(id) {
            track.event_time = track.event_time.max(Some(time));
            track.unsaved = true;
            self.mark_pending(id.index);
        }
    }

    /// Closes the bars that are due at `now` and tells all that changed since the last time:
    /// closed and revised bars, intervals that are over, what is to be fetched, and once a symbol
    /// that its forming bars are new.
    pub fn advance(&mut self, now: Timestamp, out: &mut Vec<BarChange>) {
        let start = out.len();
        if self.next_deadline.is_some_and(|deadline| deadline <= now) {
            for index in 0..self.slots.len() {
                self.mark_pending(u32::try_from(index).unwrap_or(u32::MAX));
            }
        }
        let all = !self.pending.is_empty();
        for index in std::mem::take(&mut self.pending) {
            let rules = self.rules;
            let slot = self.slots.get_mut(index as usize);
            if let Some((is_pending, track)) = slot.and_then(Slot::split) {
                *is_pending = false;
                let clock = track.clock(now, &rules);
                track.advance(clock, &rules, out);
            }
        }
        if all {
            self.next_deadline = self.earliest_deadline();
        }
        sort_from(out, start);
        for index in std::mem::take(&mut self.touched) {
            let slot = self.slots.get_mut(index as usize);
            if let Some(track) = slot.and_then(|slot| slot.track.as_mut()) {
                track.touched = false;
                out.push(BarChange::FormingChanged { symbol: track.id });
            }
        }
    }

    /// When [`advance`](Self::advance) is to be called at the latest, without a further tick. None
    /// on [`FeedClock::Event`], and where nothing trades any more.
    pub const fn next_deadline(&self) -> Option<Timestamp> {
        self.next_deadline
    }

    /// Takes over finished bars of one series that the provider was asked for again. They become
    /// the next revision where they differ, and so do the bars above; told by the next
    /// [`advance`](Self::advance), or at once where they are no longer in memory.
    pub fn apply_repair(
        &mut self,
        id: SymbolId,
        interval: Interval,
        bars: &[RepairedBar],
        out: &mut Vec<BarChange>,
    ) {
        let start = out.len();
        if let Some(track) = self.track_mut(id) {
            for bar in bars {
                track.repair(interval, bar, out);
            }
            self.mark_touched(id.index);
            self.mark_pending(id.index);
        }
        sort_from(out, start);
        keep_last_rerolls(out, start);
    }

    /// All that will come of a [`BarChange::Refetch`] of minutes was applied.
    pub fn refetched(&mut self, id: SymbolId, range: BarRange) {
        if let Some(track) = self.track_mut(id) {
            track.awaited.retain(|awaited| *awaited != range);
        }
    }

    /// Answers a [`BarChange::Reroll`] of a bar that was not closed then, or is still in memory:
    /// what its children in `[range.open(), until)` come to. False where a later one has replaced
    /// it. A bar that has closed and left memory meanwhile is asked for once more, as a whole.
    pub fn replace_head(
        &mut self,
        id: SymbolId,
        interval: Interval,
        (range, until): (BarRange, Timestamp),
        values: Ohlcv,
        out: &mut Vec<BarChange>,
    ) -> bool {
        let track = self.track_mut(id);
        let taken =
            track.is_some_and(|track| track.replace_head(interval, (range, until), values, out));
        if taken {
            self.mark_touched(id.index);
            self.mark_pending(id.index);
        }
        taken
    }

    /// Whether an answer to a [`BarChange::Reroll`] of a bar is for
    /// [`replace_head`](Self::replace_head), even where it is of the whole bar: that is in memory.
    pub fn takes_head(&self, id: SymbolId, interval: Interval, range: BarRange) -> bool {
        self.find(id).is_some_and(|track| track.takes_head(interval, range))
    }

    /// The bar of a symbol that is forming; none where there is no trade in it yet.
    pub fn forming(&self, id: SymbolId, interval: Interval) -> Option<Bar> {
        self.find(id)?.forming(interval)
    }

    /// Every bar that is not closed, of all symbols: to be kept as forming when the feed stops.
    pub fn flush(&self) -> Vec<(SymbolId, Interval, Bar)> {
        let of = |track: &Track| {
            let id = track.id;
            track.unclosed().into_iter().map(move |(interval, bar)| (id, interval, bar))
        };
        self.slots.iter().filter_map(|slot| slot.track.as_ref()).flat_map(of).collect()
    }

    /// What became of the ticks so far.
    pub const fn counts(&self) -> TickCounts {
        self.counts
    }
}

/// Whether a tick's numbers can go into a bar.
fn is_valid(tick: &QuoteTick) -> bool {
    let amount = |amount: Option<f64>| amount.is_none_or(|a| a.is_finite() && a >= 0.0);
    tick.price.is_finite() && amount(tick.size) && amount(tick.cumulative)
}

fn sort_from(out: &mut [BarChange], start: usize) {
    if let Some(new) = out.get_mut(start..) {
        new.sort_by(BarChange::order);
    }
}

/// Of several roll-ups asked for of one bar only the last one counts.
fn keep_last_rerolls(out: &mut Vec<BarChange>, start: usize) {
    let new = out.split_off(start.min(out.len()));
    for change in new {
        if let (
            BarChange::Reroll { series, range, .. },
            Some(BarChange::Reroll { series: last, range: known, .. }),
        ) = (&change, out.last())
            && series == last
            && range == known
        {
            out.pop();
        }
        out.push(change);
    }
}
