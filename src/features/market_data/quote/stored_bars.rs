//! Stored bars of many series in one order: by close time, symbol, interval, open time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use jiff::{SignedDuration, Timestamp};

use super::cursor::{StoredPosition, digest};
use crate::domain::ohlcv::Bar;
use crate::domain::ohlcv::services::BarClock;
use crate::domain::shared::{Interval, Series, Symbol};
use crate::features::market_data::Sessions;
use crate::infrastructure::persistence::{BarOrder, BarQuery, Database, DatabaseError};

/// Bars that are held at most, over all series, about.
const HELD: usize = 20_000;
/// Bars that are handed out at a time.
const BATCH: usize = 512;
/// No bar is longer: one that closes at a time opened at most this long before.
const LONGEST_BAR: SignedDuration = SignedDuration::from_hours(40 * 24);

/// A bar that comes next in its run: its close, symbol, interval and open, and which run it is.
type Next = (Timestamp, Symbol, Interval, Timestamp, usize);

/// A read of final bars under way.
pub(super) struct StoredBars {
    start_time: Timestamp,
    query: u32,
    /// Bars up to here were handed out before this read began.
    behind: Option<StoredPosition>,
    /// The last bar that was handed out, or a place before all of them.
    position: Option<StoredPosition>,
    runs: Vec<Run>,
    page: u32,
    /// The next bar of each run that has one.
    order: BinaryHeap<Reverse<Next>>,
    /// Runs whose next bar is not in order yet.
    unfilled: Vec<usize>,
}

/// What is left of one series.
struct Run {
    series: Series,
    from: Timestamp,
    bars: VecDeque<Bar>,
    exhausted: bool,
}

impl StoredBars {
    /// The bars that open at or after `start_time`, behind `position`.
    pub(super) fn new(
        symbols: &[Symbol],
        intervals: &[Interval],
        start_time: Timestamp,
        position: Option<StoredPosition>,
    ) -> Self {
        let query = digest(symbols, intervals);
        // A bar that opens at or after the start closes after it.
        let before_all = symbols.first().map(|symbol| StoredPosition {
            close_time: start_time,
            symbol: symbol.clone(),
            interval: Interval::M1,
            open_time: None,
            start_time,
            query,
        });
        let position = position.or(before_all);
        let oldest = position.as_ref().map_or(Timestamp::MIN, |position| {
            position.close_time.saturating_sub(LONGEST_BAR).unwrap_or(Timestamp::MIN)
        });
        let run = |(symbol, interval): (&Symbol, &Interval)| Run {
            series: Series::new(symbol.clone(), *interval),
            from: start_time.max(oldest),
            bars: VecDeque::new(),
            exhausted: false,
        };
        let pairs =
            symbols.iter().flat_map(|symbol| intervals.iter().map(move |each| (symbol, each)));
        let runs: Vec<Run> = pairs.map(run).collect();
        let page = (HELD / runs.len().max(1)).clamp(16, 2_000).try_into().unwrap_or(16);
        let unfilled = (0..runs.len()).collect();
        let (behind, order) = (position.clone(), BinaryHeap::new());
        Self { start_time, query, behind, position, runs, page, order, unfilled }
    }

    /// Behind the last bar that was handed out.
    pub(super) fn position(&self) -> Option<StoredPosition> {
        self.position.clone()
    }

    /// The next bars with their places; none at the end. An error loses nothing: the next call
    /// goes on where this one stopped.
    pub(super) async fn next(
        &mut self,
        database: &Database,
        sessions: &Sessions,
    ) -> Result<Vec<(Series, Bar, StoredPosition)>, DatabaseError> {
        let mut batch = Vec::new();
        while batch.len() < BATCH {
            while let Some(index) = self.unfilled.last().copied() {
                match self.fill(index, database, sessions).await {
                    Ok(()) => drop(self.unfilled.pop()),
                    Err(error) if batch.is_empty() => return Err(error),
                    Err(_) => return Ok(batch),
                }
            }
            let Some(Reverse((close_time, symbol, interval, open, index))) = self.order.pop()
            else {
                break;
            };
            let bar = self.runs.get_mut(index).and_then(|run| run.bars.pop_front());
            self.unfilled.push(index);
            let (open_time, start_time, query) = (Some(open), self.start_time, self.query);
            let place =
                StoredPosition { close_time, symbol, interval, open_time, start_time, query };
            let is_next = self.behind.as_ref().is_none_or(|behind| *behind < place);
            if let Some(bar) = bar.filter(|_| is_next) {
                self.position = Some(place.clone());
                batch.push((Series::new(place.symbol.clone(), interval), bar, place));
            }
        }
        Ok(batch)
    }

    /// Puts the next bar of a run in order, reading on where it has none at hand.
    async fn fill(
        &mut self,
        index: usize,
        database: &Database,
        sessions: &Sessions,
    ) -> Result<(), DatabaseError> {
        let Some(run) = self.runs.get_mut(index) else { return Ok(()) };
        if run.bars.is_empty() && !run.exhausted {
            run.read(self.page, database, sessions).await?;
        }
        if let Some(bar) = run.bars.front() {
            let Series { symbol, interval } = run.series.clone();
            let (close, open) = (bar.range.close(), bar.stored.open_time);
            self.order.push(Reverse((close, symbol, interval, open, index)));
        }
        Ok(())
    }
}

impl Run {
    async fn read(
        &mut self,
        page: u32,
        database: &Database,
        sessions: &Sessions,
    ) -> Result<(), DatabaseError> {
        let query = BarQuery {
            start: Some(self.from),
            end: None,
            order: BarOrder::OldestFirst,
            limit: page,
            include_forming: false,
        };
        let stored = database.bars().find(&self.series, &query).await?;
        self.exhausted = u32::try_from(stored.len()).is_ok_and(|length| length < page);
        if let Some(last) = stored.last() {
            let next = last.open_time.saturating_add(SignedDuration::from_millis(1));
            self.from = next.unwrap_or(Timestamp::MAX);
        }
        let session = sessions.of(&self.series.symbol).await?;
        let mut clock = BarClock::new(session, self.series.interval);
        self.bars = stored
            .into_iter()
            .map(|stored| Bar { range: clock.bounds_of(stored.open_time), stored })
            .collect();
        Ok(())
    }
}
