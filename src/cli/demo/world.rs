//! A provider and a service in this process, on a temporary folder.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use tokio::task::JoinHandle;
use tracing::error;

use super::super::settings::{isolated, start_logging};
use super::live::SPEED;
use crate::app::App;
use crate::common::constants::SHUTDOWN_GRACE;
use crate::common::error::with_causes;
use crate::common::shutdown::{Lifecycle, TaskPanicked};
use crate::simulator::{Pace, ReplayConfig, Simulator, SimulatorConfig};

/// Where the service usually is.
const USUAL_PORT: u16 = 50_051;

/// A running provider and a running service.
#[derive(Debug)]
pub(super) struct World {
    /// Where the service is.
    pub(super) address: SocketAddr,
    service: Lifecycle,
    provider: Lifecycle,
    served: JoinHandle<Result<(), TaskPanicked>>,
}

impl World {
    /// Starts both: the provider on the files in `data`, the service on a database in `database`.
    pub(super) async fn start(
        data: &Path,
        database: &Path,
        usual_port: bool,
        log_level: &str,
    ) -> anyhow::Result<Self> {
        let replay = ReplayConfig { pace: Pace::Speed(SPEED), ..ReplayConfig::default() };
        let config = SimulatorConfig { replay: Some(replay), ..SimulatorConfig::new(data) };
        let simulator = Simulator::bind(config).await?;
        let endpoints = simulator.endpoints().clone();
        let settings = isolated(&[
            ("GRPC_ADDR", address(usual_port).to_string()),
            ("DATA_DIR", database.display().to_string()),
            ("TRADINGVIEW_WS_URL", endpoints.ws_url),
            ("TRADINGVIEW_HTTP_URL", endpoints.http_url),
            // The market is as old as its record.
            ("FEED_CLOCK", "event".to_owned()),
            ("RATE_LIMIT_PER_SECOND", "0".to_owned()),
            ("LOG_LEVEL", log_level.to_owned()),
        ])?;
        start_logging(&settings.log)?;
        let (service, provider) = (Lifecycle::new(), Lifecycle::new());
        let stopped = provider.token().cancelled_owned();
        drop(provider.spawn("simulator", simulator.run(stopped)));
        let app = App::start(settings).await?;
        let address = app.address();
        let stopped = service.token().cancelled_owned();
        let served = service.spawn("service", async move {
            if let Err(ended) = app.run(stopped).await {
                error!(error = with_causes(ended.as_ref()), "the service ended");
            }
        });
        Ok(Self { address, service, provider, served })
    }

    /// Stops the service, then its provider.
    pub(super) async fn stop(self) {
        self.service.stop();
        // What is left after the time is in the log; the folder is removed either way.
        let _left = self.service.wait(SHUTDOWN_GRACE).await;
        self.provider.stop();
        let _left = self.provider.wait(SHUTDOWN_GRACE).await;
        drop(self.served);
    }
}

/// The usual port where it is free and wanted, else a free one.
fn address(usual_port: bool) -> SocketAddr {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, USUAL_PORT));
    if usual_port && TcpListener::bind(usual).is_ok() {
        return usual;
    }
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}
