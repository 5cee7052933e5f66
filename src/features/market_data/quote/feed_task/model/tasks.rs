//! What goes on in the background of the feed's task, one wait at a time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;

use super::super::fetch::{Fetched, Lookup, Resolved, values};
use super::super::seed::{DAYS, Days, Wanted};
use super::market::Market;
use super::store::Store;
use crate::domain::ohlcv::services::RepairedBar;
use crate::domain::ohlcv::{BarRange, BarSource, Ohlcv};
use crate::domain::quote::SymbolId;
use crate::domain::shared::{Interval, Series, Symbol};
use crate::features::market_data::quote::snapshot_codec;
use crate::infrastructure::interfaces::HistoryPage;

const MINUTES: usize = 1_500;

/// A seed on its way.
pub(super) struct Seeding {
    id: SymbolId,
    wanted: Wanted,
    days: Days,
    minutes: Option<Vec<(Timestamp, Ohlcv)>>,
}

impl Seeding {
    pub(super) const fn new(id: SymbolId, wanted: Wanted, days: Days) -> Self {
        Self { id, wanted, days, minutes: None }
    }

    /// One request; answers what came of all of them. One that `fails` is the end.
    pub(super) fn step(
        &mut self,
        market: &Market,
        symbol: &Symbol,
        fails: bool,
    ) -> Option<Fetched> {
        let session = Arc::clone(&market.session);
        let answer = |minutes, days| {
            Some(Fetched::Seeded { symbol: symbol.clone(), id: self.id, minutes, days })
        };
        let nothing = || answer(Vec::new(), Days::unknown(Arc::clone(&session)));
        if fails {
            return nothing();
        }
        let Some(minutes) = self.minutes.clone() else {
            if self.wanted.minutes {
                let Some(page) = market.history(Interval::M1, MINUTES) else { return nothing() };
                self.minutes = Some(values(&page));
            } else {
                self.minutes = Some(Vec::new());
            }
            return None;
        };
        if self.wanted.since.is_some_and(|since| self.days.reach(since)) {
            return answer(minutes, self.days.clone());
        }
        match market.history(Interval::D1, DAYS as usize) {
            Some(page) => answer(minutes, Days::of(&page, session)),
            None => answer(minutes, Days::unknown(session)),
        }
    }
}

/// A symbol that is looked up.
pub(super) struct Resolving {
    lookup: Lookup,
    /// Behind how many jobs of the writer.
    behind: usize,
    days: Option<Days>,
}

impl Resolving {
    pub(super) const fn new(lookup: Lookup, store: &Store) -> Self {
        Self { lookup, behind: store.queued, days: None }
    }

    pub(super) fn is_free(&self, store: &Store) -> bool {
        self.behind <= store.written
    }

    pub(super) fn step(&mut self, market: &Market, store: &Store) -> Option<Fetched> {
        let session = Arc::clone(&market.session);
        let Some(days) = self.days.take() else {
            let page = market.history(Interval::D1, DAYS as usize);
            self.days = Some(match page {
                Some(page) => Days::of(&page, session),
                None => Days::unknown(session),
            });
            return None;
        };
        let kept = store.kept.as_deref().and_then(snapshot_codec::decode);
        let mut stored = Vec::new();
        if let Some(kept) = &kept {
            let minutes = kept.snapshot.minutes.iter().map(|bar| (Interval::M1, bar.range.open()));
            let parents = kept.snapshot.parents.iter().map(|(of, bar)| (*of, bar.range.open()));
            let known = minutes.chain(parents);
            stored.extend(known.filter_map(|key| Some((key.0, *store.bars.get(&key)?))));
        }
        let newest = store.newest_minute().filter(|bar| bar.source != BarSource::Provider);
        let newest = newest.map(|bar| bar.open_time);
        let resolved = Resolved { session, days, kept, stored, newest, heard: None };
        Some(Fetched::Resolved(self.lookup.clone(), Ok(Box::new(resolved))))
    }
}

/// Bars that are fetched again: a task a series.
#[derive(Default)]
pub(super) struct Repairs {
    pub(super) series: BTreeMap<Interval, Repair>,
}

#[derive(Default)]
pub(super) struct Repair {
    wanted: Vec<(BarRange, u32)>,
    ranges: Vec<BarRange>,
    answer: Option<Answer>,
    found: Option<VecDeque<Found>>,
}

/// What the provider answered, once it did.
struct Answer(Option<HistoryPage>);

struct Found {
    range: BarRange,
    bars: Vec<RepairedBar>,
    finished: bool,
}

impl Repairs {
    pub(super) fn ask(&mut self, interval: Interval, range: BarRange) {
        let wanted = &mut self.series.entry(interval).or_default().wanted;
        if wanted.iter().all(|(known, _)| *known != range) {
            wanted.push((range, 0));
        }
    }

    pub(super) fn forget(&mut self) {
        self.series.values_mut().for_each(|repair| repair.wanted.clear());
    }

    /// One wait of the task of a series.
    pub(super) fn step(
        &mut self,
        interval: Interval,
        (market, symbol): (&Market, &Symbol),
        store: &Store,
    ) -> Option<Fetched> {
        let repair = self.series.get_mut(&interval)?;
        if let Some(found) = &mut repair.found {
            let Some(Found { range, bars, finished }) = found.pop_front() else {
                repair.found = None;
                return None;
            };
            let tries = repair.wanted.iter_mut().find(|(known, _)| *known == range);
            let done = finished
                || tries.is_none_or(|(_, tries)| {
                    *tries += 1;
                    *tries >= 12
                });
            if done {
                repair.wanted.retain(|(known, _)| *known != range);
            }
            let series = Series::new(symbol.clone(), interval);
            return Some(Fetched::Repaired { series, range, bars, answered: None, done });
        }
        match repair.answer.take() {
            None => {
                repair.ranges = repair.wanted.iter().map(|(range, _)| *range).collect();
                if repair.ranges.is_empty() {
                    self.series.remove(&interval);
                    return None;
                }
                repair.answer = Some(Answer(market.history(interval, usize::MAX)));
            }
            Some(Answer(page)) => {
                repair.found = Some(found(interval, page, &repair.ranges, (market, store)));
            }
        }
        None
    }
}

fn found(
    interval: Interval,
    page: Option<HistoryPage>,
    ranges: &[BarRange],
    (market, store): (&Market, &Store),
) -> VecDeque<Found> {
    let Some(page) = page else {
        let nothing = |range: &BarRange| Found { range: *range, bars: Vec::new(), finished: true };
        return ranges.iter().map(nothing).collect();
    };
    let from = ranges.iter().map(BarRange::open).min().unwrap();
    let to = ranges.iter().map(BarRange::close).max().unwrap();
    let mut bars = values(&page);
    bars.retain(|(open, _)| {
        market.calendar.bar_at(&market.session, interval, *open).is_over(page.server_time)
    });
    let from = bars.first().map_or(from, |(open, _)| from.max(*open));
    let stored = store.stretch(interval, from, to);
    let find = |open| stored.iter().find(|bar| bar.open_time == open).copied();
    let found = ranges.iter().map(|range| {
        let wanted = bars.iter().filter(|(open, _)| range.contains(*open));
        let bar = |(open_time, values): &(Timestamp, Ohlcv)| RepairedBar {
            open_time: *open_time,
            values: *values,
            stored: find(*open_time),
        };
        let bars = wanted.map(bar).collect();
        Found { range: *range, bars, finished: range.is_over(page.server_time) }
    });
    found.collect()
}
