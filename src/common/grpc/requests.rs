//! Ends calls whose request does not arrive.
//!
//! A caller may begin a request and never finish it: the call, its place among the calls, and what
//! has arrived of it would stay for as long as the connection does. So each request has to be
//! whole in time. Requests that are streams of messages may go on, until the server stops.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Request;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tower::{Layer, Service};

use super::methods::Methods;
use super::{CallError, to_status};
use crate::common::constants::REQUEST_PATIENCE;

/// Wraps services in [`Requests`].
#[derive(Clone, Debug)]
pub struct RequestsLayer {
    methods: Methods,
    draining: CancellationToken,
}

impl RequestsLayer {
    /// Knows by `methods` which requests are streams; what is not whole when `draining` is
    /// cancelled is refused.
    pub const fn new(methods: Methods, draining: CancellationToken) -> Self {
        Self { methods, draining }
    }
}

impl<S> Layer<S> for RequestsLayer {
    type Service = Requests<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Requests { inner, layer: self.clone() }
    }
}

/// Gives each request its time to arrive.
#[derive(Clone, Debug)]
pub struct Requests<S> {
    inner: S,
    layer: RequestsLayer,
}

impl<S, In> Service<Request<In>> for Requests<S>
where
    S: Service<Request<RequestBody<In>>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        let RequestsLayer { methods, draining } = &self.layer;
        let is_stream = methods.takes_stream(request.uri().path());
        let due = (!is_stream).then(|| Instant::now() + REQUEST_PATIENCE);
        let draining = draining.clone();
        self.inner.call(request.map(|inner| RequestBody { inner, due, draining, end: None }))
    }
}

pin_project! {
    /// A request that has to be whole in time.
    pub struct RequestBody<B> {
        #[pin]
        inner: B,
        due: Option<Instant>,
        draining: CancellationToken,
        // Made once it has to be waited for, which for most requests is never.
        end: Option<Pin<Box<dyn Future<Output = CallError> + Send>>>,
    }
}

impl<B: Body> Body for RequestBody<B> {
    type Data = B::Data;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, Status>>> {
        let this = self.project();
        let error = match this.inner.poll_frame(cx) {
            Poll::Ready(Some(Err(_))) => CallError::Abandoned,
            Poll::Ready(Some(Ok(frame))) => return Poll::Ready(Some(Ok(frame))),
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {
                let (due, draining) = (*this.due, &*this.draining);
                let end = this.end.get_or_insert_with(|| Box::pin(end(due, draining.clone())));
                ready!(end.as_mut().poll(cx))
            }
        };
        *this.end = None;
        Poll::Ready(Some(Err(to_status(&error))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Why a request is no longer waited for.
async fn end(due: Option<Instant>, draining: CancellationToken) -> CallError {
    let overdue = async {
        match due {
            Some(due) => sleep_until(due).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = draining.cancelled() => CallError::Draining,
        () = overdue => CallError::Unfinished,
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::poll_fn;
    use std::io;
    use std::pin::pin;

    use bytes::Bytes;
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    /// Its caller is gone.
    struct Broken;

    impl Body for Broken {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            Poll::Ready(Some(Err(io::Error::other("reset"))))
        }
    }

    #[tokio::test]
    async fn a_caller_who_breaks_off_is_no_fault_of_ours() {
        let read = service_fn(|request: Request<RequestBody<Broken>>| async {
            let mut body = pin!(request.into_body());
            let frame = poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
            Ok::<_, Infallible>(frame.unwrap().unwrap_err())
        });
        let layer = RequestsLayer::new(Methods::default(), CancellationToken::new());
        let status = layer.layer(read).oneshot(Request::new(Broken)).await.unwrap();
        assert_eq!(status.code(), tonic::Code::Cancelled);
    }
}
