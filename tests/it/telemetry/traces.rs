//! Traces, as a real collector gets them from the real binary.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pocketquant::proto::v1 as pb;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tonic::{Code, Request};
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::collector::{Collector, Span};
use crate::engines::{Engine, on_every_engine};
use crate::processes::Server;
use crate::servers::free_port;
use crate::support::{TestSimulator, demo_data};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";
const CORRELATION: &str = "find-me";

on_every_engine!(
    a_sync_and_a_query_are_one_trace_each_below_the_callers,
    what_is_kept_for_an_idempotency_key_is_part_of_the_trace,
);

async fn a_sync_and_a_query_are_one_trace_each_below_the_callers(engine: Engine) {
    let (collector, simulator) = (Collector::start().await, simulator().await);
    let folder = TempDir::new().unwrap();
    let mut settings = settings(&simulator, &collector);
    // So that everything waits for the end.
    settings.insert("OTEL_BSP_SCHEDULE_DELAY".to_owned(), "3600000".to_owned());
    settings.extend(engine.settings().await.into_iter().map(|(name, value)| (name.into(), value)));
    let server = Server::start(folder.path(), &settings).await;
    let mut client = server.market_data().await;
    client.sync_symbol(traced(sync_request())).await.unwrap();
    client.get_bars(traced(bars_request())).await.unwrap();
    let log = Arc::clone(&server.log);
    // What was not sent yet is sent when it stops.
    assert_eq!(server.terminate().await, Some(0));

    let trace = collector.trace(TRACE);
    let call = named(&trace, "pocketquant.v1.MarketData/SyncSymbol");
    assert_eq!((call.parent_id.as_str(), call.kind, call.status), (CALLER, 2, 0));
    assert_eq!(call.trace_state, "vendor=value");
    for (key, value) in [
        ("rpc.system", "grpc"),
        ("rpc.service", "pocketquant.v1.MarketData"),
        ("rpc.method", "SyncSymbol"),
        ("rpc.grpc.status_code", "0"),
        ("correlation_id", CORRELATION),
    ] {
        assert_eq!(call.attributes.get(key).map(String::as_str), Some(value), "{key}: {call:?}");
    }
    let request = named(&trace, "market_data.sync_symbol");
    assert_eq!((&request.parent_id, request.kind), (&call.id, 1));
    // The work may outlive the call, so it has a span of its own.
    let sync = named(&trace, "sync");
    assert_eq!((&sync.parent_id, sync.kind), (&request.id, 1));
    let page = named(&trace, "tradingview history");
    assert_eq!((&page.parent_id, page.kind), (&sync.id, 3));

    let (database, cache) = match engine {
        Engine::Embedded => ("sqlite", "memory"),
        Engine::Servers => ("mongodb", "redis"),
    };
    let below = |parent: &Span, system: &str, name: &str| {
        let span = trace.iter().find(|span| span.name == name && span.parent_id == parent.id);
        let span = span.unwrap_or_else(|| panic!("no `{name}` below {parent:?}: {trace:#?}"));
        assert_eq!((span.kind, span.attributes["db.system.name"].as_str()), (3, system));
        let (operation, collection) = name.split_once(' ').unwrap();
        assert_eq!(span.attributes["db.operation.name"], operation);
        assert_eq!(span.attributes["db.collection.name"], collection);
    };
    below(sync, database, "stretch ohlcv");
    below(sync, database, "write ohlcv");
    below(sync, database, "put sync_status");
    below(sync, cache, "set cache");
    let query = named(&trace, "market_data.get_bars");
    below(query, cache, "get cache");
    below(query, database, "find ohlcv");

    let resource = collector.resource();
    assert_eq!(resource["service.name"], "pocketquant");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    let lines = log.lock().unwrap().clone();
    let line = lines.iter().find(|line| line.contains("SyncSymbol OK")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["trace_id"], &line["correlation_id"]), (&json!(TRACE), &json!(CORRELATION)));
}

