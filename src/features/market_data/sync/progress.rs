//! How far a sync is, and what it did.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::SyncError;
use crate::domain::shared::Series;
use crate::domain::sync::SyncState;
use crate::infrastructure::interfaces::HistoryEnd;

/// How far a sync is.
#[derive(Clone, Debug)]
pub struct SyncProgress {
    /// Which sync.
    pub sync_id: Uuid,
    /// Of what.
    pub series: Series,
    /// Where it stands.
    pub state: SyncState,
    /// Bars that came so far.
    pub bars_fetched: u64,
    /// Pages that came so far.
    pub pages: u32,
    /// How it ended, once it has.
    pub outcome: Option<Result<SyncReport, SyncError>>,
}

/// What a sync did: `fetched = inserted + updated + unchanged + rejected`.
#[derive(Clone, Debug, PartialEq)]
pub struct SyncReport {
    /// What was synced.
    pub series: Series,
    /// Bars that came from the provider.
    pub bars_fetched: u64,
    /// Bars that were not stored before.
    pub bars_inserted: u64,
    /// Bars that were stored differently before.
    pub bars_updated: u64,
    /// Bars that were stored just so.
    pub bars_unchanged: u64,
    /// Bars that broke an invariant and were left out.
    pub bars_rejected: u64,
    /// Final bars stored now.
    pub total_bars: u64,
    /// Open time of the oldest final bar.
    pub first_bar_at: Option<Timestamp>,
    /// Open time of the newest final bar.
    pub last_bar_at: Option<Timestamp>,
    /// How long it took.
    pub elapsed: Duration,
    /// Why the provider sent nothing older, where it said so.
    pub history_end: Option<HistoryEnd>,
}

impl SyncProgress {
    /// A sync that was asked for.
    pub(super) const fn pending(sync_id: Uuid, series: Series) -> Self {
        let state = SyncState::Pending;
        Self { sync_id, series, state, bars_fetched: 0, pages: 0, outcome: None }
    }
}

impl SyncReport {
    /// A sync of `series` that has done nothing yet.
    pub(super) const fn new(series: Series) -> Self {
        Self {
            series,
            bars_fetched: 0,
            bars_inserted: 0,
            bars_updated: 0,
            bars_unchanged: 0,
            bars_rejected: 0,
            total_bars: 0,
            first_bar_at: None,
            last_bar_at: None,
            elapsed: Duration::ZERO,
            history_end: None,
        }
    }
}
