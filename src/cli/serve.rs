//! `serve`: run the service.

use std::pin::pin;
use std::process::ExitCode;

use clap::Args;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::INTERRUPTED;
use super::settings::SettingsArgs;
use crate::app::App;
use crate::common::config::help_text;
use crate::common::shutdown::StopSignals;

/// Run the service until SIGTERM or Ctrl-C
///
/// It keeps its bars in an embedded database under DATA_DIR, or in MongoDB where MONGODB_URL is
/// set, and serves gRPC on GRPC_ADDR. Logs go to stderr.
#[derive(Debug, Args)]
#[command(after_help = help_text())]
#[expect(clippy::doc_markdown, reason = "clap shows it as it is")]
pub(super) struct Serve {
    #[command(flatten)]
    settings: SettingsArgs,
}

impl Serve {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let settings = self.settings.load()?;
        let mut signals = StopSignals::listen()?;
        let app = tokio::select! {
            app = App::start(settings) => app?,
            () = signals.next() => return Ok(ExitCode::SUCCESS),
        };
        let (stop, stopping) = oneshot::channel::<()>();
        let mut running = pin!(app.run(async move { drop(stopping.await) }));
        tokio::select! {
            ended = &mut running => return ended.map(|()| ExitCode::SUCCESS),
            () = signals.next() => info!("asked to stop; a second signal ends it at once"),
        }
        drop(stop);
        tokio::select! {
            ended = &mut running => ended.map(|()| ExitCode::SUCCESS),
            () = signals.next() => {
                warn!("asked to stop again: ending at once");
                Ok(ExitCode::from(INTERRUPTED))
            }
        }
    }
}
