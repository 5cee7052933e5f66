//! What probes are told while servers freeze and die, and that they never wait.

use std::time::Duration;

use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::quote_stream_client::QuoteStreamClient;
use tokio::time::timeout;
use tonic::Streaming;
use tonic::transport::Channel;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::engines::Engine;
use crate::servers::Server;
use crate::support::{TestApp, TestSimulator, demo_data};

/// Three failed checks take some time.
const PATIENCE: Duration = Duration::from_mins(2);
/// Sooner than any check of a frozen server ends, which takes two seconds.
const AT_ONCE: Duration = Duration::from_secs(1);

const SERVING: i32 = ServingStatus::Serving as i32;
const NOT_SERVING: i32 = ServingStatus::NotServing as i32;

struct Probe(HealthClient<Channel>);

impl Probe {
    async fn check(&mut self, name: &str) -> i32 {
        let request = || HealthCheckRequest { service: name.to_owned() };
        // Who waits for a frozen server waits each time.
        for _ in 0..2 {
            if let Ok(answer) = timeout(AT_ONCE, self.0.check(request())).await {
                return answer.unwrap().into_inner().status;
            }
        }
        timeout(AT_ONCE, self.0.check(request())).await.expect(name).unwrap().into_inner().status
    }

    async fn watch(&mut self, name: &str) -> Streaming<HealthCheckResponse> {
        let request = HealthCheckRequest { service: name.to_owned() };
        self.0.watch(request).await.unwrap().into_inner()
    }
}

async fn until(watch: &mut Streaming<HealthCheckResponse>, status: i32) {
    let seen = async { while watch.message().await.unwrap().unwrap().status != status {} };
    timeout(PATIENCE, seen).await.unwrap();
}

async fn overall(app: &mut TestApp) -> (pb::HealthStatus, Vec<(String, pb::HealthStatus)>) {
    let call = app.system.get_health(pb::GetHealthRequest {});
    let health = timeout(AT_ONCE, call).await.unwrap().unwrap().into_inner();
    let each = health.dependencies.iter().map(|each| (each.name.clone(), each.status()));
    (health.status(), each.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_is_stopped_is_switched_off_and_nothing_else_suffers() {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = TestApp::on(Engine::Embedded, &simulator, &[("FEED_AUTOSTART", "false")]).await;
    let mut probe = Probe(HealthClient::new(app.channel.clone()));
    let mut quotes = QuoteStreamClient::new(app.channel.clone());
    let mut watch = probe.watch("feed").await;
    until(&mut watch, NOT_SERVING).await;
    let is_off = async |app: &mut TestApp| {
        let health = app.system.get_health(pb::GetHealthRequest {}).await.unwrap().into_inner();
        let feed = health.dependencies.iter().find(|each| each.name == "feed").unwrap();
        assert_eq!(feed.status(), pb::HealthStatus::Disabled, "{feed:?}");
        assert!(feed.error.contains("StartFeed"), "{feed:?}");
        assert_eq!(health.status(), pb::HealthStatus::Serving);
    };
    is_off(&mut app).await;
    quotes.start_feed(pb::StartFeedRequest {}).await.unwrap();
    until(&mut watch, SERVING).await;
    quotes.stop_feed(pb::StopFeedRequest {}).await.unwrap();
    until(&mut watch, NOT_SERVING).await;
    is_off(&mut app).await;
    for name in ["", "readiness", "pocketquant.v1.QuoteStream"] {
        assert_eq!(probe.check(name).await, SERVING, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_name_is_known_from_the_first_moment() {
    let simulator = TestSimulator::start(demo_data()).await;
    let app = TestApp::on(Engine::Embedded, &simulator, &[]).await;
    let mut probe = Probe(HealthClient::new(app.channel.clone()));
    let names = [
        "",
        "readiness",
        "liveness",
        "database",
        "cache",
        "feed",
        "pocketquant.v1.MarketData",
        "pocketquant.v1.QuoteStream",
        "pocketquant.v1.System",
    ];
    for name in names {
        assert_eq!(probe.check(name).await, SERVING, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod and Redis: run scripts/test"]
async fn a_frozen_database_is_noticed_and_no_probe_waits_for_it() {
    let simulator = TestSimulator::start(demo_data()).await;
    let database = Server::mongodb().await;
    let settings = vec![
        ("MONGODB_URL".to_owned(), database.url()),
        ("RATE_LIMIT_PER_SECOND".to_owned(), "0".to_owned()),
    ];
    let mut app = TestApp::with_settings(&simulator, settings).await;
    let mut probe = Probe(HealthClient::new(app.channel.clone()));
    let mut readiness = probe.watch("readiness").await;
    let mut liveness = probe.watch("liveness").await;
    until(&mut readiness, SERVING).await;
    until(&mut liveness, SERVING).await;

    database.freeze();
    let noticed = until(&mut readiness, NOT_SERVING);
    let probing = async {
        loop {
            for name in ["", "readiness", "liveness", "database"] {
                probe.check(name).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = noticed => {}
        () = probing => {}
    }
    for name in ["", "database", "pocketquant.v1.MarketData"] {
        assert_eq!(probe.check(name).await, NOT_SERVING, "{name}");
    }
    for name in ["liveness", "cache"] {
        assert_eq!(probe.check(name).await, SERVING, "{name}");
    }
    let (status, dependencies) = overall(&mut app).await;
    assert_eq!(status, pb::HealthStatus::NotServing);
    assert_eq!(dependencies[0], ("database".to_owned(), pb::HealthStatus::NotServing));

    database.thaw();
    until(&mut readiness, SERVING).await;
    assert_eq!(probe.check("database").await, SERVING);
    let silent = timeout(Duration::from_millis(50), liveness.message()).await;
    assert!(silent.is_err(), "liveness never changed: {silent:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod and Redis: run scripts/test"]
async fn without_its_cache_the_service_is_degraded_and_ready() {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut cache = Server::redis().await;
    let settings = vec![("REDIS_URL".to_owned(), cache.url())];
    let mut app = TestApp::with_settings(&simulator, settings).await;
    let mut probe = Probe(HealthClient::new(app.channel.clone()));
    let mut watched = probe.watch("cache").await;
    until(&mut watched, SERVING).await;

    cache.crash();
    until(&mut watched, NOT_SERVING).await;
    for name in ["", "readiness", "liveness", "database"] {
        assert_eq!(probe.check(name).await, SERVING, "{name}");
    }
    let (status, dependencies) = overall(&mut app).await;
    assert_eq!(status, pb::HealthStatus::Degraded);
    assert_eq!(dependencies[1], ("cache".to_owned(), pb::HealthStatus::NotServing));

    cache.restart().await;
    until(&mut watched, SERVING).await;
    assert_eq!(overall(&mut app).await.0, pb::HealthStatus::Serving);
}
