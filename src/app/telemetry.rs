//! What is told about the service while it runs: metrics, and what is looked at for them.

use std::net::SocketAddr;

use tokio::net::TcpListener;
use tracing::info;

use crate::common::error::with_causes;
use crate::common::metrics::table::BUILD_INFO;
use crate::common::metrics::{self, MetricsServer, Recorder};
use crate::common::shutdown::Lifecycle;
use crate::features::market_data::jobs::JobService;
use crate::features::market_data::quote::QuoteService;
use crate::infrastructure::persistence::{Cache, Database};

/// A place where metrics are fetched; nothing listens to it yet.
#[derive(Debug)]
pub(super) struct Metrics {
    recorder: Recorder,
    listener: TcpListener,
}

/// Begins to record and binds `address`, where there is one. To be called before anything that
/// keeps a metric's handle is made.
pub(super) async fn metrics(address: Option<SocketAddr>) -> Result<Option<Metrics>, String> {
    let Some(address) = address else { return Ok(None) };
    let recorder = metrics::install().map_err(|error| with_causes(&error))?;
    let listener = TcpListener::bind(address).await.map_err(|error| {
        format!("METRICS_ADDR: cannot listen on `{address}`: {error}; stop what uses it, or choose another port")
    })?;
    Ok(Some(Metrics { recorder, listener }))
}

impl Metrics {
    /// A server that looks at all of these when it is asked.
    pub(super) fn of(
        self,
        database: &Database,
        cache: &Cache,
        quotes: &QuoteService,
        jobs: &JobService,
    ) -> (MetricsServer, TcpListener) {
        let version = env!("CARGO_PKG_VERSION");
        BUILD_INFO.with([version, database.engine(), cache.engine()]).set(1.0);
        let (database, quotes, jobs) = (database.clone(), quotes.clone(), jobs.clone());
        let server = MetricsServer::new(self.recorder)
            .observe(move || quotes.observe())
            .observe(move || database.observe())
            .observe(move || jobs.observe());
        (server, self.listener)
    }
}

/// Serves metrics until the service stops.
pub(super) fn serve((server, listener): (MetricsServer, TcpListener), lifecycle: &Lifecycle) {
    if let Ok(address) = listener.local_addr() {
        info!(%address, "serving metrics on http://{address}/metrics");
    }
    drop(lifecycle.spawn("metrics", server.run(listener, lifecycle.clone())));
}
