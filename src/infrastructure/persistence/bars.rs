//! Bars of all series: what is asked of them, whichever engine keeps them.

use std::collections::VecDeque;

use futures::stream::{self, BoxStream, StreamExt as _};
use jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::database::Engine;
use super::{DatabaseError, mongodb, sqlite};
use crate::domain::ohlcv::{BarState, StoredBar};
use crate::domain::shared::Series;
use crate::domain::sync::SyncDiff;

/// How many bars an export reads at a time, about.
const EXPORT_PAGE: u32 = 8_192;

/// Chunks of an export at most, in bars.
const MAX_EXPORT_CHUNK: u32 = 16_384;

/// Which bars of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarQuery {
    /// Open times from here.
    pub start: Option<Timestamp>,
    /// Open times before this.
    pub end: Option<Timestamp>,
    /// Which come first.
    pub order: BarOrder,
    /// At most this many.
    pub limit: u32,
    /// Whether bars that can still change are among them.
    pub include_forming: bool,
}

/// Which bars come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarOrder {
    /// The latest open time first.
    NewestFirst,
    /// The earliest open time first.
    OldestFirst,
}

/// What is stored of a series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeriesSummary {
    /// Final bars.
    pub bar_count: u64,
    /// Open time of the oldest final bar.
    pub first_bar_at: Option<Timestamp>,
    /// Open time of the newest final bar.
    pub last_bar_at: Option<Timestamp>,
    /// Whether there is any bar, final or not.
    pub has_any: bool,
}

/// Bars by columns, all of one length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BarColumns {
    /// Open times, milliseconds since 1970 UTC.
    pub open_time_ms: Vec<i64>,
    /// First prices.
    pub open: Vec<f64>,
    /// Highest prices.
    pub high: Vec<f64>,
    /// Lowest prices.
    pub low: Vec<f64>,
    /// Last prices.
    pub close: Vec<f64>,
    /// Volumes; not a number where the bar has none.
    pub volume: Vec<f64>,
    /// Never forming.
    pub state: Vec<BarState>,
}

/// Chunks of an export. Ends after the first error.
pub type BarStream = BoxStream<'static, Result<BarColumns, DatabaseError>>;

/// The bars of all series. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bars {
    engine: BarEngine,
    tasks: TaskTracker,
}

#[derive(Clone, Debug)]
enum BarEngine {
    MongoDb(mongodb::Ohlcv),
    Sqlite(sqlite::Ohlcv),
}

impl Bars {
    pub(super) fn new(engine: &Engine, tasks: TaskTracker) -> Self {
        let engine = match engine {
            Engine::MongoDb(engine) => BarEngine::MongoDb(mongodb::Ohlcv::new(engine)),
            Engine::Sqlite(engine) => BarEngine::Sqlite(sqlite::Ohlcv::new(engine)),
        };
        Self { engine, tasks }
    }

    /// The bars of `series` that `query` asks for.
    pub async fn find(
        &self,
        series: &Series,
        query: &BarQuery,
    ) -> Result<Vec<StoredBar>, DatabaseError> {
        match &self.engine {
            BarEngine::MongoDb(engine) => engine.find(series, *query).await,
            BarEngine::Sqlite(engine) => engine.find(series, *query).await,
        }
    }

    /// All bars that open in `[from, to_inclusive]`, forming ones too, oldest first: what fetched
    /// bars are compared with.
    pub async fn stretch(
        &self,
        series: &Series,
        from: Timestamp,
        to_inclusive: Timestamp,
    ) -> Result<Vec<StoredBar>, DatabaseError> {
        match &self.engine {
            BarEngine::MongoDb(engine) => engine.stretch(series, from, to_inclusive).await,
            BarEngine::Sqlite(engine) => engine.stretch(series, from, to_inclusive).await,
        }
    }

    /// Stores what `diff` inserts and updates, as of `at`. Durable when it returns, and finished
    /// even where its caller goes away. Where another writer was faster,
    /// [`StoredBar::replaces`] decides bar by bar, so a newer revision is never overwritten.
    pub async fn write(
        &self,
        series: &Series,
        diff: &SyncDiff,
        at: Timestamp,
    ) -> Result<(), DatabaseError> {
        if diff.is_empty() {
            return Ok(());
        }
        match &self.engine {
            BarEngine::MongoDb(engine) => engine.write(series, diff, at).await,
            BarEngine::Sqlite(engine) => engine.write(series, diff, at).await,
        }
    }

    /// What is stored of `series`; reads no bars but those at its ends.
    pub async fn summary(&self, series: &Series) -> Result<SeriesSummary, DatabaseError> {
        match &self.engine {
            BarEngine::MongoDb(engine) => engine.summary(series).await,
            BarEngine::Sqlite(engine) => engine.summary(series).await,
        }
    }

    /// The bar that opens last, final or not.
    pub async fn newest(&self, series: &Series) -> Result<Option<StoredBar>, DatabaseError> {
        let query = BarQuery {
            start: None,
            end: None,
            order: BarOrder::NewestFirst,
            limit: 1,
            include_forming: true,
        };
        Ok(self.find(series, &query).await?.pop())
    }

