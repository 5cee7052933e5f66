//! Bodies of RPCs over a mediator of small handlers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use thiserror::Error;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

use super::*;
use crate::common::idempotency::Idempotency;
use crate::common::idempotency::tests::InMemory;
use crate::common::mediator::{self, Handler, Mediator};
use crate::common::shutdown::Lifecycle;

#[derive(Debug, Error)]
#[error("not today")]
struct Refused;

impl Coded for Refused {
    fn code(&self) -> ErrorCode {
        ErrorCode::ProviderNoData
    }
}

/// What a handler is told to do.
struct Act(String);

impl TryFrom<String> for Act {
    type Error = crate::common::error::InvalidFields;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "" => Err(Self::Error::new("text", "must not be empty")),
            _ => Ok(Self(text)),
        }
    }
}

impl mediator::Request for Act {
    type Output = String;
    type Error = Refused;
    const NAME: &'static str = "test.act";
}

#[derive(Default)]
struct Actor {
    go_on: Arc<Notify>,
    done: Arc<AtomicBool>,
}

impl Handler<Act> for Actor {
    async fn handle(&self, Act(what): Act) -> Result<String, Refused> {
        match what.as_str() {
            "fail" => Err(Refused),
            "panic" => panic!("it fell over, with a secret"),
            "wait" => {
                self.go_on.notified().await;
                self.done.store(true, Ordering::SeqCst);
                Ok("waited".to_owned())
            }
            _ => Ok(what),
        }
    }
}

/// A request as a layer hands it on, with its idempotency key.
fn keyed(text: &str, key: &'static str) -> Request<String> {
    let mut request = Request::new(());
    request.metadata_mut().insert("idempotency-key", key.parse().unwrap());
    interceptor(request).unwrap().map(|()| text.to_owned())
}

fn idempotency(lifecycle: &Lifecycle) -> Idempotency {
    Idempotency::new(Arc::new(InMemory::default()), lifecycle)
}

fn mediator() -> Mediator {
    Mediator::builder().register(Actor::default()).build()
}

#[tokio::test]
async fn query_and_command_decode_send_and_encode() {
    let (mediator, idempotency) = (mediator(), idempotency(&Lifecycle::new()));
    let answer: String =
        query::<Act, _, _>(&mediator, Request::new("hi".to_owned())).await.unwrap().into_inner();
    assert_eq!(answer, "hi");
    let answer: String =
        command::<Act, _, _>(&mediator, &idempotency, Request::new("ho".to_owned()))
            .await
            .unwrap()
            .into_inner();
    assert_eq!(answer, "ho");
}

#[tokio::test]
async fn every_failure_has_its_reason() {
    let (mediator, idempotency) = (mediator(), idempotency(&Lifecycle::new()));
    for (text, code, reason) in [
        ("", Code::InvalidArgument, "INVALID_FIELDS"),
        ("fail", Code::NotFound, "PROVIDER_NO_DATA"),
        ("panic", Code::Internal, "INTERNAL"),
    ] {
        let queried = query::<Act, _, String>(&mediator, Request::new(text.to_owned())).await;
        let commanded =
            command::<Act, _, String>(&mediator, &idempotency, Request::new(text.to_owned())).await;
        for status in [queried.unwrap_err(), commanded.unwrap_err()] {
            assert_eq!(status.code(), code);
            assert_eq!(status.get_error_details().error_info().unwrap().reason, reason);
            assert!(!status.message().contains("secret"), "{status}");
        }
    }
}

#[tokio::test]
async fn a_command_goes_on_when_its_caller_goes_away() {
    let actor = Actor::default();
    let (go_on, done) = (Arc::clone(&actor.go_on), Arc::clone(&actor.done));
    let (mediator, lifecycle) = (Mediator::builder().register(actor).build(), Lifecycle::new());
    let idempotency = idempotency(&lifecycle);
    {
        let call =
            command::<Act, _, String>(&mediator, &idempotency, Request::new("wait".to_owned()));
        assert!(futures::poll!(std::pin::pin!(call)).is_pending());
    }
    go_on.notify_one();
    lifecycle.wait(Duration::from_mins(1)).await.unwrap();
    assert!(done.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_repeated_command_is_answered_alike_and_says_so() {
    let (mediator, idempotency) = (mediator(), idempotency(&Lifecycle::new()));
    let replayed = |metadata: &tonic::metadata::MetadataMap| {
        metadata.get("idempotency-replayed").map(|value| value.to_str().unwrap().to_owned())
    };
    for expected in [None, Some("true".to_owned())] {
        let answer = command::<Act, _, String>(&mediator, &idempotency, keyed("hi", "k")).await;
        let answer = answer.unwrap();
        assert_eq!(replayed(answer.metadata()), expected);
        assert_eq!(answer.into_inner(), "hi");
        let failed = command::<Act, _, String>(&mediator, &idempotency, keyed("fail", "f")).await;
        let failed = failed.unwrap_err();
        assert_eq!(replayed(failed.metadata()), expected);
        assert_eq!((failed.code(), failed.message()), (Code::NotFound, "not today"));
        let details = failed.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "PROVIDER_NO_DATA");
        // A panic is nothing to keep.
        let broken = command::<Act, _, String>(&mediator, &idempotency, keyed("panic", "p")).await;
        let broken = broken.unwrap_err();
        assert_eq!((broken.code(), replayed(broken.metadata())), (Code::Internal, None));
    }
    let other = command::<Act, _, String>(&mediator, &idempotency, keyed("ho", "k")).await;
    let other = other.unwrap_err();
    assert_eq!(other.code(), Code::FailedPrecondition);
    let details = other.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "IDEMPOTENCY_KEY_REUSED");
}

