//! The database goes away in the middle of real trades: the feed goes on, closed bars wait on
//! disk, and once it is back all is as if nothing had happened.

use std::time::Duration;

use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::Interval;
use pocketquant::proto::v1::bar_event::Event;
use pocketquant::proto::v1::quote_stream_client::QuoteStreamClient;
use pocketquant::simulator::{Pace, ReplayConfig, SimulatorConfig};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tonic::Code;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::live::{ES, PATIENCE, only_trades, real_minutes, subscribe};
use crate::live_crash::{Oracle, Run, current, until_stored};
use crate::processes::{SimulatorProcess, pocketquant};
use crate::servers::{Server, free_port, own_redis_url};
use crate::support::{ExportedBar, TestApp, TestSimulator, reason, retry_delay};

/// Trades a second: all of them take about a minute, and 30 bars close in a second.
const RATE: f64 = 8_000.0;

/// How a database goes away.
#[derive(Clone, Copy, Debug)]
enum Absence {
    /// Its process is killed: connections are refused.
    Killed,
    /// Its process is stopped: connections are open, and nothing is answered.
    Frozen,
}

async fn replay() -> TestSimulator {
    let replay = Some(ReplayConfig { pace: Pace::Rate(RATE), ..ReplayConfig::default() });
    TestSimulator::with(SimulatorConfig { replay, ..SimulatorConfig::new(only_trades()) }).await
}

/// What subscribers have seen.
#[derive(Clone, Debug, Default)]
struct Seen {
    quotes: usize,
    forming: usize,
    closed: Vec<ExportedBar>,
}

/// Streams that are read all the time.
struct Watcher {
    seen: watch::Receiver<Seen>,
}

impl Watcher {
    /// Follows quotes, and one-minute bars with those that are forming.
    async fn start(channel: &Channel) -> Self {
        let (seen, received) = watch::channel(Seen::default());
        let mut client = QuoteStreamClient::new(channel.clone());
        let request = pb::StreamBarsRequest {
            symbols: vec![ES.to_owned()],
            intervals: vec![Interval::Interval1m.into()],
            include_forming: true,
            ..Default::default()
        };
        let mut bars = client.stream_bars(request).await.unwrap().into_inner();
        let request =
            pb::StreamQuotesRequest { symbols: vec![ES.to_owned()], ..Default::default() };
        let mut quotes = client.stream_quotes(request).await.unwrap().into_inner();
        let seen_bars = seen.clone();
        drop(tokio::spawn(async move {
            while let Ok(Some(event)) = bars.message().await {
                let Some(Event::Bar(bar)) = event.event else { continue };
                let bar = bar.bar.unwrap();
                seen_bars.send_modify(|seen| match bar.state() {
                    pb::BarState::Forming => seen.forming += 1,
                    pb::BarState::Closed | pb::BarState::Revised => {
                        seen.closed.push(exported(&bar));
                    }
                    pb::BarState::Unspecified => panic!("{bar:?}"),
                });
            }
        }));
        drop(tokio::spawn(async move {
            while let Ok(Some(event)) = quotes.message().await {
                if let Some(pb::quote_event::Event::Quote(_)) = event.event {
                    seen.send_modify(|seen| seen.quotes += 1);
                }
            }
        }));
        Self { seen: received }
    }

    async fn until(&mut self, enough: impl FnMut(&Seen) -> bool) -> Seen {
        let reached = timeout(PATIENCE, self.seen.wait_for(enough)).await;
        let reached = reached.map(|seen| seen.unwrap().clone());
        if let Ok(seen) = reached {
            return seen;
        }
        let seen = self.seen.borrow();
        panic!("{} quotes, {} forming, {} closed", seen.quotes, seen.forming, seen.closed.len());
    }
}

fn exported(bar: &pb::Bar) -> ExportedBar {
    ExportedBar {
        time_ms: bar.open_time.unwrap().seconds * 1_000,
        values: [bar.open, bar.high, bar.low, bar.close, bar.volume.unwrap()],
    }
}

