//! The outermost layer of every call: its correlation id and its span.
//!
//! It takes a well-formed `x-correlation-id` or makes one, runs the whole call (the answer's
//! stream too) in the span `call`, and writes the id on every answer. A malformed one is
//! replaced here, so that even its refusal has an id, and refused by [`interceptor`].

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::{Layer, Service};
use tracing::field::Empty;
use tracing::{Span, error_span};

use super::CorrelationId;
use super::correlation::{InvalidCorrelationId, in_call};
use super::spans::{server_span, trace_id};
use crate::common::constants::HEADER_CORRELATION_ID;
use crate::common::error::InvalidFields;
use crate::common::grpc::to_status;

/// Wraps services in [`Correlation`].
#[derive(Clone, Copy, Debug, Default)]
pub struct CorrelationLayer;

impl<S> Layer<S> for CorrelationLayer {
    type Service = Correlation<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Correlation { inner }
    }
}

/// Gives every call its correlation id and its span.
#[derive(Clone, Debug)]
pub struct Correlation<S> {
    inner: S,
}

impl<S, In, Out> Service<Request<In>> for Correlation<S>
where
    S: Service<Request<In>, Response = Response<Out>>,
{
    type Response = Response<CorrelationBody<Out>>;
    type Error = S::Error;
    type Future = CorrelationFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<In>) -> Self::Future {
        let id = match given(request.headers()) {
            Ok(given) => given.unwrap_or_else(CorrelationId::generate),
            Err(invalid) => {
                request.extensions_mut().insert(invalid);
                CorrelationId::generate()
            }
        };
        request.extensions_mut().insert(id.clone());
        let context = CallContext::new(&request, id);
        let inner = context.enter(|| self.inner.call(request));
        CorrelationFuture { inner, context }
    }
}

/// Refuses calls whose correlation id is malformed; the typed id is in the request's extensions.
pub fn interceptor(request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
    match request.extensions().get::<InvalidCorrelationId>() {
        None => Ok(request),
        Some(invalid) => {
            Err(to_status(&InvalidFields::new(HEADER_CORRELATION_ID, invalid.to_string())))
        }
    }
}

fn given(headers: &HeaderMap) -> Result<Option<CorrelationId>, InvalidCorrelationId> {
    let mut values = headers.get_all(HEADER_CORRELATION_ID).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => CorrelationId::parse(value.as_bytes()).map(Some),
        (Some(_), Some(_)) => Err(InvalidCorrelationId),
    }
}

#[derive(Clone, Debug)]
struct CallContext {
    id: CorrelationId,
    /// The span of its log lines.
    logged: Span,
    /// Its span in its trace, within the other, if it is traced.
    traced: Span,
}

impl CallContext {
    fn new<In>(request: &Request<In>, id: CorrelationId) -> Self {
        // Of level ERROR, so that no log filter takes the id away from the lines that remain.
        let logged = error_span!("call", correlation_id = %id, trace_id = Empty);
        let traced = server_span(request.uri().path(), request.headers(), &id);
        if let Some(trace_id) = trace_id(&traced) {
            logged.record("trace_id", trace_id);
        }
        Self { id, logged, traced }
    }

    fn enter<T>(&self, code: impl FnOnce() -> T) -> T {
        in_call(&self.id, &self.logged, || self.traced.in_scope(code))
    }
}

pin_project! {
    /// The answer to a call, in the call's context.
    #[derive(Debug)]
    pub struct CorrelationFuture<F> {
        #[pin]
        inner: F,
        context: CallContext,
    }
}

impl<F, B, E> Future for CorrelationFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<CorrelationBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let context = &*this.context;
        let mut response = ready!(context.enter(|| this.inner.poll(cx)))?;
        if let Ok(value) = HeaderValue::from_str(context.id.as_str()) {
            response.headers_mut().insert(HEADER_CORRELATION_ID, value);
        }
        let context = context.clone();
        Poll::Ready(Ok(response.map(|inner| CorrelationBody { inner, context })))
    }
}

pin_project! {
    /// An answer's body, in the call's context.
    #[derive(Debug)]
    pub struct CorrelationBody<B> {
        #[pin]
        inner: B,
        context: CallContext,
    }
}

impl<B: Body> Body for CorrelationBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        this.context.enter(|| this.inner.poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
