//! Puts bars, ledger and calendar of a series together.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::yield_now;

use super::open_times::OpenTimes;
use crate::common::constants::{MAX_COVERAGE_CELLS, MAX_COVERAGE_SEGMENTS};
use crate::common::error::InvalidFields;
use crate::domain::coverage::{Cell, Cells, Segment, Segments, TimeRange};
use crate::domain::ohlcv::BarRange;
use crate::domain::shared::Series;
use crate::domain::symbol::TradingSession;
use crate::features::market_data::{CoverageLedger, LiveSeries, ReadError, Sessions};
use crate::infrastructure::persistence::{Database, DatabaseError};

/// Cells that are cut at a time; others get their turn in between.
const BATCH: usize = 4_096;
/// How far a cell reaches beyond its bar's length at most, in lengths: a closed week or month.
const LONGEST_CELL: u32 = 2;

/// Reads the coverage of series. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Survey {
    pub(super) database: Database,
    pub(super) sessions: Sessions,
    pub(super) live: LiveSeries,
    pub(super) ledger: CoverageLedger,
}

impl Survey {
    /// The segments of `series` in `range`; none ends where another begins at one of `cuts` but
    /// there. A range of too many cells or segments is the caller's mistake.
    pub(super) async fn segments(
        &self,
        series: &Series,
        range: TimeRange,
        cuts: VecDeque<Timestamp>,
    ) -> Result<Vec<Segment>, ReadError> {
        let now = Timestamp::now();
        // Before the bars: what was answered by now is stored.
        let facts = self.ledger.facts(series, now).await?;
        let session = self.sessions.of(&series.symbol).await?;
        let interval = series.interval;
        let mut cells = Cells::new(Arc::clone(&session), interval, range.open(), range.close());
        let forming = self.forming(series, &session, now).await?;
        let (mut times, mut left) = (None, MAX_COVERAGE_CELLS);
        let mut segments = Segments::new(range, interval, facts).cut_at(cuts);
        loop {
            let batch: Vec<Cell> = cells.by_ref().take(BATCH).collect();
            let (Some(first), Some(last)) = (batch.first(), batch.last()) else { break };
            left = left.checked_sub(batch.len()).ok_or_else(|| too_long(first.range.open()))?;
            let times = times.get_or_insert_with(|| {
                let read = to_read(series, first.range.open(), range.close());
                OpenTimes::new(&self.database, series, read, forming)
            });
            let bars = times.until(last.range.close()).await?;
            for cell in &batch {
                segments.take(cell, bars);
            }
            if segments.len() > MAX_COVERAGE_SEGMENTS {
                return Err(too_long(first.range.open()));
            }
            yield_now().await;
        }
        Ok(segments.finish())
    }

    /// When the bar of `series` opens that is not over: the feed's, as the feed of another process
    /// keeps it, or as it is stored. One whose time is over is no bar yet: what it came to is not
    /// known.
    async fn forming(
        &self,
        series: &Series,
        session: &TradingSession,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, DatabaseError> {
        if let Some(bar) = self.live.forming(series).await {
            return Ok(Some(bar.range.open()));
        }
        let is_forming = |open: &Timestamp| !session.bounds_of(series.interval, *open).is_over(now);
        let kept = self.live.kept(series).await?.map(|bar| bar.stored.open_time);
        if let Some(open) = kept.filter(is_forming) {
            return Ok(Some(open));
        }
        let newest = self.database.bars().newest(series).await?;
        let open = newest.filter(|bar| !bar.is_final()).map(|bar| bar.open_time);
        Ok(open.filter(is_forming))
    }
}

/// The open times that matter for cells from `from` on to the one that holds the end.
fn to_read(series: &Series, from: Timestamp, end: Timestamp) -> TimeRange {
    let reach = series.interval.nominal_length() * LONGEST_CELL + Duration::from_hours(24);
    let to = end.saturating_add(reach).unwrap_or(Timestamp::MAX);
    BarRange::new(from, to).unwrap_or_else(|| unreachable!("a range ends after it begins"))
}

fn too_long(fits: Timestamp) -> ReadError {
    let cells = MAX_COVERAGE_CELLS;
    let segments = MAX_COVERAGE_SEGMENTS;
    let description = format!(
        "is too far from start_time: at most {cells} bars and {segments} segments fit into an \
         answer; those to {fits} do"
    );
    InvalidFields::new("end_time", description).into()
}
