//! Bars of all series: what is asked of them, whichever engine keeps them.

use jiff::Timestamp;
use tokio_util::task::TaskTracker;

use super::calls::Calls;
use super::database::Engine;
use super::export::{self, BarColumns, BarStream};
use super::{BarLog, DatabaseError, LogBar, mongodb, sqlite};
use crate::common::constants::COLLECTION_OHLCV;
use crate::domain::ohlcv::{BarState, StoredBar};
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
    calls: Calls,
    log: BarLog,
    pub(super) tasks: TaskTracker,
}

#[derive(Clone, Debug)]
enum BarEngine {
    MongoDb(mongodb::Ohlcv),
    Sqlite(sqlite::Ohlcv),
}

impl Bars {
    pub(super) fn new(engine: &Engine, tasks: TaskTracker) -> Self {
        let log = BarLog::new(engine);
        let calls = Calls::new(engine.name(), COLLECTION_OHLCV);
        let engine = match engine {
            Engine::MongoDb(engine) => BarEngine::MongoDb(mongodb::Ohlcv::new(engine)),
            Engine::Sqlite(engine) => BarEngine::Sqlite(sqlite::Ohlcv::new(engine)),
        };
        Self { engine, calls, log, tasks }
    }

    /// The bars of `series` that `query` asks for.
    pub async fn find(
        &self,
        series: &Series,
        query: &BarQuery,
    ) -> Result<Vec<StoredBar>, DatabaseError> {
        let work = async {
            match &self.engine {
                BarEngine::MongoDb(engine) => engine.find(series, *query).await,
                BarEngine::Sqlite(engine) => engine.find(series, *query).await,
            }
        };
        self.calls.observe("find", Box::pin(work)).await
    }

    /// All bars that open in `[from, to_inclusive]`, forming ones too, oldest first: what fetched
    /// bars are compared with.
    pub async fn stretch(
        &self,
        series: &Series,
        from: Timestamp,
        to_inclusive: Timestamp,
    ) -> Result<Vec<StoredBar>, DatabaseError> {
        let work = async {
            match &self.engine {
                BarEngine::MongoDb(engine) => engine.stretch(series, from, to_inclusive).await,
                BarEngine::Sqlite(engine) => engine.stretch(series, from, to_inclusive).await,
            }
        };
        self.calls.observe("stretch", Box::pin(work)).await
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
        let work = async {
            match &self.engine {
                BarEngine::MongoDb(engine) => engine.write(series, diff, at).await,
                BarEngine::Sqlite(engine) => engine.write(series, diff, at).await,
            }
        };
        self.calls.observe("write", Box::pin(work)).await
    }

    /// Stores what `diff` inserts and updates, as [`Bars::write`] does, and logs what subscribers
    /// are told of: corrections, and bars that are final for the first time and open at or after
    /// `logged_from`, the first bar that the feed ever tracked. Answers what was logged, in
    /// order; see [`BarLog::append`] for what that means and for errors.
    pub async fn write_logged(
        &self,
        series: &Series,
        diff: &SyncDiff,
        logged_from: Option<Timestamp>,
        at: Timestamp,
    ) -> Result<Vec<(u64, LogBar)>, DatabaseError> {
        let is_logged = |bar: &StoredBar| {
            let is_tracked = logged_from.is_some_and(|from| bar.open_time >= from);
            bar.state() == BarState::Revised || (bar.is_final() && is_tracked)
        };
        let split = |bars: &[StoredBar]| bars.iter().copied().partition::<Vec<_>, _>(is_logged);
        let (mut logged, inserted) = split(&diff.inserted);
        let (corrected, updated) = split(&diff.updated);
        logged.extend(corrected);
        logged.sort_by_key(|bar| bar.open_time);
        // What is not logged goes first: an error after it leaves nothing in the log that the
        // caller does not know of.
        let rest = SyncDiff { inserted, updated, ..SyncDiff::default() };
        self.write(series, &rest, at).await?;
        let logged: Vec<_> =
            logged.into_iter().map(|bar| LogBar { series: series.clone(), bar }).collect();
        let sequences = self.log.append(&logged, at).await?;
        let entry = |(sequence, index): (u64, usize)| Some((sequence, logged.get(index)?.clone()));
        Ok(sequences.into_iter().filter_map(entry).collect())
    }

    /// What is stored of `series`; reads no bars but those at its ends.
    pub async fn summary(&self, series: &Series) -> Result<SeriesSummary, DatabaseError> {
        let work = async {
            match &self.engine {
                BarEngine::MongoDb(engine) => engine.summary(series).await,
                BarEngine::Sqlite(engine) => engine.summary(series).await,
            }
        };
        self.calls.observe("summary", Box::pin(work)).await
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
        let work = async {
            match &self.engine {
                BarEngine::MongoDb(engine) => engine.delete(series, open_times).await,
                BarEngine::Sqlite(engine) => engine.delete(series, open_times).await,
            }
        };
        self.calls.observe("delete", Box::pin(work)).await
    }

    /// Removes the oldest bars of `series`, forming ones too, at most `limit`; answers how many
    /// there were. Fewer than `limit` were the last.
    pub async fn delete_oldest(&self, series: &Series, limit: u32) -> Result<u64, DatabaseError> {
        let query = BarQuery {
            start: None,
            end: None,
            order: BarOrder::OldestFirst,
            limit,
            include_forming: true,
        };
        let oldest = self.find(series, &query).await?;
        if oldest.is_empty() {
            return Ok(0);
        }
        let open_times: Vec<Timestamp> = oldest.iter().map(|bar| bar.open_time).collect();
        self.delete(series, &open_times).await
    }

    /// Every series that has bars, in order. Reads the whole index: for maintenance.
    pub async fn series(&self) -> Result<Vec<Series>, DatabaseError> {
        let work = async {
            match &self.engine {
                BarEngine::MongoDb(engine) => engine.series().await,
                BarEngine::Sqlite(engine) => engine.series().await,
            }
        };
        let mut series = self.calls.observe("series", Box::pin(work)).await?;
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
        let work = async {
            match &self.engine {
                BarEngine::MongoDb(engine) => engine.page(series, from, before, limit).await,
                BarEngine::Sqlite(engine) => engine.page(series, from, before, limit).await,
            }
        };
        self.calls.observe("page", Box::pin(work)).await
    }
}
