//! The bar log: every bar that became final or was corrected, in the order in which it was
//! written. What streams resume from, whichever engine keeps it.
//!
//! It is written ahead of the bars and moves on only with them: an entry can be read once its bar
//! is stored. Sequences start at 1 and rise by one; none is ever skipped, reused or filled in
//! later, so whoever has read up to a sequence has seen all before it.

use std::collections::HashSet;

use jiff::Timestamp;

use super::calls::Calls;
use super::database::Engine;
use super::{DatabaseError, mongodb, sqlite};
use crate::domain::ohlcv::StoredBar;
use crate::domain::shared::{Interval, Series, Symbol};

/// The one shard there is until there are replicas.
pub(super) const SHARD: i32 = 0;

/// Sequences that one [`BarLog::read`] looks at, at most.
pub(super) const SCAN: u64 = 10_000;

/// A final bar of a series, as it is logged.
#[derive(Clone, Debug, PartialEq)]
pub struct LogBar {
    /// Of which series.
    pub series: Series,
    /// Its values and revision.
    pub bar: StoredBar,
}

/// Which entries. An empty list means all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// Only those of these symbols.
    pub symbols: Vec<Symbol>,
    /// Only those of these intervals.
    pub intervals: Vec<Interval>,
}

/// Where the log begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogHead {
    /// The oldest sequence that is kept; equal to `next` where none is.
    pub first: u64,
    /// The sequence that the next readable entry will have.
    pub next: u64,
}

impl LogHead {
    /// The newest sequence that can be read, or could before it was trimmed; 0 before the first.
    pub const fn last(&self) -> u64 {
        self.next.saturating_sub(1)
    }
}

/// Entries in order, and how far was looked for them.
#[derive(Clone, Debug, PartialEq)]
pub struct LogPage {
    /// Sequences, rising, and their bars.
    pub entries: Vec<(u64, LogBar)>,
    /// The last sequence that was looked at: where to go on. Equal to `after` where there is
    /// nothing newer.
    pub examined: u64,
    /// The oldest sequence that is kept. Where it is beyond `after + 1`, entries between them
    /// are gone.
    pub first: u64,
}

/// The bar log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BarLog {
    engine: LogEngine,
    calls: Calls,
}

#[derive(Clone, Debug)]
enum LogEngine {
    MongoDb(mongodb::BarLog),
    Sqlite(sqlite::BarLog),
}

impl BarLog {
    pub(super) fn new(engine: &Engine) -> Self {
        let calls = Calls::new(engine.name(), "bar_log");
        let engine = match engine {
            Engine::MongoDb(engine) => LogEngine::MongoDb(mongodb::BarLog::new(engine)),
            Engine::Sqlite(engine) => LogEngine::Sqlite(sqlite::BarLog::new(engine)),
        };
        Self { engine, calls }
    }

    /// Logs and stores final `bars`, in their order, as of `at`; answers the sequence of each that
    /// is in the log, rising, with its index in `bars`.
    ///
    /// Written ahead: the log, then `ohlcv`, and only then readable. Durable when it returns, and
    /// finished even where its caller goes away; callers in one process take turns. On SQLite all
    /// or nothing; on MongoDB an error may leave a first part of `bars` written, or all of them.
    ///
    /// Safe to repeat: a bar that is in the log as it is given is not logged again, and its
    /// sequence is answered. A bar that [`StoredBar::replaces`] nothing, as its revision or a
    /// higher one was written by somebody else, is neither logged nor stored nor answered; but
    /// where its revision was written without the log, by somebody who did not know that it is
    /// logged, it is logged now as it is stored. So a sequence may be answered that was published
    /// before; and after an error, entries may become readable with a later call, whoever makes
    /// it: a publisher goes by the log and not by what it wrote.
    ///
    /// A forming bar is refused, with all others.
    pub async fn append(
        &self,
        bars: &[LogBar],
        at: Timestamp,
    ) -> Result<Vec<(u64, usize)>, DatabaseError> {
        if bars.is_empty() {
            return Ok(Vec::new());
        }
        let forming = bars.iter().find(|entry| !entry.bar.is_final());
        if let Some(LogBar { series, bar }) = forming {
            let detail = format!("the bar of {series} at {} is forming, not final", bar.open_time);
            return Err(DatabaseError::refused(self.engine(), detail));
        }
        let bars: Vec<LogBar> = bars.iter().map(LogBar::kept).collect();
        let work = async {
            match &self.engine {
                LogEngine::MongoDb(engine) => engine.append(bars, at).await,
                LogEngine::Sqlite(engine) => engine.append(bars, at).await,
            }
        };
        self.calls.observe("append", Box::pin(work)).await
    }

