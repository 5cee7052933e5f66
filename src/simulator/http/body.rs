//! Reads the body of a request, up to a size and for a time.

use std::pin::Pin;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body::Body as _;
use hyper::body::Incoming;

use super::text;

/// The largest body.
const MAX_BODY: usize = 64 * 1024;

/// How long it may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// `request` with its whole body, or what to answer instead.
pub(super) async fn read(request: Request<Incoming>) -> Result<Request<String>, Response<String>> {
    let (parts, body) = request.into_parts();
    let reading = tokio::time::timeout(BODY_TIMEOUT, collect(body)).await;
    let late = |_| text(StatusCode::REQUEST_TIMEOUT, "the body took too long");
    let bytes = reading.map_err(late)??;
    let body = String::from_utf8(bytes);
    let body = body.map_err(|_| text(StatusCode::BAD_REQUEST, "the body is not UTF-8"))?;
    Ok(Request::from_parts(parts, body))
}

async fn collect(mut body: Incoming) -> Result<Vec<u8>, Response<String>> {
    let mut bytes = Vec::new();
    while let Some(frame) =
        std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await
    {
        let frame = frame.map_err(|_| text(StatusCode::BAD_REQUEST, "the body broke off"))?;
        let Some(data) = frame.data_ref() else { continue };
        if bytes.len() + data.len() > MAX_BODY {
            return Err(text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"));
        }
        bytes.extend_from_slice(data);
    }
    Ok(bytes)
}
