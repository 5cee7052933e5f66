//! How the service stops: step by step, each bounded, each in the log.
//!
//! No longer ready -> accept nothing -> streams say their last -> the feed stops and its bars
//! are stored -> tasks end -> clients take their last answers, or are cut -> the database closes.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::common::constants::{CLIENT_GRACE, SHUTDOWN_GRACE, STREAM_GRACE};
use crate::common::grpc::Load;
use crate::common::health::HealthCoordinator;
use crate::common::shutdown::{Lifecycle, TaskPanicked};
use crate::infrastructure::persistence::Database;

/// How often it is looked whether the streams have ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// All that has to end, in the order in which it does.
pub(super) struct Stopping {
    pub(super) health: HealthCoordinator,
    pub(super) draining: CancellationToken,
    pub(super) load: Load,
    pub(super) lifecycle: Lifecycle,
    pub(super) closing: CancellationToken,
    pub(super) server: JoinHandle<Result<(), TaskPanicked>>,
    pub(super) database: Database,
}

impl Stopping {
    /// Takes [`SHUTDOWN_GRACE`] at most.
    pub(super) async fn stop(mut self) {
        let deadline = Instant::now() + SHUTDOWN_GRACE;
        self.health.drain().await;
        self.draining.cancel();
        info!("stopping: not ready, and nothing more is accepted");
        self.end_streams().await;
        self.finish_work(deadline).await;
        self.let_go_of_clients(deadline).await;
        // Telemetry is flushed here: what the steps above had to say is complete.
        if timeout_at(deadline, self.database.close()).await.is_err() {
            warn!("the database did not close in time");
        }
        info!("stopped");
    }

    /// Each stream says that it ends, and ends. One whose reader has stopped reading cannot.
    async fn end_streams(&self) {
        let open = self.load.streams();
        self.lifecycle.drain();
        self.health.end_watches().await;
        let ended = async {
            while self.load.streams() > 0 {
                sleep(LOOK_EVERY).await;
            }
        };
        if timeout(STREAM_GRACE, ended).await.is_ok() {
            info!(streams = open, "stopping: {open} streams ended");
        } else {
            let left = self.load.streams();
            warn!(streams = left, "stopping: {left} of {open} streams are not being read");
        }
    }

    /// The feed stores its bars, syncs are interrupted, commands run to their end.
    async fn finish_work(&self, deadline: Instant) {
        self.lifecycle.stop();
        let left = deadline.saturating_duration_since(Instant::now());
        // A client's last answers, and the end of the database, have their time too.
        match self.lifecycle.wait(left.saturating_sub(CLIENT_GRACE * 2)).await {
            Ok(()) => info!("stopping: the feed and all tasks have ended"),
            Err(error) => warn!(%error, "stopping without the tasks that are left"),
        }
    }

    /// Clients take the answers that are on their way; who does not is cut.
    async fn let_go_of_clients(&mut self, deadline: Instant) {
        if timeout(CLIENT_GRACE, &mut self.server).await.is_ok() {
            info!("stopping: all clients have gone");
            return;
        }
        warn!("stopping: the clients that are left are cut");
        self.closing.cancel();
        if timeout_at(deadline, &mut self.server).await.is_err() {
            warn!("stopping without the connections that are left");
            self.server.abort();
        }
    }
}
