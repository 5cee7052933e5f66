//! Ask how the sync of one series stands.

use crate::common::mediator::{Handler, Request};
use crate::domain::shared::Series;
use crate::domain::sync::SyncStatus;
use crate::features::market_data::ReadError;
use crate::infrastructure::persistence::Database;

/// How does the newest sync of `series` stand?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetSyncStatus {
    /// Which series.
    pub series: Series,
}

impl Request for GetSyncStatus {
    type Output = SyncStatus;
    type Error = ReadError;
    const NAME: &'static str = "market_data.get_sync_status";
}

pub(super) struct GetSyncStatusHandler {
    pub(super) database: Database,
}

impl Handler<GetSyncStatus> for GetSyncStatusHandler {
    async fn handle(&self, query: GetSyncStatus) -> Result<SyncStatus, ReadError> {
        let status = self.database.sync_statuses().get(&query.series).await?;
        status.ok_or_else(|| ReadError::not_synced(query.series, None))
    }
}
