//! Start a sync, and do not wait for it.

use super::{SyncError, SyncProgress, SyncService};
use crate::common::mediator::{Handler, Request};
use crate::domain::shared::Series;
use crate::infrastructure::interfaces::HistoryDepth;

/// Have a series copied in the background. It is written down when this answers: it goes on after
/// a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartSync {
    /// What to copy.
    pub series: Series,
    /// How far back.
    pub depth: HistoryDepth,
}

impl Request for StartSync {
    type Output = SyncProgress;
    type Error = SyncError;
    const NAME: &'static str = "market_data.start_sync";
}

pub(super) struct StartSyncHandler {
    pub(super) service: SyncService,
}

impl Handler<StartSync> for StartSyncHandler {
    async fn handle(&self, command: StartSync) -> Result<SyncProgress, SyncError> {
        self.service.start(command.series, command.depth)?.kept().await
    }
}
