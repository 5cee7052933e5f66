//! Gives the statuses that tonic makes itself the details that every error has, and refuses what
//! is not gRPC.
//!
//! tonic answers an unknown method, a message that is too large or one that it cannot read
//! without asking us, and an error of a layer below has no answer at all.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::{BoxError, Layer, Service};

use super::status::{complete, from_layer};
use super::to_status;
use crate::common::error::InvalidFields;

/// Wraps services in [`Details`].
#[derive(Clone, Copy, Debug, Default)]
pub struct DetailsLayer;

impl<S> Layer<S> for DetailsLayer {
    type Service = Details<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Details { inner }
    }
}

/// Completes statuses, and answers where the service below fails.
#[derive(Clone, Debug)]
pub struct Details<S> {
    inner: S,
}

impl<S, In, Out> Service<Request<In>> for Details<S>
where
    S: Service<Request<In>, Response = Response<Out>, Error: Into<BoxError>>,
{
    type Response = Response<DetailsBody<Out>>;
    type Error = S::Error;
    type Future = DetailsFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        let uri = request.uri().clone();
        let inner = is_grpc(request.headers()).then(|| self.inner.call(request));
        DetailsFuture { inner, uri }
    }
}

/// `application/grpc`, with or without `+proto` and parameters.
fn is_grpc(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let rest = value.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// What the protocol prescribes, with a status besides.
fn not_grpc() -> Response<()> {
    let refused = InvalidFields::new("content-type", "must be `application/grpc`");
    let mut response = to_status(&refused).into_http();
    *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    response
}

pin_project! {
    /// An answer whose status is being completed.
    #[derive(Debug)]
    pub struct DetailsFuture<F> {
        #[pin]
        inner: Option<F>,
        uri: Uri,
    }
}

impl<F, B, E> Future for DetailsFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<DetailsBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let uri = this.uri.clone();
        let Some(inner) = this.inner.as_pin_mut() else {
            return Poll::Ready(Ok(not_grpc().map(|()| DetailsBody { inner: None, uri })));
        };
        let mut response = match ready!(inner.poll(cx)) {
            Ok(response) => response.map(|body| DetailsBody { inner: Some(body), uri }),
            Err(error) => from_layer(error.into())
                .into_http::<()>()
                .map(|()| DetailsBody { inner: None, uri }),
        };
        complete(response.headers_mut(), this.uri, true);
        Poll::Ready(Ok(response))
    }
}

pin_project! {
    /// A body whose trailers are completed.
    #[derive(Debug)]
    pub struct DetailsBody<B> {
        #[pin]
        inner: Option<B>,
        uri: Uri,
    }
}

impl<B: Body> Body for DetailsBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let Some(inner) = this.inner.as_pin_mut() else { return Poll::Ready(None) };
        let mut frame = ready!(inner.poll_frame(cx));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            complete(trailers, this.uri, false);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
