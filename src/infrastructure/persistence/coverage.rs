//! What was asked of the provider, and when the feed was there, whichever engine keeps it.
//!
//! It does not know what follows from it: that is the domain's.

use jiff::Timestamp;

use super::calls::Calls;
use super::database::Engine;
use super::{DatabaseError, mongodb, sqlite};
use crate::domain::coverage::{FeedPresence, RangeSet};
use crate::domain::shared::{Interval, Series, Symbol};

/// What is known of one series, or of the feed of one symbol. Times are kept to the millisecond.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoverageRecord {
    /// Of a series: what the provider was asked for, and answered.
    Asked {
        /// Which series.
        series: Series,
        /// The stretches.
        asked: RangeSet,
    },
    /// Of a symbol: when the feed was there. Whether it is there now is not stored.
    Feed {
        /// Which symbol.
        symbol: Symbol,
        /// When. That it is vouched for is kept by MongoDB only: no other process reads an SQLite
        /// file.
        presence: FeedPresence,
    },
}

/// The ledger of coverage. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Coverage {
    engine: CoverageEngine,
    calls: Calls,
}

#[derive(Clone, Debug)]
enum CoverageEngine {
    MongoDb(mongodb::Coverage),
    Sqlite(sqlite::Coverage),
}

impl Coverage {
    pub(super) fn new(engine: &Engine) -> Self {
        let calls = Calls::new(engine.name(), "coverage");
        let engine = match engine {
            Engine::MongoDb(engine) => CoverageEngine::MongoDb(mongodb::Coverage::new(engine)),
            Engine::Sqlite(engine) => CoverageEngine::Sqlite(sqlite::Coverage::new(engine)),
        };
        Self { engine, calls }
    }

    /// Stores each record in place of what was known of its key. Each is whole or not changed; on
    /// SQLite all are changed or none.
    pub async fn put(&self, records: &[CoverageRecord]) -> Result<(), DatabaseError> {
        if records.is_empty() {
            return Ok(());
        }
        let work = async {
            match &self.engine {
                CoverageEngine::MongoDb(engine) => engine.put(records).await,
                CoverageEngine::Sqlite(engine) => engine.put(records).await,
            }
        };
        self.calls.observe("put", Box::pin(work)).await
    }

    /// What the provider was asked for of `series`, and answered.
    pub async fn asked(&self, series: &Series) -> Result<RangeSet, DatabaseError> {
        match self.get(&series.symbol, Some(series.interval)).await? {
            Some(CoverageRecord::Asked { asked, .. }) => Ok(asked),
            Some(CoverageRecord::Feed { .. }) | None => Ok(RangeSet::default()),
        }
    }

    /// When the feed was there for `symbol`; none where it never was.
    pub async fn feed(&self, symbol: &Symbol) -> Result<Option<FeedPresence>, DatabaseError> {
        match self.get(symbol, None).await? {
            Some(CoverageRecord::Feed { presence, .. }) => Ok(Some(presence)),
            Some(CoverageRecord::Asked { .. }) | None => Ok(None),
        }
    }

    /// The symbols that are followed still, in no order.
    pub async fn followed(&self) -> Result<Vec<(Symbol, FeedPresence)>, DatabaseError> {
        let work = async {
            match &self.engine {
                CoverageEngine::MongoDb(engine) => engine.followed().await,
                CoverageEngine::Sqlite(engine) => engine.followed().await,
            }
        };
        let records = self.calls.observe("followed", Box::pin(work)).await?;
        let feed = |record| match record {
            CoverageRecord::Feed { symbol, presence } => Some((symbol, presence)),
            CoverageRecord::Asked { .. } => None,
        };
        Ok(records.into_iter().filter_map(feed).collect())
    }

    /// Forgets all of `symbol`: its series' and its feed's.
    pub async fn delete(&self, symbol: &Symbol) -> Result<(), DatabaseError> {
        let work = async {
            match &self.engine {
                CoverageEngine::MongoDb(engine) => engine.delete(symbol).await,
                CoverageEngine::Sqlite(engine) => engine.delete(symbol).await,
            }
        };
        self.calls.observe("delete", Box::pin(work)).await
    }

    async fn get(
        &self,
        symbol: &Symbol,
        interval: Option<Interval>,
    ) -> Result<Option<CoverageRecord>, DatabaseError> {
        let work = async {
            match &self.engine {
                CoverageEngine::MongoDb(engine) => engine.get(symbol, interval).await,
                CoverageEngine::Sqlite(engine) => engine.get(symbol, interval).await,
            }
        };
        self.calls.observe("get", Box::pin(work)).await
    }
}

/// What stands for the feed where a series has its interval.
const FEED: &str = "feed";

impl CoverageRecord {
    /// Whose it is.
    pub(super) const fn symbol(&self) -> &Symbol {
        match self {
            Self::Asked { series, .. } => &series.symbol,
            Self::Feed { symbol, .. } => symbol,
        }
    }

    /// The text that is stored as its interval.
    pub(super) const fn scope(&self) -> &'static str {
        match self {
            Self::Asked { series, .. } => series.interval.as_str(),
            Self::Feed { .. } => FEED,
        }
    }

    /// The record that was stored so; none where `scope` is neither an interval nor the feed.
    pub(super) fn read(symbol: Symbol, scope: &str, parts: StoredParts) -> Option<Self> {
        let StoredParts { followed, heard, vouched, asked, connected, down } = parts;
        if scope == FEED {
            let presence = FeedPresence::restored(followed, heard, connected, down);
            return Some(Self::Feed { symbol, presence: presence.vouched_for(vouched) });
        }
        let interval: Interval = scope.parse().ok()?;
        Some(Self::Asked { series: Series::new(symbol, interval), asked })
    }

    /// What is stored of it.
    pub(super) fn parts(&self) -> StoredParts {
        match self {
            Self::Asked { asked, .. } => {
                StoredParts { asked: asked.clone(), ..StoredParts::default() }
            }
            Self::Feed { presence, .. } => StoredParts {
                followed: presence.is_followed(),
                heard: presence.heard_until(),
                vouched: presence.vouched(),
                connected: presence.connected().clone(),
                down: presence.down().clone(),
                ..StoredParts::default()
            },
        }
    }
}

/// The text that is stored as the interval of a series, or of the feed.
pub(super) fn scope(interval: Option<Interval>) -> &'static str {
    interval.map_or(FEED, Interval::as_str)
}

/// The columns of a record.
#[derive(Debug, Default)]
pub(super) struct StoredParts {
    pub(super) followed: bool,
    pub(super) heard: Option<Timestamp>,
    pub(super) vouched: Option<Timestamp>,
    pub(super) asked: RangeSet,
    pub(super) connected: RangeSet,
    pub(super) down: RangeSet,
}
