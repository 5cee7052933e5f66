//! One log line for every finished call: what it was, how it ended, how long it took.
//!
//! A call ends with the trailers of its body, or without them when its caller goes away: that
//! is CANCELLED, recorded by a guard. The line's level follows the status; calls of health and
//! reflection are for debugging only, and what we end because we stop is no warning.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use tower::{Layer, Service};
use tracing::{Level, Span, debug, error, info, warn};

use super::status::code_name;
use crate::common::error::ErrorCode;

/// Services whose calls nobody wants to read about.
const QUIET: [&str; 2] = ["/grpc.health.", "/grpc.reflection."];
/// Longest method that is logged whole, in bytes: an unknown one is the caller's text.
const MAX_METHOD: usize = 200;

/// Wraps services in [`AccessLog`].
#[derive(Clone, Copy, Debug, Default)]
pub struct AccessLogLayer;

impl<S> Layer<S> for AccessLogLayer {
    type Service = AccessLog<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AccessLog { inner }
    }
}

/// Logs every finished call.
#[derive(Clone, Debug)]
pub struct AccessLog<S> {
    inner: S,
}

impl<S, In, Out> Service<Request<In>> for AccessLog<S>
where
    S: Service<Request<In>, Response = Response<Out>>,
{
    type Response = Response<AccessLogBody<Out>>;
    type Error = S::Error;
    type Future = AccessLogFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        let call = Some(Call::start(request.uri().path()));
        AccessLogFuture { inner: self.inner.call(request), call }
    }
}

/// A call under way; one that is dropped before it ended was cancelled.
#[derive(Debug)]
struct Call {
    method: String,
    span: Span,
    started: Instant,
    ended: bool,
}

impl Call {
    fn start(path: &str) -> Self {
        let method = path.get(..path.floor_char_boundary(MAX_METHOD)).unwrap_or_default();
        let started = Instant::now();
        Self { method: method.to_owned(), span: Span::current(), started, ended: false }
    }

    fn end(&mut self, Ending { code, draining }: Ending) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let method = self.method.as_str();
        let duration_ms = (self.started.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        let level = if draining { Level::INFO } else { level(method, code) };
        let code = code_name(code);
        // Metrics by method belong here, beside the line.
        let _in_call = self.span.enter();
        macro_rules! line {
            ($log:ident) => {
                $log!(method, code, duration_ms, "{method} {code} in {duration_ms} ms")
            };
        }
        match level {
            Level::ERROR => line!(error),
            Level::WARN => line!(warn),
            Level::INFO => line!(info),
            _ => line!(debug),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(Code::Cancelled.into());
    }
}

fn level(method: &str, code: Code) -> Level {
    match code {
        Code::Internal | Code::Unknown | Code::DataLoss => Level::ERROR,
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => Level::WARN,
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => {
            let quiet = QUIET.iter().any(|prefix| method.starts_with(prefix));
            if quiet { Level::DEBUG } else { Level::INFO }
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug)]
struct Ending {
    code: Code,
    /// Whether we ended it, as the server is stopping.
    draining: bool,
}

impl From<Code> for Ending {
    fn from(code: Code) -> Self {
        Self { code, draining: false }
    }
}

fn ending_in(headers: &HeaderMap) -> Option<Ending> {
    let code = Code::from_bytes(headers.get(Status::GRPC_STATUS)?.as_bytes());
    let draining = code == Code::Unavailable
        && reason(headers).as_deref() == Some(ErrorCode::Draining.reason());
    Some(Ending { code, draining })
}

fn reason(headers: &HeaderMap) -> Option<String> {
    Some(Status::from_header_map(headers)?.get_details_error_info()?.reason)
}

pin_project! {
    /// A call whose answer has not begun.
    #[derive(Debug)]
    pub struct AccessLogFuture<F> {
        #[pin]
        inner: F,
        call: Option<Call>,
    }
}

impl<F, B, E> Future for AccessLogFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<AccessLogBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.inner.poll(cx));
        let mut call = this.call.take();
        if let Some(call) = &mut call {
            match &result {
                // Only an answer of headers alone has its status there.
                Ok(response) => {
                    if let Some(ending) = ending_in(response.headers()) {
                        call.end(ending);
                    }
                }
                Err(_) => call.end(Code::Unknown.into()),
            }
        }
        Poll::Ready(result.map(|response| response.map(|inner| AccessLogBody { inner, call })))
    }
}

pin_project! {
    /// A body whose end is the end of its call.
    #[derive(Debug)]
    pub struct AccessLogBody<B> {
        #[pin]
        inner: B,
        call: Option<Call>,
    }
}

impl<B: Body> Body for AccessLogBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(cx));
        let ended = match &frame {
            Some(Ok(frame)) => frame.trailers_ref().map(ending_in),
            Some(Err(_)) | None => Some(None),
        };
        if let (Some(ending), Some(call)) = (ended, this.call.as_mut()) {
            call.end(ending.unwrap_or(Code::Unknown.into()));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests;
