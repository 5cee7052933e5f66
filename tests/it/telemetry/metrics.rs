//! Metrics, as Prometheus gets them from the real binary.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use pocketquant::common::metrics::{Kind, METRICS};
use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::quote_stream_client::QuoteStreamClient;
use pocketquant::proto::v1::system_client::SystemClient;
use pocketquant::simulator::{Pace, ReplayConfig, SimulatorConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Request};

use super::collector::Collector;
use super::exposition::{Family, parse};
use super::logs::only_known_fields;
use crate::engines::{Engine, on_every_engine};
use crate::processes::Server;
use crate::servers::Server as Dependency;
use crate::support::{TestSimulator, demo_data};

on_every_engine!(every_metric_of_the_table_is_exported_and_no_other);

const ES: &str = "CME:ES";
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(2);

/// What the server exports now.
pub async fn exported(server: &Server) -> String {
    let answer = reqwest::get(address(server)).await.unwrap();
    assert_eq!(answer.status(), 200);
    let kind = answer.headers()["content-type"].to_str().unwrap();
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    answer.text().await.unwrap()
}

/// The number behind `series`, as it is written in the answer.
pub async fn value(server: &Server, series: &str) -> Option<f64> {
    let text = exported(server).await;
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|number| number.parse().unwrap())
}

