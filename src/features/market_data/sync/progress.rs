//! How far a sync is, and what it did.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::SyncError;
use crate::domain::shared::Series;
use crate::domain::sync::SyncState;
use crate::infrastructure::interfaces::{HistoryDepth, HistoryEnd};
use crate::infrastructure::persistence::{SeriesSummary, SyncCounts, SyncRecord};

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
    /// Bars that were asked for; the provider may have fewer. Absent where all were.
    pub bars_expected: Option<u32>,
    /// Pages that came so far.
    pub pages: u32,
    /// How long it has taken so far.
    pub elapsed: Duration,
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
    /// As far as `record` says, at `now`.
    pub(super) fn of(record: &SyncRecord, now: Timestamp) -> Self {
        Self {
            sync_id: record.sync_id,
            series: record.series.clone(),
            state: record.state,
            bars_fetched: record.counts.fetched,
            bars_expected: match record.depth {
                HistoryDepth::Newest(bars) => Some(bars),
                HistoryDepth::Full => None,
            },
            pages: record.counts.pages,
            elapsed: now.duration_since(record.started_at).try_into().unwrap_or_default(),
            outcome: None,
        }
    }
}

impl SyncReport {
    /// Nothing was to be fetched of `series`, of which `summary` is stored.
    pub fn of_nothing(series: Series, summary: &SeriesSummary) -> Self {
        Self {
            total_bars: summary.bar_count,
            first_bar_at: summary.first_bar_at,
            last_bar_at: summary.last_bar_at,
            ..Self::new(series, &SyncCounts::default())
        }
    }

    /// What a sync of `series` did that has done `counts` so far.
    pub(super) const fn new(series: Series, counts: &SyncCounts) -> Self {
        Self {
            series,
            bars_fetched: counts.fetched,
            bars_inserted: counts.inserted,
            bars_updated: counts.updated,
            bars_unchanged: counts.unchanged,
            bars_rejected: counts.rejected,
            total_bars: 0,
            first_bar_at: None,
            last_bar_at: None,
            elapsed: Duration::ZERO,
            history_end: None,
        }
    }
}
