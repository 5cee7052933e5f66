//! Protobuf to command, report to protobuf.

use super::{SyncReport, SyncSymbol};
use crate::common::constants::MAX_SYNC_BAR_COUNT;
use crate::common::error::{FieldViolations, InvalidFields};
use crate::features::market_data::wire::{ReadFields as _, count, duration, interval, timestamp};
use crate::infrastructure::interfaces::{HistoryDepth, HistoryEnd};
use crate::proto::v1 as pb;

impl TryFrom<pb::SyncSymbolRequest> for SyncSymbol {
    type Error = InvalidFields;

    fn try_from(request: pb::SyncSymbolRequest) -> Result<Self, InvalidFields> {
        let mut violations = FieldViolations::default();
        let series = violations.series(&request.symbol, request.interval);
        if request.full_history && request.bar_count.is_some() {
            violations.push("bar_count", "must be absent where full_history is set");
        }
        let most = MAX_SYNC_BAR_COUNT;
        let bars = violations.count("bar_count", request.bar_count, most, most);
        let depth =
            if request.full_history { HistoryDepth::Full } else { HistoryDepth::Newest(bars) };
        violations.finish(series.map(|series| Self { series, depth }))
    }
}

impl From<SyncReport> for pb::SyncResult {
    fn from(report: SyncReport) -> Self {
        let history_end = report.history_end.map(|end| match end {
            HistoryEnd::End => pb::HistoryEnd::End.into(),
            HistoryEnd::Limit => pb::HistoryEnd::Limit.into(),
        });
        Self {
            symbol: report.series.symbol.to_string(),
            interval: interval(report.series.interval).into(),
            state: pb::SyncState::Completed.into(),
            bars_fetched: count(report.bars_fetched),
            bars_inserted: count(report.bars_inserted),
            bars_updated: count(report.bars_updated),
            bars_unchanged: count(report.bars_unchanged),
            bars_rejected: count(report.bars_rejected),
            total_bars: count(report.total_bars),
            first_bar_time: report.first_bar_at.map(timestamp),
            last_bar_time: report.last_bar_at.map(timestamp),
            elapsed: Some(duration(report.elapsed)),
            history_end,
        }
    }
}
