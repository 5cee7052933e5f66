//! Repairs gaps: finds them, syncs back to the oldest, and says what came of it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use tracing::{info, warn};

use super::repair_error::RepairError;
use super::survey::Survey;
use crate::common::error::with_causes;
use crate::domain::coverage::{Cells, CoverageReason, Segment, TimeRange};
use crate::domain::ohlcv::BarRange;
use crate::domain::shared::{Interval, Series};
use crate::domain::sync::SyncStatus;
use crate::features::market_data::sync::{SyncReport, SyncService};
use crate::features::market_data::{CoverageLedger, LiveSeries, ReadError, Sessions};
use crate::infrastructure::interfaces::{HistoryDepth, HistoryEnd};
use crate::infrastructure::persistence::{Database, DatabaseError, SyncStatusFilter};

/// Bars that are asked for by their number; for more, all that the provider has.
const MOST_BARS: usize = 100_000;
/// Rows that are read at a time.
const PAGE: u32 = 500;

/// What a repair did.
#[derive(Clone, Debug, PartialEq)]
pub struct GapRepair {
    /// What was fetched; nothing where nothing was missing.
    pub report: SyncReport,
    /// What was missing and is not any more, as it is now.
    pub repaired: Vec<Segment>,
}

/// What a repair of all series did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairSweep {
    /// Series that were looked at.
    pub series: u32,
    /// Series of which something was missing and is not any more.
    pub repaired: u32,
    /// Bars that were not stored before.
    pub bars_inserted: u64,
    /// Series that could not be repaired, and why.
    pub failed: Vec<(Series, String)>,
}

/// Repairs gaps. Cheap to clone.
#[derive(Clone, Debug)]
pub struct GapRepairs {
    survey: Survey,
    syncs: SyncService,
}

impl GapRepairs {
    /// Reads what is missing from `database` and `ledger`, and fetches it with `syncs`.
    pub const fn new(
        database: Database,
        sessions: Sessions,
        live: LiveSeries,
        ledger: CoverageLedger,
        syncs: SyncService,
    ) -> Self {
        Self { survey: Survey { database, sessions, live, ledger }, syncs }
    }

    pub(super) const fn survey(&self) -> &Survey {
        &self.survey
    }

    /// Asks the provider for the bars of `series` in `range` whose absence has a reason that
    /// `is_wanted`. A cell that is not over yet is left alone. Where the provider is away, the
    /// gaps stay what they are.
    pub async fn repair(
        &self,
        series: &Series,
        range: TimeRange,
        is_wanted: impl Fn(CoverageReason) -> bool,
    ) -> Result<GapRepair, RepairError> {
        let now = Timestamp::now();
        let missing = match self.past(series, range, now).await? {
            Some(past) => self.survey.segments(series, past, VecDeque::new()).await?,
            None => Vec::new(),
        };
        let missing: Vec<_> = missing.into_iter().filter(|each| is_wanted(each.reason)).collect();
        let (Some(first), Some(last)) = (missing.first(), missing.last()) else {
            return Ok(GapRepair { report: self.nothing(series).await?, repaired: Vec::new() });
        };
        let depth = self.depth(series, first.range.open(), now).await?;
        let report = self.syncs.start(series.clone(), depth)?.finished().await?;
        if report.history_end == Some(HistoryEnd::End) {
            self.note_end(series, first.range.open(), now).await?;
        }
        let whole = BarRange::new(first.range.open(), last.range.close()).unwrap_or(range);
        let bounds = missing.iter().flat_map(|each| [each.range.open(), each.range.close()]);
        let after = self.survey.segments(series, whole, bounds.collect()).await?;
        let was_missing = |each: &Segment| {
            let at = missing.partition_point(|gap| gap.range.close() <= each.range.open());
            missing.get(at).is_some_and(|gap| gap.range.open() <= each.range.open())
        };
        let is_repaired = |each: &Segment| was_missing(each) && !each.reason.is_gap();
        let repaired: Vec<_> = after.into_iter().filter(is_repaired).collect();
        info!(%series, count = repaired.len(), "repaired {} gaps of {series}", repaired.len());
        Ok(GapRepair { report, repaired })
    }

