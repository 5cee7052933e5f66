//! Sync one series, and wait for the end.

use super::{SyncError, SyncReport, SyncService};
use crate::common::mediator::{Handler, Request};
use crate::domain::shared::Series;
use crate::infrastructure::interfaces::HistoryDepth;

/// Copy the newest bars of a series, or all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncSymbol {
    /// What to copy.
    pub series: Series,
    /// How far back.
    pub depth: HistoryDepth,
}

impl Request for SyncSymbol {
    type Output = SyncReport;
    type Error = SyncError;
    const NAME: &'static str = "market_data.sync_symbol";
}

pub(super) struct SyncSymbolHandler {
    pub(super) service: SyncService,
}

impl Handler<SyncSymbol> for SyncSymbolHandler {
    async fn handle(&self, command: SyncSymbol) -> Result<SyncReport, SyncError> {
        self.service.start(command.series, command.depth)?.finished().await
    }
}
