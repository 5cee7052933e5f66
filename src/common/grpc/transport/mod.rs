//! Accepts connections and serves HTTP/2 on them, with a bound on everything a stranger can do.
//!
//! How many connections there may be, altogether and from one address; how long one may take to
//! say what it wants; how long it may leave what it is sent unread; how it is asked to leave,
//! and when it has to. Calls are the service's: nothing here knows one.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tower::{BoxError, Service};
use tracing::{debug, warn};

mod admission;
mod connection;
mod descriptors;
mod preface;
mod reader;
mod tls;

pub use descriptors::raise_descriptor_limit;
pub use reader::LongAnswer;
pub use tls::{Encryption, TlsError, acceptor};

use admission::Admission;
use connection::Connection;

use crate::common::constants::{ACCEPT_BACKOFF, MAX_CONNECTIONS};

/// How connections are served.
#[derive(Clone)]
pub struct Transport {
    tls: Option<Encryption>,
    connections: u32,
    connections_per_address: u32,
    draining: CancellationToken,
    closing: CancellationToken,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport")
            .field("tls", &self.tls.is_some())
            .field("connections", &self.connections)
            .field("connections_per_address", &self.connections_per_address)
            .finish_non_exhaustive()
    }
}

impl Transport {
    /// Without TLS; at most `connections_per_address` connections from one address.
    pub fn new(connections_per_address: u32) -> Self {
        Self {
            tls: None,
            connections: MAX_CONNECTIONS.min(descriptors::share_for_connections()),
            connections_per_address,
            draining: CancellationToken::new(),
            closing: CancellationToken::new(),
        }
    }

    /// Speaks TLS on every connection: see [`acceptor`].
    #[must_use]
    pub fn with_tls(self, tls: Option<Encryption>) -> Self {
        Self { tls, ..self }
    }

    /// Cancelled, nothing more is accepted, and each connection ends with its last call.
    pub fn draining(&self) -> CancellationToken {
        self.draining.clone()
    }

    /// Cancelled, every connection is cut.
    pub fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }

    /// Serves until it is told to drain and the last connection is gone.
    pub async fn serve<S, B>(self, listener: TcpListener, service: S)
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let tasks = TaskTracker::new();
        let admission = Admission::new(self.connections, self.connections_per_address);
        let mut failures = Failures::default();
        let connection = Connection {
            tls: self.tls.clone(),
            tasks: tasks.clone(),
            draining: self.draining.clone(),
            closing: self.closing.clone(),
        };
        while let Some(accepted) = self.draining.run_until_cancelled(listener.accept()).await {
            match accepted {
                Ok((stream, peer)) => {
                    failures = Failures::default();
                    let Some(admitted) = admitted(&admission, peer) else { continue };
                    configure(&stream);
                    let serving = connection.clone().serve(stream, service.clone(), admitted);
                    drop(tasks.spawn(serving));
                }
                Err(error) if concerns_one_connection(&error) => {
                    debug!(%error, "a connection was gone before it was accepted");
                }
                Err(error) => {
                    // Out of descriptors, most likely. Accepting again at once would spin.
                    let wait = failures.next(&error);
                    let _stopped =
                        self.draining.run_until_cancelled(tokio::time::sleep(wait)).await;
                }
            }
        }
        drop(listener);
        tasks.close();
        tasks.wait().await;
    }
}

fn admitted(admission: &Admission, peer: SocketAddr) -> Option<admission::Admitted> {
    let admitted = admission.admit(peer.ip());
    admitted.inspect_err(|refused| admission.warn(*refused, peer)).ok()
}

fn configure(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "TCP_NODELAY could not be set");
    }
}

fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    [ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted].contains(&error.kind())
}

/// Failures to accept, one after the other.
#[derive(Debug, Default)]
struct Failures(u32);

impl Failures {
    /// Notes another, and how long to wait: 50 ms doubling to 1 s.
    fn next(&mut self, error: &io::Error) -> Duration {
        if self.0 == 0 {
            warn!(%error, "cannot accept connections: {error}; waiting");
        }
        let (shortest, longest) = ACCEPT_BACKOFF;
        let wait = shortest.saturating_mul(2_u32.saturating_pow(self.0)).min(longest);
        self.0 = self.0.saturating_add(1);
        wait
    }
}
