//! Fetches what was missed while the feed was down: every night, and after each outage.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::sleep;
use tracing::warn;

use super::{JobError, JobReport, JobService};
use crate::common::error::with_causes;
use crate::common::messaging::{Subscription, SubscriptionError};
use crate::domain::job::JobOutcome;
use crate::domain::shared::{DomainEvent, EventPayload};
use crate::features::market_data::coverage::GapRepairs;

/// How far back is looked for what was missed, by the machine's clock: a repair fetches all from the
/// oldest gap on, and what the provider no longer has would be asked for every night.
const BACK: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Outages of many symbols are told one after the other: this long is waited for the others.
const SETTLE: Duration = Duration::from_secs(2);

/// Repairs what was missed lately of every series that is kept current.
pub(super) async fn repair_missed(repairs: GapRepairs) -> JobReport {
    let since = Timestamp::now().saturating_sub(BACK).unwrap_or(Timestamp::UNIX_EPOCH);
    let sweep = match repairs.repair_all(since).await {
        Ok(sweep) => sweep,
        Err(error) => {
            warn!(error = with_causes(&error), "it cannot be read which series there are");
            return JobReport::new(JobOutcome::Failed, error.to_string());
        }
    };
    let (series, repaired, bars) = (sweep.series, sweep.repaired, sweep.bars_inserted);
    let what = format!("{repaired} of {series} series repaired, {bars} bars inserted");
    let series = usize::try_from(series).unwrap_or(usize::MAX);
    let done = series.saturating_sub(sweep.failed.len());
    let failed = sweep.failed.into_iter().map(|(series, error)| format!("{series}: {error}"));
    JobReport::of_many(done, what, failed)
}

/// When `event` was told, where it is that the feed was away.
pub fn outage(event: &DomainEvent) -> Option<Timestamp> {
    matches!(event.payload, EventPayload::GapDetected { .. }).then_some(event.time)
}

impl JobService {
    /// Until the service stops: runs the job `job_id` after each outage that `events` tell of, at
    /// the time that `outage` says. One run stands for all that were told before it began.
    pub async fn run_after_outages<E>(
        self,
        job_id: &str,
        mut events: Subscription<E>,
        outage: fn(&E) -> Option<Timestamp>,
    ) {
        let stopping = self.stopping();
        let mut covered = Timestamp::MIN;
        while let Some(told) = stopping.run_until_cancelled(events.next()).await {
            let at = match told {
                Ok(event) => outage(&event),
                // One of those that were missed may have been an outage.
                Err(SubscriptionError::Lagged { .. }) => Some(self.now()),
                Err(SubscriptionError::Closed) => return,
            };
            let Some(at) = at.filter(|at| *at > covered) else { continue };
            if stopping.run_until_cancelled(sleep(SETTLE)).await.is_none() {
                return;
            }
            match self.run_since(job_id, at).await {
                Ok(began) => covered = began,
                Err(error) => {
                    let error = with_causes(&error);
                    warn!(job_id, error, "`{job_id}` could not be run after an outage");
                }
            }
        }
    }

    /// Runs the job, unless another run of it has begun after `at`; answers when that began.
    async fn run_since(&self, job_id: &str, at: Timestamp) -> Result<Timestamp, JobError> {
        let joined = self.run_now(job_id).await?;
        if joined.started_at > at {
            return Ok(joined.started_at);
        }
        Ok(self.run_now(job_id).await?.started_at)
    }
}
