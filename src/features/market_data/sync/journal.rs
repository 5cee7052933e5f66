//! Writes down which syncs were asked for and how far they are, so that a crash loses none.

use std::time::Duration;

use uuid::Uuid;

use crate::infrastructure::persistence::{Database, DatabaseError, Lease, SyncRecord, Syncs};

/// How long a process's syncs are its own after it last said so.
const LEASE: Duration = Duration::from_secs(10);
/// How often a process says so.
pub(super) const RENEW_EVERY: Duration = Duration::from_secs(3);
/// Syncs that are taken over at a time.
const TAKEN_AT_ONCE: u32 = 64;

/// The records of this process's syncs.
#[derive(Clone, Debug)]
pub(super) struct SyncJournal {
    syncs: Syncs,
    owner: Uuid,
}

impl SyncJournal {
    pub(super) fn new(database: &Database) -> Self {
        Self { syncs: database.syncs(), owner: Uuid::now_v7() }
    }

    /// Keeps a new sync.
    pub(super) async fn begin(&self, record: &SyncRecord) -> Result<(), DatabaseError> {
        self.syncs.insert(record, self.lease()).await
    }

    /// Keeps how far a sync is, or how it ended. Answers false where another process has taken it
    /// over meanwhile.
    pub(super) async fn keep(&self, record: &SyncRecord) -> Result<bool, DatabaseError> {
        self.syncs.update(record, self.lease()).await
    }

    /// Lets whoever comes next go on with a sync that is not over.
    pub(super) async fn hand_back(&self, record: &SyncRecord) -> Result<bool, DatabaseError> {
        let lapsed = Lease { length: Duration::ZERO, ..self.lease() };
        self.syncs.update(record, lapsed).await
    }

    /// Says that this process lives. Answers the syncs that somebody asked to cancel.
    pub(super) async fn renew(&self) -> Result<Vec<Uuid>, DatabaseError> {
        self.syncs.renew(self.lease()).await
    }

    /// Takes over syncs of processes that are gone.
    pub(super) async fn take_over(&self) -> Result<Vec<SyncRecord>, DatabaseError> {
        self.syncs.take_over(self.lease(), TAKEN_AT_ONCE).await
    }

    fn lease(&self) -> Lease {
        Lease { owner: self.owner, length: LEASE }
    }
}
