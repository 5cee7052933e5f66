//! Counts and times a sync.

use tokio::time::Instant;

use super::{SyncError, SyncReport};
use crate::common::metrics::table::{SYNC_BARS, SYNC_DURATION, SYNCS, SYNCS_IN_FLIGHT};
use crate::infrastructure::persistence::SyncCounts;

const COMPLETED: &str = "completed";
const INTERRUPTED: &str = "interrupted";
const CANCELLED: &str = "cancelled";
const ERROR: &str = "error";

/// Shows what can be counted before there is anything to count.
pub(super) fn count_from_zero() {
    for outcome in [COMPLETED, INTERRUPTED, CANCELLED, ERROR] {
        SYNCS.with([outcome]).increment(0);
    }
    count_bars(&SyncCounts::default(), &SyncCounts::default());
}

/// A sync that runs or waits, until it is dropped.
pub(super) struct SyncMeter {
    started: Instant,
}

impl SyncMeter {
    pub(super) fn start() -> Self {
        SYNCS_IN_FLIGHT.handle().increment(1);
        Self { started: Instant::now() }
    }

    /// It ended.
    pub(super) fn end(self, outcome: &Result<SyncReport, SyncError>) {
        let outcome = match outcome {
            Ok(_) => COMPLETED,
            Err(SyncError::Interrupted) => INTERRUPTED,
            Err(SyncError::Cancelled) => CANCELLED,
            Err(_) => ERROR,
        };
        SYNCS.with([outcome]).increment(1);
        SYNC_DURATION.handle().record(self.started.elapsed());
    }
}

impl Drop for SyncMeter {
    fn drop(&mut self) {
        SYNCS_IN_FLIGHT.handle().decrement(1);
    }
}

/// Bars came and were stored: `after` that, and `before`.
pub(super) fn count_bars(before: &SyncCounts, after: &SyncCounts) {
    for (kind, before, after) in [
        ("inserted", before.inserted, after.inserted),
        ("updated", before.updated, after.updated),
        ("unchanged", before.unchanged, after.unchanged),
        ("rejected", before.rejected, after.rejected),
    ] {
        SYNC_BARS.with([kind]).increment(after.saturating_sub(before));
    }
}