    /// Repairs what was missed since `since` while the feed was away, of every series that is
    /// synced or whose symbol is subscribed. One that fails stops no other.
    pub async fn repair_all(&self, since: Timestamp) -> Result<RepairSweep, DatabaseError> {
        let mut sweep = RepairSweep::default();
        let Some(range) = BarRange::new(since, Timestamp::now()) else { return Ok(sweep) };
        for series in self.tracked().await? {
            sweep.series += 1;
            match self.repair(&series, range, |reason| reason == CoverageReason::FeedDown).await {
                Ok(GapRepair { report, repaired }) => {
                    sweep.repaired += u32::from(!repaired.is_empty());
                    sweep.bars_inserted += report.bars_inserted;
                }
                Err(error) => {
                    let error = with_causes(&error);
                    warn!(%series, error, "the gaps of {series} could not be repaired");
                    sweep.failed.push((series, error));
                }
            }
        }
        Ok(sweep)
    }

    /// The series that are kept current, in order.
    async fn tracked(&self) -> Result<BTreeSet<Series>, DatabaseError> {
        let mut tracked = BTreeSet::new();
        let (database, mut after) = (&self.survey.database, None);
        loop {
            let page = database.subscriptions().list(after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.symbol.clone());
            for each in page {
                let of = |interval| Series::new(each.symbol.clone(), interval);
                tracked.extend(Interval::ALL.map(of));
            }
        }
        let (filter, mut after) = (SyncStatusFilter::default(), None);
        loop {
            let page = database.sync_statuses().list(&filter, after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(tracked) };
            after = Some(last.series.clone());
            let synced = page.into_iter().filter(SyncStatus::was_ever_synced);
            tracked.extend(synced.map(|status| status.series));
        }
    }

    /// The part of `range` whose cells are over.
    async fn past(
        &self,
        series: &Series,
        range: TimeRange,
        now: Timestamp,
    ) -> Result<Option<TimeRange>, ReadError> {
        let session = self.survey.sessions.of(&series.symbol).await?;
        let soon = now.saturating_add(series.interval.nominal_length()).unwrap_or(Timestamp::MAX);
        let unfinished = Cells::new(session, series.interval, now, soon).next();
        let end = unfinished.map_or(now, |cell| cell.range.open());
        Ok(BarRange::new(range.open(), range.close().min(end)))
    }

    /// How many bars reach back to `oldest`.
    async fn depth(
        &self,
        series: &Series,
        oldest: Timestamp,
        now: Timestamp,
    ) -> Result<HistoryDepth, ReadError> {
        let session = self.survey.sessions.of(&series.symbol).await?;
        let cells = Cells::new(Arc::clone(&session), series.interval, oldest, now);
        let bars = cells.filter(|cell| cell.bar.is_some()).take(MOST_BARS).count();
        if bars == MOST_BARS {
            return Ok(HistoryDepth::Full);
        }
        // Bars off the grid come in addition.
        let bars = bars + bars / 10 + 10;
        Ok(u32::try_from(bars).map_or(HistoryDepth::Full, HistoryDepth::Newest))
    }

    /// The provider has nothing older, so it has answered all from `oldest` on.
    async fn note_end(
        &self,
        series: &Series,
        oldest: Timestamp,
        now: Timestamp,
    ) -> Result<(), DatabaseError> {
        let asked = self.survey.ledger.facts(series, now).await?.asked;
        match asked.end().and_then(|end| BarRange::new(oldest, end)) {
            Some(answered) => self.survey.ledger.answered(series, answered).await,
            None => Ok(()),
        }
    }

    /// The report of a repair that had nothing to do.
    async fn nothing(&self, series: &Series) -> Result<SyncReport, DatabaseError> {
        let summary = self.survey.database.bars().summary(series).await?;
        Ok(SyncReport::of_nothing(series.clone(), &summary))
    }
}