#[tokio::test]
async fn a_request_that_is_refused_takes_no_key() {
    let (mediator, idempotency) = (mediator(), idempotency(&Lifecycle::new()));
    let refused = command::<Act, _, String>(&mediator, &idempotency, keyed("", "k")).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    let answer = command::<Act, _, String>(&mediator, &idempotency, keyed("hi", "k")).await;
    assert_eq!(answer.unwrap().into_inner(), "hi");
}

#[tokio::test]
async fn a_malformed_key_is_refused_by_commands_and_ignored_by_queries() {
    let (mediator, idempotency) = (mediator(), idempotency(&Lifecycle::new()));
    let refused = command::<Act, _, String>(&mediator, &idempotency, keyed("hi", "")).await;
    let details = refused.unwrap_err().get_error_details();
    assert_eq!(details.bad_request().unwrap().field_violations[0].field, "idempotency-key");
    let answer: String = query::<Act, _, _>(&mediator, keyed("hi", "")).await.unwrap().into_inner();
    assert_eq!(answer, "hi");
}

/// Counts up and then fails or panics.
struct Count(&'static str);

type Counted = stream::BoxStream<'static, Result<i32, Refused>>;

impl TryFrom<&'static str> for Count {
    type Error = crate::common::error::InvalidFields;

    fn try_from(end: &'static str) -> Result<Self, Self::Error> {
        Ok(Self(end))
    }
}

impl mediator::Request for Count {
    type Output = Counted;
    type Error = Refused;
    const NAME: &'static str = "test.count";
}

struct Counter;

impl Handler<Count> for Counter {
    async fn handle(&self, Count(end): Count) -> Result<Counted, Refused> {
        let last = stream::once(async move {
            match end {
                "fail" => Err(Refused),
                "panic" => panic!("mid-stream"),
                _ => Ok(3),
            }
        });
        Ok(stream::iter([Ok(1), Ok(2)]).chain(last).boxed())
    }
}

async fn count(end: &'static str) -> (Vec<i64>, Option<tonic::Status>) {
    let mediator = Mediator::builder().register(Counter).build();
    let answer = stream_query::<Count, _, i64, _, _>(&mediator, Request::new(end)).await.unwrap();
    collect(answer.into_inner()).await
}

async fn collect(
    mut stream: impl Stream<Item = Result<i64, tonic::Status>> + Unpin,
) -> (Vec<i64>, Option<tonic::Status>) {
    let mut items = Vec::new();
    while let Some(item) = stream.next().await {
        match item {
            Ok(item) => items.push(item),
            Err(status) => {
                assert!(stream.next().await.is_none(), "an error is the last of a stream");
                return (items, Some(status));
            }
        }
    }
    (items, None)
}

#[tokio::test]
async fn a_stream_gives_its_items_and_an_error_as_the_last() {
    assert_eq!(count("").await.0, [1, 2, 3]);
    for (end, code) in [("fail", Code::NotFound), ("panic", Code::Internal)] {
        let (items, status) = count(end).await;
        assert_eq!((items, status.unwrap().code()), (vec![1, 2], code));
    }
}

#[tokio::test]
async fn a_stream_that_is_not_finished_says_that_the_server_stops() {
    let mediator = Mediator::builder().register(Counter).build();
    let stopping = CancellationToken::new();
    let answer = stream_query::<Count, _, i64, _, _>(&mediator, Request::new("")).await.unwrap();
    let mut stream = until_stopping(answer.into_inner(), stopping.clone());
    assert_eq!(stream.next().await.unwrap().unwrap(), 1);
    stopping.cancel();
    let (items, status) = collect(stream).await;
    let status = status.unwrap();
    assert_eq!((items, status.code()), (vec![], Code::Unavailable));
    let details = status.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "DRAINING");
    assert!(details.retry_info().is_some());
}
