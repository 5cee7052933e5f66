//! A panic anywhere below ends its call as INTERNAL, with the correlation id, and nothing else.
//!
//! Without it the call's stream would be reset: no status, no id, no line in the log.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::Status;
use tower::{Layer, Service};

use super::{CallError, to_status};
use crate::common::shutdown::report_panic;

/// Wraps services in [`Panics`].
#[derive(Clone, Copy, Debug, Default)]
pub struct PanicLayer;

impl<S> Layer<S> for PanicLayer {
    type Service = Panics<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Panics { inner }
    }
}

/// Answers where the service below panics.
#[derive(Clone, Debug)]
pub struct Panics<S> {
    inner: S,
}

impl<S, In, Out> Service<Request<In>> for Panics<S>
where
    S: Service<Request<In>, Response = Response<Out>>,
{
    type Response = Response<PanicBody<Out>>;
    type Error = S::Error;
    type Future = PanicFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        match catch_unwind(AssertUnwindSafe(|| self.inner.call(request))) {
            Ok(inner) => PanicFuture { inner: Some(inner), panicked: None },
            Err(payload) => PanicFuture { inner: None, panicked: Some(status(&*payload)) },
        }
    }
}

fn status(payload: &(dyn Any + Send)) -> Status {
    to_status(&CallError::Panicked(report_panic("call", payload)))
}

pin_project! {
    /// A call that may panic before it answers.
    #[derive(Debug)]
    pub struct PanicFuture<F> {
        #[pin]
        inner: Option<F>,
        panicked: Option<Status>,
    }
}

impl<F, B, E> Future for PanicFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<PanicBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let panicked = match this.inner.as_mut().as_pin_mut() {
            None => this.panicked.take(),
            Some(inner) => match catch_unwind(AssertUnwindSafe(|| inner.poll(cx))) {
                Ok(polled) => {
                    let response = ready!(polled)?;
                    return Poll::Ready(Ok(response.map(|body| PanicBody { inner: Some(body) })));
                }
                Err(payload) => Some(status(&*payload)),
            },
        };
        this.inner.set(None);
        let status = panicked.unwrap_or_else(|| to_status(&CallError::TaskCancelled("call")));
        Poll::Ready(Ok(status.into_http::<()>().map(|()| PanicBody { inner: None })))
    }
}

pin_project! {
    /// A body that may panic between its messages.
    #[derive(Debug)]
    pub struct PanicBody<B> {
        #[pin]
        inner: Option<B>,
    }
}

impl<B: Body> Body for PanicBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        match catch_unwind(AssertUnwindSafe(|| inner.poll_frame(cx))) {
            Ok(frame) => frame,
            Err(payload) => {
                this.inner.set(None);
                let mut trailers = HeaderMap::new();
                let written = status(&*payload).add_header(&mut trailers);
                Poll::Ready(written.ok().map(|()| Ok(Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use futures::{StreamExt as _, stream};
    use tonic::Code;
    use tonic_types::StatusExt as _;
    use tower::{ServiceExt as _, service_fn};

    use super::super::deadline::tests::{Frames, next};
    use super::*;
    use crate::common::tracing::CorrelationLayer;

    type Empty = Frames<stream::Empty<Frame<Bytes>>>;

    fn assert_internal(status: &Status, id: &str) {
        assert_eq!(status.code(), Code::Internal);
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().metadata["correlation_id"], id);
        assert!(!format!("{status:?}").contains("dropped it"), "{status:?}");
    }

    fn request() -> Request<()> {
        Request::builder().header("x-correlation-id", "mine").body(()).unwrap()
    }

    #[tokio::test]
    async fn a_panic_before_the_answer_is_internal_with_the_correlation_id() {
        let at_once = service_fn(
            |_: Request<()>| -> std::future::Ready<Result<Response<Empty>, Infallible>> {
                panic!("dropped it")
            },
        );
        let polled = service_fn(|_: Request<()>| {
            std::future::poll_fn(|_| -> Poll<Result<Response<Empty>, Infallible>> {
                panic!("dropped it")
            })
        });
        let layer = (CorrelationLayer, PanicLayer);
        let answer = layer.layer(at_once).oneshot(request()).await.unwrap();
        assert_internal(&Status::from_header_map(answer.headers()).unwrap(), "mine");
        let answer = layer.layer(polled).oneshot(request()).await.unwrap();
        assert_internal(&Status::from_header_map(answer.headers()).unwrap(), "mine");
    }

    #[tokio::test]
    async fn a_panic_in_a_stream_is_its_last_word() {
        let clumsy = service_fn(|_: Request<()>| async {
            let frames = stream::iter(0..).map(|number| match number {
                0 => Frame::data(Bytes::from_static(b"x")),
                _ => panic!("dropped it"),
            });
            Ok::<_, Infallible>(Response::new(Frames(frames)))
        });
        let answer = (CorrelationLayer, PanicLayer).layer(clumsy).oneshot(request()).await.unwrap();
        let mut body = answer.into_body();
        assert!(next(&mut body).await.unwrap().is_data());
        let trailers = next(&mut body).await.unwrap().into_trailers().unwrap();
        assert_internal(&Status::from_header_map(&trailers).unwrap(), "mine");
        assert!(next(&mut body).await.is_none());
    }
}
