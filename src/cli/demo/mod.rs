//! `demo`: a provider, a service and a client in one process, on real bars.
//!
//! The client half calls the service over gRPC as any other client would.

mod data;
mod live;
mod series;
mod tour;
mod world;

use std::pin::pin;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use crate::common::shutdown::stop_signal;
use tour::Tour;
use world::World;

/// Show everything at work on real bars, with nothing but this binary
///
/// Starts a simulated provider and the service in one process on a temporary folder, syncs a few
/// series over gRPC, reads them back page by page, and compares the counts with the files. Then it
/// replays recorded trades of a futures market, sixty times as fast, and shows the quotes and the
/// bars that close on them until Ctrl-C; the folder is removed at the end.
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// End after the first bars that closed; the exit code says whether every count and every bar
    /// is right
    #[arg(long)]
    once: bool,
    /// Log what the service does (level info; `LOG_LEVEL` says otherwise)
    #[arg(short, long)]
    verbose: bool,
}

impl Demo {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let folder = tempfile::Builder::new()
            .prefix("pocketquant-demo-")
            .tempdir()
            .context("cannot make a temporary folder")?;
        let (data, database) = (folder.path().join("data"), folder.path().join("database"));
        let times = data::unpack(&data)?;
        // Its own end interrupts its own streams, which is no trouble.
        let quiet = "warn,pocketquant::common::grpc=error";
        let log_level = if self.verbose { "info" } else { quiet };
        // Heard from the start: the folder is removed in any case.
        let mut stop = pin!(stop_signal());
        let world = tokio::select! {
            world = World::start(&data, &database, !self.once, log_level) => world?,
            stopped = &mut stop => return stopped.map(|()| ExitCode::SUCCESS).map_err(Into::into),
        };
        let shown = tokio::select! {
            shown = self.show(Tour { address: world.address, times }) => shown,
            stopped = stop => stopped.map(|()| ExitCode::SUCCESS).map_err(Into::into),
        };
        world.stop().await;
        folder.close().context("cannot remove the temporary folder")?;
        shown
    }

    /// Until everything is shown; without `--once`, until a signal ends it from outside.
    async fn show(&self, tour: Tour) -> anyhow::Result<ExitCode> {
        tour.run(self.once).await?;
        if !self.once {
            std::future::pending::<()>().await;
        }
        Ok(ExitCode::SUCCESS)
    }
}