/// Waits until the health of `name` is `wanted`.
async fn health(channel: &Channel, name: &str, wanted: ServingStatus) {
    let request = HealthCheckRequest { service: name.to_owned() };
    let mut watched = HealthClient::new(channel.clone()).watch(request).await.unwrap().into_inner();
    let reached = async {
        while let Ok(Some(answer)) = watched.message().await {
            if answer.status() == wanted {
                return;
            }
        }
        panic!("the watch of {name} ended");
    };
    timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("{name} is not {wanted:?}"));
}

async fn settings(mongodb: &Server) -> Vec<(String, String)> {
    vec![
        ("MONGODB_URL".to_owned(), mongodb.url()),
        ("REDIS_URL".to_owned(), own_redis_url().await),
        ("FEED_CLOCK".to_owned(), "event".to_owned()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod and Redis: run scripts/test"]
async fn bars_wait_on_disk_for_a_database_that_was_killed() {
    bars_wait_on_disk(Absence::Killed).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod and Redis: run scripts/test"]
async fn bars_wait_on_disk_for_a_database_that_is_frozen() {
    bars_wait_on_disk(Absence::Frozen).await;
}

async fn bars_wait_on_disk(absence: Absence) {
    let mut mongodb = Server::mongodb().await;
    let simulator = replay().await;
    let mut app = TestApp::with_settings(&simulator, settings(&mongodb).await).await;
    let mut watcher = Watcher::start(&app.channel).await;
    watcher.until(|seen| seen.closed.len() >= 50).await;

    match absence {
        Absence::Killed => mongodb.crash(),
        Absence::Frozen => mongodb.freeze(),
    }
    let call = app.bars(ES, Interval::Interval1h, |_| ());
    let status = timeout(Duration::from_secs(30), call).await.unwrap().unwrap_err();
    assert_eq!(reason(&status), (Code::Unavailable, "DATABASE_UNAVAILABLE".to_owned()));
    assert!(retry_delay(&status).is_some());

    // Nothing more is published now; everything else goes on.
    let before = watcher.seen.borrow().clone();
    let goes_on =
        |seen: &Seen| seen.quotes >= before.quotes + 20 && seen.forming >= before.forming + 10;
    watcher.until(goes_on).await;
    health(&app.channel, "readiness", ServingStatus::NotServing).await;
    health(&app.channel, "liveness", ServingStatus::Serving).await;
    let during = watcher.seen.borrow().clone();
    assert_eq!(during.closed.len(), before.closed.len(), "published before it was stored");
    let newest = pb::GetLatestQuoteRequest { symbol: ES.to_owned() };
    QuoteStreamClient::new(app.channel.clone()).get_latest_quote(newest).await.unwrap();

    match absence {
        Absence::Killed => mongodb.restart().await,
        Absence::Frozen => mongodb.thaw(),
    }
    let minutes = real_minutes();
    let after = watcher.until(|seen| seen.closed.len() >= minutes.len()).await;
    assert_eq!(after.closed, minutes, "in order, each once");
    health(&app.channel, "readiness", ServingStatus::Serving).await;
    assert_eq!(app.export(ES, Interval::Interval1m).await, minutes);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod and Redis: run scripts/test"]
async fn bars_wait_for_a_primary_that_stepped_down() {
    let mongodb = Server::replica_set().await;
    let simulator = replay().await;
    let mut app = TestApp::with_settings(&simulator, settings(&mongodb).await).await;
    let mut watcher = Watcher::start(&app.channel).await;
    watcher.until(|seen| seen.closed.len() >= 50).await;

    mongodb.step_down().await;
    let before = watcher.seen.borrow().clone();
    watcher.until(|seen| seen.quotes >= before.quotes + 20).await;
    mongodb.until_primary().await;

    let minutes = real_minutes();
    let after = watcher.until(|seen| seen.closed.len() >= minutes.len()).await;
    assert_eq!(after.closed, minutes, "in order, each once");
    assert_eq!(app.export(ES, Interval::Interval1m).await, minutes);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod and Redis: run scripts/test"]
async fn a_service_that_is_killed_while_the_database_is_away_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut mongodb = Server::mongodb().await;
    let rate = RATE.to_string();
    let simulator = SimulatorProcess::start(only_trades(), &["--replay", "--rate", &rate]).await;
    let mut settings = simulator.settings();
    settings.extend(self::settings(&mongodb).await);
    let metrics = format!("127.0.0.1:{}", free_port());
    settings.insert("METRICS_ADDR".to_owned(), metrics.clone());
    let mut run = Run::start(folder.path(), &settings).await;
    subscribe(&mut run.quotes).await;
    until_stored(&mut run, 50).await;

    mongodb.crash();
    let on_disk = async {
        while !run.server.lines().iter().any(|line| line.contains("closed bars wait on disk")) {
            sleep(Duration::from_millis(20)).await;
        }
        // And some more of them.
        let mut quotes = run.quotes.clone();
        let mut seen = Vec::new();
        while seen.len() < 30 {
            if let Some(minute) = current(&mut quotes, Interval::Interval1m).await
                && seen.last() != Some(&minute.time_ms)
            {
                seen.push(minute.time_ms);
            }
        }
    };
    timeout(PATIENCE, on_disk).await.unwrap();
    let shown = reqwest::get(format!("http://{metrics}/metrics")).await.unwrap().text().await;
    let shown = shown.unwrap();
    for name in ["entries", "bytes", "oldest_timestamp_seconds"] {
        let name = format!("pocketquant_spool_{name} ");
        let value = shown.lines().find_map(|line| line.strip_prefix(&name));
        assert!(value.unwrap().parse::<f64>().unwrap() > 0.0, "{name}{value:?}");
    }
    run.server.kill().await;
    mongodb.restart().await;

    // It is not given to another database.
    let mut elsewhere = pocketquant(&["serve"]);
    elsewhere.current_dir(folder.path()).envs(&settings).env("MONGODB_DATABASE", "another");
    let refused = elsewhere.env("GRPC_ADDR", "127.0.0.1:0").output().await.unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success());
    assert!(said.contains("holds bars that wait for another database"), "{said}");

    let mut run = Run::start(folder.path(), &settings).await;
    let lines = run.server.lines().join("\n");
    assert!(lines.contains("stored what an earlier run had left on disk"), "{lines}");
    Oracle::new().until_right(&mut run, &simulator).await;
    assert_eq!(run.server.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod and Redis: run scripts/test"]
async fn a_cache_that_is_gone_is_noticed_by_nobody() {
    let (mongodb, mut redis) = tokio::join!(Server::mongodb(), Server::redis());
    let simulator = replay().await;
    let mut settings = settings(&mongodb).await;
    settings.push(("REDIS_URL".to_owned(), redis.url()));
    let mut app = TestApp::with_settings(&simulator, settings).await;
    let mut watcher = Watcher::start(&app.channel).await;
    watcher.until(|seen| seen.closed.len() >= 50).await;

    redis.crash();
    health(&app.channel, "cache", ServingStatus::NotServing).await;
    health(&app.channel, "readiness", ServingStatus::Serving).await;
    let during = watcher.seen.borrow().closed.len();
    watcher.until(|seen| seen.closed.len() >= during + 50).await;
    let bars = app.bars(ES, Interval::Interval1m, |request| request.limit = Some(50)).await;
    assert_eq!(bars.unwrap().bars.len(), 50);

    // Back, and empty.
    redis.restart().await;
    health(&app.channel, "cache", ServingStatus::Serving).await;
    let minutes = real_minutes();
    let after = watcher.until(|seen| seen.closed.len() >= minutes.len()).await;
    assert_eq!(after.closed, minutes, "in order, each once");
    assert_eq!(app.export(ES, Interval::Interval1m).await, minutes);
    app.stop().await;
}
