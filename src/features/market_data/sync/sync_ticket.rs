//! A sync that was asked for, in the hands of whoever waits for it.

use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{SyncError, SyncProgress, SyncReport};
use crate::infrastructure::interfaces::HistoryDepth;

/// A sync that was started or joined. Letting go of it does not stop the sync.
#[derive(Clone, Debug)]
pub struct SyncTicket {
    /// Which sync.
    pub sync_id: Uuid,
    pub(super) depth: HistoryDepth,
    pub(super) progress: watch::Receiver<SyncProgress>,
    /// Set once it is written down: from then on a crash does not lose it.
    pub(super) kept: watch::Receiver<bool>,
    pub(super) cancel: CancellationToken,
}

impl SyncTicket {
    /// Waits for the end.
    pub async fn finished(mut self) -> Result<SyncReport, SyncError> {
        let ended = self.progress.wait_for(|progress| progress.outcome.is_some()).await;
        let outcome = ended.ok().and_then(|progress| progress.outcome.clone());
        outcome.unwrap_or(Err(SyncError::Crashed))
    }

    /// Waits until it is written down, so that a crash does not lose it.
    pub async fn kept(mut self) -> Result<SyncProgress, SyncError> {
        if self.kept.wait_for(|kept| *kept).await.is_err() {
            // It could not be: how it ended says why.
            drop(self.progress.wait_for(|progress| progress.outcome.is_some()).await);
        }
        let progress = self.progress.borrow().clone();
        match progress.outcome {
            Some(Err(error)) => Err(error),
            Some(Ok(_)) | None => Ok(progress),
        }
    }

    /// Asks it to end. What is stored stays.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// How far it is, then each step, with the outcome as the last. A slow reader is shown the
    /// newest step instead of each.
    pub fn steps(self) -> BoxStream<'static, SyncProgress> {
        let steps = stream::unfold(Some((self.progress, true)), |state| async move {
            let (mut progress, first) = state?;
            if !first && progress.changed().await.is_err() {
                return None;
            }
            let step = progress.borrow_and_update().clone();
            let next = step.outcome.is_none().then_some((progress, false));
            Some((step, next))
        });
        steps.boxed()
    }
}
