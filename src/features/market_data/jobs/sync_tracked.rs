//! Fetches the newest bars of every series that was ever synced. One whose syncs have all failed,
//! such as a mistyped symbol's, is none.

use std::collections::HashSet;

use futures::{StreamExt as _, stream};
use tracing::warn;

use super::JobReport;
use crate::common::error::with_causes;
use crate::domain::job::JobOutcome;
use crate::domain::shared::{Interval, Series, Symbol};
use crate::domain::sync::SyncStatus;
use crate::features::market_data::sync::{SyncError, SyncService};
use crate::infrastructure::interfaces::HistoryDepth;
use crate::infrastructure::persistence::{Database, DatabaseError, SymbolFilter, SyncStatusFilter};

/// Series that are synced at the same time.
const AT_ONCE: usize = 4;
/// Rows that are read at a time.
const PAGE: u32 = 500;

/// What a sync of all tracked series works with.
#[derive(Clone, Debug)]
pub(super) struct SyncTracked {
    pub(super) database: Database,
    pub(super) syncs: SyncService,
    /// Only series of this interval.
    pub(super) interval: Option<Interval>,
    /// Bars a series.
    pub(super) bars: u32,
}

impl SyncTracked {
    /// Syncs each series; one that fails stops no other. A sync that is under way is joined.
    pub(super) async fn run(self) -> JobReport {
        let tracked = match self.tracked().await {
            Ok(tracked) => tracked,
            Err(error) => {
                warn!(error = with_causes(&error), "it cannot be read which series there are");
                return JobReport::new(JobOutcome::Failed, error.to_string());
            }
        };
        let total = tracked.len();
        let syncs = stream::iter(tracked).map(|series| self.sync(series)).buffer_unordered(AT_ONCE);
        let failed: Vec<(Series, SyncError)> =
            syncs.filter_map(|outcome| async { outcome.err() }).collect().await;
        let synced = total - failed.len();
        let failed = failed.into_iter().map(|(series, error)| format!("{series}: {error}"));
        JobReport::of_many(synced, format!("{synced} of {total} series synced"), failed)
    }

    /// Every series that was ever synced, but those of symbols that are switched off.
    async fn tracked(&self) -> Result<Vec<Series>, DatabaseError> {
        let inactive = self.inactive().await?;
        let (statuses, mut tracked) = (self.database.sync_statuses(), Vec::new());
        let mut after: Option<Series> = None;
        loop {
            let filter = SyncStatusFilter::default();
            let page = statuses.list(&filter, after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(tracked) };
            after = Some(last.series.clone());
            let wanted = |status: &SyncStatus| {
                let series = &status.series;
                status.was_ever_synced()
                    && self.interval.is_none_or(|interval| series.interval == interval)
                    && !inactive.contains(&series.symbol)
            };
            tracked.extend(page.into_iter().filter(wanted).map(|status| status.series));
        }
    }

    async fn inactive(&self) -> Result<HashSet<Symbol>, DatabaseError> {
        let (symbols, mut inactive) = (self.database.symbols(), HashSet::new());
        let filter = SymbolFilter { exchange: None, active: Some(false) };
        let mut after: Option<Symbol> = None;
        loop {
            let page = symbols.list(&filter, after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(inactive) };
            after = Some(last.symbol.clone());
            inactive.extend(page.into_iter().map(|info| info.symbol));
        }
    }

    async fn sync(&self, series: Series) -> Result<(), (Series, SyncError)> {
        let depth = HistoryDepth::Newest(self.bars);
        let synced = match self.syncs.start(series.clone(), depth) {
            Ok(ticket) => ticket.finished().await.map(|_| ()),
            Err(error) => Err(error),
        };
        synced.map_err(|error| (series, error))
    }
}
