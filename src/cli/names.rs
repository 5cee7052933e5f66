//! The contract's names as the command line writes them: `1h`, `closed`, `provider`.

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{ValueEnum, builder::ValueParser};

use crate::domain::shared::Interval;
use crate::proto::v1 as pb;

/// Reads an interval; a wrong one is answered with all there are.
pub(super) fn interval_parser() -> ValueParser {
    let names = PossibleValuesParser::new(Interval::ALL.map(Interval::as_str));
    names.try_map(|name| name.parse::<Interval>()).into()
}

/// An interval in the contract.
pub(super) const fn interval(interval: Interval) -> pb::Interval {
    match interval {
        Interval::M1 => pb::Interval::Interval1m,
        Interval::M3 => pb::Interval::Interval3m,
        Interval::M5 => pb::Interval::Interval5m,
        Interval::M15 => pb::Interval::Interval15m,
        Interval::M30 => pb::Interval::Interval30m,
        Interval::M45 => pb::Interval::Interval45m,
        Interval::H1 => pb::Interval::Interval1h,
        Interval::H2 => pb::Interval::Interval2h,
        Interval::H3 => pb::Interval::Interval3h,
        Interval::H4 => pb::Interval::Interval4h,
        Interval::D1 => pb::Interval::Interval1d,
        Interval::W1 => pb::Interval::Interval1w,
        Interval::Mo1 => pb::Interval::Interval1mo,
    }
}

/// The text of an interval that a server sent.
pub(super) fn interval_text(value: i32) -> &'static str {
    let known = Interval::ALL.into_iter().find(|each| interval(*each) as i32 == value);
    known.map_or("unknown", Interval::as_str)
}

/// The text of a bar's state.
pub(super) fn bar_state_text(value: i32) -> &'static str {
    match pb::BarState::try_from(value) {
        Ok(pb::BarState::Forming) => "forming",
        Ok(pb::BarState::Closed) => "closed",
        Ok(pb::BarState::Revised) => "revised",
        Ok(pb::BarState::Unspecified) | Err(_) => "unknown",
    }
}

/// The text of a bar's source.
pub(super) fn bar_source_text(value: i32) -> &'static str {
    match pb::BarSource::try_from(value) {
        Ok(pb::BarSource::Provider) => "provider",
        Ok(pb::BarSource::Ticks) => "ticks",
        Ok(pb::BarSource::Repair) => "repair",
        Ok(pb::BarSource::Unspecified) | Err(_) => "unknown",
    }
}

/// The text of a sync's state.
pub(super) fn sync_state_text(value: i32) -> &'static str {
    match pb::SyncState::try_from(value) {
        Ok(pb::SyncState::Pending) => "pending",
        Ok(pb::SyncState::Syncing) => "syncing",
        Ok(pb::SyncState::Completed) => "completed",
        Ok(pb::SyncState::Error) => "error",
        Ok(pb::SyncState::Unspecified) | Err(_) => "unknown",
    }
}

/// The text of how a run of a job ended.
pub(super) fn job_outcome_text(value: i32) -> &'static str {
    match pb::JobOutcome::try_from(value) {
        Ok(pb::JobOutcome::Running) => "running",
        Ok(pb::JobOutcome::Succeeded) => "succeeded",
        Ok(pb::JobOutcome::Partial) => "partial",
        Ok(pb::JobOutcome::Failed) => "failed",
        Ok(pb::JobOutcome::TimedOut) => "timed_out",
        Ok(pb::JobOutcome::Interrupted) => "interrupted",
        Ok(pb::JobOutcome::Unspecified) | Err(_) => "unknown",
    }
}

/// The text of how the feed is.
pub(super) fn connection_state_text(value: i32) -> &'static str {
    match pb::ConnectionState::try_from(value) {
        Ok(pb::ConnectionState::Stopped) => "stopped",
        Ok(pb::ConnectionState::Idle) => "idle",
        Ok(pb::ConnectionState::Connecting) => "connecting",
        Ok(pb::ConnectionState::Connected) => "connected",
        Ok(pb::ConnectionState::Reconnecting) => "reconnecting",
        Ok(pb::ConnectionState::Unspecified) | Err(_) => "unknown",
    }
}

/// The text of how a subscription is.
pub(super) fn subscription_state_text(value: i32) -> &'static str {
    match pb::SubscriptionState::try_from(value) {
        Ok(pb::SubscriptionState::Pending) => "pending",
        Ok(pb::SubscriptionState::Active) => "active",
        Ok(pb::SubscriptionState::Error) => "error",
        Ok(pb::SubscriptionState::Unspecified) | Err(_) => "unknown",
    }
}

/// Why a sync went no further back; nothing where older bars may exist.
pub(super) fn history_end_text(value: Option<i32>) -> Option<&'static str> {
    match pb::HistoryEnd::try_from(value?) {
        Ok(pb::HistoryEnd::End) => Some("end"),
        Ok(pb::HistoryEnd::Limit) => Some("limit"),
        Ok(pb::HistoryEnd::Unspecified) | Err(_) => None,
    }
}

/// The text of a reason for bars, or for none.
pub(super) fn coverage_reason_text(value: i32) -> &'static str {
    match pb::CoverageReason::try_from(value) {
        Ok(pb::CoverageReason::Data) => "data",
        Ok(pb::CoverageReason::MarketClosed) => "market_closed",
        Ok(pb::CoverageReason::ProviderEmpty) => "provider_empty",
        Ok(pb::CoverageReason::FeedDown) => "feed_down",
        Ok(pb::CoverageReason::NoTrades) => "no_trades",
        Ok(pb::CoverageReason::NotSynced) => "not_synced",
        Ok(pb::CoverageReason::Unspecified) | Err(_) => "unknown",
    }
}

/// How far the synchronisation of a series is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum StateFilter {
    /// Asked for, not begun.
    Pending,
    /// Under way.
    Syncing,
    /// The last sync succeeded.
    Completed,
    /// The last sync failed.
    Error,
}

impl StateFilter {
    /// The state in the contract.
    pub(super) const fn to_pb(self) -> pb::SyncState {
        match self {
            Self::Pending => pb::SyncState::Pending,
            Self::Syncing => pb::SyncState::Syncing,
            Self::Completed => pb::SyncState::Completed,
            Self::Error => pb::SyncState::Error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interval_has_its_own_name_in_the_contract() {
        for each in Interval::ALL {
            let expected = match each {
                Interval::Mo1 => "INTERVAL_1MO".to_owned(),
                Interval::M1
                | Interval::M3
                | Interval::M5
                | Interval::M15
                | Interval::M30
                | Interval::M45
                | Interval::H1
                | Interval::H2
                | Interval::H3
                | Interval::H4
                | Interval::D1
                | Interval::W1 => format!("INTERVAL_{}", each.as_str().to_uppercase()),
            };
            assert_eq!(interval(each).as_str_name(), expected);
            assert_eq!(interval_text(interval(each).into()), each.as_str());
        }
        assert_eq!(interval_text(0), "unknown");
    }
}
