//! What probes and people are told.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

use futures::StreamExt as _;
use thiserror::Error;
use tonic::Request;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus as Wire;
use tonic_health::pb::health_server::Health as _;

use super::*;

const SERVICE: &str = "pocketquant.v1.MarketData";

#[derive(Debug, Error)]
#[error("refused")]
struct Refused;

/// A dependency that works, or does not.
#[derive(Clone, Default)]
struct Switch(Arc<AtomicBool>);

impl Switch {
    fn turn(&self, on: bool) {
        self.0.store(on, Ordering::SeqCst);
    }

    fn probe(
        &self,
    ) -> impl Fn() -> futures::future::Ready<Result<(), Refused>> + Send + Sync + 'static {
        let on = Arc::clone(&self.0);
        move || futures::future::ready(on.load(Ordering::SeqCst).then_some(()).ok_or(Refused))
    }
}

async fn coordinator(database: &Switch, cache: &Switch) -> HealthCoordinator {
    HealthCoordinator::builder()
        .service(SERVICE)
        .check(Check::required("database", database.probe()))
        .check(Check::optional("cache", cache.probe()))
        .build()
        .await
}

async fn probe(health: &HealthCoordinator, name: &str) -> Wire {
    let service = HealthService::from_health_reporter(health.shared.reporter.clone());
    let request = Request::new(HealthCheckRequest { service: name.to_owned() });
    service.check(request).await.unwrap().into_inner().status()
}

#[tokio::test]
async fn every_name_is_registered_before_anything_is_checked() {
    let health = coordinator(&Switch::default(), &Switch::default()).await;
    for name in ["", "readiness", SERVICE, "database", "cache"] {
        assert_eq!(probe(&health, name).await, Wire::NotServing, "{name}");
    }
    assert_eq!(probe(&health, "liveness").await, Wire::Serving);
}

#[tokio::test]
async fn it_takes_three_failures_to_go_and_one_success_to_come_back() {
    let (database, cache) = (Switch::default(), Switch::default());
    database.turn(true);
    cache.turn(true);
    let health = coordinator(&database, &cache).await;
    health.check_now().await;
    assert_eq!(health.report().state, HealthState::Serving);

    database.turn(false);
    for expected in [Wire::Serving, Wire::Serving, Wire::NotServing] {
        health.check_now().await;
        for name in ["", "readiness", SERVICE, "database"] {
            assert_eq!(probe(&health, name).await, expected, "{name}");
        }
        assert_eq!(health.report().dependencies[0].error.as_deref(), Some("refused"));
    }
    assert_eq!(probe(&health, "liveness").await, Wire::Serving);

    database.turn(true);
    health.check_now().await;
    assert_eq!(probe(&health, "readiness").await, Wire::Serving);
    assert_eq!(health.report().dependencies[0].error, None);
}

#[tokio::test]
async fn without_the_cache_it_is_degraded_and_ready() {
    let (database, cache) = (Switch::default(), Switch::default());
    database.turn(true);
    let health = coordinator(&database, &cache).await;
    health.check_now().await;
    assert_eq!(health.report().state, HealthState::Degraded);
    assert_eq!(probe(&health, "readiness").await, Wire::Serving);
    assert_eq!(probe(&health, "cache").await, Wire::NotServing);
}

#[tokio::test]
async fn a_process_that_stops_is_ready_for_nothing_whatever_the_checks_say() {
    let (database, cache) = (Switch::default(), Switch::default());
    database.turn(true);
    let health = coordinator(&database, &cache).await;
    health.check_now().await;
    health.drain().await;
    health.check_now().await;
    assert_eq!(probe(&health, "readiness").await, Wire::NotServing);
    assert_eq!(probe(&health, "liveness").await, Wire::Serving);
    assert_eq!(probe(&health, "database").await, Wire::Serving);
}

#[tokio::test]
async fn who_watches_is_told_the_last_and_let_go() {
    let (database, cache) = (Switch::default(), Switch::default());
    database.turn(true);
    let health = coordinator(&database, &cache).await;
    health.check_now().await;
    let service = HealthService::from_health_reporter(health.shared.reporter.clone());
    let request = Request::new(HealthCheckRequest { service: "readiness".to_owned() });
    let mut watch = service.watch(request).await.unwrap().into_inner();
    health.drain().await;
    health.end_watches().await;
    let told = watch.next().await.unwrap().unwrap();
    assert_eq!(told.status(), Wire::NotServing);
    assert!(watch.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_fails_after_two_seconds_and_holds_nobody_up() {
    let health = HealthCoordinator::builder()
        .check(Check::required("database", std::future::pending::<Result<(), Refused>>))
        .check(Check::optional("cache", std::future::pending::<Result<(), Refused>>))
        .check(Check::disabled("feed"))
        .build()
        .await;
    let started = tokio::time::Instant::now();
    health.check_now().await;
    assert_eq!(started.elapsed(), Duration::from_secs(2));
    let report = health.report();
    assert_eq!(report.dependencies[0].error.as_deref(), Some("no answer within 2 s"));
    assert_eq!(report.dependencies[0].latency, Some(Duration::from_secs(2)));
    assert_eq!(report.dependencies[2].state, HealthState::Disabled);
}

#[tokio::test(start_paused = true)]
async fn checks_run_at_once_and_then_on_schedule_until_told_to_stop() {
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let check = Check::required("database", move || {
        counted.fetch_add(1, Ordering::SeqCst);
        futures::future::ready(Ok::<(), Refused>(()))
    });
    let health = HealthCoordinator::builder().check(check).build().await;
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    let stopper = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        tokio::time::sleep(HEALTH_CHECK_EVERY * 2).await;
        stopping.cancel();
    };
    futures::join!(health.run(stop), stopper);
    assert_eq!(runs.load(Ordering::SeqCst), 3);
}
