//! Bounds what the whole process works on at once; what is above the bound is told to come back.
//!
//! Calls have one budget and open streams another, since a stream may live for weeks: a call
//! counts from here to the end of its answer, a stream counts as a call while it is being opened
//! and as a stream from then on. Health is neither counted nor refused here: an orchestrator that
//! takes a busy process for a dead one makes it worse, and who has no key takes no place of those
//! who have one. The limits bound it by caller.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tower::{Layer, Service};

use super::transport::LongAnswer;
use super::{CallError, to_status};
use crate::common::constants::{MAX_CALLS, MAX_STREAMS};
use crate::common::metrics::table::OVERLOAD_REFUSALS;

/// Calls that count for nothing.
const HEALTH: &str = "/grpc.health.v1.Health/";

/// How much the process works on. Cheap to clone: clones share their counts.
#[derive(Clone, Debug)]
pub struct Load {
    calls: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    limits: (usize, usize),
    streaming: Arc<HashSet<String>>,
}

impl Load {
    /// `streaming` are the paths (`/package.Service/Method`) of methods that answer with streams.
    pub fn new(streaming: impl IntoIterator<Item = String>) -> Self {
        Self::with_limits(streaming, MAX_CALLS, MAX_STREAMS)
    }

    fn with_limits(
        streaming: impl IntoIterator<Item = String>,
        calls: usize,
        streams: usize,
    ) -> Self {
        Self {
            calls: Arc::new(Semaphore::new(calls)),
            streams: Arc::new(Semaphore::new(streams)),
            limits: (calls, streams),
            streaming: Arc::new(streaming.into_iter().collect()),
        }
    }

    /// Calls in flight, streams that are being opened among them.
    pub fn calls(&self) -> usize {
        self.limits.0.saturating_sub(self.calls.available_permits())
    }

    /// Streams that are open or being opened.
    pub fn streams(&self) -> usize {
        self.limits.1.saturating_sub(self.streams.available_permits())
    }

    /// Room for a call of `path`; nothing when there is none.
    fn admit(&self, path: &str) -> Option<Permits> {
        let long = self.streaming.contains(path);
        if path.starts_with(HEALTH) {
            return Some(Permits { call: None, _stream: None, long });
        }
        let call = Arc::clone(&self.calls).try_acquire_owned().ok()?;
        let stream =
            if long { Some(Arc::clone(&self.streams).try_acquire_owned().ok()?) } else { None };
        Some(Permits { call: Some(call), _stream: stream, long })
    }
}

/// What a call counts as, until it is dropped.
#[derive(Debug)]
struct Permits {
    call: Option<OwnedSemaphorePermit>,
    _stream: Option<OwnedSemaphorePermit>,
    /// Whether it is a stream, counted or not.
    long: bool,
}

/// Wraps services in [`LoadShed`].
#[derive(Clone, Debug)]
pub struct LoadShedLayer {
    load: Load,
}

impl LoadShedLayer {
    /// Counts in `load`.
    pub const fn new(load: Load) -> Self {
        Self { load }
    }
}

impl<S> Layer<S> for LoadShedLayer {
    type Service = LoadShed<S>;

    fn layer(&self, inner: S) -> Self::Service {
        LoadShed { inner, load: self.load.clone() }
    }
}

/// Refuses calls while too many are in flight.
#[derive(Clone, Debug)]
pub struct LoadShed<S> {
    inner: S,
    load: Load,
}

impl<S, In, Out> Service<Request<In>> for LoadShed<S>
where
    S: Service<Request<In>, Response = Response<Out>>,
{
    type Response = Response<LoadShedBody<Out>>;
    type Error = S::Error;
    type Future = LoadShedFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        let Some(permits) = self.load.admit(request.uri().path()) else {
            OVERLOAD_REFUSALS.handle().increment(1);
            let refusal = Some(to_status(&CallError::Overloaded));
            return LoadShedFuture { inner: None, permits: None, refusal };
        };
        let inner = Some(self.inner.call(request));
        LoadShedFuture { inner, permits: Some(permits), refusal: None }
    }
}

pin_project! {
    /// A call that counts, or its refusal.
    #[derive(Debug)]
    pub struct LoadShedFuture<F> {
        #[pin]
        inner: Option<F>,
        permits: Option<Permits>,
        refusal: Option<Status>,
    }
}

