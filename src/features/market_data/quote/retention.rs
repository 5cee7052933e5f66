//! Removes entries of the bar log that nobody can resume from any more.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::infrastructure::persistence::Database;

/// How often it is looked, at least.
const TRIM_EVERY: Duration = Duration::from_mins(1);

/// Removes what is older than `retention`, until the service stops.
pub(super) async fn run(database: Database, retention: Duration, stopping: CancellationToken) {
    let mut trim = interval(TRIM_EVERY.min(retention));
    trim.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stopping.run_until_cancelled(trim.tick()).await.is_some() {
        let Ok(before) = Timestamp::now().saturating_sub(retention) else { continue };
        if let Err(error) = database.bar_log().trim(before).await {
            warn!(%error, "old entries of the bar log could not be removed");
        }
    }
}
