//! Bodies of RPCs over a mediator of small handlers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{Stream, StreamExt as _, stream};
use thiserror::Error;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Code, Request};
use tonic_types::StatusExt as _;

use super::*;
use crate::common::mediator::{self, Handler, Mediator};

#[derive(Debug, Error)]
#[error("not today")]
struct Refused;

impl Coded for Refused {
    fn code(&self) -> ErrorCode {
        ErrorCode::ProviderNoData
    }
}

/// What a handler is told to do.
struct Act(&'static str);

impl TryFrom<&'static str> for Act {
    type Error = crate::common::error::InvalidFields;

    fn try_from(text: &'static str) -> Result<Self, Self::Error> {
        match text {
            "" => Err(Self::Error::new("text", "must not be empty")),
            text => Ok(Self(text)),
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
        match what {
            "fail" => Err(Refused),
            "panic" => panic!("it fell over, with a secret"),
            "wait" => {
                self.go_on.notified().await;
                self.done.store(true, Ordering::SeqCst);
                Ok("waited".to_owned())
            }
            what => Ok(what.to_owned()),
        }
    }
}

fn mediator() -> Mediator {
    Mediator::builder().register(Actor::default()).build()
}

#[tokio::test]
async fn query_and_command_decode_send_and_encode() {
    let (mediator, tracker) = (mediator(), TaskTracker::new());
    let answer: String =
        query::<Act, _, _>(&mediator, Request::new("hi")).await.unwrap().into_inner();
    assert_eq!(answer, "hi");
    let answer: String =
        command::<Act, _, _>(&mediator, &tracker, Request::new("ho")).await.unwrap().into_inner();
    assert_eq!(answer, "ho");
}

#[tokio::test]
async fn every_failure_has_its_reason() {
    let (mediator, tracker) = (mediator(), TaskTracker::new());
    for (text, code, reason) in [
        ("", Code::InvalidArgument, "INVALID_FIELDS"),
        ("fail", Code::NotFound, "PROVIDER_NO_DATA"),
        ("panic", Code::Internal, "INTERNAL"),
    ] {
        let queried = query::<Act, _, String>(&mediator, Request::new(text)).await;
        let commanded = command::<Act, _, String>(&mediator, &tracker, Request::new(text)).await;
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
    let (mediator, tracker) = (Mediator::builder().register(actor).build(), TaskTracker::new());
    {
        let call = command::<Act, _, String>(&mediator, &tracker, Request::new("wait"));
        assert!(futures::poll!(std::pin::pin!(call)).is_pending());
    }
    go_on.notify_one();
    tracker.close();
    tracker.wait().await;
    assert!(done.load(Ordering::SeqCst));
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
