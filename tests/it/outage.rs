//! The database or the cache goes away in the middle of real trades: the feed goes on, closed bars
//! wait on disk, and once it is back all is as if nothing had happened.
//!
//! `OUTAGE_SECONDS=60` keeps it away for a minute; else it comes back as soon as all was seen.

use std::collections::BTreeMap;
use std::time::Duration;

use pocketquant::infrastructure::tls::install_crypto_provider;
use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::Interval;
use pocketquant::proto::v1::bar_event::Event;
use pocketquant::proto::v1::quote_stream_client::QuoteStreamClient;
use pocketquant::proto::v1::sync_progress::Outcome;
use prost_types::Timestamp as PbTimestamp;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::disk::{WITHOUT_SIGNAL, limit_files};
use crate::live::{ES, PATIENCE, only_trades, real_minutes, subscribe};
use crate::live_crash::{Oracle, Run, current, until_stored};
use crate::processes::{Server as Process, SimulatorProcess, pocketquant};
use crate::servers::{Server, free_port, own_redis_url};
use crate::support::{ExportedBar, demo_data, reason, retry_delay};

/// What all trades take where nothing is kept away for longer than it must.
const REPLAY: Duration = Duration::from_mins(1);

/// Trades a second for that: 30 bars close in a second.
const RATE: f64 = 8_000.0;

/// How long callers wait once it is known what is away: less than a server is looked for.
const IMPATIENCE: Duration = Duration::from_millis(2_900);

/// How a database goes away.
#[derive(Clone, Copy, Debug)]
enum Absence {
    /// Its process is killed: connections are refused.
    Killed,
    /// Its process is stopped: connections are open, and nothing is answered.
    Frozen,
}

/// How long what goes away stays away at least.
fn away() -> Duration {
    let seconds = std::env::var("OUTAGE_SECONDS").ok();
    Duration::from_secs(seconds.map_or(0, |seconds| seconds.parse().unwrap()))
}

