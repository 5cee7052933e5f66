//! Protobuf to queries, statuses to protobuf.

use super::limits::limits;
use super::{
    GetHealth, GetServerInfo, GetSyncStatus, Health, ListSyncStatuses, ServerInfo, SyncStatusPage,
};
use crate::common::error::{FieldViolations, InvalidFields};
use crate::common::health::{DependencyReport, HealthState};
use crate::domain::shared::{Interval, Series, Symbol};
use crate::domain::sync::{SyncState, SyncStatus};
use crate::features::market_data::ReadError;
use crate::features::market_data::page_token::{self, PageTokenInvalid};
use crate::features::market_data::wire::{
    ReadFields as _, count, duration, interval, page_size, sync_state, timestamp,
};
use crate::infrastructure::persistence::SyncStatusFilter;
use crate::proto::v1 as pb;

/// This build's version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

impl TryFrom<pb::GetSyncStatusRequest> for GetSyncStatus {
    type Error = InvalidFields;

    fn try_from(request: pb::GetSyncStatusRequest) -> Result<Self, InvalidFields> {
        let mut violations = FieldViolations::default();
        let series = violations.series(&request.symbol, request.interval);
        violations.finish(series.map(|series| Self { series }))
    }
}

impl From<SyncStatus> for pb::SyncStatus {
    fn from(status: SyncStatus) -> Self {
        Self {
            symbol: status.series.symbol.to_string(),
            interval: interval(status.series.interval).into(),
            state: sync_state(status.state).into(),
            bar_count: count(status.bar_count),
            last_sync_time: status.last_sync_at.map(timestamp),
            last_bar_time: status.last_bar_at.map(timestamp),
            error_message: status.error_message.unwrap_or_default(),
        }
    }
}

impl TryFrom<pb::ListSyncStatusesRequest> for ListSyncStatuses {
    type Error = ReadError;

    fn try_from(request: pb::ListSyncStatusesRequest) -> Result<Self, ReadError> {
        let mut violations = FieldViolations::default();
        let exchange = violations.exchange(request.exchange);
        let wanted = request.state.map(state_from_pb);
        if wanted == Some(None) {
            violations.push("state", "must be SYNC_STATE_PENDING, _SYNCING, _COMPLETED or _ERROR");
        }
        let page_size = page_size(&mut violations, request.page_size);
        violations.into_result()?;
        let filter = SyncStatusFilter { exchange, state: wanted.flatten() };
        let position = page_token::decode(&binding(&filter), &request.page_token)?;
        let after = position.map(|position| series(&position)).transpose()?;
        Ok(Self { filter, page_size, after })
    }
}

impl From<SyncStatusPage> for pb::ListSyncStatusesResponse {
    fn from(page: SyncStatusPage) -> Self {
        let last = page.statuses.last().filter(|_| page.more);
        let next = last.map(|status| {
            page_token::encode(&binding(&page.query.filter), &status.series.to_string())
        });
        Self {
            next_page_token: next.unwrap_or_default(),
            statuses: page.statuses.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<pb::GetHealthRequest> for GetHealth {
    fn from(_: pb::GetHealthRequest) -> Self {
        Self
    }
}

impl From<Health> for pb::GetHealthResponse {
    fn from(health: Health) -> Self {
        Self {
            status: health_status(health.report.state).into(),
            version: VERSION.to_owned(),
            environment: health.environment.to_owned(),
            dependencies: health.report.dependencies.into_iter().map(dependency).collect(),
        }
    }
}

impl From<pb::GetServerInfoRequest> for GetServerInfo {
    fn from(_: pb::GetServerInfoRequest) -> Self {
        Self
    }
}

impl From<ServerInfo> for pb::GetServerInfoResponse {
    fn from(server: ServerInfo) -> Self {
        Self {
            version: VERSION.to_owned(),
            engines: Some(pb::Engines {
                database: server.database.to_owned(),
                cache: server.cache.to_owned(),
                provider: server.provider.to_owned(),
            }),
            intervals: Interval::ALL.into_iter().map(interval_info).collect(),
            limits: limits()
                .map(|(name, value)| pb::Limit { name: name.to_owned(), value })
                .collect(),
        }
    }
}

fn dependency(report: DependencyReport) -> pb::DependencyHealth {
    pb::DependencyHealth {
        name: report.name.to_owned(),
        status: health_status(report.state).into(),
        latency: report.latency.map(duration),
        error: report.error.unwrap_or_default(),
    }
}

fn interval_info(each: Interval) -> pb::IntervalInfo {
    let alignment = match each {
        Interval::D1 => "one trading day, from its session's open to its close",
        Interval::W1 => {
            "from the open of the week's first session (Monday's week) to the close of its last"
        }
        Interval::Mo1 => "from the open of the month's first session to the close of its last",
        Interval::M1
        | Interval::M3
        | Interval::M5
        | Interval::M15
        | Interval::M30
        | Interval::M45
        | Interval::H1
        | Interval::H2
        | Interval::H3
        | Interval::H4 => {
            "from the open of each range of the trading session; around the clock in UTC where the session is not known (GetSymbol says so)"
        }
    };
    let days = (each == Interval::Mo1).then_some(30 * 86_400);
    let seconds = days.unwrap_or_else(|| each.nominal_length().as_secs());
    pb::IntervalInfo {
        interval: interval(each).into(),
        seconds: count(seconds),
        alignment: alignment.to_owned(),
    }
}

const fn health_status(state: HealthState) -> pb::HealthStatus {
    match state {
        HealthState::Unknown => pb::HealthStatus::Unspecified,
        HealthState::Serving => pb::HealthStatus::Serving,
        HealthState::Degraded => pb::HealthStatus::Degraded,
        HealthState::NotServing => pb::HealthStatus::NotServing,
        HealthState::Disabled => pb::HealthStatus::Disabled,
    }
}

fn state_from_pb(value: i32) -> Option<SyncState> {
    let value = pb::SyncState::try_from(value).ok()?;
    SyncState::ALL.into_iter().find(|each| sync_state(*each) == value)
}

fn binding(filter: &SyncStatusFilter) -> [&str; 3] {
    let exchange = filter.exchange.as_deref().unwrap_or_default();
    ["sync_statuses", exchange, filter.state.map_or("", SyncState::as_str)]
}

/// The series that its text names.
fn series(text: &str) -> Result<Series, PageTokenInvalid> {
    let (symbol, interval) = text.split_once(' ').ok_or(PageTokenInvalid)?;
    let symbol = Symbol::parse(symbol).map_err(|_| PageTokenInvalid)?;
    Ok(Series::new(symbol, interval.parse().map_err(|_| PageTokenInvalid)?))
}
