//! Protobuf to command, report to protobuf.

use std::collections::HashSet;

use bytes::Bytes;
use prost::Message as _;
use uuid::Uuid;

use super::{
    CancelSync, NotASymbol, StartSync, SymbolStep, SyncProgress, SyncReport, SyncStep, SyncSymbol,
    SyncSymbols, WatchSync,
};
use crate::common::constants::{MAX_SYNC_BAR_COUNT, MAX_SYNC_SYMBOLS};
use crate::common::error::{Coded, FieldViolations, InvalidFields};
use crate::common::grpc::to_rpc_status;
use crate::domain::shared::{Interval, Series, Symbol};
use crate::domain::sync::SyncState;
use crate::features::market_data::wire::{
    ReadFields as _, count, duration, interval, sync_state, timestamp,
};
use crate::infrastructure::interfaces::{HistoryDepth, HistoryEnd};
use crate::proto::v1 as pb;
use crate::proto::v1::sync_progress::Outcome;

impl TryFrom<pb::SyncSymbolRequest> for SyncSymbol {
    type Error = InvalidFields;

    fn try_from(request: pb::SyncSymbolRequest) -> Result<Self, InvalidFields> {
        let mut violations = FieldViolations::default();
        let series = violations.series(&request.symbol, request.interval);
        let depth = depth(&mut violations, request.bar_count, request.full_history);
        violations.finish(series.map(|series| Self { series, depth }))
    }
}

impl TryFrom<pb::StartSyncRequest> for StartSync {
    type Error = InvalidFields;

    fn try_from(request: pb::StartSyncRequest) -> Result<Self, InvalidFields> {
        let mut violations = FieldViolations::default();
        let series = violations.series(&request.symbol, request.interval);
        let depth = depth(&mut violations, request.bar_count, request.full_history);
        violations.finish(series.map(|series| Self { series, depth }))
    }
}

impl TryFrom<pb::SyncSymbolsRequest> for SyncSymbols {
    type Error = InvalidFields;

    fn try_from(request: pb::SyncSymbolsRequest) -> Result<Self, InvalidFields> {
        let mut violations = FieldViolations::default();
        if !(1..=MAX_SYNC_SYMBOLS).contains(&request.symbols.len()) {
            let given = request.symbols.len();
            violations.push("symbols", format!("must be 1 to {MAX_SYNC_SYMBOLS}, not {given}"));
        }
        let depth = depth(&mut violations, request.bar_count, request.full_history);
        let interval = violations.interval(request.interval);
        violations.finish(interval.map(|interval| {
            let symbols = symbols(request.symbols, interval);
            Self { symbols, interval, depth }
        }))
    }
}

impl TryFrom<pb::WatchSyncRequest> for WatchSync {
    type Error = InvalidFields;

    fn try_from(request: pb::WatchSyncRequest) -> Result<Self, InvalidFields> {
        sync_id(&request.sync_id).map(|sync_id| Self { sync_id })
    }
}

impl TryFrom<pb::CancelSyncRequest> for CancelSync {
    type Error = InvalidFields;

    fn try_from(request: pb::CancelSyncRequest) -> Result<Self, InvalidFields> {
        sync_id(&request.sync_id).map(|sync_id| Self { sync_id })
    }
}

impl From<SyncProgress> for pb::StartSyncResponse {
    fn from(progress: SyncProgress) -> Self {
        Self { sync_id: progress.sync_id.to_string(), state: sync_state(progress.state).into() }
    }
}

impl From<SyncProgress> for pb::SyncProgress {
    fn from(progress: SyncProgress) -> Self {
        let outcome = progress.outcome.map(|outcome| match outcome {
            Ok(report) => Outcome::Result(report.into()),
            Err(error) => failure(&error),
        });
        Self {
            sync_id: progress.sync_id.to_string(),
            symbol: progress.series.symbol.to_string(),
            interval: interval(progress.series.interval).into(),
            state: sync_state(progress.state).into(),
            bars_fetched: count(progress.bars_fetched),
            bars_expected: progress.bars_expected.map(|bars| count(bars.into())),
            pages: count(progress.pages.into()),
            elapsed: Some(duration(progress.elapsed)),
            outcome,
        }
    }
}

impl From<SyncStep> for pb::SyncProgress {
    fn from(step: SyncStep) -> Self {
        match step {
            SyncStep::Seen(progress) => (*progress).into(),
            SyncStep::Kept(progress) => Self::decode(progress).unwrap_or_default(),
        }
    }
}

impl From<SymbolStep> for pb::SyncProgress {
    fn from(step: SymbolStep) -> Self {
        match step {
            SymbolStep::Sync(progress) => progress.into(),
            SymbolStep::Invalid(NotASymbol { text, reason, interval }) => {
                refused(text, interval, failure(&reason))
            }
            SymbolStep::Refused(Series { symbol, interval }, error) => {
                refused(symbol.to_string(), interval, failure(&error))
            }
        }
    }
}

/// How a sync ended, as it is kept.
pub(super) fn encode(progress: SyncProgress) -> Bytes {
    pb::SyncProgress::from(progress).encode_to_vec().into()
}

fn refused(symbol: String, length: Interval, outcome: Outcome) -> pb::SyncProgress {
    pb::SyncProgress {
        symbol,
        interval: interval(length).into(),
        state: sync_state(SyncState::Error).into(),
        outcome: Some(outcome),
        ..pb::SyncProgress::default()
    }
}

/// What a call that failed so would have ended with.
fn failure(error: &dyn Coded) -> Outcome {
    Outcome::Error(to_rpc_status(error))
}

fn depth(violations: &mut FieldViolations, bars: Option<i32>, full_history: bool) -> HistoryDepth {
    if full_history && bars.is_some() {
        violations.push("bar_count", "must be absent where full_history is set");
    }
    let most = MAX_SYNC_BAR_COUNT;
    let bars = violations.count("bar_count", bars, most, most);
    if full_history { HistoryDepth::Full } else { HistoryDepth::Newest(bars) }
}

/// Each symbol once.
fn symbols(texts: Vec<String>, interval: Interval) -> Vec<Result<Symbol, NotASymbol>> {
    let mut seen = HashSet::new();
    let parse = |(index, text): (usize, String)| match Symbol::parse(&text) {
        Ok(symbol) => seen.insert(symbol.clone()).then_some(Ok(symbol)),
        Err(error) => {
            let mut violations = FieldViolations::default();
            violations.push(format!("symbols[{index}]"), error.to_string());
            let reason = violations.finish(None::<()>).err()?;
            Some(Err(NotASymbol { text, reason, interval }))
        }
    };
    texts.into_iter().enumerate().filter_map(parse).collect()
}

fn sync_id(text: &str) -> Result<Uuid, InvalidFields> {
    let mut violations = FieldViolations::default();
    let id = text.parse::<Uuid>().ok();
    if id.is_none() {
        violations.push("sync_id", "must be the id that StartSync or SyncSymbols gave");
    }
    violations.finish(id)
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
