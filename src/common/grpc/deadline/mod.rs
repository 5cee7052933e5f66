//! Owns `grpc-timeout`: a call whose time has passed ends with `DEADLINE_EXCEEDED`, on the wire.
//!
//! tonic's own timer ends such a call as CANCELLED, and covers only the head of the answer. Ours
//! starts in `call`, before tonic's and before anything waits (so that auth, limits and queues
//! count), and goes on for the body, so that streams end in time too. What is dropped is the
//! answering: commands run in tasks of their own and go on.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tonic::Status;
use tower::{Layer, Service};

use super::{CallError, to_status};
use crate::common::constants::HEADER_GRPC_TIMEOUT;
use crate::common::error::InvalidFields;

/// Wraps services in [`Deadline`].
#[derive(Clone, Copy, Debug, Default)]
pub struct DeadlineLayer;

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Deadline { inner }
    }
}

/// Ends calls whose `grpc-timeout` has passed, and refuses a malformed one.
#[derive(Clone, Debug)]
pub struct Deadline<S> {
    inner: S,
}

impl<S, In, Out> Service<Request<In>> for Deadline<S>
where
    S: Service<Request<In>, Response = Response<Out>>,
{
    type Response = Response<DeadlineBody<Out>>;
    type Error = S::Error;
    type Future = DeadlineFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        match timeout(request.headers()) {
            Ok(timeout) => {
                let timer = timeout.and_then(Timer::start);
                DeadlineFuture { timer, refusal: None, inner: Some(self.inner.call(request)) }
            }
            Err(invalid) => {
                DeadlineFuture { timer: None, refusal: Some(to_status(&invalid)), inner: None }
            }
        }
    }
}

/// The call's time, as the gRPC protocol writes it: up to eight digits and a unit.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, InvalidFields> {
    let Some(value) = headers.get(HEADER_GRPC_TIMEOUT) else { return Ok(None) };
    parse_timeout(value.as_bytes()).map(Some).ok_or_else(|| {
        let accepted = "must be 1 to 8 digits and one of H, M, S, m, u, n";
        InvalidFields::new(HEADER_GRPC_TIMEOUT, accepted)
    })
}

fn parse_timeout(bytes: &[u8]) -> Option<Duration> {
    let (unit, digits) = bytes.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    match unit {
        b'H' => Some(Duration::from_secs(amount * 60 * 60)),
        b'M' => Some(Duration::from_secs(amount * 60)),
        b'S' => Some(Duration::from_secs(amount)),
        b'm' => Some(Duration::from_millis(amount)),
        b'u' => Some(Duration::from_micros(amount)),
        b'n' => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[derive(Debug)]
struct Timer {
    deadline: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Timer {
    fn start(timeout: Duration) -> Option<Self> {
        let deadline = Instant::now().checked_add(timeout)?;
        Some(Self { deadline, sleep: Box::pin(tokio::time::sleep_until(deadline)) })
    }

    /// Whether the time has passed; else the task is woken when it has.
    ///
    /// The clock is looked at as well: whoever wakes the task first, an expired call is ours.
    fn expired(&mut self, cx: &mut Context<'_>) -> bool {
        self.sleep.as_mut().poll(cx).is_ready() || Instant::now() >= self.deadline
    }
}

pin_project! {
    /// The head of an answer, or the deadline.
    #[derive(Debug)]
    pub struct DeadlineFuture<F> {
        #[pin]
        inner: Option<F>,
        timer: Option<Timer>,
        refusal: Option<Status>,
    }
}

impl<F, B, E> Future for DeadlineFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<DeadlineBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(inner) = this.inner.as_mut().as_pin_mut() {
            if let Poll::Ready(result) = inner.poll(cx) {
                let timer = this.timer.take();
                return Poll::Ready(
                    result.map(|response| response.map(|body| DeadlineBody::new(body, timer))),
                );
            }
            if !this.timer.as_mut().is_some_and(|timer| timer.expired(cx)) {
                return Poll::Pending;
            }
            this.inner.set(None);
        }
        let status = this.refusal.take().unwrap_or_else(|| to_status(&CallError::DeadlineExceeded));
        Poll::Ready(Ok(status.into_http::<()>().map(|()| DeadlineBody::ended())))
    }
}

pin_project! {
    /// A body that ends with `DEADLINE_EXCEEDED` when the call's time has passed.
    #[derive(Debug)]
    pub struct DeadlineBody<B> {
        #[pin]
        inner: Option<B>,
        timer: Option<Timer>,
    }
}

impl<B> DeadlineBody<B> {
    fn new(inner: B, timer: Option<Timer>) -> Self {
        Self { inner: Some(inner), timer }
    }

    fn ended() -> Self {
        Self { inner: None, timer: None }
    }
}

impl<B: Body> Body for DeadlineBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        // The time comes first: a stream that always has something to send would never look.
        if this.inner.is_some() && this.timer.as_mut().is_some_and(|timer| timer.expired(cx)) {
            this.inner.set(None);
            let mut trailers = HeaderMap::new();
            let status = to_status(&CallError::DeadlineExceeded);
            return match status.add_header(&mut trailers) {
                Ok(()) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Err(_) => Poll::Ready(None),
            };
        }
        let Some(inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        let frame = ready!(inner.poll_frame(cx));
        if frame.is_none() || matches!(&frame, Some(Ok(frame)) if frame.is_trailers()) {
            this.inner.set(None);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.inner, &self.timer) {
            (None, _) => SizeHint::with_exact(0),
            (Some(inner), None) => inner.size_hint(),
            (Some(_), Some(_)) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