    /// Final bars that open in `[start, end)`, oldest first, in chunks of `chunk` bars (1 to
    /// 16,384; the last may be shorter). Holds about two pages in memory however many there are,
    /// reads the next one while a chunk is being consumed, and nothing before it is polled.
    pub fn export(
        &self,
        series: &Series,
        start: Option<Timestamp>,
        end: Option<Timestamp>,
        chunk: u32,
    ) -> BarStream {
        let chunk = chunk.clamp(1, MAX_EXPORT_CHUNK);
        let page = chunk.saturating_mul(EXPORT_PAGE.div_ceil(chunk));
        let export = Export {
            bars: self.clone(),
            series: series.clone(),
            from: start.map_or(i64::MIN, super::millisecond_from),
            before: end.map_or(i64::MAX, super::millisecond_from),
            page,
            chunk: usize::try_from(chunk).unwrap_or(usize::MAX),
            ready: VecDeque::new(),
            ahead: Ahead::NotStarted,
        };
        stream::unfold(export, Export::next).boxed()
    }

    /// Removes the bars that open at `open_times`; answers how many there were.
    pub async fn delete(
        &self,
        series: &Series,
        open_times: &[Timestamp],
    ) -> Result<u64, DatabaseError> {
        match &self.engine {
            BarEngine::MongoDb(engine) => engine.delete(series, open_times).await,
            BarEngine::Sqlite(engine) => engine.delete(series, open_times).await,
        }
    }

    /// Every series that has bars, in order. Reads the whole index: for maintenance.
    pub async fn series(&self) -> Result<Vec<Series>, DatabaseError> {
        let mut series = match &self.engine {
            BarEngine::MongoDb(engine) => engine.series().await?,
            BarEngine::Sqlite(engine) => engine.series().await?,
        };
        series.sort_unstable();
        Ok(series)
    }

    async fn page(
        &self,
        series: &Series,
        from: i64,
        before: i64,
        limit: u32,
    ) -> Result<BarColumns, DatabaseError> {
        match &self.engine {
            BarEngine::MongoDb(engine) => engine.page(series, from, before, limit).await,
            BarEngine::Sqlite(engine) => engine.page(series, from, before, limit).await,
        }
    }
}

/// An export under way.
struct Export {
    bars: Bars,
    series: Series,
    /// Where the next page starts, milliseconds.
    from: i64,
    before: i64,
    page: u32,
    chunk: usize,
    ready: VecDeque<BarColumns>,
    ahead: Ahead,
}

/// The page after the one at hand.
enum Ahead {
    NotStarted,
    Fetching(JoinHandle<Result<BarColumns, DatabaseError>>),
    None,
}

impl Export {
    async fn next(mut self) -> Option<(Result<BarColumns, DatabaseError>, Self)> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Some((Ok(chunk), self));
            }
            let fetching = match std::mem::replace(&mut self.ahead, Ahead::None) {
                Ahead::None => return None,
                Ahead::NotStarted => self.fetch(),
                Ahead::Fetching(fetching) => fetching,
            };
            let page = fetching.await.unwrap_or_else(|error| {
                Err(DatabaseError::unavailable("database", format!("a read was ended: {error}")))
            });
            match page {
                Ok(page) => self.take(page),
                Err(error) => return Some((Err(error), self)),
            }
        }
    }

    fn fetch(&self) -> JoinHandle<Result<BarColumns, DatabaseError>> {
        let (bars, series) = (self.bars.clone(), self.series.clone());
        let (from, before, limit) = (self.from, self.before, self.page);
        let page = async move { bars.page(&series, from, before, limit).await };
        self.bars.tasks.spawn(page.in_current_span())
    }

    fn take(&mut self, mut page: BarColumns) {
        let is_full = u32::try_from(page.len()).is_ok_and(|length| length >= self.page);
        if let Some(last) = page.open_time_ms.last().filter(|_| is_full) {
            self.from = last.saturating_add(1);
            self.ahead = Ahead::Fetching(self.fetch());
        }
        while page.len() > self.chunk {
            let rest = page.split_off(self.chunk);
            self.ready.push_back(std::mem::replace(&mut page, rest));
        }
        if !page.is_empty() {
            self.ready.push_back(page);
        }
    }
}

impl BarColumns {
    /// Empty columns with room for `bars`.
    pub fn with_capacity(bars: usize) -> Self {
        Self {
            open_time_ms: Vec::with_capacity(bars),
            open: Vec::with_capacity(bars),
            high: Vec::with_capacity(bars),
            low: Vec::with_capacity(bars),
            close: Vec::with_capacity(bars),
            volume: Vec::with_capacity(bars),
            state: Vec::with_capacity(bars),
        }
    }

    /// How many bars.
    pub fn len(&self) -> usize {
        self.open_time_ms.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.open_time_ms.is_empty()
    }

    pub(super) fn push(&mut self, bar: &StoredBar) {
        self.open_time_ms.push(bar.open_time.as_millisecond());
        self.open.push(bar.values.open());
        self.high.push(bar.values.high());
        self.low.push(bar.values.low());
        self.close.push(bar.values.close());
        self.volume.push(bar.values.volume().unwrap_or(f64::NAN));
        self.state.push(bar.state());
    }

    fn split_off(&mut self, at: usize) -> Self {
        Self {
            open_time_ms: self.open_time_ms.split_off(at),
            open: self.open.split_off(at),
            high: self.high.split_off(at),
            low: self.low.split_off(at),
            close: self.close.split_off(at),
            volume: self.volume.split_off(at),
            state: self.state.split_off(at),
        }
    }
}
