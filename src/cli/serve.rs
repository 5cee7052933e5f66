//! `serve`: run the service.

use std::pin::pin;
use std::process::ExitCode;

use clap::Args;
use tracing::error;

use super::settings::SettingsArgs;
use crate::app::App;
use crate::common::config::help_text;
use crate::common::shutdown::stop_signal;

/// Run the service until SIGTERM or Ctrl-C
///
/// It keeps its bars in an embedded database under DATA_DIR, or in MongoDB where MONGODB_URL is
/// set, and serves gRPC on GRPC_ADDR. Logs go to stderr.
#[derive(Debug, Args)]
#[command(after_help = help_text())]
pub(super) struct Serve {
    #[command(flatten)]
    settings: SettingsArgs,
}

impl Serve {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let settings = self.settings.load()?;
        let mut stop = pin!(stop_signal());
        let app = tokio::select! {
            app = App::start(settings) => app?,
            stopped = &mut stop => return stopped.map(|()| ExitCode::SUCCESS).map_err(Into::into),
        };
        app.run(async move {
            if let Err(error) = stop.await {
                error!(%error, "signals cannot be heard; stopping");
            }
        })
        .await?;
        Ok(ExitCode::SUCCESS)
    }
}
