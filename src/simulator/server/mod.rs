//! The listener: one port for WebSocket and HTTP, in the clear or with TLS.

mod certificate;
mod connection;
mod socket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::replay::drive;
use super::stats::SimulatorStats;
use super::{
    Endpoints, FaultBoard, FaultSpec, Settings, Shared, SimulatorConfig, SimulatorError, Stats,
    TickError, World, WorldClock,
};
use certificate::Certificate;

/// Connections at a time; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 1_024;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to pause when a connection cannot be accepted, as when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long conversations have for their end.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// A simulator that has its folder and its port, and serves once it is [run](Self::run).
#[derive(Debug)]
pub struct Simulator {
    listener: TcpListener,
    endpoints: Endpoints,
    certificate: Option<Certificate>,
    shared: Arc<Shared>,
}

/// What every connection needs of the server.
#[derive(Clone, Debug)]
struct Host {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: CancellationToken,
    numbers: Arc<AtomicU64>,
}

impl Host {
    /// A number that no other WebSocket of this server has.
    fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Simulator {
    /// Reads the folder and takes the port. Nothing is served yet.
    pub async fn bind(config: SimulatorConfig) -> Result<Self, SimulatorError> {
        if !config.allow_remote && !config.listen.ip().is_loopback() {
            return Err(SimulatorError::NotLoopback(config.listen));
        }
        let (data, now, replay) = (config.data.clone(), config.now, config.replay);
        let loading = tokio::task::spawn_blocking(move || World::load(&data, now, replay));
        let world = loading.await.map_err(|error| SimulatorError::Read {
            path: config.data.clone(),
            source: std::io::Error::other(error),
        })??;
        let cannot_listen = |source| SimulatorError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(cannot_listen)?;
        let address = listener.local_addr().map_err(cannot_listen)?;
        let certificate = if config.tls { Some(Certificate::make(address.ip())?) } else { None };
        let shared = Shared {
            world,
            clock: WorldClock::new(config.now, config.clock_offset),
            faults: FaultBoard::new(config.faults),
            stats: Stats::default(),
            settings: Settings {
                history_limit: config.history_limit.and_then(|limit| limit.try_into().ok()),
                heartbeat: config.heartbeat.max(Duration::from_millis(10)),
                sessions_per_connection: config.sessions_per_connection,
                require_origin: config.require_origin,
            },
        };
        let endpoints = endpoints(address, certificate.as_ref());
        Ok(Self { listener, endpoints, certificate, shared: Arc::new(shared) })
    }

    /// Where it is reached.
    pub const fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// The line that says it is ready: one JSON object, without a line break.
    pub fn ready_line(&self) -> String {
        self.endpoints.ready_line()
    }

    /// A handle to faults and counters, which outlives [`run`](Self::run).
    pub fn control(&self) -> SimulatorControl {
        SimulatorControl { shared: Arc::clone(&self.shared) }
    }

    /// Serves until `shutdown` is ready; then every conversation ends. What it spawned has ended
    /// when it returns, and is told to end when it is dropped.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let host = Host {
            shared: self.shared,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            numbers: Arc::new(AtomicU64::new(0)),
        };
        let stopping = host.stop.clone().drop_guard();
        let (market, stop) = (Arc::clone(&host.shared), host.stop.clone());
        host.tasks.spawn(async move {
            stop.run_until_cancelled(drive(&market)).await;
        });
        let acceptor = self.certificate.as_ref().map(Certificate::acceptor);
        tokio::select! {
            () = accept(&self.listener, acceptor.as_ref(), &host) => {}
            () = shutdown => {}
        }
        drop(stopping);
        host.tasks.close();
        if tokio::time::timeout(STOP_GRACE, host.tasks.wait()).await.is_err() {
            tracing::warn!("conversations of the simulator did not end in time");
        }
    }
}

/// Switches faults and reads counters of a running [`Simulator`] in the same process.
#[derive(Clone, Debug)]
pub struct SimulatorControl {
    shared: Arc<Shared>,
}

impl SimulatorControl {
    /// Switches a fault on.
    pub fn switch_on(&self, fault: FaultSpec) {
        if !self.shared.faults.switch_on(fault) {
            tracing::warn!("too many faults are on");
        }
    }

    /// Switches the fault of the same kind and symbol off.
    pub fn switch_off(&self, fault: &FaultSpec) {
        self.shared.faults.switch_off(fault);
    }

    /// Adds a trade that no file has to the replay of `symbol`: late, where `time` is before the
    /// newest; now, where there is none. It is told to everybody, and counts to the history.
    pub fn tick(
        &self,
        symbol: &str,
        time: Option<Timestamp>,
        price: f64,
        size: Option<f64>,
    ) -> Result<(), TickError> {
        self.shared.inject(symbol, time, price, size).map(drop)
    }

    /// What it has seen so far.
    pub fn stats(&self) -> SimulatorStats {
        self.shared.stats()
    }
}

async fn accept(listener: &TcpListener, acceptor: Option<&TlsAcceptor>, host: &Host) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (host_of_task, acceptor) = (host.clone(), acceptor.cloned());
        host.tasks.spawn(async move {
            let stop = host_of_task.stop.clone();
            let serving = serve(stream, acceptor, host_of_task, place);
            stop.run_until_cancelled(serving).await;
        });
    }
}

async fn serve(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    host: Host,
    place: tokio::sync::OwnedSemaphorePermit,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "nodelay was refused");
    }
    let Some(acceptor) = acceptor else {
        return connection::serve(stream, host, place).await;
    };
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => connection::serve(stream, host, place).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

fn endpoints(address: SocketAddr, certificate: Option<&Certificate>) -> Endpoints {
    let secure = if certificate.is_some() { "s" } else { "" };
    let http_url = format!("http{secure}://{address}");
    Endpoints {
        ws_url: format!("ws{secure}://{address}/socket.io/websocket"),
        search_url: http_url.clone(),
        http_url,
        ca_file: certificate.map(|certificate| certificate.path().to_owned()),
    }
}
