//! One contract for the three stores, held against a model.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pocketquant::common::idempotency::{
    Claim, Fingerprint, IdempotencyKey, IdempotencyStore, KeyedCall, Scope, Token,
};
use pocketquant::common::identity::Principal;
use pocketquant::infrastructure::persistence::{Cache, CacheConfig, IdempotencyRecords};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Keeper, on_every_keeper};
use crate::database::Store;
use crate::servers;

on_every_keeper!(
    every_sequence_of_accesses_goes_as_in_the_model,
    of_many_claims_at_once_one_is_granted,
    a_scope_is_principal_method_and_key,
    a_record_is_gone_after_its_time,
    a_stale_run_cannot_touch_what_a_newer_one_holds,
    keys_and_answers_are_kept_as_they_are,
);

const HOUR: Duration = Duration::from_hours(1);
const LAPSED: Duration = Duration::ZERO;

/// Records with what they live in.
struct Records {
    store: Arc<dyn IdempotencyStore>,
    _database: Store,
}

impl Records {
    async fn on(keeper: Keeper) -> Self {
        let database = match keeper {
            Keeper::MongoDb => Store::mongodb().await,
            Keeper::Sqlite | Keeper::Redis => Store::sqlite().await,
        };
        let cache = match keeper {
            Keeper::Redis => CacheConfig::Redis { url: servers::redis_url().await.into() },
            Keeper::Sqlite | Keeper::MongoDb => CacheConfig::Memory,
        };
        let cache = Cache::connect(cache).await.unwrap();
        let store = Arc::new(IdempotencyRecords::new(&database.database, &cache));
        Self { store, _database: database }
    }

    async fn claim(&self, call: &KeyedCall, token: Token, lease: Duration) -> Claim {
        self.store.claim(call, token, lease, HOUR).await.unwrap()
    }

    async fn finish(&self, call: &KeyedCall, token: Token, answer: &'static [u8]) -> bool {
        self.store.finish(call, token, Bytes::from_static(answer), HOUR).await.unwrap()
    }
}

fn scope(principal: &str, method: &'static str, key: &str) -> Scope {
    Scope {
        principal: Principal::ApiKey(principal.into()),
        method,
        key: IdempotencyKey::parse(key.as_bytes()).unwrap(),
    }
}

fn call(scope: &Scope, message: &str) -> KeyedCall {
    let fingerprint = Fingerprint::of(scope.method, message.as_bytes());
    KeyedCall { scope: scope.clone(), fingerprint }
}

/// A key that no other test has.
fn fresh() -> Scope {
    scope("ann", "test.act", &uuid::Uuid::now_v7().to_string())
}

fn finished(answer: &'static [u8]) -> Claim {
    Claim::Finished(Bytes::from_static(answer))
}

/// An access by one of three runs, of one of two requests.
#[derive(Clone, Copy, Debug)]
enum Access {
    Claim { run: usize, request: usize, is_lapsed: bool },
    Renew { run: usize, is_lapsed: bool },
    Finish { run: usize, request: usize },
    Release { run: usize },
}

fn access() -> impl Strategy<Value = Access> {
    prop_oneof![
        4 => (0..3_usize, 0..2_usize, any::<bool>())
            .prop_map(|(run, request, is_lapsed)| Access::Claim { run, request, is_lapsed }),
        1 => (0..3_usize, any::<bool>())
            .prop_map(|(run, is_lapsed)| Access::Renew { run, is_lapsed }),
        1 => (0..3_usize, 0..2_usize).prop_map(|(run, request)| Access::Finish { run, request }),
        2 => (0..3_usize).prop_map(|run| Access::Release { run }),
    ]
}

/// What a key stands for.
#[derive(Clone, Copy, Debug)]
struct Held {
    run: usize,
    request: usize,
    is_lapsed: bool,
    answer: Option<&'static [u8]>,
}

const ANSWERS: [&[u8]; 3] = [b"one", b"", b"three"];

/// What must come of `access`, and what the key stands for afterwards.
fn expected(access: Access, held: Option<Held>) -> (String, Option<Held>) {
    let shown = |result: &dyn std::fmt::Debug| format!("{result:?}");
    match (access, held) {
        (Access::Claim { request, .. }, Some(held)) if held.request != request => {
            (shown(&Claim::OtherRequest), Some(held))
        }
        (Access::Claim { .. }, Some(Held { answer: Some(answer), .. })) => {
            (shown(&finished(answer)), held)
        }
        (Access::Claim { run, .. }, Some(held)) if held.run != run && !held.is_lapsed => {
            (shown(&Claim::Running), Some(held))
        }
        (Access::Claim { run, request, is_lapsed }, _) => {
            (shown(&Claim::Ours), Some(Held { run, request, is_lapsed, answer: None }))
        }
        (Access::Renew { run, is_lapsed }, Some(held)) if held.run == run => {
            (shown(&true), Some(Held { is_lapsed, ..held }))
        }
        (Access::Finish { run, .. }, Some(held)) if held.run != run => (shown(&false), Some(held)),
        (Access::Finish { run, request }, _) => {
            let answer = Some(ANSWERS[run]);
            (shown(&true), Some(Held { run, request, is_lapsed: true, answer }))
        }
        (Access::Release { run }, Some(Held { run: holder, answer: None, .. }))
            if run == holder =>
        {
            (shown(&()), None)
        }
        (Access::Renew { .. }, held) => (shown(&false), held),
        (Access::Release { .. }, held) => (shown(&()), held),
    }
}

