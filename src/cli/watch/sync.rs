//! `watch sync`: follow a sync that was started elsewhere.

use std::process::ExitCode;

use clap::Args;

use crate::cli::client::{Client, ClientOptions};
use crate::cli::follow_sync::follow_sync;
use crate::cli::progress::{moving, spinner};
use crate::cli::sync_report::{Outcome, print};

/// Follow a sync to its end
///
/// The id is what `sync --detach`, `StartSync` or `SyncSymbols` gave. Works for 24 hours after the end
/// too. The exit code is 1 where the sync failed.
#[derive(Debug, Args)]
pub(super) struct WatchSync {
    /// Which sync
    #[arg(value_name = "SYNC_ID")]
    sync_id: String,
    /// Print JSON: an array with one object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientOptions,
}

impl WatchSync {
    pub(super) async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        let client = Client::connect(self.client.or(outer)).await?;
        let shown = moving(spinner(String::new()));
        let result = follow_sync(&client, &self.sync_id, &shown).await;
        shown.finish_and_clear();
        let symbol = result.as_ref().map_or(self.sync_id, |result| result.symbol.clone());
        let interval = result.as_ref().map(|result| result.interval).unwrap_or_default();
        print(&[Outcome { symbol, interval, result }], self.json)
    }
}