async fn what_is_kept_for_an_idempotency_key_is_part_of_the_trace(engine: Engine) {
    let stores: &[&str] = match engine {
        Engine::Embedded => &["sqlite"],
        Engine::Servers => &["redis", "mongodb"],
    };
    for store in stores {
        let (collector, simulator) = (Collector::start().await, simulator().await);
        let folder = TempDir::new().unwrap();
        let mut settings = settings(&simulator, &collector);
        for (name, value) in engine.settings().await {
            settings.insert(name.to_owned(), value);
        }
        if *store == "mongodb" {
            settings.remove("REDIS_URL");
        }
        let server = Server::start(folder.path(), &settings).await;
        let mut client = server.market_data().await;
        for _ in 0..2 {
            let mut request = traced(sync_request());
            request.metadata_mut().insert("idempotency-key", "once".parse().unwrap());
            client.sync_symbol(request).await.unwrap();
        }
        assert_eq!(server.terminate().await, Some(0));
        let trace = collector.trace(TRACE);
        let calls: Vec<&Span> =
            trace.iter().filter(|span| span.name.ends_with("/SyncSymbol")).collect();
        let [first, again] = calls[..] else { panic!("{calls:#?}") };
        let (first, again) = if is_parent(&trace, first) { (first, again) } else { (again, first) };
        let below = |call: &Span, name: &str| {
            let is_it = |span: &&Span| span.name == name && span.parent_id == call.id;
            let found: Vec<&Span> = trace.iter().filter(is_it).collect();
            for span in &found {
                assert_eq!((span.kind, span.attributes["db.system.name"].as_str()), (3, *store));
            }
            found.len()
        };
        assert_eq!((below(first, "claim idempotency"), below(first, "finish idempotency")), (1, 1));
        assert_eq!((below(again, "claim idempotency"), below(again, "finish idempotency")), (1, 0));
    }
}

/// Whether the command was run in `call`.
fn is_parent(trace: &[Span], call: &Span) -> bool {
    named(trace, "market_data.sync_symbol").parent_id == call.id
}

