//! The whole body of an RPC: decode, send through the mediator, encode.

use std::pin::Pin;
use std::task::{Poll, ready};

use futures::{FutureExt as _, Stream, StreamExt as _, stream};
use metrics::{Counter, Gauge};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};

use super::{CallError, to_status};
use crate::common::error::Coded;
use crate::common::mediator::{self, Mediator};
use crate::common::metrics::table::{STREAM_MESSAGES, STREAMS_OPEN};
use crate::common::shutdown::{catch_panic, report_panic, spawn_tracked};

/// What every RPC returns.
pub type GrpcResult<T> = Result<Response<T>, Status>;

/// The answer of a server-streaming RPC.
pub type GrpcStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Answers a unary query: it ends when its caller goes away.
pub async fn query<R, In, Out>(mediator: &Mediator, request: Request<In>) -> GrpcResult<Out>
where
    R: mediator::Request + TryFrom<In, Error: Coded>,
    Out: From<R::Output>,
{
    let output = send::<R, In>(mediator, request).await?;
    Ok(Response::new(output.into()))
}

/// Carries out a unary command: once begun it runs to its end on `tracker`, whether its caller
/// waits for it or not, so that no write is dropped half-way.
pub async fn command<R, In, Out>(
    mediator: &Mediator,
    tracker: &TaskTracker,
    request: Request<In>,
) -> GrpcResult<Out>
where
    R: mediator::Request + TryFrom<In, Error: Coded>,
    Out: From<R::Output>,
{
    let command = R::try_from(request.into_inner()).map_err(|error| to_status(&error))?;
    let mediator = mediator.clone();
    // Idempotency goes around the send.
    let task = spawn_tracked(tracker, R::NAME, async move { mediator.send(command).await });
    let output = task
        .await
        .map_err(|_| to_status(&CallError::TaskCancelled(R::NAME)))?
        .map_err(|panicked| to_status(&CallError::Panicked(panicked)))?
        .map_err(|error| to_status(&error))?;
    Ok(Response::new(output.into()))
}

/// Answers a server-streaming query: each item in turn, and an error as the last.
///
/// [`until_stopping`] around the answer's stream lets the server stop while it is sent.
pub async fn stream_query<R, In, Out, Item, E>(
    mediator: &Mediator,
    request: Request<In>,
) -> GrpcResult<GrpcStream<Out>>
where
    R: mediator::Request<Output: Stream<Item = Result<Item, E>>> + TryFrom<In, Error: Coded>,
    Out: From<Item> + Send + 'static,
    E: Coded,
{
    let output = send::<R, In>(mediator, request).await?;
    let counted = CountedStream::begin(R::NAME);
    let items = std::panic::AssertUnwindSafe(output).catch_unwind().map(move |item| match item {
        Ok(Ok(item)) => {
            counted.messages.increment(1);
            Ok(Out::from(item))
        }
        Ok(Err(error)) => Err(to_status(&error)),
        Err(payload) => Err(to_status(&CallError::Panicked(report_panic(R::NAME, &*payload)))),
    });
    Ok(Response::new(Box::pin(items)))
}

/// An open stream, as metrics know it.
struct CountedStream {
    open: Gauge,
    messages: Counter,
}

impl CountedStream {
    fn begin(request: &'static str) -> Self {
        let (open, messages) = (STREAMS_OPEN.with([request]), STREAM_MESSAGES.with([request]));
        open.increment(1);
        Self { open, messages }
    }
}

impl Drop for CountedStream {
    fn drop(&mut self) {
        self.open.decrement(1);
    }
}

/// `items` up to the first error; what is not finished when `stopping` is cancelled ends with
/// UNAVAILABLE, reason `DRAINING`.
pub fn until_stopping<T: 'static>(
    items: GrpcStream<T>,
    stopping: CancellationToken,
) -> GrpcStream<T> {
    let mut stopped = Box::pin(stopping.cancelled_owned());
    let mut items = Some(items);
    Box::pin(stream::poll_fn(move |cx| {
        let Some(unfinished) = &mut items else { return Poll::Ready(None) };
        // The end comes first: a stream that always has something to send would never look.
        let next = match stopped.poll_unpin(cx) {
            Poll::Ready(()) => Some(Err(to_status(&CallError::Draining))),
            Poll::Pending => ready!(unfinished.poll_next_unpin(cx)),
        };
        if !matches!(next, Some(Ok(_))) {
            items = None;
        }
        Poll::Ready(next)
    }))
}

async fn send<R, In>(mediator: &Mediator, request: Request<In>) -> Result<R::Output, Status>
where
    R: mediator::Request + TryFrom<In, Error: Coded>,
{
    let query = R::try_from(request.into_inner()).map_err(|error| to_status(&error))?;
    catch_panic(R::NAME, mediator.send(query))
        .await
        .map_err(|panicked| to_status(&CallError::Panicked(panicked)))?
        .map_err(|error| to_status(&error))
}
