//! Where bars, symbols and sync statuses are kept, and the cache in front of them.
//!
//! Two engines each, chosen by the settings: MongoDB or SQLite, Redis or memory. It does not
//! know what a sync is, nor who reads.

mod bar_log;
mod bars;
pub mod cache;
mod calls;
mod coverage;
mod database;
mod error;
mod export;
mod feed_state;
mod idempotency;
mod job_runs;
mod mongodb;
mod sqlite;
mod subscriptions;
mod symbols;
mod sync_statuses;
mod syncs;
mod webhook_outbox;
mod webhooks;

use jiff::Timestamp;

pub use bar_log::{BarLog, LogBar, LogFilter, LogHead, LogPage};
pub use bars::{BarOrder, BarQuery, Bars, SeriesSummary};
pub use cache::{Cache, CacheConfig, CacheError, CacheRead, ReadTicket, SeriesCache};
pub use coverage::{Coverage, CoverageRecord};
pub use database::{Database, DatabaseConfig};
pub use error::{Cause, DatabaseError};
pub use export::{BarColumns, BarStream};
pub use feed_state::FeedState;
pub use idempotency::IdempotencyRecords;
pub use job_runs::{Claim, JobEnd, JobRun, JobRuns};
pub use subscriptions::{Subscribed, Subscriptions};
pub use symbols::{SymbolFilter, Symbols};
pub use sync_statuses::{SyncStatusFilter, SyncStatuses};
pub use syncs::{Lease, SyncCounts, SyncRecord, Syncs};
pub use webhook_outbox::{
    Delivery, DeliveryPlace, DeliveryState, NewDelivery, OutboxSize, Settled, WebhookOutbox,
};
pub use webhooks::{Webhook, Webhooks};

/// The first whole millisecond at or after `time`: how a bound on stored times is asked for.
fn millisecond_from(time: Timestamp) -> i64 {
    let below = millisecond_before(time);
    if time.as_nanosecond().rem_euclid(1_000_000) == 0 { below } else { below + 1 }
}

/// The last whole millisecond at or before `time`: how a time is stored.
fn millisecond_before(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond().div_euclid(1_000_000)).unwrap_or_default()
}

/// A price as it is stored: SQLite knows no negative zero, so no engine keeps one.
fn stored_number(value: f64) -> f64 {
    value + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_between_milliseconds_take_in_the_right_ones() {
        for (nanoseconds, from, before) in
            [(0, 0, 0), (1, 1, 0), (999_999, 1, 0), (1_000_000, 1, 1), (-1, 0, -1)]
        {
            let time = Timestamp::from_nanosecond(nanoseconds).unwrap();
            assert_eq!((millisecond_from(time), millisecond_before(time)), (from, before));
        }
    }
}
