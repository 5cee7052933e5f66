//! One instrument: its facts, its bars of every length, its newest price.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::WorldBar;
use super::aggregation::{fits, joined, merged, rolled, unfinished};
use crate::domain::ohlcv::BarRange;
use crate::domain::ohlcv::services::BarClock;
use crate::domain::shared::{Interval, Symbol};
use crate::domain::symbol::{SessionSpec, TradingSession};
use crate::simulator::replay::Replay;

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
    /// Whether bars of trades follow these, which only say what was before.
    pub(super) replayed: bool,
}

/// An instrument with its bars of every length, which are rolled up when first asked for.
#[derive(Debug)]
pub(in crate::simulator) struct Instrument {
    facts: Facts,
    sources: Sources,
    now: Option<Timestamp>,
    series: [OnceLock<Option<Arc<[WorldBar]>>>; Interval::ALL.len()],
    replay: Option<Arc<Replay>>,
}

/// The bars that there are at one moment.
#[derive(Clone, Debug)]
pub(in crate::simulator) struct History {
    pub(in crate::simulator) bars: Arc<[WorldBar]>,
    /// The instrument's time of that moment; none where it has no time of its own.
    pub(in crate::simulator) as_of: Option<Timestamp>,
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
        let series = [const { OnceLock::new() }; Interval::ALL.len()];
        Self { facts, sources, now, series, replay: None }
    }

    /// The instrument with `replay`, which goes on where its own bars end.
    pub(super) fn replayed(self, replay: Replay) -> Self {
        Self { replay: Some(Arc::new(replay)), ..self }
    }

    /// Its replay; none where it stands still.
    pub(in crate::simulator) fn replay(&self) -> Option<&Arc<Replay>> {
        self.replay.as_ref()
    }

    /// Its own time; none where it stands still.
    pub(in crate::simulator) fn time(&self) -> Option<Timestamp> {
        self.replay.as_ref().map(|replay| replay.position(Instant::now()))
    }

    /// What is known about it.
    pub(in crate::simulator) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Whether it has bars shorter than a day.
    pub(in crate::simulator) fn has_intraday(&self) -> bool {
        self.replay.is_some()
            || !self.sources.minutes_of_trades.is_empty()
            || self.sources.bars.keys().any(|interval| interval.is_intraday())
    }

    /// Its bars of `interval` now, oldest first; none where there is nothing that short.
    pub(in crate::simulator) fn history(&self, interval: Interval) -> Option<History> {
        let still = self.bars(interval);
        let Some(replay) = &self.replay else {
            return still.map(|bars| History { bars, as_of: None });
        };
        let (moving, trimmed, as_of) = replay.history(interval, Instant::now());
        let still = still.filter(|_| !trimmed).unwrap_or_default();
        let closes = |open: Timestamp| self.bounds_of(interval, open).close();
        let bars = joined(&still, moving, closes).into();
        Some(History { bars, as_of: Some(as_of) })
    }

    /// Its bars of `interval` that the folder has, oldest first; none where it has nothing that
    /// short. Of a replayed instrument those before its replay.
    pub(super) fn bars(&self, interval: Interval) -> Option<Arc<[WorldBar]>> {
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
        let made = if interval == Interval::M1 {
            let minutes = &self.sources.minutes_of_trades;
            self.trades_cover(range).then(|| merged(minutes, range))
        } else {
            let children = self.covering(interval, range).map(|children| merged(&children, range));
            children.or_else(|| self.begun(interval, range).map(Some))
        };
        match made {
            Some(made) => {
                bars.pop();
                bars.extend(made);
            }
            // A replay makes it of its trades.
            None if self.sources.replayed => {
                bars.pop();
            }
            None => {}
        }
        bars
    }

    /// The shortest bars of a file that cover the beginning of `range`.
    fn covering(&self, interval: Interval, range: BarRange) -> Option<Arc<[WorldBar]>> {
        let shorter = Interval::ALL.into_iter().filter(|each| fits(*each, interval));
        let mut shorter = shorter.filter(|each| self.is_source(*each));
        shorter.find_map(|each| {
            let children = self.bars(each)?;
            let reaches =
                |bar: &WorldBar| self.bounds_of(each, bar.open_time).close() > range.open();
            let covers = children.first()?.open_time <= range.open()
                && (children.last().is_some_and(reaches));
            covers.then_some(children)
        })
    }

    /// What shorter bars know of the day or hour in which a replay starts, all of it or not.
    fn begun(&self, interval: Interval, range: BarRange) -> Option<WorldBar> {
        let shorter = Interval::ALL.into_iter().filter(|each| fits(*each, interval));
        let mut shorter = shorter.filter(|each| self.sources.replayed && self.is_source(*each));
        shorter.find_map(|each| merged(&self.bars(each)?, range))
    }

    fn trades_cover(&self, range: BarRange) -> bool {
        let minutes = &self.sources.minutes_of_trades;
        minutes.first().is_some_and(|first| first.open_time <= range.open())
            && self.sources.last_trade.is_some_and(|(last, _)| last >= range.open())
    }
}
