//! One instrument: its facts, its bars of every length, its newest price.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use jiff::{SignedDuration, Timestamp};

use super::WorldBar;
use super::aggregation::{fits, merged, rolled, unfinished};
use crate::domain::ohlcv::BarRange;
use crate::domain::ohlcv::services::BarClock;
use crate::domain::shared::{Interval, Symbol};
use crate::domain::symbol::{SessionSpec, TradingSession};

/// What is known about an instrument.
#[derive(Clone, Debug)]
pub(in crate::simulator) struct Facts {
    pub(in crate::simulator) symbol: Symbol,
    pub(in crate::simulator) description: String,
    pub(in crate::simulator) kind: String,
    pub(in crate::simulator) currency: String,
    pub(in crate::simulator) spec: SessionSpec,
    pub(in crate::simulator) session: Arc<TradingSession>,
    pub(in crate::simulator) price_scale: u32,
    pub(in crate::simulator) minmov: u32,
    pub(in crate::simulator) has_volume: bool,
}

/// What the folder holds of an instrument.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) bars: BTreeMap<Interval, Vec<WorldBar>>,
    pub(super) minutes_of_trades: Vec<WorldBar>,
    pub(super) last_trade: Option<(Timestamp, f64)>,
}

/// An instrument with its bars of every length, which are rolled up when first asked for.
#[derive(Debug)]
pub(in crate::simulator) struct Instrument {
    facts: Facts,
    sources: Sources,
    now: Option<Timestamp>,
    series: [OnceLock<Option<Arc<[WorldBar]>>>; Interval::ALL.len()],
}

/// The newest price, with the day it belongs to.
#[derive(Clone, Copy, Debug)]
pub(in crate::simulator) struct Snapshot {
    pub(in crate::simulator) price: f64,
    pub(in crate::simulator) time: Timestamp,
    pub(in crate::simulator) day: Option<WorldBar>,
    pub(in crate::simulator) previous_close: Option<f64>,
}

impl Instrument {
    pub(super) fn new(facts: Facts, sources: Sources, now: Option<Timestamp>) -> Self {
        Self { facts, sources, now, series: [const { OnceLock::new() }; Interval::ALL.len()] }
    }

    /// What is known about it.
    pub(in crate::simulator) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Whether it has bars shorter than a day.
    pub(in crate::simulator) fn has_intraday(&self) -> bool {
        !self.sources.minutes_of_trades.is_empty()
            || self.sources.bars.keys().any(|interval| interval.is_intraday())
    }

    /// Its bars of `interval`, oldest first; none where the folder has nothing that short.
    pub(in crate::simulator) fn bars(&self, interval: Interval) -> Option<Arc<[WorldBar]>> {
        let position = Interval::ALL.iter().position(|each| *each == interval)?;
        let cell = self.series.get(position)?;
        cell.get_or_init(|| self.make(interval).map(Arc::from)).clone()
    }

    /// The time that a bar of `interval` covers.
    pub(in crate::simulator) fn bounds_of(&self, interval: Interval, open: Timestamp) -> BarRange {
        BarClock::new(Arc::clone(&self.facts.session), interval).bounds_of(open)
    }

    /// Its newest price; none where nothing has happened yet.
    pub(in crate::simulator) fn snapshot(&self) -> Option<Snapshot> {
        let newest = |interval| Some((interval, *self.bars(interval)?.last()?));
        let own = Interval::ALL.into_iter().filter(|interval| self.is_source(*interval));
        // Of those that reach as far, the shortest.
        let (interval, bar) = own.filter_map(newest).reduce(|best, other| {
            if other.1.open_time > best.1.open_time { other } else { best }
        })?;
        let closes = self.bounds_of(interval, bar.open_time).close();
        let last_second = closes.saturating_sub(SignedDuration::from_secs(1)).unwrap_or(closes);
        let time = self.now.map_or(last_second, |now| now.min(last_second)).max(bar.open_time);
        let (time, price) = match self.sources.last_trade {
            Some((traded, price)) if traded >= bar.open_time => (traded, price),
            Some(_) | None => (time, bar.close),
        };
        let days = self.bars(Interval::D1);
        let mut days = days.iter().flat_map(|days| days.iter().rev());
        let (day, before) = (days.next().copied(), days.next());
        Some(Snapshot { price, time, day, previous_close: before.map(|day| day.close) })
    }

    fn is_source(&self, interval: Interval) -> bool {
        self.sources.bars.contains_key(&interval)
            || (interval == Interval::M1 && !self.sources.minutes_of_trades.is_empty())
    }

    fn make(&self, interval: Interval) -> Option<Vec<WorldBar>> {
        match self.sources.bars.get(&interval) {
            Some(bars) => Some(self.until_now(interval, bars)),
            None if self.is_source(interval) => Some(self.sources.minutes_of_trades.clone()),
            None => {
                let source = self.deepest_source(interval)?;
                Some(rolled(&self.bars(source)?, &self.facts.session, interval))
            }
        }
    }

    /// The source to make `interval` of: the one that reaches furthest back, of equals the shortest.
    fn deepest_source(&self, interval: Interval) -> Option<Interval> {
        let fitting = Interval::ALL.into_iter().filter(|each| fits(*each, interval));
        let sources = fitting.filter(|each| self.is_source(*each));
        sources.min_by_key(|each| {
            let first = self.bars(*each).and_then(|bars| bars.first().map(|bar| bar.open_time));
            (first.unwrap_or(Timestamp::MAX), *each)
        })
    }

    /// What of a file's bars exists; the one that is not over is made of shorter ones, if any.
    fn until_now(&self, interval: Interval, bars: &[WorldBar]) -> Vec<WorldBar> {
        let Some(now) = self.now else { return bars.to_vec() };
        let mut bars: Vec<WorldBar> =
            bars.iter().copied().take_while(|bar| bar.open_time <= now).collect();
        let session = &self.facts.session;
        let Some(range) = unfinished(&bars, session, interval, now) else { return bars };
        if interval == Interval::M1 {
            if self.trades_cover(range) {
                bars.pop();
                bars.extend(merged(&self.sources.minutes_of_trades, range));
            }
            return bars;
        }
        let shorter = Interval::ALL.into_iter().filter(|each| fits(*each, interval));
        let mut shorter = shorter.filter(|each| self.is_source(*each));
        let covering = shorter.find_map(|each| {
            let children = self.bars(each)?;
            let reaches =
                |bar: &WorldBar| self.bounds_of(each, bar.open_time).close() > range.open();
            let covers = children.first()?.open_time <= range.open()
                && (children.last().is_some_and(reaches));
            covers.then_some(children)
        });
        if let Some(children) = covering {
            bars.pop();
            bars.extend(merged(&children, range));
        }
        bars
    }

    fn trades_cover(&self, range: BarRange) -> bool {
        let minutes = &self.sources.minutes_of_trades;
        minutes.first().is_some_and(|first| first.open_time <= range.open())
            && self.sources.last_trade.is_some_and(|(last, _)| last >= range.open())
    }
}
