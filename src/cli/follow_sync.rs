//! Follows a sync of the server's to its end, over breaks of the connection.

use std::time::Duration;

use indicatif::ProgressBar;
use tokio::time::sleep;

use super::client::Client;
use super::failure::CallError;
use super::progress::synced;
use crate::proto::v1::sync_progress::Outcome;
use crate::proto::v1::{SyncProgress, SyncResult, WatchSyncRequest};

/// Times that a server which is away is asked again.
const TRIES: u32 = 30;
/// How long is waited between two of them.
const PAUSE: Duration = Duration::from_secs(1);

/// Shows how far the sync is until it ends; how it ended.
pub(super) async fn follow_sync(
    client: &Client,
    sync_id: &str,
    shown: &ProgressBar,
) -> Result<SyncResult, CallError> {
    let mut tries_left = TRIES;
    loop {
        match watch(client, sync_id, shown, &mut tries_left).await {
            Ok(ended) => return ended,
            Err(error) if is_away(&error) && tries_left > 0 => tries_left -= 1,
            Err(error) => return Err(error),
        }
        sleep(PAUSE).await;
    }
}

/// One call of `WatchSync`. The outer error is of the call, the inner one of the sync.
async fn watch(
    client: &Client,
    sync_id: &str,
    shown: &ProgressBar,
    tries_left: &mut u32,
) -> Result<Result<SyncResult, CallError>, CallError> {
    let request = client.request(WatchSyncRequest { sync_id: sync_id.to_owned() });
    let response = client.response(client.market_data().watch_sync(request)).await?;
    let metadata = response.metadata().clone();
    let mut steps = response.into_inner();
    while let Some(step) = client.next(&mut steps).await? {
        *tries_left = TRIES;
        show(shown, &step);
        match step.outcome {
            Some(Outcome::Result(result)) => return Ok(Ok(result)),
            Some(Outcome::Error(error)) => {
                return Ok(Err(CallError::inside(&error).of_call(&metadata)));
            }
            None => {}
        }
    }
    Err(CallError::gone("the server ended the call before the sync ended".to_owned()))
}

fn show(shown: &ProgressBar, step: &SyncProgress) {
    if !step.symbol.is_empty() && shown.message().is_empty() {
        shown.set_message(step.symbol.clone());
    }
    let number = |count: i32| u64::try_from(count).unwrap_or_default();
    synced(shown, number(step.bars_fetched), step.bars_expected.map(number));
}

/// Whether the server may be back soon.
fn is_away(error: &CallError) -> bool {
    error.broken || error.code == "UNAVAILABLE"
}
