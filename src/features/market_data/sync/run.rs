//! One sync, from the first page to the status row.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::copy::{Copy, Known};
use super::journal::SyncJournal;
use super::{SyncError, SyncProgress, SyncReport};
use crate::common::error::with_causes;
use crate::domain::shared::{DomainEvent, EventPayload, Series};
use crate::domain::sync::{SyncState, SyncStatus};
use crate::features::market_data::{Announcer, CoverageLedger, LiveSeries, Sessions, event_json};
use crate::infrastructure::interfaces::{HistoryDepth, HistoryProvider, ProviderError};
use crate::infrastructure::persistence::{
    Database, DatabaseError, SeriesCache, SeriesSummary, SyncRecord,
};

/// How long the status row of an ended sync is tried to be written while the database is away.
const SETTLE_WITHIN: Duration = Duration::from_mins(2);
/// How long is waited between two tries.
const SETTLE_PAUSE: Duration = Duration::from_secs(1);

/// What the status of a cancelled sync says.
const CANCELLED: &str = "cancelled";

/// What a sync works with.
#[derive(Debug)]
pub(super) struct SyncRun {
    pub(super) database: Database,
    pub(super) cache: SeriesCache,
    pub(super) provider: Arc<dyn HistoryProvider>,
    pub(super) sessions: Sessions,
    pub(super) live: LiveSeries,
    pub(super) ledger: CoverageLedger,
    pub(super) announcer: Announcer,
    pub(super) journal: SyncJournal,
    pub(super) stopping: CancellationToken,
}

impl SyncRun {
    /// Fetches, compares and stores page by page, from where `record` says it is. What is stored
    /// when it fails stays. However it ends, `progress` says how long it took.
    pub(super) async fn copy_series(
        &self,
        record: &mut SyncRecord,
        progress: &watch::Sender<SyncProgress>,
        cancel: &CancellationToken,
    ) -> Result<SyncReport, SyncError> {
        let began = (Instant::now(), progress.borrow().elapsed);
        let copied = self.copy_pages(record, progress, cancel, began).await;
        progress.send_if_modified(|progress| {
            progress.elapsed = began.0.elapsed() + began.1;
            // Its end is told with its outcome.
            false
        });
        copied
    }

    async fn copy_pages(
        &self,
        record: &mut SyncRecord,
        progress: &watch::Sender<SyncProgress>,
        cancel: &CancellationToken,
        began: (Instant, Duration),
    ) -> Result<SyncReport, SyncError> {
        let series = record.series.clone();
        self.mark_syncing(&series).await?;
        record.state = SyncState::Syncing;
        progress.send_modify(|progress| progress.state = SyncState::Syncing);
        let doubtful = self.oldest_doubt(&series).await?;
        let (depth, known) = (record.depth, known(record, doubtful));
        let mut copy = Copy { run: self, record, progress, cancel, began, history_end: None };
        let mut oldest = copy.pages(depth, known, None).await?;
        if let (Some(doubtful), Some(reached)) = (doubtful, oldest)
            && doubtful < reached
        {
            // A bar that may not have been over when it was stored is fetched again, however old.
            let known = (reached, Timestamp::MAX);
            oldest = copy.pages(HistoryDepth::Full, Some(known), Some(doubtful)).await?;
        }
        let (elapsed, history_end) = (copy.elapsed(), copy.history_end);
        if oldest.is_none() && record.counts.fetched == 0 {
            let (provider, symbol) = (self.provider.name(), series.symbol);
            return Err(ProviderError::NoData { provider, symbol, detail: None }.into());
        }
        Ok(SyncReport { elapsed, history_end, ..SyncReport::new(series, &record.counts) })
    }

    /// Why a sync ends that was cancelled: the whole service stops, or somebody asked for it.
    pub(super) fn cut_off(&self) -> SyncError {
        if self.stopping.is_cancelled() { SyncError::Interrupted } else { SyncError::Cancelled }
    }

    async fn mark_syncing(&self, series: &Series) -> Result<(), SyncError> {
        let statuses = self.database.sync_statuses();
        let stored = statuses.get(series).await?;
        let mut status = stored.unwrap_or_else(|| SyncStatus::pending(series.clone()));
        if status.state == SyncState::Syncing {
            // No other sync of this process runs: the row is what a crash left.
            status.interrupt();
        }
        if let Err(refused) = status.start() {
            error!(%series, error = %refused, "the status of {series} cannot be followed");
            return Err(SyncError::Crashed);
        }
        statuses.put(&status, Timestamp::now()).await?;
        Ok(())
    }

    /// The open time of the newest stored bar, where it is not sure to be final.
    async fn oldest_doubt(&self, series: &Series) -> Result<Option<Timestamp>, SyncError> {
        let newest = self.database.bars().newest(series).await?;
        let doubtful = newest.filter(|bar| !bar.is_final() || bar.finality_unknown);
        Ok(doubtful.map(|bar| bar.open_time))
    }

