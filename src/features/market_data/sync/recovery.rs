//! Goes on with syncs that a crash, a stop or another process left unfinished.

use jiff::Timestamp;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::SyncService;
use super::journal::RENEW_EVERY;
use crate::common::error::with_causes;
use crate::domain::shared::Series;
use crate::domain::sync::SyncState;
use crate::infrastructure::persistence::{Database, DatabaseError, SyncStatusFilter};

/// Statuses that are read at a time.
const PAGE: u32 = 500;

impl SyncService {
    /// Goes on with what a crash cut off. A status that says `syncing` without a sync becomes an
    /// error.
    pub async fn recover(&self) -> Result<(), DatabaseError> {
        self.take_over().await?;
        let running = self.database().syncs().unfinished().await?;
        let orphans = fail_orphans(self.database(), &running).await?;
        if orphans > 0 {
            warn!(count = orphans, "{orphans} syncs were interrupted when the service stopped");
        }
        Ok(())
    }

    /// Until the service stops: says that this process lives, ends what others asked to cancel,
    /// and goes on with what processes that died left behind.
    pub async fn look_after(self) {
        let stopping = self.stopping();
        let mut renew = interval(RENEW_EVERY);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_away = false;
        loop {
            if stopping.run_until_cancelled(renew.tick()).await.is_none() {
                return;
            }
            let done = async {
                for sync_id in self.journal().renew().await? {
                    if let Some(ticket) = self.ticket(sync_id) {
                        ticket.cancel();
                    }
                }
                self.take_over().await
            };
            let was_away = is_away;
            is_away = match done.await {
                Ok(()) => {
                    if was_away {
                        info!("the records of syncs are looked after again");
                    }
                    false
                }
                Err(error) => {
                    if !was_away {
                        let error = with_causes(&error);
                        warn!(error, "the records of syncs cannot be looked after; trying on");
                    }
                    true
                }
            };
        }
    }

    async fn take_over(&self) -> Result<(), DatabaseError> {
        for record in self.journal().take_over().await? {
            info!(series = %record.series, sync_id = %record.sync_id, "going on with a sync");
            self.resume(record);
        }
        Ok(())
    }
}

/// No sync of these runs, whatever their status says.
async fn fail_orphans(database: &Database, running: &[Series]) -> Result<u64, DatabaseError> {
    let (statuses, mut failed) = (database.sync_statuses(), 0);
    for state in [SyncState::Pending, SyncState::Syncing] {
        let filter = SyncStatusFilter { exchange: None, state: Some(state) };
        let mut after = None;
        loop {
            let page = statuses.list(&filter, after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.series.clone());
            for mut status in page {
                if running.contains(&status.series) {
                    continue;
                }
                status.interrupt();
                statuses.put(&status, Timestamp::now()).await?;
                failed += 1;
            }
        }
    }
    Ok(failed)
}
