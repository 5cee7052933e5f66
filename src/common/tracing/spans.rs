//! The spans that traces are made of, named as OpenTelemetry's semantic conventions have it.
//!
//! They have a target of their own: the OTLP layer takes nothing else, and log lines do not show
//! them. Where no traces are collected, making one costs a comparison. There is none for a tick
//! or a message: a span is a call of ours, or a call that we make.

use std::future::Future;

use http::HeaderMap;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{Status, TraceContextExt as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::field::Empty;
use tracing::{Instrument as _, Level, Span, span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::CorrelationId;

/// The target of these spans.
pub(super) const TARGET: &str = "pocketquant::spans";

/// Services whose calls are not traced: probes come every few seconds.
const UNTRACED: [&str; 2] = ["/grpc.health.", "/grpc.reflection."];
/// Longest method that is written down, in bytes: an unknown one is the caller's text.
const MAX_METHOD: usize = 200;

/// The span of a gRPC call to us, below the caller's `traceparent` if it has one.
pub(super) fn server_span(path: &str, headers: &HeaderMap, id: &CorrelationId) -> Span {
    if UNTRACED.iter().any(|prefix| path.starts_with(prefix)) {
        return Span::none();
    }
    let method = path.trim_start_matches('/');
    let method = method.get(..method.floor_char_boundary(MAX_METHOD)).unwrap_or_default();
    let (service, name) = method.rsplit_once('/').unwrap_or(("", method));
    let span = span!(
        target: TARGET, Level::INFO, "rpc",
        otel.name = method, otel.kind = "server",
        rpc.system = "grpc", rpc.service = service, rpc.method = name, correlation_id = %id,
    );
    if !span.is_disabled() {
        let caller = TraceContextPropagator::new().extract(&Incoming(headers));
        // It was made just now, so its parent can still be set.
        drop(span.set_parent(caller));
    }
    span
}

/// The id of the trace that `span` is part of, in hexadecimal; none where nothing is traced.
pub(super) fn trace_id(span: &Span) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let id = span.context().span().span_context().trace_id();
    (id != opentelemetry::TraceId::INVALID).then(|| id.to_string())
}

/// Notes in the current span, a call's, how the call ended. `is_fault` says that it was ours.
pub(crate) fn rpc_ended(span: &Span, code: i32, is_fault: bool) {
    span.set_attribute("rpc.grpc.status_code", i64::from(code));
    if is_fault {
        span.set_status(Status::error(""));
    }
}

/// The span of a command or query on its way through the mediator.
pub(crate) fn request_span(name: &'static str) -> Span {
    span!(
        target: TARGET, Level::INFO, "mediator",
        otel.name = name, otel.kind = "internal", request.name = name,
        outcome = Empty, error.type = Empty,
    )
}

/// Notes in a request's span how it ended.
pub(crate) fn request_ended(span: &Span, outcome: &'static str, is_ok: bool) {
    span.record("outcome", outcome);
    if !is_ok {
        span.record("error.type", outcome);
        span.set_status(Status::error(""));
    }
}

/// The span of work that a call begins and that may outlive it; none where no call is traced.
pub fn task_span(name: &'static str) -> Span {
    if Span::current().is_none() {
        return Span::none();
    }
    span!(target: TARGET, Level::INFO, "task", otel.name = name, otel.kind = "internal")
}

/// The span of a call of the database or the cache, which is a `system` of the conventions;
/// none where nobody's call is under way: what the service does by itself is not traced.
pub fn database_span(system: &'static str, operation: &'static str, collection: &str) -> Span {
    if Span::current().is_none() {
        return Span::none();
    }
    span!(
        target: TARGET, Level::INFO, "database",
        otel.name = %format_args!("{operation} {collection}"), otel.kind = "client",
        db.system.name = system, db.operation.name = operation, db.collection.name = collection,
        error.type = Empty,
    )
}

/// The span of a page of history that `provider` is asked for.
pub fn provider_span(provider: &'static str, series: &str) -> Span {
    if Span::current().is_none() {
        return Span::none();
    }
    span!(
        target: TARGET, Level::INFO, "provider",
        otel.name = %format_args!("{provider} history"), otel.kind = "client",
        provider.name = provider, series = series, error.type = Empty,
    )
}

/// The span of an HTTP request that we make, without its query, which may be secret.
pub fn http_span(method: &str, host: &str, path: &str) -> Span {
    if Span::current().is_none() {
        return Span::none();
    }
    span!(
        target: TARGET, Level::INFO, "http",
        otel.name = method, otel.kind = "client",
        http.request.method = method, server.address = host, url.path = path,
        http.response.status_code = Empty, error.type = Empty,
    )
}

/// Runs `work` in `span`, and notes the kind of its error, if it ends with one.
pub async fn traced<T, E>(
    span: Span,
    work: impl Future<Output = Result<T, E>>,
    kind: impl FnOnce(&E) -> &'static str,
) -> Result<T, E> {
    let result = work.instrument(span.clone()).await;
    if let Err(error) = &result {
        span.record("error.type", kind(error));
        span.set_status(Status::error(""));
    }
    result
}

/// Writes the current span's `traceparent` and `tracestate` into the headers of a request that
/// we make; nothing where nothing is traced.
pub fn inject_context(headers: &mut HeaderMap) {
    let context = Span::current().context();
    TraceContextPropagator::new().inject_context(&context, &mut Outgoing(headers));
}

struct Incoming<'a>(&'a HeaderMap);

impl Extractor for Incoming<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

struct Outgoing<'a>(&'a mut HeaderMap);

impl Injector for Outgoing<'_> {
    fn set(&mut self, key: &str, value: String) {
        let name = http::HeaderName::try_from(key);
        if let (Ok(name), Ok(value)) = (name, http::HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}