    /// Writes how the sync ended into its status row. Answers the outcome, and whether the row
    /// says so now; a success that cannot be written down is a failure.
    pub(super) async fn settle(
        &self,
        series: &Series,
        outcome: Result<SyncReport, SyncError>,
    ) -> (Result<SyncReport, SyncError>, bool) {
        let settled = self.write_outcome(series, outcome.as_ref()).await;
        match (outcome, settled) {
            (Ok(_), Ok(None)) => (Err(SyncError::Crashed), true),
            (Ok(mut report), Ok(Some(summary))) => {
                report.total_bars = summary.bar_count;
                report.first_bar_at = summary.first_bar_at;
                report.last_bar_at = summary.last_bar_at;
                log_success(&report);
                (Ok(report), true)
            }
            (Err(failure), Ok(_)) => {
                warn!(%series, error = with_causes(&failure), "the sync of {series} failed");
                (Err(failure), true)
            }
            (Ok(_), Err(unwritten)) => (Err(unwritten.into()), false),
            (Err(failure), Err(unwritten)) => {
                let error = with_causes(&unwritten);
                warn!(%series, error, "the status of {series} could not be written; trying on");
                (Err(failure), false)
            }
        }
    }

    /// Writes into its record how the sync ended; one that was interrupted is left for whoever
    /// comes next. Answers whether the record says so now.
    pub(super) async fn close(&self, record: &SyncRecord) -> bool {
        let kept = match record.ended {
            Some(_) => self.journal.keep(record).await,
            None => self.journal.hand_back(record).await,
        };
        kept.inspect_err(|error| {
            warn!(error = with_causes(error), "the record of a sync could not be written");
        })
        .is_ok()
    }

    /// Tries on to write how the sync ended, while the database is away.
    pub(super) async fn settle_later(
        &self,
        record: &SyncRecord,
        outcome: Result<SyncReport, SyncError>,
    ) {
        let series = &record.series;
        let give_up = Instant::now() + SETTLE_WITHIN;
        while Instant::now() < give_up && !self.stopping.is_cancelled() {
            sleep(SETTLE_PAUSE).await;
            let settled = self.write_outcome(series, outcome.as_ref()).await.is_ok();
            if settled && self.tell(record, outcome.as_ref()).await && self.close(record).await {
                return;
            }
        }
        error!(
            %series,
            "how the sync of {series} ended could not be written down: until its next sync or the \
             next start, its status and its record may say that it goes on"
        );
    }

    async fn write_outcome(
        &self,
        series: &Series,
        outcome: Result<&SyncReport, &SyncError>,
    ) -> Result<Option<SeriesSummary>, DatabaseError> {
        let statuses = self.database.sync_statuses();
        let stored = statuses.get(series).await?;
        let mut status = stored.unwrap_or_else(|| SyncStatus::pending(series.clone()));
        let summary = self.database.bars().summary(series).await?;
        let (count, last) = (summary.bar_count, summary.last_bar_at);
        if status.state != SyncState::Syncing {
            if outcome.is_err() {
                // It ended before it began, or another process had the last word.
                return Ok(None);
            }
            // Another process that shares the database took it for interrupted, or ended its own
            // sync of the series first. What is stored is stored: the row says so.
            if let Err(refused) = status.start() {
                error!(%series, error = %refused, "the status of {series} cannot be followed");
                return Ok(None);
            }
        }
        let step = match outcome {
            Ok(_) => status.complete(Timestamp::now(), count, last),
            Err(SyncError::Interrupted) => status.fail(SyncStatus::INTERRUPTED, count, last),
            Err(SyncError::Cancelled) => status.fail(CANCELLED, count, last),
            Err(failure) => status.fail(failure.to_string(), count, last),
        };
        if let Err(refused) = step {
            error!(%series, error = %refused, "the status of {series} cannot be followed");
        }
        statuses.put(&status, Timestamp::now()).await?;
        Ok(Some(summary))
    }

    /// Tells how the sync ended, ahead of its record: one that dies in between ends again. Answers
    /// whether all that are to be told will be.
    pub(super) async fn tell(
        &self,
        record: &SyncRecord,
        outcome: Result<&SyncReport, &SyncError>,
    ) -> bool {
        let series = record.series.clone();
        let payload = match outcome {
            // It is not over.
            Err(SyncError::Interrupted) => return true,
            Ok(report) => EventPayload::HistoricalDataSynced {
                series,
                inserted: report.bars_inserted,
                updated: report.bars_updated,
            },
            Err(failure) => EventPayload::SyncFailed { series, error: failure.to_string() },
        };
        let id = event_json::sync_id(record.sync_id, payload.event_type());
        let event = DomainEvent { time: Timestamp::now(), payload };
        let told = self.announcer.record(event, Some(id)).await;
        told.inspect_err(|error| warn!(%error, "how a sync ended is not told yet")).is_ok()
    }
}

fn log_success(report: &SyncReport) {
    let (series, inserted, updated) = (&report.series, report.bars_inserted, report.bars_updated);
    let (symbol, interval) = (&series.symbol, series.interval);
    info!(%symbol, %interval, bars_inserted = inserted, bars_updated = updated, "synced {series}");
}

/// What was stored before a sync went on: all between the newest and the oldest bar that came,
/// but for a newest one that may not have been over.
fn known(record: &SyncRecord, doubtful: Option<Timestamp>) -> Option<Known> {
    let (oldest, newest) = record.reached?;
    let newest = match doubtful {
        Some(doubtful) if doubtful <= newest => millisecond_before(doubtful),
        Some(_) | None => newest,
    };
    (oldest <= newest).then_some((oldest, newest))
}

/// Bars open on whole milliseconds.
fn millisecond_before(time: Timestamp) -> Timestamp {
    time.saturating_sub(jiff::SignedDuration::from_millis(1)).unwrap_or(Timestamp::MIN)
}
