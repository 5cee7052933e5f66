//! Follow a sync to its end.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use tokio::time::sleep;
use uuid::Uuid;

use super::{SyncError, SyncProgress, SyncService};
use crate::common::mediator::{Handler, Request};
use crate::infrastructure::persistence::SyncRecord;

/// How often the database is asked for a sync that another process runs.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How far a sync is, then each step to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchSync {
    /// Which sync.
    pub sync_id: Uuid,
}

/// A step of a sync.
#[derive(Clone, Debug)]
pub enum SyncStep {
    /// As this process saw it.
    Seen(Box<SyncProgress>),
    /// As it was written down when the sync ended.
    Kept(Bytes),
}

/// The steps, the newest first of all.
pub type SyncSteps = BoxStream<'static, Result<SyncStep, SyncError>>;

impl Request for WatchSync {
    type Output = SyncSteps;
    type Error = SyncError;
    const NAME: &'static str = "market_data.watch_sync";
}

pub(super) struct WatchSyncHandler {
    pub(super) service: SyncService,
}

impl Handler<WatchSync> for WatchSyncHandler {
    async fn handle(&self, query: WatchSync) -> Result<SyncSteps, SyncError> {
        let WatchSync { sync_id } = query;
        if let Some(ticket) = self.service.ticket(sync_id) {
            return Ok(ticket.steps().map(|step| Ok(SyncStep::Seen(step.into()))).boxed());
        }
        let record = self.service.record(sync_id).await?;
        Ok(elsewhere(self.service.clone(), record).boxed())
    }
}

/// The steps of a sync that runs in another process, or is over.
fn elsewhere(
    service: SyncService,
    record: SyncRecord,
) -> impl futures::Stream<Item = Result<SyncStep, SyncError>> {
    let sync_id = record.sync_id;
    stream::unfold((service, Some(record), None), move |(service, record, shown)| async move {
        let mut record = record?;
        while record.ended.is_none() && shown.as_ref() == Some(&record) {
            sleep(LOOK_EVERY).await;
            match service.record(sync_id).await {
                Ok(now) => record = now,
                Err(error) => return Some((Err(error), (service, None, None))),
            }
        }
        let step = step(&record);
        let next = record.ended.is_none().then(|| record.clone());
        Some((Ok(step), (service, next, Some(record))))
    })
}

/// What `record` says.
pub(super) fn step(record: &SyncRecord) -> SyncStep {
    match &record.ended {
        Some((_, outcome)) => SyncStep::Kept(outcome.clone()),
        None => SyncStep::Seen(SyncProgress::of(record, Timestamp::now()).into()),
    }
}
