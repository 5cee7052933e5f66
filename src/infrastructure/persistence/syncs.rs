//! Which syncs were asked for, how far they are and how they ended, whichever engine keeps it.
//!
//! A sync that is not over belongs to a process, by a lease: when the process dies, the lease
//! lapses, and another process, or the next start, takes the sync over where it was.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

use super::calls::Calls;
use super::database::Engine;
use super::{DatabaseError, mongodb, sqlite};
use crate::domain::shared::Series;
use crate::domain::sync::SyncState;
use crate::infrastructure::interfaces::HistoryDepth;

/// A sync that was asked for. Times are kept to the millisecond.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncRecord {
    /// Which sync.
    pub sync_id: Uuid,
    /// Of what.
    pub series: Series,
    /// How far back.
    pub depth: HistoryDepth,
    /// Where it stands.
    pub state: SyncState,
    /// What it did so far.
    pub counts: SyncCounts,
    /// Open times of the oldest and the newest bar that came so far.
    pub reached: Option<(Timestamp, Timestamp)>,
    /// When it was asked for.
    pub started_at: Timestamp,
    /// When it ended, and how, in the words of whoever wrote it; absent while it is not over.
    pub ended: Option<(Timestamp, Bytes)>,
}

/// What a sync did so far: `fetched = inserted + updated + unchanged + rejected`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncCounts {
    /// Pages that came.
    pub pages: u32,
    /// Bars that came.
    pub fetched: u64,
    /// Bars that were not stored before.
    pub inserted: u64,
    /// Bars that were stored differently before.
    pub updated: u64,
    /// Bars that were stored just so.
    pub unchanged: u64,
    /// Bars that broke an invariant.
    pub rejected: u64,
}

/// A process's hold on what it works at.
///
/// When it lapses is decided on the database's clock, so that processes need not agree on the time:
/// on MongoDB the server's; the embedded engine belongs to one process, and has that one's
/// monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Which process.
    pub owner: Uuid,
    /// For how long, from when the database hears of it, nobody else takes over what it has.
    pub length: Duration,
}

/// The syncs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Syncs {
    engine: SyncEngine,
    calls: Calls,
}

#[derive(Clone, Debug)]
enum SyncEngine {
    MongoDb(mongodb::Syncs),
    Sqlite(sqlite::Syncs),
}

impl Syncs {
    pub(super) fn new(engine: &Engine) -> Self {
        let calls = Calls::new(engine.name(), "syncs");
        let engine = match engine {
            Engine::MongoDb(engine) => SyncEngine::MongoDb(mongodb::Syncs::new(engine)),
            Engine::Sqlite(engine) => SyncEngine::Sqlite(sqlite::Syncs::new(engine)),
        };
        Self { engine, calls }
    }

    /// Keeps a new sync.
    pub async fn insert(&self, sync: &SyncRecord, lease: Lease) -> Result<(), DatabaseError> {
        let work = async {
            match &self.engine {
                SyncEngine::MongoDb(engine) => engine.insert(sync, lease).await,
                SyncEngine::Sqlite(engine) => engine.insert(sync, lease).await,
            }
        };
        self.calls.observe("insert", Box::pin(work)).await
    }

    /// Keeps how far `sync` is, and renews its lease. Answers false, and changes nothing, where it
    /// is no longer the owner's.
    pub async fn update(&self, sync: &SyncRecord, lease: Lease) -> Result<bool, DatabaseError> {
        let work = async {
            match &self.engine {
                SyncEngine::MongoDb(engine) => engine.update(sync, lease).await,
                SyncEngine::Sqlite(engine) => engine.update(sync, lease).await,
            }
        };
        self.calls.observe("update", Box::pin(work)).await
    }

    /// The sync of this id.
    pub async fn get(&self, sync_id: Uuid) -> Result<Option<SyncRecord>, DatabaseError> {
        let work = async {
            match &self.engine {
                SyncEngine::MongoDb(engine) => engine.get(sync_id).await,
                SyncEngine::Sqlite(engine) => engine.get(sync_id).await,
            }
        };
        self.calls.observe("get", Box::pin(work)).await
    }

    /// Asks whoever runs the sync to cancel it. Answers whether it was not over.
    pub async fn ask_to_cancel(&self, sync_id: Uuid) -> Result<bool, DatabaseError> {
        let work = async {
            match &self.engine {
                SyncEngine::MongoDb(engine) => engine.ask_to_cancel(sync_id).await,
                SyncEngine::Sqlite(engine) => engine.ask_to_cancel(sync_id).await,
            }
        };
        self.calls.observe("ask_to_cancel", Box::pin(work)).await
    }

    /// Renews the lease of all that the owner has not finished. Answers those of them that
    /// somebody asked to cancel.
    pub async fn renew(&self, lease: Lease) -> Result<Vec<Uuid>, DatabaseError> {
        let work = async {
            match &self.engine {
                SyncEngine::MongoDb(engine) => engine.renew(lease).await,
                SyncEngine::Sqlite(engine) => engine.renew(lease).await,
            }
        };
        self.calls.observe("renew", Box::pin(work)).await
    }

    /// Takes over at most `limit` syncs whose lease has lapsed, the oldest first. On the embedded
    /// engine, whose files belong to one process, every lease of another has lapsed, and none of
    /// its own.
    pub async fn take_over(
        &self,
        lease: Lease,
        limit: u32,
    ) -> Result<Vec<SyncRecord>, DatabaseError> {
        let work = async {
            match &self.engine {
                SyncEngine::MongoDb(engine) => engine.take_over(lease, limit).await,
                SyncEngine::Sqlite(engine) => engine.take_over(lease, limit).await,
            }
        };
        self.calls.observe("take_over", Box::pin(work)).await
    }

    /// The series of all syncs that are not over, each once.
    pub async fn unfinished(&self) -> Result<Vec<Series>, DatabaseError> {
        let work = async {
            match &self.engine {
                SyncEngine::MongoDb(engine) => engine.unfinished().await,
                SyncEngine::Sqlite(engine) => engine.unfinished().await,
            }
        };
        self.calls.observe("unfinished", Box::pin(work)).await
    }

    /// Forgets syncs that ended before `before`.
    pub async fn prune(&self, before: Timestamp) -> Result<(), DatabaseError> {
        let work = async {
            match &self.engine {
                SyncEngine::MongoDb(engine) => engine.prune(before).await,
                SyncEngine::Sqlite(engine) => engine.prune(before).await,
            }
        };
        self.calls.observe("prune", Box::pin(work)).await
    }
}

/// The number of bars that is stored for a depth: absent for all there are.
pub(super) fn bar_count(depth: HistoryDepth) -> Option<u32> {
    match depth {
        HistoryDepth::Full => None,
        HistoryDepth::Newest(bars) => Some(bars),
    }
}

/// The depth of a stored number of bars.
pub(super) fn depth(bar_count: Option<u32>) -> HistoryDepth {
    bar_count.map_or(HistoryDepth::Full, HistoryDepth::Newest)
}