/// A market with enough trades for before, meanwhile and after.
async fn replay() -> SimulatorProcess {
    let rate = RATE * REPLAY.div_duration_f64(REPLAY + 2 * away());
    SimulatorProcess::start(only_trades(), &["--replay", "--rate", &rate.to_string()]).await
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

/// The sum of a metric's series that have `label`.
async fn metric(settings: &BTreeMap<String, String>, name: &str, label: &str) -> f64 {
    install_crypto_provider();
    let url = format!("http://{}/metrics", settings["METRICS_ADDR"]);
    let shown = reqwest::get(url).await.unwrap().text().await.unwrap();
    let series = shown.lines().filter(|line| line.starts_with(name) && line.contains(label));
    series.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

async fn settings(simulator: &SimulatorProcess, mongodb: &Server) -> BTreeMap<String, String> {
    let mut settings = simulator.settings();
    for (name, value) in [
        ("MONGODB_URL", mongodb.url()),
        ("REDIS_URL", own_redis_url().await),
        ("FEED_CLOCK", "event".to_owned()),
        ("METRICS_ADDR", format!("127.0.0.1:{}", free_port())),
    ] {
        settings.insert(name.to_owned(), value);
    }
    settings
}

/// A service, and streams of it that are read all the time.
struct Watched {
    run: Run,
    watcher: Watcher,
    simulator: SimulatorProcess,
    settings: BTreeMap<String, String>,
    _folder: TempDir,
}

impl Watched {
    /// Some bars have closed.
    async fn start(simulator: SimulatorProcess, settings: BTreeMap<String, String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Process::start_in_shell(WITHOUT_SIGNAL, folder.path(), &settings).await;
        let run = Run::of(server).await;
        let mut watcher = Watcher::start(&run.channel).await;
        watcher.until(|seen| seen.closed.len() >= 50).await;
        Self { run, watcher, simulator, settings, _folder: folder }
    }

    /// Hourly bars, asked for by someone who waits for `patience`.
    async fn hours(&mut self, patience: Duration) -> Result<Response<pb::GetBarsResponse>, Status> {
        let mut request = Request::new(pb::GetBarsRequest {
            symbol: ES.to_owned(),
            interval: Interval::Interval1h.into(),
            ..Default::default()
        });
        request.set_timeout(patience);
        self.run.market_data.get_bars(request).await
    }

    /// Quotes and forming bars go on, and the newest quote is told.
    async fn goes_on(&mut self) {
        let before = self.watcher.seen.borrow().clone();
        let more =
            |seen: &Seen| seen.quotes >= before.quotes + 20 && seen.forming >= before.forming + 10;
        self.watcher.until(more).await;
        let newest = pb::GetLatestQuoteRequest { symbol: ES.to_owned() };
        self.run.quotes.get_latest_quote(newest).await.unwrap();
    }

    /// Waits until it has said `what`.
    async fn says(&self, what: &str) {
        let said = async {
            while !self.run.server.lines().iter().any(|line| line.contains(what)) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, said).await.unwrap_or_else(|_| panic!("never said: {what}"));
    }

    /// The trades are over: every bar was published in order, and is stored as in an undisturbed
    /// run.
    async fn ends_as_if_nothing_had_happened(mut self) {
        let minutes = real_minutes();
        let seen = self.watcher.until(|seen| seen.closed.len() >= minutes.len()).await;
        assert_eq!(seen.closed, minutes, "in order, each once");
        health(&self.run.channel, "readiness", ServingStatus::Serving).await;
        Oracle::new().until_right(&mut self.run, &self.simulator).await;
        assert_eq!(self.run.server.terminate().await, Some(0));
    }
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
    let settings = settings(&simulator, &mongodb).await;
    let mut watched = Watched::start(simulator, settings).await;

    match absence {
        Absence::Killed => mongodb.crash(),
        Absence::Frozen => mongodb.freeze(),
    }
    let since = Instant::now();
    is_unavailable(&watched.hours(Duration::from_secs(30)).await);

    // Nothing more is published now; everything else goes on.
    let before = watched.watcher.seen.borrow().closed.len();
    watched.goes_on().await;
    health(&watched.run.channel, "readiness", ServingStatus::NotServing).await;
    loop {
        health(&watched.run.channel, "liveness", ServingStatus::Serving).await;
        is_unavailable(&watched.hours(IMPATIENCE).await);
        watched.goes_on().await;
        if since.elapsed() >= away() {
            break;
        }
    }
    let during = watched.watcher.seen.borrow().closed.len();
    assert_eq!(during, before, "published before it was stored");
    assert!(metric(&watched.settings, "pocketquant_spool_entries ", "").await > 0.0);

    match absence {
        Absence::Killed => mongodb.restart().await,
        Absence::Frozen => mongodb.thaw(),
    }
    watched.ends_as_if_nothing_had_happened().await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod and Redis: run scripts/test"]
async fn bars_that_wait_on_a_disk_that_is_full_by_then_follow_too() {
    let mut mongodb = Server::mongodb().await;
    let simulator = replay().await;
    let settings = settings(&simulator, &mongodb).await;
    let watched = Watched::start(simulator, settings).await;

    mongodb.crash();
    watched.says("closed bars wait on disk").await;
    limit_files(&watched.run.server, "1");
    watched.says("the spool takes nothing").await;
    mongodb.restart().await;
    watched.says("all bars that waited on disk are stored").await;
    watched.ends_as_if_nothing_had_happened().await;
}

async fn cache_errors(settings: &BTreeMap<String, String>) -> f64 {
    metric(settings, "pocketquant_cache_operations_total{", "outcome=\"error\"").await
}

/// A request of someone who waits long, but not until the end of a sync is given up.
fn soon<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_mins(1));
    request
}

/// The caller was told in time what is wrong, and when to come back.
fn is_unavailable<T: std::fmt::Debug>(answer: &Result<T, Status>) {
    let status = answer.as_ref().unwrap_err();
    assert_eq!(reason(status), (Code::Unavailable, "DATABASE_UNAVAILABLE".to_owned()));
    assert!(retry_delay(status).is_some());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod and Redis: run scripts/test"]
async fn every_way_into_a_sync_says_at_once_that_the_database_is_away() {
    let mut mongodb = Server::mongodb().await;
    let simulator = SimulatorProcess::start(demo_data(), &[]).await;
    let (settings, folder) = (settings(&simulator, &mongodb).await, tempfile::tempdir().unwrap());
    let Run { server, mut market_data, .. } = Run::start(folder.path(), &settings).await;
    let (symbol, interval) = ("NYSE:IBM".to_owned(), Interval::Interval1d.into());
    let start = pb::StartSyncRequest { symbol: symbol.clone(), interval, ..Default::default() };
    mongodb.crash();

    // The second joins the first, whose end cannot be written down yet.
    for _ in 0..2 {
        is_unavailable(&market_data.start_sync(soon(start.clone())).await);
    }
    let sync = pb::SyncSymbolRequest { symbol: symbol.clone(), interval, ..Default::default() };
    is_unavailable(&market_data.sync_symbol(soon(sync)).await);
    let (from, to) = (PbTimestamp::default(), PbTimestamp { seconds: 86_400, nanos: 0 });
    let (start_time, end_time) = (Some(from), Some(to));
    let repair = pb::RepairGapsRequest { symbol: symbol.clone(), interval, start_time, end_time };
    is_unavailable(&market_data.repair_gaps(soon(repair)).await);
    let many = pb::SyncSymbolsRequest { symbols: vec![symbol], interval, ..Default::default() };
    let mut steps = market_data.sync_symbols(soon(many)).await.unwrap().into_inner();
    let mut last = None;
    while let Some(step) = steps.message().await.unwrap() {
        last = step.outcome;
    }
    let Some(Outcome::Error(error)) = last else { panic!("{last:?}") };
    assert_eq!(error.code, i32::from(Code::Unavailable), "{error:?}");

    mongodb.restart().await;
    let started = async {
        while market_data.start_sync(start.clone()).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, started).await.expect("it can be started again");
    assert_eq!(server.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod and Redis: run scripts/test"]
async fn bars_wait_for_a_primary_that_stepped_down() {
    let mongodb = Server::replica_set().await;
    let simulator = replay().await;
    let settings = settings(&simulator, &mongodb).await;
    let mut watched = Watched::start(simulator, settings).await;

    mongodb.step_down().await;
    watched.goes_on().await;
    mongodb.until_primary().await;
    watched.ends_as_if_nothing_had_happened().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod and Redis: run scripts/test"]
async fn a_service_that_is_killed_while_the_database_is_away_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut mongodb = Server::mongodb().await;
    let simulator = replay().await;
    let settings = settings(&simulator, &mongodb).await;
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
    for name in ["entries", "bytes", "oldest_timestamp_seconds"] {
        let name = format!("pocketquant_spool_{name} ");
        assert!(metric(&settings, &name, "").await > 0.0, "{name}");
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
async fn a_cache_that_is_gone_is_noticed_by_nobody_but_the_metrics() {
    let (mongodb, mut redis) = tokio::join!(Server::mongodb(), Server::redis());
    let simulator = replay().await;
    let mut settings = settings(&simulator, &mongodb).await;
    settings.insert("REDIS_URL".to_owned(), redis.url());
    let mut watched = Watched::start(simulator, settings).await;
    let errors_before = cache_errors(&watched.settings).await;

    redis.crash();
    let since = Instant::now();
    health(&watched.run.channel, "cache", ServingStatus::NotServing).await;
    loop {
        health(&watched.run.channel, "readiness", ServingStatus::Serving).await;
        watched.hours(IMPATIENCE).await.unwrap();
        watched.goes_on().await;
        let during = watched.watcher.seen.borrow().closed.len();
        watched.watcher.until(|seen| seen.closed.len() >= during + 5).await;
        if since.elapsed() >= away() {
            break;
        }
    }

    assert!(cache_errors(&watched.settings).await > errors_before);

    // Back, and empty.
    redis.restart().await;
    health(&watched.run.channel, "cache", ServingStatus::Serving).await;
    watched.ends_as_if_nothing_had_happened().await;
}
