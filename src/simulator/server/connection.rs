//! One TCP connection: HTTP/1.1, which may become a WebSocket.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::header::{
    CONNECTION, ORIGIN, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE,
};
use http::{HeaderMap, Response, StatusCode};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{Host, socket};
use crate::simulator::http::{self as pages, is_accepted_origin};
use crate::simulator::{FaultKind, Shared};

/// How long a request's head may take to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest request head.
const MAX_HEAD: usize = 64 * 1024;

/// Serves `stream`; `place` is held for as long as anything of it lives.
pub(super) async fn serve<S>(stream: S, host: Host, place: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let place = Arc::new(place);
    let service = service_fn(|request: Request<Incoming>| {
        let (host, place) = (host.clone(), Arc::clone(&place));
        async move { Ok::<_, Infallible>(answer(request, host, place).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(MAX_HEAD);
    let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn answer(
    request: Request<Incoming>,
    host: Host,
    place: Arc<OwnedSemaphorePermit>,
) -> Response<String> {
    if !asks_for_websocket(request.headers()) {
        return pages::respond(request, &host.shared).await;
    }
    match refusal(request.headers(), &host.shared) {
        Some((status, reason)) => {
            host.shared.stats.refused_handshakes.add(1);
            let mut response = pages::text(status, reason);
            if status == StatusCode::TOO_MANY_REQUESTS {
                response.headers_mut().insert(RETRY_AFTER, http::HeaderValue::from_static("1"));
            }
            response
        }
        None => upgrade(request, &host, place),
    }
}

fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket"))
}

fn refusal(headers: &HeaderMap, shared: &Shared) -> Option<(StatusCode, &'static str)> {
    if shared.faults.is_out(Instant::now()) {
        return Some((StatusCode::SERVICE_UNAVAILABLE, "out of reach"));
    }
    if shared.faults.is_on(FaultKind::Handshake403, None) {
        return Some((StatusCode::FORBIDDEN, "forbidden"));
    }
    if shared.faults.is_on(FaultKind::Handshake429, None) {
        return Some((StatusCode::TOO_MANY_REQUESTS, "too many connections"));
    }
    let origin = headers.get(ORIGIN).and_then(|origin| origin.to_str().ok());
    let foreign = !origin.is_some_and(is_accepted_origin);
    (shared.settings.require_origin && foreign).then_some((StatusCode::FORBIDDEN, "foreign origin"))
}

fn upgrade(
    mut request: Request<Incoming>,
    host: &Host,
    place: Arc<OwnedSemaphorePermit>,
) -> Response<String> {
    let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) else {
        return pages::text(StatusCode::BAD_REQUEST, "no Sec-WebSocket-Key");
    };
    let accept = derive_accept_key(key.as_bytes());
    let Ok(accept) = http::HeaderValue::try_from(accept) else {
        return pages::text(StatusCode::BAD_REQUEST, "no Sec-WebSocket-Key");
    };
    let upgrading = hyper::upgrade::on(&mut request);
    let task_host = host.clone();
    host.tasks.spawn(async move {
        let stop = task_host.stop.clone();
        // Only the way to the socket is cut off here: the socket says goodbye itself.
        if let Some(Ok(upgraded)) = stop.run_until_cancelled(upgrading).await {
            socket::converse(TokioIo::new(upgraded), task_host).await;
        }
        drop(place);
    });
    let mut response = pages::text(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = response.headers_mut();
    headers.remove(http::header::CONTENT_TYPE);
    headers.insert(UPGRADE, http::HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, http::HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    response
}
