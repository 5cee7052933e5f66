//! `cancel`: end a sync before its time.

use std::process::ExitCode;

use clap::Args;
use tonic::Code;

use super::client::{Client, ClientOptions};
use super::names::sync_state_text;
use super::output::Output;
use crate::proto::v1::CancelSyncRequest;
use crate::proto::v1::sync_progress::Outcome;

/// End a sync that the server carries out; what it has stored stays
#[derive(Debug, Args)]
pub(super) struct Cancel {
    /// Which sync: the id that `sync --detach` printed
    #[arg(value_name = "SYNC_ID")]
    sync_id: String,
    #[command(flatten)]
    client: ClientOptions,
}

impl Cancel {
    pub(super) async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        let client = Client::connect(self.client.or(outer)).await?;
        let request = client.request(CancelSyncRequest { sync_id: self.sync_id });
        let ended = client.answer(client.market_data().cancel_sync(request)).await?;
        let mut output = Output::stdout();
        let how = match &ended.outcome {
            Some(Outcome::Error(status)) if status.code == i32::from(Code::Cancelled) => {
                "cancelled".to_owned()
            }
            Some(Outcome::Error(status)) => format!("failed before: {}", status.message),
            Some(Outcome::Result(_)) | None => sync_state_text(ended.state).to_owned(),
        };
        output.line(format!("{}: {how}, {} bars fetched", ended.symbol, ended.bars_fetched))?;
        output.finish()?;
        Ok(ExitCode::SUCCESS)
    }
}
