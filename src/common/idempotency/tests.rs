//! The policy over a store in memory whose faults are chosen, in paused time.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::*;
use crate::common::constants::{
    IDEMPOTENCY_LEASE, IDEMPOTENCY_STORE_TIMEOUT, IDEMPOTENCY_WAIT, MAX_IDEMPOTENT_ANSWER_BYTES,
};
use crate::common::error::{Coded as _, ErrorCode, StatusCode};
use crate::common::identity::Principal;
use crate::common::shutdown::Lifecycle;

/// What the store does with an access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mood {
    #[default]
    Works,
    Fails,
    Hangs,
}

#[derive(Clone, Debug)]
struct Record {
    fingerprint: Fingerprint,
    token: Token,
    lease_until: Instant,
    answer: Option<Bytes>,
}

#[derive(Debug, Default)]
pub(in crate::common) struct InMemory {
    records: Mutex<HashMap<Scope, Record>>,
    mood: Mutex<Mood>,
    claims: AtomicUsize,
    renewals: AtomicUsize,
}

impl InMemory {
    fn set_mood(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn access<'a, T: Send + 'a>(
        &'a self,
        work: impl FnOnce(&mut HashMap<Scope, Record>) -> T + Send + 'a,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        Box::pin(async move {
            let mood = *self.mood.lock().unwrap();
            match mood {
                Mood::Works => Ok(work(&mut self.records.lock().unwrap())),
                Mood::Fails => Err(StoreError::new(ErrorCode::CacheUnavailable, "gone")),
                Mood::Hangs => std::future::pending().await,
            }
        })
    }
}

impl IdempotencyStore for InMemory {
    fn unavailable(&self) -> ErrorCode {
        ErrorCode::CacheUnavailable
    }

    fn claim<'a>(
        &'a self,
        call: &'a KeyedCall,
        token: Token,
        lease: Duration,
        _ttl: Duration,
    ) -> BoxFuture<'a, Result<Claim, StoreError>> {
        self.claims.fetch_add(1, Ordering::SeqCst);
        self.access(move |records| {
            let now = Instant::now();
            if let Some(record) = records.get(&call.scope) {
                if record.fingerprint != call.fingerprint {
                    return Claim::OtherRequest;
                }
                if let Some(answer) = &record.answer {
                    return Claim::Finished(answer.clone());
                }
                if record.lease_until > now {
                    return Claim::Running;
                }
            }
            let fingerprint = call.fingerprint.clone();
            let record = Record { fingerprint, token, lease_until: now + lease, answer: None };
            records.insert(call.scope.clone(), record);
            Claim::Ours
        })
    }

    fn renew<'a>(
        &'a self,
        scope: &'a Scope,
        token: Token,
        lease: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.access(move |records| {
            self.renewals.fetch_add(1, Ordering::SeqCst);
            let held = records.get_mut(scope).filter(|record| record.token == token);
            held.map(|record| record.lease_until = Instant::now() + lease).is_some()
        })
    }

    fn finish<'a>(
        &'a self,
        call: &'a KeyedCall,
        token: Token,
        answer: Bytes,
        _ttl: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>> {
        self.access(move |records| {
            if records.get(&call.scope).is_some_and(|record| record.token != token) {
                return false;
            }
            let (fingerprint, lease_until) = (call.fingerprint.clone(), Instant::now());
            let record = Record { fingerprint, token, lease_until, answer: Some(answer) };
            records.insert(call.scope.clone(), record);
            true
        })
    }

    fn release<'a>(
        &'a self,
        scope: &'a Scope,
        token: Token,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.access(move |records| {
            if records.get(scope).is_some_and(|each| each.token == token && each.answer.is_none()) {
                records.remove(scope);
            }
        })
    }
}

/// The policy, its store, and how often a command ran.
#[derive(Default)]
struct World {
    store: Arc<InMemory>,
    lifecycle: Lifecycle,
    runs: Arc<AtomicUsize>,
}

impl World {
    /// One process of those that share the store.
    fn process(&self) -> Idempotency {
        Idempotency::new(Arc::clone(&self.store) as _, &self.lifecycle)
    }

    /// A command that takes so long and then ends so.
    fn work(&self, takes: Duration, ended: Ended) -> impl Future<Output = Ended> + Send + use<> {
        let runs = Arc::clone(&self.runs);
        async move {
            runs.fetch_add(1, Ordering::SeqCst);
            sleep(takes).await;
            ended
        }
    }

    fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }
}

fn call(message: &str) -> KeyedCall {
    let scope = Scope {
        principal: Principal::ApiKey("ann".into()),
        method: "test.act",
        key: IdempotencyKey::parse(b"k").unwrap(),
    };
    KeyedCall { scope, fingerprint: Fingerprint::of("test.act", message.as_bytes()) }
}

fn done(body: &'static str) -> Ended {
    Ended::ok(Answer { body: Bytes::from_static(body.as_bytes()), ..Answer::default() })
}

fn failed(code: StatusCode) -> Ended {
    Ended::failed(Answer { code: 5, ..Answer::default() }, code)
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn equal_calls_at_once_run_once_and_ask_the_store_once() {
    let world = World::default();
    let process = world.process();
    let calls = (0..100).map(|_| process.once(call("a"), world.work(SECOND, done("one"))));
    let replies: Vec<Reply> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
    assert!(replies.iter().all(|reply| reply.answer.body == "one"));
    assert_eq!(replies.iter().filter(|reply| !reply.replayed).count(), 1);
    assert_eq!((world.runs(), world.store.claims.load(Ordering::SeqCst)), (1, 1));
    let later = world.process().once(call("a"), world.work(SECOND, done("two"))).await.unwrap();
    assert_eq!((later.answer.body.as_ref(), later.replayed), (&b"one"[..], true));
    assert_eq!(world.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn another_request_under_the_key_is_refused_during_the_run_and_after_it() {
    let world = World::default();
    let process = world.process();
    let first = process.once(call("a"), world.work(SECOND, done("one")));
    let other = process.once(call("b"), world.work(SECOND, done("two")));
    let (first, other) = tokio::join!(first, other);
    assert_eq!(first.unwrap().answer.body, "one");
    assert!(matches!(other, Err(IdempotencyError::KeyReused)), "{other:?}");
    let later = process.once(call("b"), world.work(SECOND, done("two"))).await;
    assert!(matches!(later, Err(IdempotencyError::KeyReused)), "{later:?}");
    assert_eq!(world.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_waits_gives_up_after_two_seconds_in_this_process_and_in_others() {
    let world = World::default();
    let (process, other) = (world.process(), world.process());
    let first = process.once(call("a"), world.work(Duration::from_mins(1), done("one")));
    let waits = async |process: &Idempotency| {
        sleep(SECOND).await;
        let began = Instant::now();
        let refused = process.once(call("a"), world.work(SECOND, done("two"))).await.unwrap_err();
        assert!(matches!(refused, IdempotencyError::InProgress), "{refused:?}");
        assert!(refused.retry_after().is_some());
        began.elapsed()
    };
    let (first, here, there) = tokio::join!(first, waits(&process), waits(&other));
    assert_eq!((first.unwrap().replayed, here), (false, IDEMPOTENCY_WAIT));
    assert!(there <= IDEMPOTENCY_WAIT && there > IDEMPOTENCY_WAIT / 2, "{there:?}");
    assert_eq!(world.runs(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_waits_gets_the_answer_of_another_process() {
    let world = World::default();
    let (process, other) = (world.process(), world.process());
    let first = process.once(call("a"), world.work(SECOND, done("one")));
    let second = other.once(call("a"), world.work(SECOND, done("two")));
    let (first, second) = tokio::join!(first, second);
    assert!(!first.unwrap().replayed);
    let second = second.unwrap();
    assert_eq!((second.answer.body.as_ref(), second.replayed), (&b"one"[..], true));
}

#[tokio::test(start_paused = true)]
async fn a_long_run_renews_its_lease_and_is_not_run_again() {
    let world = World::default();
    let (process, other) = (world.process(), world.process());
    let first = process.once(call("a"), world.work(SECOND * 59, done("one")));
    let meanwhile = async {
        sleep(IDEMPOTENCY_LEASE * 3).await;
        other.once(call("a"), world.work(SECOND, done("two"))).await
    };
    let (first, meanwhile) = tokio::join!(first, meanwhile);
    assert_eq!(first.unwrap().answer.body, "one");
    assert!(matches!(meanwhile, Err(IdempotencyError::InProgress)), "{meanwhile:?}");
    assert_eq!((world.runs(), world.store.renewals.load(Ordering::SeqCst)), (1, 11));
}

#[tokio::test(start_paused = true)]
async fn only_final_failures_are_kept() {
    use StatusCode as S;
    for code in [S::NotFound, S::FailedPrecondition, S::InvalidArgument] {
        let world = World::default();
        for replayed in [false, true] {
            let reply = world.process().once(call("a"), world.work(SECOND, failed(code))).await;
            assert_eq!(reply.unwrap().replayed, replayed, "{code:?}");
        }
        assert_eq!(world.runs(), 1, "{code:?}");
    }
    for code in [
        S::Unavailable,
        S::DeadlineExceeded,
        S::Cancelled,
        S::ResourceExhausted,
        S::Aborted,
        S::Internal,
    ] {
        let world = World::default();
        let process = world.process();
        for run in 1..=2 {
            // Even right behind the first, nothing of it is left.
            let reply = process.once(call("a"), world.work(SECOND, failed(code))).await;
            assert_eq!((reply.unwrap().replayed, world.runs()), (false, run), "{code:?}");
        }
        // The key is free, even for another request.
        let reply = process.once(call("b"), world.work(SECOND, done("two"))).await;
        assert_eq!(reply.unwrap().answer.body, "two", "{code:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_too_large_is_given_and_not_kept() {
    let world = World::default();
    let large = || {
        let body = vec![7; MAX_IDEMPOTENT_ANSWER_BYTES + 1].into();
        Ended::ok(Answer { body, ..Answer::default() })
    };
    for run in 1..=2 {
        let reply = world.process().once(call("a"), world.work(SECOND, large())).await.unwrap();
        assert_eq!((reply.answer.body.len(), reply.replayed), (1_048_577, false));
        assert_eq!(world.runs(), run);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_told_in_time_and_nothing_runs() {
    for mood in [Mood::Fails, Mood::Hangs] {
        let world = World::default();
        world.store.set_mood(mood);
        let began = Instant::now();
        let refused = world.process().once(call("a"), world.work(SECOND, done("one"))).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::CacheUnavailable);
        assert!(refused.retry_after().is_some());
        assert!(began.elapsed() <= IDEMPOTENCY_STORE_TIMEOUT, "{:?}", began.elapsed());
        world.store.set_mood(Mood::Works);
        let reply = world.process().once(call("a"), world.work(SECOND, done("one"))).await;
        assert_eq!((reply.unwrap().replayed, world.runs()), (false, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_kept_later_where_the_store_is_away_when_it_comes() {
    let world = World::default();
    let process = world.process();
    let first = process.once(call("a"), world.work(SECOND, done("one")));
    let away = async {
        sleep(SECOND / 2).await;
        world.store.set_mood(Mood::Fails);
    };
    let (first, ()) = tokio::join!(first, away);
    assert_eq!(first.unwrap().answer.body, "one");
    // This process knows it, and runs nothing again.
    let second = process.once(call("a"), world.work(SECOND, done("two"))).await.unwrap();
    assert_eq!((second.answer.body.as_ref(), second.replayed), (&b"one"[..], true));
    sleep(SECOND * 30).await;
    world.store.set_mood(Mood::Works);
    sleep(SECOND).await;
    let later = world.process().once(call("a"), world.work(SECOND, done("three"))).await.unwrap();
    assert_eq!((later.answer.body.as_ref(), later.replayed, world.runs()), (&b"one"[..], true, 1));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_loses_nothing() {
    let world = World::default();
    {
        let process = world.process();
        let first = process.once(call("a"), world.work(SECOND, done("one")));
        assert!(futures::poll!(std::pin::pin!(first)).is_pending());
    }
    sleep(SECOND * 2).await;
    let reply = world.process().once(call("a"), world.work(SECOND, done("two"))).await.unwrap();
    assert_eq!((reply.answer.body.as_ref(), reply.replayed), (&b"one"[..], true));
}

#[tokio::test(start_paused = true)]
async fn a_stopping_process_does_not_wait_for_a_store_that_is_away() {
    let world = World::default();
    let process = world.process();
    let going = Arc::new(Notify::new());
    let gone = Arc::clone(&going);
    let work = async move {
        gone.notified().await;
        done("one")
    };
    let first = process.once(call("a"), work);
    let stop = async {
        sleep(SECOND).await;
        world.store.set_mood(Mood::Hangs);
        world.lifecycle.stop();
        going.notify_one();
    };
    let (first, ()) = tokio::join!(first, stop);
    assert_eq!(first.unwrap().answer.body, "one");
    assert_eq!(world.lifecycle.wait(IDEMPOTENCY_STORE_TIMEOUT).await, Ok(()));
}
