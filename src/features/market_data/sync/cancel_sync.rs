//! End a sync before its time.

use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::watch_sync::{SyncStep, step};
use super::{SyncError, SyncService};
use crate::common::mediator::{Handler, Request};

/// How long is waited for another process that runs the sync.
const ELSEWHERE_WITHIN: Duration = Duration::from_secs(10);
/// How often that one's record is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// End a sync. What it has stored stays; one that is over already is left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CancelSync {
    /// Which sync.
    pub sync_id: Uuid,
}

impl Request for CancelSync {
    type Output = SyncStep;
    type Error = SyncError;
    const NAME: &'static str = "market_data.cancel_sync";
}

pub(super) struct CancelSyncHandler {
    pub(super) service: SyncService,
}

impl Handler<CancelSync> for CancelSyncHandler {
    async fn handle(&self, command: CancelSync) -> Result<SyncStep, SyncError> {
        let CancelSync { sync_id } = command;
        if let Some(ticket) = self.service.ticket(sync_id) {
            ticket.cancel();
            let last = ticket.steps().fold(None, |_, step| async { Some(step) }).await;
            return last.map(|last| SyncStep::Seen(last.into())).ok_or(SyncError::Crashed);
        }
        let mut record = self.service.record(sync_id).await?;
        if record.ended.is_none() {
            self.service.ask_to_cancel(sync_id).await?;
        }
        let give_up = Instant::now() + ELSEWHERE_WITHIN;
        while record.ended.is_none() && Instant::now() < give_up {
            sleep(LOOK_EVERY).await;
            record = self.service.record(sync_id).await?;
        }
        Ok(step(&record))
    }
}
