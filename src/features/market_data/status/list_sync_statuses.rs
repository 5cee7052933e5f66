//! List how the syncs of all series stand.

use crate::common::mediator::{Handler, Request};
use crate::domain::shared::Series;
use crate::domain::sync::SyncStatus;
use crate::features::market_data::ReadError;
use crate::infrastructure::persistence::{Database, SyncStatusFilter};

/// How do the syncs stand that `filter` lets through?
#[derive(Clone, Debug, PartialEq)]
pub struct ListSyncStatuses {
    /// Which series.
    pub filter: SyncStatusFilter,
    /// Rows a page.
    pub page_size: u32,
    /// The last series of the page before.
    pub after: Option<Series>,
}

/// A page of statuses, by exchange, code and interval.
#[derive(Clone, Debug, PartialEq)]
pub struct SyncStatusPage {
    /// What was asked.
    pub query: ListSyncStatuses,
    /// The statuses.
    pub statuses: Vec<SyncStatus>,
    /// Whether there are more.
    pub more: bool,
}

impl Request for ListSyncStatuses {
    type Output = SyncStatusPage;
    type Error = ReadError;
    const NAME: &'static str = "market_data.list_sync_statuses";
}

pub(super) struct ListSyncStatusesHandler {
    pub(super) database: Database,
}

impl Handler<ListSyncStatuses> for ListSyncStatusesHandler {
    async fn handle(&self, query: ListSyncStatuses) -> Result<SyncStatusPage, ReadError> {
        let limit = query.page_size.saturating_add(1);
        let rows = self.database.sync_statuses();
        let mut statuses = rows.list(&query.filter, query.after.as_ref(), limit).await?;
        let asked = usize::try_from(query.page_size).unwrap_or(usize::MAX);
        let more = statuses.len() > asked;
        statuses.truncate(asked);
        Ok(SyncStatusPage { query, statuses, more })
    }
}
