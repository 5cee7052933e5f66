//! How the last sync of each series went, whichever engine keeps it.

use jiff::Timestamp;

use super::database::Engine;
use super::{DatabaseError, mongodb, sqlite};
use crate::domain::shared::Series;
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
pub struct SyncStatuses(StatusEngine);

#[derive(Clone, Debug)]
enum StatusEngine {
    MongoDb(mongodb::SyncStatuses),
    Sqlite(sqlite::SyncStatuses),
}

impl SyncStatuses {
    pub(super) fn new(engine: &Engine) -> Self {
        Self(match engine {
            Engine::MongoDb(engine) => StatusEngine::MongoDb(mongodb::SyncStatuses::new(engine)),
            Engine::Sqlite(engine) => StatusEngine::Sqlite(sqlite::SyncStatuses::new(engine)),
        })
    }

    /// The status of `series`, where it was ever asked for.
    pub async fn get(&self, series: &Series) -> Result<Option<SyncStatus>, DatabaseError> {
        match &self.0 {
            StatusEngine::MongoDb(engine) => engine.get(series).await,
            StatusEngine::Sqlite(engine) => engine.get(series).await,
        }
    }

    /// Stores `status` in place of the one before, as of `at`. Times are kept to the millisecond.
    pub async fn put(&self, status: &SyncStatus, at: Timestamp) -> Result<(), DatabaseError> {
        match &self.0 {
            StatusEngine::MongoDb(engine) => engine.put(status, at).await,
            StatusEngine::Sqlite(engine) => engine.put(status, at).await,
        }
    }

    /// At most `limit` statuses after `after`, by exchange, code and the interval's text.
    pub async fn list(
        &self,
        filter: &SyncStatusFilter,
        after: Option<&Series>,
        limit: u32,
    ) -> Result<Vec<SyncStatus>, DatabaseError> {
        match &self.0 {
            StatusEngine::MongoDb(engine) => engine.list(filter, after, limit).await,
            StatusEngine::Sqlite(engine) => engine.list(filter, after, limit).await,
        }
    }
}