/// Waits until `series` has at least `least`.
async fn reaches(server: &Server, series: &str, least: f64) {
    let reached = async {
        while value(server, series).await.is_none_or(|value| value < least) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = timeout(PATIENCE, reached).await;
    assert!(waited.is_ok(), "{series} did not reach {least}: {}", exported(server).await);
}

/// Waits until `series` is `expected`.
async fn becomes(server: &Server, series: &str, expected: f64) {
    let reached = async {
        while value(server, series).await != Some(expected) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = timeout(PATIENCE, reached).await;
    assert!(waited.is_ok(), "{series} is not {expected}: {}", exported(server).await);
}

/// A server that has had a day: a replay, syncs, queries, streams, mistakes.
pub async fn busy(engine: Engine, folder: &Path, collector: &Collector) -> Server {
    let replay = Some(ReplayConfig { pace: Pace::Max, ..ReplayConfig::default() });
    let data = SimulatorConfig { replay, ..SimulatorConfig::new(demo()) };
    let simulator = TestSimulator::with(data).await;
    let mut settings = settings(&simulator);
    settings.extend(engine.settings().await.into_iter().map(|(name, value)| (name.into(), value)));
    settings.insert("FEED_CLOCK".to_owned(), "event".to_owned());
    settings.insert("RATE_LIMIT_PER_SECOND".to_owned(), "1000".to_owned());
    settings.insert("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), collector.url());
    settings.insert("OTEL_BSP_SCHEDULE_DELAY".to_owned(), "50".to_owned());
    let server = Server::start(folder, &settings).await;
    let channel = Channel::from_shared(server.url()).unwrap().connect().await.unwrap();
    let (mut client, mut quotes) =
        (server.market_data().await, QuoteStreamClient::new(channel.clone()));
    client.sync_symbol(sync("NYSE:IBM")).await.unwrap();
    client.sync_symbol(sync("NYSE:NOTHING")).await.unwrap_err();
    // A cache that is slow for once is passed by.
    let hit = r#"pocketquant_series_cache_reads_total{outcome="hit"}"#;
    let looking = async {
        while value(&server, hit).await < Some(1.0) {
            client.get_bars(bars("NYSE:IBM")).await.unwrap();
        }
    };
    timeout(PATIENCE, looking).await.expect("an answer is kept");
    let retention = pb::RunJobRequest { job_id: "retention".to_owned() };
    SystemClient::new(channel.clone()).run_job(retention).await.unwrap();
    for _ in 0..2 {
        let mut subscribe = Request::new(pb::SubscribeRequest { symbol: ES.to_owned() });
        subscribe.metadata_mut().insert("idempotency-key", "once".parse().unwrap());
        quotes.subscribe(subscribe).await.unwrap();
    }
    let request = pb::StreamQuotesRequest { symbols: vec![ES.to_owned()], ..Default::default() };
    let mut stream = quotes.stream_quotes(request).await.unwrap().into_inner();
    stream.message().await.unwrap();
    reaches(&server, r#"pocketquant_bars_total{change="closed"}"#, 100.0).await;
    reaches(&server, r#"pocketquant_trace_spans_total{outcome="delivered"}"#, 1.0).await;
    server
}

async fn every_metric_of_the_table_is_exported_and_no_other(engine: Engine) {
    let (folder, collector) = (TempDir::new().unwrap(), Collector::start().await);
    let server = busy(engine, folder.path(), &collector).await;
    let families = parse(&exported(&server).await);
    let names: BTreeSet<&str> = families.keys().map(String::as_str).collect();
    assert_eq!(names, METRICS.iter().map(|metric| metric.name).collect());
    for metric in METRICS {
        let family = &families[metric.name];
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        assert_eq!((family.kind.as_str(), family.help.as_str()), (kind, metric.help));
        let expected: BTreeSet<&str> = metric.labels.iter().copied().collect();
        for sample in &family.samples {
            let labels = sample.labels.keys().map(String::as_str).filter(|label| *label != "le");
            assert_eq!(labels.collect::<BTreeSet<_>>(), expected, "{sample:?}");
            let symbol = |value: &String| value.contains("IBM") || value.contains("ES:");
            assert!(!sample.labels.values().any(symbol), "a symbol in a label: {sample:?}");
        }
    }
    what_happened_is_counted(engine, &families);
    what_was_kept_for_keys_is_counted(engine, &families);
}

/// The sum of the samples of `name` that have these labels.
fn sum(families: &BTreeMap<String, Family>, name: &str, labels: &[(&str, &str)]) -> f64 {
    let matches = |have: &BTreeMap<String, String>| {
        labels.iter().all(|(name, value)| have.get(*name).is_some_and(|have| have == value))
    };
    let samples = families[name].samples.iter().filter(|sample| matches(&sample.labels));
    samples.map(|sample| sample.value).sum()
}

fn what_was_kept_for_keys_is_counted(engine: Engine, families: &BTreeMap<String, Family>) {
    for (operation, calls) in [("claim", 2.0), ("finish", 1.0)] {
        let (kept_in, of): (_, &[_]) = match engine {
            Engine::Embedded => ("database", &[("collection", "idempotency")]),
            Engine::Servers => ("cache", &[]),
        };
        let done = [&[("operation", operation), ("outcome", "ok")], of].concat();
        assert_eq!(sum(families, &format!("pocketquant_{kept_in}_operations_total"), &done), calls);
        let timed = format!("pocketquant_{kept_in}_operation_duration_seconds");
        assert!(
            families[&timed].samples.iter().any(|sample| sample.labels["operation"] == operation)
        );
    }
}

fn what_happened_is_counted(engine: Engine, families: &BTreeMap<String, Family>) {
    let sum = |name: &str, labels: &[(&str, &str)]| sum(families, name, labels);
    let (database, cache) = match engine {
        Engine::Embedded => ("sqlite", "memory"),
        Engine::Servers => ("mongodb", "redis"),
    };
    let engines = [("database", database), ("cache", cache)];
    assert_eq!(sum("pocketquant_build_info", &engines), 1.0);
    let completed = [("outcome", "completed")];
    assert_eq!(sum("pocketquant_syncs_total", &completed), 1.0);
    assert_eq!(sum("pocketquant_syncs_total", &[("outcome", "error")]), 1.0);
    assert_eq!(sum("pocketquant_syncs_in_flight", &[]), 0.0);
    assert_eq!(sum("pocketquant_sync_bars_total", &[("kind", "inserted")]), 50.0);
    assert_eq!(sum("pocketquant_series_cache_reads_total", &[("outcome", "hit")]), 1.0);
    assert!(sum("pocketquant_series_cache_reads_total", &[("outcome", "miss")]) >= 1.0);
    let retained = [("name", "retention"), ("outcome", "succeeded")];
    assert_eq!(sum("pocketquant_job_runs_total", &retained), 1.0);
    assert_eq!(sum("pocketquant_job_next_run_timestamp_seconds", &[]), 0.0, "switched off");
    let failed = [("request", "market_data.sync_symbol"), ("outcome", "SYMBOL_NOT_FOUND")];
    assert_eq!(sum("pocketquant_requests_total", &failed), 1.0);
    assert_eq!(sum("pocketquant_feed_state", &[]), 1.0);
    assert_eq!(sum("pocketquant_feed_state", &[("state", "connected")]), 1.0);
    assert_eq!(sum("pocketquant_feed_symbols", &[("kind", "active")]), 1.0);
    assert_eq!(sum("pocketquant_feed_symbols", &[("kind", "subscribed")]), 1.0);
    assert!(sum("pocketquant_feed_messages_total", &[]) > 0.0);
    assert!(sum("pocketquant_feed_ticks_total", &[("outcome", "merged")]) > 0.0);
    assert!(sum("pocketquant_feed_last_message_timestamp_seconds", &[]) > 1.6e9);
    assert!(sum("pocketquant_bar_log_head", &[]) >= 100.0);
    assert!(sum("pocketquant_bar_log_published", &[]) >= 100.0);
    for outcome in ["ran", "replayed"] {
        assert_eq!(sum("pocketquant_idempotency_calls_total", &[("outcome", outcome)]), 1.0);
    }
    let decisions = "pocketquant_rate_limit_decisions_total";
    assert!(sum(decisions, &[("outcome", "allowed")]) >= 6.0);
    let buckets = if engine == Engine::Embedded { "local" } else { "shared" };
    assert!(sum(decisions, &[("buckets", buckets), ("outcome", "allowed")]) >= 1.0);
    let quotes = [("request", "quote_stream.stream_quotes")];
    assert!(sum("pocketquant_stream_messages_total", &quotes) >= 1.0);
    let appends = [("collection", "bar_log"), ("operation", "append"), ("outcome", "ok")];
    assert!(sum("pocketquant_database_operations_total", &appends) >= 1.0);
    assert!(sum("pocketquant_database_connections", &[]) >= 1.0);
    for process in ["cpu_seconds_total", "start_time_seconds", "resident_memory_bytes", "threads"] {
        assert!(families.contains_key(&format!("process_{process}")), "{process}");
    }
    assert!(sum("process_resident_memory_bytes", &[]) > 1e6);
    assert!(sum("process_open_fds", &[]) > 3.0);
    assert!(sum("pocketquant_runtime_workers", &[]) >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_counted_however_it_ends() {
    let simulator = TestSimulator::start(demo_data()).await;
    // The provider says nothing, so that the sync stays under way.
    simulator.fault("dead", None, None, true).await;
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path(), &settings(&simulator)).await;
    let mut client = server.market_data().await;
    let mut waiting = server.market_data().await;
    let sync = tokio::spawn(async move { waiting.sync_symbol(sync("NYSE:IBM")).await });
    let rpc = |name: &str, method: &str, more: &str| {
        format!("pocketquant_rpc_{name}{{method=\"pocketquant.v1.MarketData/{method}\"{more}}}")
    };
    reaches(&server, &rpc("in_flight", "SyncSymbol", ""), 1.0).await;
    sync.abort();
    reaches(&server, &rpc("requests_total", "SyncSymbol", r#",code="CANCELLED""#), 1.0).await;
    assert_eq!(value(&server, &rpc("in_flight", "SyncSymbol", "")).await, Some(0.0));

    client.list_symbols(pb::ListSymbolsRequest::default()).await.unwrap();
    client.get_bars(pb::GetBarsRequest::default()).await.unwrap_err();
    assert_eq!(
        value(&server, &rpc("requests_total", "ListSymbols", r#",code="OK""#)).await,
        Some(1.0)
    );
    let refused = rpc("requests_total", "GetBars", r#",code="INVALID_ARGUMENT""#);
    assert_eq!(value(&server, &refused).await, Some(1.0));
    assert_eq!(value(&server, &rpc("duration_seconds_count", "GetBars", "")).await, Some(1.0));
    for path in ["/pocketquant.v1.MarketData/Nothing", "/a.B/C", "/a.B/D"] {
        let status = call(&server, path).await;
        assert_eq!(status, Code::Unimplemented);
    }
    let other = r#"pocketquant_rpc_requests_total{method="other",code="UNIMPLEMENTED"}"#;
    assert_eq!(value(&server, other).await, Some(3.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_is_dropped_half_way_is_counted_as_cancelled() {
    let simulator = TestSimulator::start(demo_data()).await;
    simulator.fault("dead", None, None, true).await;
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path(), &settings(&simulator)).await;
    let channel = Channel::from_shared(server.url()).unwrap().connect().await.unwrap();
    let mut quotes = QuoteStreamClient::new(channel);
    let request = pb::StreamQuotesRequest { symbols: vec![ES.to_owned()], conflate: None };
    let call = tokio::spawn(async move { quotes.stream_quotes(request).await.map(drop) });
    // It waits for the provider's verdict, which does not come.
    let waiting = async {
        while simulator.stats().await["connections"].as_u64() < Some(1) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("the provider is asked");
    call.abort();
    let dropped =
        r#"pocketquant_requests_total{request="quote_stream.stream_quotes",outcome="cancelled"}"#;
    reaches(&server, dropped, 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod and Redis: run scripts/test"]
async fn what_the_checks_find_is_exported() {
    let simulator = TestSimulator::start(demo_data()).await;
    let (mut redis, mut mongodb) = tokio::join!(Dependency::redis(), Dependency::mongodb());
    let folder = TempDir::new().unwrap();
    let mut settings = settings(&simulator);
    settings.insert("REDIS_URL".to_owned(), redis.url());
    settings.insert("MONGODB_URL".to_owned(), mongodb.url());
    let server = Server::start(folder.path(), &settings).await;
    let up = |name: &str| format!("pocketquant_dependency_up{{name=\"{name}\"}}");
    let [cache, database, ready] = [up("cache"), up("database"), "pocketquant_ready".to_owned()];
    for series in [&cache, &database, &up("feed"), &ready] {
        assert_eq!(value(&server, series).await, Some(1.0), "{series}");
    }
    assert_eq!(value(&server, &up("jobs")).await, None, "they are switched off");
    redis.crash();
    becomes(&server, &cache, 0.0).await;
    assert_eq!(value(&server, &ready).await, Some(1.0), "it can do without");
    mongodb.crash();
    becomes(&server, &database, 0.0).await;
    becomes(&server, &ready, 0.0).await;
    tokio::join!(redis.restart(), mongodb.restart());
    for series in [&cache, &database, &ready] {
        becomes(&server, series, 1.0).await;
    }
    let lines = server.lines();
    assert!(lines.iter().any(|line| line.contains("\"fred::")), "its client said so: {lines:#?}");
    only_known_fields(&lines);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_counted_while_they_are_open() {
    let simulator = TestSimulator::start(demo_data()).await;
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path(), &settings(&simulator)).await;
    let channel = Channel::from_shared(server.url()).unwrap().connect().await.unwrap();
    let mut quotes = QuoteStreamClient::new(channel);
    let request =
        pb::StreamBarsRequest { symbols: vec!["NYSE:IBM".to_owned()], ..Default::default() };
    let mut stream = quotes.stream_bars(request).await.unwrap().into_inner();
    stream.message().await.unwrap();
    let open = r#"pocketquant_streams_open{request="quote_stream.stream_bars"}"#;
    assert_eq!(value(&server, open).await, Some(1.0));
    drop(stream);
    becomes(&server, open, 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_for_something_else_is_told_so() {
    let simulator = TestSimulator::start(demo_data()).await;
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path(), &settings(&simulator)).await;
    let metrics = address(&server);
    let client = reqwest::Client::new();
    assert_eq!(client.get(metrics.replace("/metrics", "/")).send().await.unwrap().status(), 404);
    assert_eq!(client.post(&metrics).send().await.unwrap().status(), 405);
    assert_eq!(client.head(&metrics).send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_do_not_keep_prometheus_out() {
    let simulator = TestSimulator::start(demo_data()).await;
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path(), &settings(&simulator)).await;
    let metrics = address(&server);
    let host = metrics.trim_start_matches("http://").trim_end_matches("/metrics");
    let mut silent = Vec::new();
    for _ in 0..32 {
        let mut socket = TcpStream::connect(host).await.unwrap();
        socket.write_all(b"GET /metrics").await.unwrap();
        silent.push(socket);
    }
    assert!(timeout(PATIENCE, exported(&server)).await.unwrap().contains("process_threads"));
    let mut rest = Vec::new();
    timeout(PATIENCE, silent[0].read_to_end(&mut rest)).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_taken_is_named_with_its_setting() {
    let simulator = TestSimulator::start(demo_data()).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = TempDir::new().unwrap();
    let mut settings = settings(&simulator);
    settings.insert("METRICS_ADDR".to_owned(), taken.local_addr().unwrap().to_string());
    let mut command = crate::processes::pocketquant(&["serve"]);
    let output = command.current_dir(folder.path()).envs(&settings).output().await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("METRICS_ADDR: cannot listen"), "{text}");
}

/// Each constant of the table counts something: it is named where things happen.
#[test]
fn every_metric_of_the_table_is_recorded_somewhere() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let table = std::fs::read_to_string(src.join("common/metrics/table.rs")).unwrap();
    let is_row = |line: &&str| line.contains(" \"pocketquant_") || line.contains(" \"process_");
    let rows = table.lines().filter(is_row);
    let names: Vec<&str> = rows.filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names.len(), METRICS.len());
    let source: Vec<String> = super::logs::sources(&src)
        .into_iter()
        .filter(|path| !path.ends_with("metrics/table.rs"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    let words = |text: &str| -> Vec<String> {
        text.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned).collect()
    };
    let used: BTreeSet<String> = source.iter().flat_map(|text| words(text)).collect();
    for name in names {
        assert!(used.contains(name), "{name} is recorded nowhere");
    }
}

/// The settings of a server with metrics.
pub fn settings(simulator: &TestSimulator) -> BTreeMap<String, String> {
    [
        ("TRADINGVIEW_WS_URL", simulator.endpoints.ws_url.clone()),
        ("TRADINGVIEW_HTTP_URL", simulator.endpoints.http_url.clone()),
        ("METRICS_ADDR", "127.0.0.1:0".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Where the server's log says that metrics are.
fn address(server: &Server) -> String {
    let lines = server.lines();
    let line = lines.iter().find_map(|line| line.split_once("serving metrics on ")).unwrap();
    line.1.split('"').next().unwrap().to_owned()
}

/// The demo's daily bars, and trades without the bars that were made of them.
fn demo() -> std::path::PathBuf {
    static FOLDER: std::sync::OnceLock<TempDir> = std::sync::OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let (folder, demo) = (tempfile::tempdir().unwrap(), demo_data());
        std::fs::create_dir(folder.path().join("ticks")).unwrap();
        for name in ["symbols.json", "NYSE_IBM_1d.csv"] {
            std::fs::copy(demo.join(name), folder.path().join(name)).unwrap();
        }
        let trades = "ticks/CME_ES_trades.csv.gz";
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo").join(trades);
        std::fs::copy(source, folder.path().join(trades)).unwrap();
        folder
    });
    folder.path().to_owned()
}

fn sync(symbol: &str) -> pb::SyncSymbolRequest {
    pb::SyncSymbolRequest {
        symbol: symbol.to_owned(),
        interval: pb::Interval::Interval1d.into(),
        bar_count: Some(50),
        full_history: false,
    }
}

fn bars(symbol: &str) -> pb::GetBarsRequest {
    pb::GetBarsRequest {
        symbol: symbol.to_owned(),
        interval: pb::Interval::Interval1d.into(),
        ..Default::default()
    }
}

/// Calls a method that no client has.
async fn call(server: &Server, path: &'static str) -> Code {
    let channel = Channel::from_shared(server.url()).unwrap().connect().await.unwrap();
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let path = http::uri::PathAndQuery::from_static(path);
    client.unary(Request::new(()), path, codec).await.unwrap_err().code()
}