    /// Stores what was logged and perhaps not stored when the process ended, and answers it, in
    /// order: it was never published. To be called at start, before anything is appended.
    pub async fn recover(&self) -> Result<Vec<(u64, LogBar)>, DatabaseError> {
        let work = async {
            match &self.engine {
                LogEngine::MongoDb(engine) => engine.recover().await,
                // Log and bars are one transaction: neither is there without the other.
                LogEngine::Sqlite(_) => Ok(Vec::new()),
            }
        };
        self.calls.observe("recover", Box::pin(work)).await
    }

    /// Entries after the sequence `after` that pass `filter`, oldest first, at most `limit`.
    /// Looks at no more than 10,000 sequences: go on from `examined`.
    pub async fn read(
        &self,
        after: u64,
        filter: &LogFilter,
        limit: u32,
    ) -> Result<LogPage, DatabaseError> {
        let wanted = Wanted::new(filter);
        let work = async {
            match &self.engine {
                LogEngine::MongoDb(engine) => engine.read(after, wanted, limit).await,
                LogEngine::Sqlite(engine) => engine.read(after, wanted, limit).await,
            }
        };
        self.calls.observe("read", Box::pin(work)).await
    }

    /// Where the log begins and ends. What is stored in `ohlcv` after this call holds at least
    /// all that is logged before `next`.
    pub async fn head(&self) -> Result<LogHead, DatabaseError> {
        let work = async {
            match &self.engine {
                LogEngine::MongoDb(engine) => engine.head().await,
                LogEngine::Sqlite(engine) => engine.head().await,
            }
        };
        self.calls.observe("head", Box::pin(work)).await
    }

    /// Tells this log from every other one, for as long as it exists: made with the first call,
    /// and kept with the log.
    pub async fn id(&self) -> Result<String, DatabaseError> {
        let work = async {
            match &self.engine {
                LogEngine::MongoDb(engine) => engine.id().await,
                LogEngine::Sqlite(engine) => engine.id().await,
            }
        };
        self.calls.observe("id", Box::pin(work)).await
    }

    /// Removes the oldest entries, up to the first that was written at or after `before`; answers
    /// how many. Sequences are never used again.
    pub async fn trim(&self, before: Timestamp) -> Result<u64, DatabaseError> {
        let work = async {
            match &self.engine {
                LogEngine::MongoDb(engine) => engine.trim(before).await,
                LogEngine::Sqlite(engine) => engine.trim(before).await,
            }
        };
        self.calls.observe("trim", Box::pin(work)).await
    }

    const fn engine(&self) -> &'static str {
        match &self.engine {
            LogEngine::MongoDb(_) => mongodb::ENGINE,
            LogEngine::Sqlite(_) => sqlite::ENGINE,
        }
    }
}

impl LogBar {
    /// As it is read back: what is logged is final for certain.
    fn kept(&self) -> Self {
        let mut kept = self.clone();
        kept.bar.finality_unknown = false;
        kept
    }
}

/// A filter that is quick to ask.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) symbols: HashSet<Symbol>,
    pub(super) intervals: Vec<Interval>,
}

impl Wanted {
    fn new(filter: &LogFilter) -> Self {
        let symbols = filter.symbols.iter().cloned().collect();
        Self { symbols, intervals: filter.intervals.clone() }
    }

    pub(super) fn has(&self, series: &Series) -> bool {
        (self.symbols.is_empty() || self.symbols.contains(&series.symbol))
            && (self.intervals.is_empty() || self.intervals.contains(&series.interval))
    }
}
