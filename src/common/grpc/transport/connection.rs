//! One connection: its handshakes, its age, its end.

use std::pin::pin;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rand::RngExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::transport::server::Connected;
use tower::{BoxError, Service, ServiceExt as _};
use tracing::debug;

use super::admission::Admitted;
use super::preface::Watched;
use super::reader::{CallTasks, ReadBody};
use super::tls::Encryption;
use crate::common::constants::{
    CONNECTION_AGE, HANDSHAKE_TIMEOUT, KEEPALIVE_EVERY, KEEPALIVE_TIMEOUT, MAX_HEADER_BYTES,
    MAX_LOCAL_RESETS, MAX_PENDING_RESETS, SEND_BUFFER_BYTES, STREAMS_PER_CONNECTION,
};

/// How each connection is served.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) tls: Option<Encryption>,
    pub(super) tasks: TaskTracker,
    pub(super) draining: CancellationToken,
    pub(super) closing: CancellationToken,
}

impl Connection {
    /// Serves `stream` until it ends; `_admitted` counts it so long.
    pub(super) async fn serve<S, B>(self, stream: TcpStream, service: S, _admitted: Admitted)
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        // One time for all that comes before the first call, however many rounds it takes.
        let greet_by = Instant::now() + HANDSHAKE_TIMEOUT;
        // What tonic's own server leaves for services: the addresses, and the certificates.
        let addresses = stream.connect_info();
        let service = service.map_request(move |mut request: Request<Body>| {
            request.extensions_mut().insert(addresses.clone());
            request
        });
        let Some(tls) = self.tls.as_ref().map(Encryption::now) else {
            return self.speak(stream, service, greet_by).await;
        };
        let handshake = timeout_at(greet_by, tls.accept(stream));
        match self.draining.run_until_cancelled(handshake).await {
            Some(Ok(Ok(stream))) => self.speak(stream, service, greet_by).await,
            Some(Ok(Err(error))) => debug!(%error, "a TLS handshake failed: {error}"),
            Some(Err(_)) => debug!("a TLS handshake took too long"),
            None => {}
        }
    }

    async fn speak<IO, S, B>(&self, io: IO, service: S, greet_by: Instant)
    where
        IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let info = io.connect_info();
        let (io, greeting) = Watched::new(io);
        let service =
            service.map_response(ReadBody::of).map_request(move |request: Request<Incoming>| {
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(info.clone());
                request
            });
        let http2 = http2(CallTasks(self.tasks.clone()));
        let mut serving =
            pin!(http2.serve_connection(TokioIo::new(io), TowerToHyperService::new(service)));
        let mut leaving = false;
        let mut timer = pin!(sleep_until(greet_by));
        let mut aged = false;
        loop {
            tokio::select! {
                ended = &mut serving => {
                    if let Err(error) = ended {
                        debug!(%error, "a connection failed: {error}");
                    }
                    return;
                }
                () = self.closing.cancelled() => return,
                () = self.draining.cancelled(), if !leaving => {
                    if !greeting.is_complete() {
                        return;
                    }
                    leaving = true;
                    serving.as_mut().graceful_shutdown();
                }
                () = &mut timer, if !aged => {
                    if !greeting.is_complete() {
                        debug!("a connection never began to speak HTTP/2");
                        return;
                    }
                    if timer.deadline() == greet_by {
                        timer.as_mut().reset(Instant::now() + age());
                        continue;
                    }
                    // GOAWAY: new calls take another connection, open streams stay on this one.
                    aged = true;
                    serving.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// [`CONNECTION_AGE`], give or take a tenth, so that connections made together do not end so.
fn age() -> std::time::Duration {
    CONNECTION_AGE.mul_f64(rand::rng().random_range(0.9..1.1))
}

fn http2(tasks: CallTasks) -> Builder<CallTasks> {
    let mut http2 = Builder::new(tasks);
    http2
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .max_local_error_reset_streams(MAX_LOCAL_RESETS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(KEEPALIVE_EVERY)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    http2
}