impl<F, B, E> Future for LoadShedFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<LoadShedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(inner) = this.inner.as_pin_mut() else {
            let status = this.refusal.take();
            let status = status.unwrap_or_else(|| to_status(&CallError::Overloaded));
            return Poll::Ready(Ok(status
                .into_http::<()>()
                .map(|()| LoadShedBody { inner: None, permits: None })));
        };
        let mut response = ready!(inner.poll(cx))?;
        let mut permits = this.permits.take();
        if let Some(permits) = &mut permits
            && permits.long
        {
            permits.call = None;
            response.extensions_mut().insert(LongAnswer);
        }
        Poll::Ready(Ok(response.map(|body| LoadShedBody { inner: Some(body), permits })))
    }
}

pin_project! {
    /// A body whose call counts until its end.
    #[derive(Debug)]
    pub struct LoadShedBody<B> {
        #[pin]
        inner: Option<B>,
        permits: Option<Permits>,
    }
}

impl<B: Body> Body for LoadShedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let Some(inner) = this.inner.as_pin_mut() else { return Poll::Ready(None) };
        let frame = ready!(inner.poll_frame(cx));
        if !matches!(&frame, Some(Ok(frame)) if frame.is_data()) {
            *this.permits = None;
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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use futures::stream;
    use tonic_types::StatusExt as _;
    use tower::{ServiceExt as _, service_fn};

    use super::super::deadline::tests::{Frames, next};
    use super::*;

    const CALL: &str = "/a.B/Call";
    const STREAM: &str = "/a.B/Stream";

    async fn ask(
        load: &Load,
        path: &str,
    ) -> Response<LoadShedBody<impl Body<Data = Bytes, Error = Infallible> + Unpin>> {
        let one_message = service_fn(|_: Request<()>| async {
            let trailers = Frame::trailers(http::HeaderMap::new());
            let frames = stream::iter([Frame::data(Bytes::from_static(b"x")), trailers]);
            Ok::<_, Infallible>(Response::new(Frames(frames)))
        });
        let request = Request::builder().uri(path).body(()).unwrap();
        LoadShedLayer::new(load.clone()).layer(one_message).oneshot(request).await.unwrap()
    }

    fn refusal<B>(response: &Response<B>) -> Option<Status> {
        Status::from_header_map(response.headers())
    }

    #[tokio::test]
    async fn a_call_counts_to_the_end_of_its_answer() {
        let load = Load::with_limits([STREAM.to_owned()], 1, 1);
        let mut answer = ask(&load, CALL).await.into_body();
        assert!(next(&mut answer).await.unwrap().is_data());
        let refused = refusal(&ask(&load, CALL).await).unwrap();
        assert_eq!(refused.code(), tonic::Code::Unavailable);
        let details = refused.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "OVERLOADED");
        assert!(details.retry_info().unwrap().retry_delay.is_some());

        assert!(next(&mut answer).await.unwrap().is_trailers());
        assert!(refusal(&ask(&load, CALL).await).is_none());
        assert_eq!((load.calls(), load.streams()), (0, 0), "who goes away counts no longer");
    }

    #[tokio::test]
    async fn an_open_stream_leaves_the_calls_their_room_and_has_a_bound_of_its_own() {
        let load = Load::with_limits([STREAM.to_owned()], 1, 1);
        let open = ask(&load, STREAM).await;
        assert_eq!((load.calls(), load.streams()), (0, 1));
        assert!(open.extensions().get::<LongAnswer>().is_some());
        assert!(refusal(&ask(&load, CALL).await).is_none());
        assert!(refusal(&ask(&load, STREAM).await).is_some());
        drop(open);
        assert!(refusal(&ask(&load, STREAM).await).is_none());
    }

    #[tokio::test]
    async fn probes_are_answered_whatever_the_load() {
        let watch = [HEALTH, "Watch"].concat();
        let load = Load::with_limits([watch.clone()], 0, 0);
        assert!(refusal(&ask(&load, CALL).await).is_some());
        assert!(refusal(&ask(&load, &[HEALTH, "Check"].concat()).await).is_none());
        let watching = ask(&load, &watch).await;
        assert!(refusal(&watching).is_none());
        assert!(watching.extensions().get::<LongAnswer>().is_some());
    }
}
