//! The whole body of an RPC: decode, send through the mediator, encode.

use std::net::Ipv6Addr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, ready};

use bytes::Bytes;
use futures::{FutureExt as _, Stream, StreamExt as _, stream};
use metrics::{Counter, Gauge};
use prost::Message;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status};

use super::status::{answer_of, from_answer};
use super::{CallError, to_status};
use crate::common::constants::HEADER_IDEMPOTENCY_REPLAYED;
use crate::common::error::Coded;
use crate::common::idempotency::{
    Answer, Ended, Fingerprint, GivenKey, Idempotency, IdempotencyError, KeyedCall, Reply, Scope,
};
use crate::common::identity::Principal;
use crate::common::mediator::{self, Mediator, SendError};
use crate::common::metrics::table::{STREAM_MESSAGES, STREAMS_OPEN};
use crate::common::shutdown::{TaskPanicked, catch_panic, report_panic, spawn_tracked};

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

/// Carries out a unary command: once begun it runs to its end as a tracked task, whether its
/// caller waits for it or not, so that no write is dropped half-way. With an `idempotency-key` it
/// is carried out once, and every call with the key is answered alike.
pub async fn command<R, In, Out>(
    mediator: &Mediator,
    idempotency: &Idempotency,
    request: Request<In>,
) -> GrpcResult<Out>
where
    R: mediator::Request + TryFrom<In, Error: Coded>,
    In: Message,
    Out: From<R::Output> + Message + Default + Clone + 'static,
{
    command_withholding::<R, In, Out>(mediator, idempotency, request, |_| {}).await
}

/// The same for a command whose answer holds a secret: of an answer that is kept for an idempotency
/// key, `withhold` takes it out, so that only the call that ran the command is told.
pub async fn command_withholding<R, In, Out>(
    mediator: &Mediator,
    idempotency: &Idempotency,
    request: Request<In>,
    withhold: fn(&mut Out),
) -> GrpcResult<Out>
where
    R: mediator::Request + TryFrom<In, Error: Coded>,
    In: Message,
    Out: From<R::Output> + Message + Default + Clone + 'static,
{
    let keyed = keyed_call(R::NAME, &request).map_err(|error| to_status(&error))?;
    let command = R::try_from(request.into_inner()).map_err(|error| to_status(&error))?;
    let mediator = mediator.clone();
    let work = async move { mediator.send(command).await };
    if let Some(call) = keyed {
        let whole = Arc::new(Mutex::new(None));
        let told = Arc::clone(&whole);
        let work = async move {
            ended::<R, Out>(catch_panic(R::NAME, work).await, |answer| {
                *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer.clone());
                withhold(answer);
            })
        };
        let reply = idempotency.once(call, work).await.map_err(|error| to_status(&error))?;
        let whole = whole.lock().unwrap_or_else(PoisonError::into_inner).take();
        return match whole.filter(|_| !reply.replayed) {
            Some(whole) => Ok(Response::new(whole)),
            None => replied(R::NAME, reply),
        };
    }
    let output = spawn_tracked(idempotency.tasks(), R::NAME, work)
        .await
        .map_err(|_| to_status(&CallError::TaskCancelled(R::NAME)))?
        .map_err(|panicked| to_status(&CallError::Panicked(panicked)))?
        .map_err(|error| to_status(&error))?;
    Ok(Response::new(output.into()))
}

/// The request as its idempotency key stands for it, if it has one.
fn keyed_call<In: Message>(
    method: &'static str,
    request: &Request<In>,
) -> Result<Option<KeyedCall>, IdempotencyError> {
    let Some(key) = GivenKey::of(request.extensions())? else { return Ok(None) };
    let fingerprint = Fingerprint::of(method, &request.get_ref().encode_to_vec());
    let scope = Scope { principal: principal(request), method, key };
    Ok(Some(KeyedCall { scope, fingerprint }))
}

/// Whoever a layer has found out, else the peer's address.
fn principal<In>(request: &Request<In>) -> Principal {
    let known = request.extensions().get::<Principal>().cloned();
    known.unwrap_or_else(|| {
        let peer = request.remote_addr().map(|peer| peer.ip().to_canonical());
        Principal::Address(peer.unwrap_or(Ipv6Addr::UNSPECIFIED.into()))
    })
}

/// What the run of a command is remembered as; `seen` sees the answer first, and may change it.
fn ended<R, Out>(
    result: Result<Result<R::Output, SendError<R::Error>>, TaskPanicked>,
    seen: impl FnOnce(&mut Out),
) -> Ended
where
    R: mediator::Request,
    Out: From<R::Output> + Message,
{
    let failed =
        |error: &dyn Coded| Ended::failed(answer_of(&to_status(error)), error.code().status());
    match result {
        Ok(Ok(output)) => {
            let mut answer = Out::from(output);
            seen(&mut answer);
            let body = Bytes::from(answer.encode_to_vec());
            Ended::ok(Answer { body, ..Answer::default() })
        }
        Ok(Err(error)) => failed(&error),
        Err(panicked) => failed(&CallError::Panicked(panicked)),
    }
}

/// The answer as its caller gets it.
fn replied<Out: Message + Default>(method: &'static str, reply: Reply) -> GrpcResult<Out> {
    let mut result = match from_answer(&reply.answer) {
        Some(status) => Err(status),
        None => Ok(Response::new(
            Out::decode(reply.answer.body)
                .map_err(|_| to_status(&CallError::AnswerUnreadable(method)))?,
        )),
    };
    if reply.replayed {
        let metadata = match &mut result {
            Ok(response) => response.metadata_mut(),
            Err(status) => status.metadata_mut(),
        };
        metadata.insert(HEADER_IDEMPOTENCY_REPLAYED, MetadataValue::from_static("true"));
    }
    result
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
