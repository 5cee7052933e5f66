//! Removes what is no longer kept.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tracing::warn;

use super::JobReport;
use crate::common::error::with_causes;
use crate::infrastructure::persistence::{Database, DatabaseError};

/// How long it is known how a sync ended.
const SYNCS_KEPT_FOR: SignedDuration = SignedDuration::from_hours(24);
/// How long it is known what became of a webhook's deliveries.
const DELIVERIES_KEPT_FOR: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What is kept, and for how long.
#[derive(Clone, Debug)]
pub(super) struct Retention {
    pub(super) database: Database,
    /// How long the bar log keeps entries.
    pub(super) bar_log: Duration,
}

impl Retention {
    /// Removes the rest; one thing that fails stops no other.
    pub(super) async fn run(self) -> JobReport {
        let parts = [
            ("the bar log", self.bar_log().await),
            ("ended syncs", self.syncs().await),
            ("deliveries to webhooks", self.deliveries().await),
        ];
        let total = parts.len();
        let mut failed = Vec::new();
        for (part, done) in parts {
            if let Err(error) = done {
                warn!(error = with_causes(&error), "what is old could not be removed from {part}");
                failed.push(format!("{part}: {error}"));
            }
        }
        let done = total - failed.len();
        JobReport::of_many(
            done,
            format!("what is old is removed from {done} of {total} places"),
            failed.into_iter(),
        )
    }

    async fn bar_log(&self) -> Result<(), DatabaseError> {
        let before = Timestamp::now().saturating_sub(self.bar_log);
        let before = before.unwrap_or(Timestamp::UNIX_EPOCH);
        self.database.bar_log().trim(before).await.map(|_| ())
    }

    async fn syncs(&self) -> Result<(), DatabaseError> {
        let before = Timestamp::now().saturating_sub(SYNCS_KEPT_FOR);
        self.database.syncs().prune(before.unwrap_or(Timestamp::UNIX_EPOCH)).await
    }

    async fn deliveries(&self) -> Result<(), DatabaseError> {
        let before = Timestamp::now().saturating_sub(DELIVERIES_KEPT_FOR);
        let before = before.unwrap_or(Timestamp::UNIX_EPOCH);
        for webhook in self.database.webhooks().list().await? {
            self.database.webhook_outbox().prune(webhook.id, before).await?;
        }
        Ok(())
    }
}
