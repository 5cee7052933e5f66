//! One sync, from the first page to the status row.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{SyncError, SyncProgress, SyncReport};
use crate::common::error::with_causes;
use crate::common::messaging::EventBus;
use crate::common::metrics::table::SYNC_BARS;
use crate::domain::ohlcv::services::BarClock;
use crate::domain::ohlcv::{FetchedBar, Ohlcv, OhlcvAggregate};
use crate::domain::shared::{DomainEvent, EventPayload, Interval, Series};
use crate::domain::symbol::{SymbolAggregate, SymbolDescription};
use crate::domain::sync::{SyncState, SyncStatus};
use crate::features::market_data::{LiveSeries, Sessions};
use crate::infrastructure::interfaces::{
    HistoryDepth, HistoryPage, HistoryProvider, HistoryRequest, ProviderError,
};
use crate::infrastructure::persistence::{Database, DatabaseError, SeriesCache, SeriesSummary};

/// How long the status row of an ended sync is tried to be written while the database is away.
const SETTLE_WITHIN: Duration = Duration::from_mins(2);
/// How long is waited between two tries.
const SETTLE_PAUSE: Duration = Duration::from_secs(1);

/// What a sync works with.
#[derive(Debug)]
pub(super) struct SyncRun {
    pub(super) database: Database,
    pub(super) cache: SeriesCache,
    pub(super) provider: Arc<dyn HistoryProvider>,
    pub(super) sessions: Sessions,
    pub(super) live: LiveSeries,
    pub(super) events: EventBus<DomainEvent>,
    pub(super) stopping: CancellationToken,
}

impl SyncRun {
    /// Fetches, compares and stores page by page. What is stored when it fails stays.
    pub(super) async fn copy_series(
        &self,
        series: &Series,
        depth: HistoryDepth,
        progress: &watch::Sender<SyncProgress>,
    ) -> Result<SyncReport, SyncError> {
        let began = Instant::now();
        self.mark_syncing(series).await?;
        progress.send_modify(|progress| progress.state = SyncState::Syncing);
        let doubtful = self.oldest_doubt(series).await?;
        let mut copy =
            Copy { run: self, series, progress, report: SyncReport::new(series.clone()) };
        let mut oldest = copy.pages(depth, None, None).await?;
        if let (Some(doubtful), Some(reached)) = (doubtful, oldest)
            && doubtful < reached
        {
            // A bar that may not have been over when it was stored is fetched again, however old.
            oldest = copy.pages(HistoryDepth::Full, Some(reached), Some(doubtful)).await?;
        }
        let mut report = copy.report;
        if oldest.is_none() && report.bars_fetched == 0 {
            let (provider, symbol) = (self.provider.name(), series.symbol.clone());
            return Err(ProviderError::NoData { provider, symbol, detail: None }.into());
        }
        report.elapsed = began.elapsed();
        Ok(report)
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
                self.announce(&report);
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

    /// Tries on to write how the sync ended, while the database is away.
    pub(super) async fn settle_later(
        &self,
        series: &Series,
        outcome: Result<SyncReport, SyncError>,
    ) {
        let give_up = Instant::now() + SETTLE_WITHIN;
        while Instant::now() < give_up && !self.stopping.is_cancelled() {
            sleep(SETTLE_PAUSE).await;
            if self.write_outcome(series, outcome.as_ref()).await.is_ok() {
                return;
            }
        }
        error!(%series, "the status of {series} still says syncing; the next start corrects it");
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
            Err(failure) => status.fail(failure.to_string(), count, last),
        };
        if let Err(refused) = step {
            error!(%series, error = %refused, "the status of {series} cannot be followed");
        }
        statuses.put(&status, Timestamp::now()).await?;
        Ok(Some(summary))
    }

    fn announce(&self, report: &SyncReport) {
        let (series, inserted) = (&report.series, report.bars_inserted);
        let (symbol, interval) = (&series.symbol, series.interval);
        let updated = report.bars_updated;
        info!(%symbol, %interval, bars_inserted = inserted, bars_updated = updated, "synced {series}");
        let payload =
            EventPayload::HistoricalDataSynced { series: series.clone(), inserted, updated };
        self.events.publish(DomainEvent { time: Timestamp::now(), payload });
    }
}

/// A sync under way.
struct Copy<'a> {
    run: &'a SyncRun,
    series: &'a Series,
    progress: &'a watch::Sender<SyncProgress>,
    report: SyncReport,
}

