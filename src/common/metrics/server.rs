//! `GET /metrics` over HTTP/1.1, for Prometheus to come and fetch.
//!
//! It has nothing to protect but itself: few connections at a time, each with a time to say what
//! it wants and a time to take it.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::{debug, warn};

use super::{Recorder, process};
use crate::common::shutdown::Lifecycle;

/// Connections at a time; more wait to be accepted.
const CONNECTIONS: usize = 16;
/// How long a request's head may take to arrive, the wait for the next request included.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may last: a reader that takes nothing does not stay for ever.
const CONNECTION_LIMIT: Duration = Duration::from_mins(1);
/// The largest head of a request.
const MAX_HEAD: usize = 16 * 1024;
/// How long is waited when no connection can be accepted, as when descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often samples are sorted while nobody fetches them.
const TIDY_EVERY: Duration = Duration::from_secs(5);
/// Prometheus' text format.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Looks at something when the metrics are fetched.
type Observer = Box<dyn Fn() + Send + Sync>;

/// Serves what was recorded.
pub struct MetricsServer {
    recorder: Recorder,
    observers: Vec<Observer>,
}

impl MetricsServer {
    /// Serves `recorder`'s metrics and what the process and the runtime say of themselves.
    pub fn new(recorder: Recorder) -> Self {
        Self { recorder, observers: vec![Box::new(process::observe)] }
    }

    /// Lets `observer` set its gauges before each answer; it must not wait for anything.
    #[must_use]
    pub fn observe(mut self, observer: impl Fn() + Send + Sync + 'static) -> Self {
        self.observers.push(Box::new(observer));
        self
    }

    /// Serves until the service stops; its tasks are `lifecycle`'s.
    pub async fn run(self, listener: TcpListener, lifecycle: Lifecycle) {
        let (server, places) = (Arc::new(self), Arc::new(Semaphore::new(CONNECTIONS)));
        let stopping = lifecycle.token();
        let mut tidy = interval(TIDY_EVERY);
        tidy.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let next = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (listener.accept().await, place)
            };
            tokio::select! {
                () = stopping.cancelled() => return,
                _ = tidy.tick() => server.recorder.tidy(),
                (accepted, place) = next => match accepted {
                    Ok((stream, _)) => {
                        let (server, stopping) = (Arc::clone(&server), stopping.clone());
                        drop(lifecycle.spawn("metrics connection", async move {
                            let serving = timeout(CONNECTION_LIMIT, server.serve(stream));
                            let _ended = stopping.run_until_cancelled(serving).await;
                            drop(place);
                        }));
                    }
                    Err(error) => {
                        warn!(%error, "a connection for metrics could not be accepted");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    async fn serve(&self, stream: TcpStream) {
        let service = service_fn(|request| {
            let answer = self.answer(&request);
            async move { Ok::<_, Infallible>(answer) }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD);
        if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
            debug!(%error, "a connection for metrics ended early");
        }
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<String> {
        let (status, body) = match (request.uri().path(), request.method()) {
            ("/metrics", &Method::GET | &Method::HEAD) => {
                self.observers.iter().for_each(|observe| observe());
                (StatusCode::OK, self.recorder.render())
            }
            ("/metrics", _) => (StatusCode::METHOD_NOT_ALLOWED, "ask with GET\n".to_owned()),
            _ => (StatusCode::NOT_FOUND, "there is only /metrics\n".to_owned()),
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, TEXT);
        if status == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }
}

impl fmt::Debug for MetricsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsServer").finish_non_exhaustive()
    }
}