fn bars_request() -> pb::GetBarsRequest {
    pb::GetBarsRequest {
        symbol: "NYSE:IBM".to_owned(),
        interval: pb::Interval::Interval1d.into(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_traced_that_nobody_called_for() {
    let (collector, simulator) = (Collector::start().await, simulator().await);
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path(), &settings(&simulator, &collector)).await;
    // Probes come every few seconds, checks and snapshots too.
    let channel = tonic::transport::Channel::from_shared(server.url()).unwrap();
    let channel = channel.connect().await.unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
    let mut client = server.market_data().await;
    client.list_symbols(traced(pb::ListSymbolsRequest::default())).await.unwrap();
    assert_eq!(server.terminate().await, Some(0));
    let names: Vec<String> = collector.spans().into_iter().map(|span| span.name).collect();
    assert_eq!(
        sorted(names),
        ["list symbols", "market_data.list_symbols", "pocketquant.v1.MarketData/ListSymbols"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_marked_where_it_happened() {
    let (collector, simulator) = (Collector::start().await, simulator().await);
    simulator.fault("handshake-403", None, None, true).await;
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path(), &settings(&simulator, &collector)).await;
    let mut client = server.market_data().await;
    let status = client.sync_symbol(traced(sync_request())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(server.terminate().await, Some(0));
    let trace = collector.trace(TRACE);
    for name in
        ["pocketquant.v1.MarketData/SyncSymbol", "market_data.sync_symbol", "tradingview history"]
    {
        assert_eq!(named(&trace, name).status, 2, "{name}");
    }
    let call = named(&trace, "pocketquant.v1.MarketData/SyncSymbol");
    assert_eq!(call.attributes["rpc.grpc.status_code"], "14");
    let page = named(&trace, "tradingview history");
    assert_eq!(page.attributes["error.type"], "PROVIDER_UNAVAILABLE");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_in_carries_the_trace_to_the_provider() {
    let (collector, simulator) = (Collector::start().await, simulator().await);
    let site = MockServer::start().await;
    let token = ResponseTemplate::new(200).set_body_json("a.token.that-is-long-enough");
    Mock::given(path("/quote_token/")).respond_with(token).mount(&site).await;
    let folder = TempDir::new().unwrap();
    let mut settings = settings(&simulator, &collector);
    settings.insert("TRADINGVIEW_HTTP_URL".to_owned(), site.uri());
    settings.insert("TRADINGVIEW_SESSIONID".to_owned(), "cookie".to_owned());
    let server = Server::start(folder.path(), &settings).await;
    // Whether the simulator likes the token does not matter here.
    drop(server.market_data().await.sync_symbol(traced(sync_request())).await);
    assert_eq!(server.terminate().await, Some(0));
    let asked = site.received_requests().await.unwrap();
    let header = |name: &str| asked[0].headers.get(name).unwrap().to_str().unwrap().to_owned();
    let trace = collector.trace(TRACE);
    let span = named(&trace, "GET");
    assert_eq!(header("traceparent"), format!("00-{TRACE}-{}-01", span.id));
    assert_eq!(header("tracestate"), "vendor=value");
    assert_eq!(span.attributes["url.path"], "/quote_token/");
    assert_eq!(span.attributes["http.response.status_code"], "200");
    assert_eq!(span.parent_id, named(&trace, "tradingview history").id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_one_warning() {
    let (address, simulator) = (SocketAddr::from(([127, 0, 0, 1], free_port())), simulator().await);
    let mut settings = settings_for(&simulator, format!("http://{address}"));
    settings.insert("METRICS_ADDR".to_owned(), "127.0.0.1:0".to_owned());
    let folder = TempDir::new().unwrap();
    let server = Server::start(folder.path(), &settings).await;
    let mut client = server.market_data().await;
    // Each delivery is tried, and lost.
    let lost = || async { super::metrics::value(&server, LOST).await.unwrap_or_default() };
    for round in 1..4 {
        client.list_symbols(traced(pb::ListSymbolsRequest::default())).await.unwrap();
        while lost().await < f64::from(3 * round) {
            sleep(Duration::from_millis(20)).await;
        }
    }
    let warnings = |server: &Server| {
        let is_warning = |line: &&String| line.contains("the trace collector is away");
        server.lines().iter().filter(is_warning).count()
    };
    assert_eq!(warnings(&server), 1);
    // Back at its place, it gets what comes from now on.
    let collector = Collector::on(address).await;
    while collector.trace(TRACE).is_empty() {
        client.list_symbols(traced(pb::ListSymbolsRequest::default())).await.unwrap();
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(warnings(&server), 1);
    assert_eq!(server.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_is_noticed_and_left() {
    let ((address, mut connections), simulator) = (silent_collector().await, simulator().await);
    let folder = TempDir::new().unwrap();
    let mut settings = settings_for(&simulator, format!("http://{address}"));
    settings.insert("METRICS_ADDR".to_owned(), "127.0.0.1:0".to_owned());
    settings.insert("OTEL_EXPORTER_OTLP_TIMEOUT".to_owned(), "100".to_owned());
    let server = Server::start(folder.path(), &settings).await;
    let mut client = server.market_data().await;
    let lost = || async { super::metrics::value(&server, LOST).await.unwrap_or_default() };
    let mut call = async || {
        client.list_symbols(traced(pb::ListSymbolsRequest::default())).await.unwrap();
        sleep(Duration::from_millis(20)).await;
    };
    let noticed = async {
        while lost().await < 3.0 {
            call().await;
        }
        // The first connection, and one in its place.
        for _ in 0..2 {
            while connections.try_recv().is_err() {
                call().await;
            }
        }
    };
    tokio::time::timeout(PATIENCE, noticed).await.expect("it is noticed");
    let lines = server.lines();
    let warnings = lines.iter().filter(|line| line.contains("the trace collector is away"));
    assert_eq!(warnings.count(), 1, "{lines:#?}");
}

/// Speaks HTTP/2 as far as to say so, and nothing more; tells of each connection.
async fn silent_collector() -> (SocketAddr, mpsc::UnboundedReceiver<()>) {
    const EMPTY_SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::unbounded_channel();
    drop(tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            socket.write_all(&EMPTY_SETTINGS).await.unwrap();
            let _told = tell.send(());
            drop(tokio::spawn(async move {
                tokio::io::copy(&mut socket, &mut tokio::io::sink()).await
            }));
        }
    }));
    (address, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sdks_own_variables_are_heard() {
    let (collector, simulator) = (Collector::start().await, simulator().await);
    let folder = TempDir::new().unwrap();
    let mut settings = settings(&simulator, &collector);
    for (name, value) in [
        ("OTEL_SERVICE_NAME", "bars-eu"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
        ("OTEL_TRACES_SAMPLER", "parentbased_always_off"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=hush"),
    ] {
        settings.insert(name.to_owned(), value.to_owned());
    }
    let server = Server::start(folder.path(), &settings).await;
    let mut client = server.market_data().await;
    // Not sampled by anybody, then sampled by the caller.
    client.list_symbols(pb::ListSymbolsRequest::default()).await.unwrap();
    client.list_symbols(traced(pb::ListSymbolsRequest::default())).await.unwrap();
    let log = Arc::clone(&server.log);
    assert_eq!(server.terminate().await, Some(0));
    assert_eq!((collector.spans().len(), collector.trace(TRACE).len()), (3, 3));
    let resource = collector.resource();
    assert_eq!(resource["service.name"], "bars-eu");
    assert_eq!(resource["deployment.environment.name"], "test");
    assert_eq!(collector.metadata().get("api-key").unwrap(), "hush");
    assert!(!log.lock().unwrap().iter().any(|line| line.contains("hush")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_collector_gets_traces_once_its_root_is_named() {
    let ((collector, root), simulator) = (Collector::encrypted().await, simulator().await);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("root.pem");
    std::fs::write(&file, root).unwrap();
    let mut settings = settings(&simulator, &collector);
    let url = format!("https://localhost:{}", collector.address.port());
    settings.insert("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), url);
    for is_trusted in [false, true] {
        if is_trusted {
            let file = file.display().to_string();
            settings.insert("OTEL_EXPORTER_OTLP_CERTIFICATE".to_owned(), file);
        }
        let server = Server::start(folder.path(), &settings).await;
        let mut client = server.market_data().await;
        client.list_symbols(traced(pb::ListSymbolsRequest::default())).await.unwrap();
        assert_eq!(server.terminate().await, Some(0));
        assert_eq!(!collector.trace(TRACE).is_empty(), is_trusted);
    }
}

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(2);
const LOST: &str = r#"pocketquant_trace_spans_total{outcome="lost"}"#;

async fn simulator() -> TestSimulator {
    TestSimulator::start(demo_data()).await
}

fn settings(simulator: &TestSimulator, collector: &Collector) -> BTreeMap<String, String> {
    settings_for(simulator, collector.url())
}

fn settings_for(simulator: &TestSimulator, collector: String) -> BTreeMap<String, String> {
    [
        ("TRADINGVIEW_WS_URL", simulator.endpoints.ws_url.clone()),
        ("TRADINGVIEW_HTTP_URL", simulator.endpoints.http_url.clone()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector),
        ("OTEL_BSP_SCHEDULE_DELAY", "50".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn sync_request() -> pb::SyncSymbolRequest {
    pb::SyncSymbolRequest {
        symbol: "NYSE:IBM".to_owned(),
        interval: pb::Interval::Interval1d.into(),
        bar_count: Some(50),
        full_history: false,
    }
}

/// A call from within a trace.
fn traced<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("traceparent", format!("00-{TRACE}-{CALLER}-01").parse().unwrap());
    metadata.insert("tracestate", "vendor=value".parse().unwrap());
    metadata.insert("x-correlation-id", CORRELATION.parse().unwrap());
    request
}

fn named<'a>(trace: &'a [Span], name: &str) -> &'a Span {
    let span = trace.iter().find(|span| span.name == name);
    span.unwrap_or_else(|| panic!("no span `{name}`: {trace:#?}"))
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}