impl Copy<'_> {
    /// Takes pages until the provider has no more, or `until` is reached. Bars at or after
    /// `before` are known already. Answers the open time of the oldest bar that came.
    async fn pages(
        &mut self,
        depth: HistoryDepth,
        before: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<Option<Timestamp>, SyncError> {
        let run = self.run;
        let mut pages = run.provider.history(HistoryRequest { series: self.series.clone(), depth });
        let mut oldest = before;
        while let Some(page) =
            run.stopping.run_until_cancelled(pages.next()).await.ok_or(SyncError::Interrupted)?
        {
            // While the service stops, its connections end too: that is no fault of the provider.
            let mut page = page.map_err(|error| {
                if run.stopping.is_cancelled() { SyncError::Interrupted } else { error.into() }
            })?;
            if let Some(said) = page.symbol.take() {
                self.observe(&said).await?;
            }
            page.bars.retain(|bar| before.is_none_or(|before| bar.open_time < before));
            oldest = page.bars.first().map(|bar| bar.open_time).or(oldest);
            self.report.history_end = page.end;
            self.store(&page).await?;
            self.progress.send_modify(|progress| {
                progress.bars_fetched = self.report.bars_fetched;
                progress.pages += 1;
            });
            if let (Some(until), Some(oldest)) = (until, oldest)
                && oldest <= until
            {
                break;
            }
        }
        Ok(oldest)
    }

    /// Keeps what the provider says of the instrument.
    async fn observe(&self, said: &SymbolDescription) -> Result<(), SyncError> {
        let (run, symbol) = (self.run, &self.series.symbol);
        let symbols = run.database.symbols();
        let stored = symbols.get(symbol).await?;
        let (before, now) = (stored.clone(), Timestamp::now());
        let (info, changed) = SymbolAggregate::new(symbol, stored, now).observe(said, now);
        if changed {
            symbols.put(&info).await?;
            run.sessions.forget(symbol).await;
        }
        if !info.trading_session().1 {
            let session = info.description.session.as_ref().map_or("", |spec| &spec.session);
            warn!(%symbol, session, "the session of {symbol} is not known; its bars are cut around the clock in UTC");
        }
        let session_before = before.and_then(|info| info.description.session);
        if session_before != info.description.session {
            // Where bars close has changed: what is cached says otherwise.
            for interval in Interval::ALL {
                let series = Series::new(symbol.clone(), interval);
                run.cache.begin_write(&series).await;
                run.cache.finish_write(&series).await;
            }
        }
        Ok(())
    }

    /// Compares a page with what is stored and writes the difference.
    async fn store(&mut self, page: &HistoryPage) -> Result<(), SyncError> {
        let (run, series) = (self.run, self.series);
        let (Some(first), Some(last)) = (page.bars.first(), page.bars.last()) else {
            return Ok(());
        };
        let session = run.sessions.of(&series.symbol).await?;
        let mut clock = BarClock::new(session, series.interval);
        let fetched = check(series, page, &mut clock);
        let stored = run.database.bars().stretch(series, first.open_time, last.open_time).await?;
        let mut bars = OhlcvAggregate::new(series.clone(), stored);
        let live = run.live.of(&series.symbol);
        let known = if live.tracked {
            // Its forming bar is the feed's; what was fetched of it counts as unchanged.
            fetched.iter().filter(|bar| bar.finished).copied().collect()
        } else {
            fetched.clone()
        };
        let mut diff = bars.merge(&known);
        diff.unchanged += u64::try_from(fetched.len() - known.len()).unwrap_or_default();
        if !diff.is_empty() {
            let now = Timestamp::now();
            run.cache.begin_write(series).await;
            let stored = run.database.bars();
            let written = stored.write_logged(series, &diff, live.logged_from, now).await;
            run.cache.finish_write(series).await;
            if !written?.is_empty() {
                run.live.logged();
            }
            bars.events(&diff, now).into_iter().for_each(|event| run.events.publish(event));
        }
        let total = |bars: &[_]| u64::try_from(bars.len()).unwrap_or(u64::MAX);
        let report = &mut self.report;
        report.bars_fetched += u64::try_from(page.bars.len()).unwrap_or(u64::MAX);
        let rejected = u64::try_from(page.bars.len() - fetched.len()).unwrap_or(u64::MAX);
        report.bars_rejected += rejected;
        report.bars_inserted += total(&diff.inserted);
        report.bars_updated += total(&diff.updated);
        report.bars_unchanged += diff.unchanged;
        for (kind, bars) in [
            ("inserted", total(&diff.inserted)),
            ("updated", total(&diff.updated)),
            ("unchanged", diff.unchanged),
            ("rejected", rejected),
        ] {
            SYNC_BARS.with([kind]).increment(bars);
        }
        Ok(())
    }
}

/// The bars of `page` that are bars. Whether one is finished is for the provider's clock to say.
fn check(series: &Series, page: &HistoryPage, clock: &mut BarClock) -> Vec<FetchedBar> {
    let mut fetched = Vec::with_capacity(page.bars.len());
    let mut rejected = None;
    for bar in &page.bars {
        match Ohlcv::new(bar.open, bar.high, bar.low, bar.close, bar.volume) {
            Ok(values) => {
                let range = clock.bounds_of(bar.open_time);
                let finished = range.is_over(page.server_time);
                fetched.push(FetchedBar { range, values, finished });
            }
            Err(reason) => rejected = rejected.or(Some((bar.open_time, reason))),
        }
    }
    if let Some((open_time, reason)) = rejected {
        let bars_rejected = page.bars.len() - fetched.len();
        warn!(
            %series, bars_rejected, %open_time, error = %reason,
            "rejected {bars_rejected} bars of {series}; the first opens at {open_time}: {reason}"
        );
    }
    fetched
}
