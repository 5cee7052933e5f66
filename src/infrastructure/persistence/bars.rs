//! Bars of all series: what is asked of them, whichever engine keeps them.

use jiff::Timestamp;
use tokio_util::task::TaskTracker;

use super::database::Engine;
use super::export::{self, BarColumns, BarStream};
use super::{DatabaseError, mongodb, sqlite};
use crate::domain::ohlcv::StoredBar;
use crate::domain::shared::Series;
use crate::domain::sync::SyncDiff;

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

/// The bars of all series. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bars {
    engine: BarEngine,
    pub(super) tasks: TaskTracker,
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
        export::start(self, series, start, end, chunk)
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

    pub(super) async fn page(
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
