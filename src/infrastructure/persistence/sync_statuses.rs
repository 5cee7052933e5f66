//! How the last sync of each series went, whichever engine keeps it.

use jiff::Timestamp;

use super::calls::Calls;
use super::database::Engine;
use super::{DatabaseError, mongodb, sqlite};
use crate::common::constants::COLLECTION_SYNC_STATUS;
use crate::domain::shared::{Series, Symbol};
use crate::domain::sync::{SyncState, SyncStatus};

/// Which statuses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncStatusFilter {
    /// Only those of this exchange.
    pub exchange: Option<String>,
    /// Only those in this state.
    pub state: Option<SyncState>,
}

/// The sync statuses. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SyncStatuses {
    engine: StatusEngine,
    calls: Calls,
}

#[derive(Clone, Debug)]
enum StatusEngine {
    MongoDb(mongodb::SyncStatuses),
    Sqlite(sqlite::SyncStatuses),
}

impl SyncStatuses {
    pub(super) fn new(engine: &Engine) -> Self {
        let calls = Calls::new(engine.name(), COLLECTION_SYNC_STATUS);
        let engine = match engine {
            Engine::MongoDb(engine) => StatusEngine::MongoDb(mongodb::SyncStatuses::new(engine)),
            Engine::Sqlite(engine) => StatusEngine::Sqlite(sqlite::SyncStatuses::new(engine)),
        };
        Self { engine, calls }
    }

    /// The status of `series`, where it was ever asked for.
    pub async fn get(&self, series: &Series) -> Result<Option<SyncStatus>, DatabaseError> {
        let work = async {
            match &self.engine {
                StatusEngine::MongoDb(engine) => engine.get(series).await,
                StatusEngine::Sqlite(engine) => engine.get(series).await,
            }
        };
        self.calls.observe("get", Box::pin(work)).await
    }

    /// Stores `status` in place of the one before, as of `at`. Times are kept to the millisecond.
    pub async fn put(&self, status: &SyncStatus, at: Timestamp) -> Result<(), DatabaseError> {
        let work = async {
            match &self.engine {
                StatusEngine::MongoDb(engine) => engine.put(status, at).await,
                StatusEngine::Sqlite(engine) => engine.put(status, at).await,
            }
        };
        self.calls.observe("put", Box::pin(work)).await
    }

    /// Removes the statuses of all series of `symbol`; answers how many there were.
    pub async fn delete(&self, symbol: &Symbol) -> Result<u64, DatabaseError> {
        let work = async {
            match &self.engine {
                StatusEngine::MongoDb(engine) => engine.delete(symbol).await,
                StatusEngine::Sqlite(engine) => engine.delete(symbol).await,
            }
        };
        self.calls.observe("delete", Box::pin(work)).await
    }

    /// At most `limit` statuses after `after`, by exchange, code and the interval's text.
    pub async fn list(
        &self,
        filter: &SyncStatusFilter,
        after: Option<&Series>,
        limit: u32,
    ) -> Result<Vec<SyncStatus>, DatabaseError> {
        let work = async {
            match &self.engine {
                StatusEngine::MongoDb(engine) => engine.list(filter, after, limit).await,
                StatusEngine::Sqlite(engine) => engine.list(filter, after, limit).await,
            }
        };
        self.calls.observe("list", Box::pin(work)).await
    }
}