async fn every_sequence_of_accesses_goes_as_in_the_model(keeper: Keeper) {
    let records = Records::on(keeper).await;
    let mut runner = TestRunner::deterministic();
    let sequences = proptest::collection::vec(access(), 1..30);
    for _ in 0..40 {
        let sequence = sequences.new_tree(&mut runner).unwrap().current();
        let (scope, runs) = (fresh(), [(); 3].map(|()| Token::generate()));
        let lease = |is_lapsed| if is_lapsed { LAPSED } else { HOUR };
        let calls = [call(&scope, "a"), call(&scope, "b")];
        let mut held = None;
        for (step, access) in sequence.iter().enumerate() {
            let got = match *access {
                Access::Claim { run, request, is_lapsed } => {
                    let claim = records.claim(&calls[request], runs[run], lease(is_lapsed)).await;
                    format!("{claim:?}")
                }
                Access::Renew { run, is_lapsed } => {
                    let renewed = records.store.renew(&scope, runs[run], lease(is_lapsed)).await;
                    format!("{:?}", renewed.unwrap())
                }
                Access::Finish { run, request } => {
                    format!("{:?}", records.finish(&calls[request], runs[run], ANSWERS[run]).await)
                }
                Access::Release { run } => {
                    format!("{:?}", records.store.release(&scope, runs[run]).await.unwrap())
                }
            };
            let (expected, after) = expected(*access, held);
            assert_eq!(got, expected, "step {step} of {sequence:#?} with {held:?}");
            held = after;
        }
    }
}

async fn of_many_claims_at_once_one_is_granted(keeper: Keeper) {
    let records = Records::on(keeper).await;
    for _ in 0..5 {
        let call = call(&fresh(), "a");
        let mut claims = JoinSet::new();
        for _ in 0..40 {
            let (store, call) = (Arc::clone(&records.store), call.clone());
            claims.spawn(async move {
                store.claim(&call, Token::generate(), HOUR, HOUR).await.unwrap()
            });
        }
        let claims = claims.join_all().await;
        assert_eq!(claims.iter().filter(|claim| **claim == Claim::Ours).count(), 1);
        assert_eq!(claims.iter().filter(|claim| **claim == Claim::Running).count(), 39);
    }
}

async fn a_scope_is_principal_method_and_key(keeper: Keeper) {
    let records = Records::on(keeper).await;
    let key = fresh().key.to_string();
    let scopes = [
        scope("ann", "a", &key),
        scope("bob", "a", &key),
        scope("ann", "b", &key),
        scope("ann", "a", &format!("{key}x")),
        scope("ann:a", "a", &key),
        scope("ann", "a", &format!("a:{key}")),
    ];
    for scope in &scopes {
        let claim = records.claim(&call(scope, "a"), Token::generate(), HOUR).await;
        assert_eq!(claim, Claim::Ours, "{scope:?}");
    }
}

async fn a_record_is_gone_after_its_time(keeper: Keeper) {
    let records = Records::on(keeper).await;
    let (scope, token, soon) = (fresh(), Token::generate(), Duration::from_millis(50));
    let claim = records.store.claim(&call(&scope, "a"), token, LAPSED, HOUR).await.unwrap();
    assert_eq!(claim, Claim::Ours);
    let answer = Bytes::from_static(b"one");
    assert!(records.store.finish(&call(&scope, "a"), token, answer, soon).await.unwrap());
    let freed = async {
        // Even for another request.
        while records.claim(&call(&scope, "b"), Token::generate(), HOUR).await != Claim::Ours {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(30), freed).await.unwrap();
}

async fn a_stale_run_cannot_touch_what_a_newer_one_holds(keeper: Keeper) {
    let records = Records::on(keeper).await;
    let (scope, stale, newer) = (fresh(), Token::generate(), Token::generate());
    let call = call(&scope, "a");
    assert_eq!(records.claim(&call, stale, LAPSED).await, Claim::Ours);
    assert_eq!(records.claim(&call, newer, HOUR).await, Claim::Ours);
    assert!(!records.finish(&call, stale, b"stale").await);
    assert!(!records.store.renew(&scope, stale, HOUR).await.unwrap());
    records.store.release(&scope, stale).await.unwrap();
    assert_eq!(records.claim(&call, stale, HOUR).await, Claim::Running);
    assert!(records.finish(&call, newer, b"newer").await);
    assert!(!records.finish(&call, stale, b"stale").await);
    assert_eq!(records.claim(&call, Token::generate(), HOUR).await, finished(b"newer"));
}

async fn keys_and_answers_are_kept_as_they_are(keeper: Keeper) {
    let records = Records::on(keeper).await;
    let unique = fresh().key;
    for key in ["$token", "{\"$ne\":1}", "a.b", "'; DROP TABLE idempotency; --", " ~ ", "$$NOW"] {
        let scope = scope("$ann", "test.act", &format!("{key}{unique}"));
        let (call, token) = (call(&scope, "$x"), Token::generate());
        assert_eq!(records.claim(&call, token, HOUR).await, Claim::Ours, "{key}");
        assert_eq!(records.claim(&call, Token::generate(), HOUR).await, Claim::Running, "{key}");
        let answer = Bytes::from((0..=255_u8).cycle().take(1 << 20).collect::<Vec<_>>());
        assert!(records.store.finish(&call, token, answer.clone(), HOUR).await.unwrap(), "{key}");
        let kept = records.claim(&call, Token::generate(), HOUR).await;
        assert!(kept == Claim::Finished(answer), "{key}");
    }
}
