//! SIGTERM, with everything under way that can be.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::time::Duration;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::Interval;
use pocketquant::proto::v1::quote_stream_client::QuoteStreamClient;
use pocketquant::proto::v1::system_client::SystemClient;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::engines::{Engine, on_every_engine};
use crate::processes::{Server, SimulatorProcess};
use crate::support::{demo_data, exported, file_bars, reason};
use crate::transport::raw::{END_HEADERS, Frame, HEADERS, Raw, call};

on_every_engine!(a_signal_ends_five_hundred_streams_and_loses_nothing);

const ES: &str = "CME:ES";
const PATIENCE: Duration = Duration::from_mins(3);
/// What a supervisor gives us before it kills.
const GRACE: Duration = Duration::from_secs(20);

/// Trades of the replay: more than it takes to open the streams.
const TRADES: usize = 60_000;

/// A folder that holds nothing but the first trades and `symbols.json`; and the time of the last.
fn only_trades() -> (TempDir, Timestamp) {
    let folder = tempfile::tempdir().unwrap();
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo");
    std::fs::create_dir(folder.path().join("ticks")).unwrap();
    std::fs::copy(demo.join("symbols.json"), folder.path().join("symbols.json")).unwrap();
    let name = "ticks/CME_ES_trades.csv.gz";
    let all = GzDecoder::new(File::open(demo.join(name)).unwrap());
    let first: Vec<String> =
        BufReader::new(all).lines().take(TRADES + 1).collect::<Result<_, _>>().unwrap();
    let file = File::create(folder.path().join(name)).unwrap();
    let mut some = GzEncoder::new(file, Compression::fast());
    some.write_all(first.join("\n").as_bytes()).unwrap();
    some.finish().unwrap();
    let (last, _) = first.last().unwrap().split_once(',').unwrap();
    (folder, last.parse().unwrap())
}

async fn channel(server: &Server) -> Channel {
    Channel::from_shared(server.url()).unwrap().connect().await.unwrap()
}

fn symbols() -> Vec<String> {
    vec![ES.to_owned()]
}

/// Reads to the end; whether it said `draining`, and the status.
async fn quotes_to_the_end(mut stream: Streaming<pb::QuoteEvent>) -> (bool, Status) {
    let mut draining = false;
    loop {
        match stream.message().await {
            Ok(Some(event)) => {
                draining = matches!(event.event, Some(pb::quote_event::Event::Draining(_)));
            }
            Ok(None) => panic!("it ended without a status"),
            Err(status) => return (draining, status),
        }
    }
}

async fn bars_to_the_end(mut stream: Streaming<pb::BarEvent>) -> (bool, Status) {
    let mut draining = false;
    loop {
        match stream.message().await {
            Ok(Some(event)) => {
                draining = matches!(event.event, Some(pb::bar_event::Event::Draining(_)));
            }
            Ok(None) => panic!("it ended without a status"),
            Err(status) => return (draining, status),
        }
    }
}

/// The ends of those that are read, and those that nobody reads.
async fn five_hundred_streams(
    server: &Server,
    first: &Channel,
) -> (JoinSet<(bool, Status)>, Vec<Streaming<pb::QuoteEvent>>) {
    let mut reading = JoinSet::new();
    // What is not read fills the window of its connection, so these have one to themselves.
    let (deaf, mut unread) = (channel(server).await, Vec::new());
    for number in 0..500 {
        let channel = if number % 20 == 0 { &deaf } else { first };
        let mut client = QuoteStreamClient::new(channel.clone());
        if number % 2 == 0 {
            let request = pb::StreamQuotesRequest { symbols: symbols(), conflate: None };
            let stream = client.stream_quotes(request).await.unwrap().into_inner();
            if number % 20 == 0 {
                unread.push(stream);
            } else {
                reading.spawn(quotes_to_the_end(stream));
            }
        } else {
            let request = pb::StreamBarsRequest {
                symbols: symbols(),
                include_forming: true,
                ..Default::default()
            };
            let stream = client.stream_bars(request).await.unwrap().into_inner();
            reading.spawn(bars_to_the_end(stream));
        }
    }
    (reading, unread)
}

/// Connections that say nothing, and calls whose request never ends.
async fn strangers(server: &Server) -> Vec<Raw> {
    let mut strangers = Vec::new();
    for _ in 0..10 {
        let socket = TcpStream::connect(&server.address).await.unwrap();
        strangers.push(Raw(socket));
        let mut raw = Raw::greeted(server.address.parse().unwrap()).await;
        let open = call("/pocketquant.v1.QuoteStream/StreamQuotes");
        raw.send(&Frame::new(HEADERS, END_HEADERS, 1, open).bytes()).await;
        strangers.push(raw);
    }
    strangers
}

async fn a_signal_ends_five_hundred_streams_and_loses_nothing(engine: Engine) {
    let (folder, (data, last)) = (tempfile::tempdir().unwrap(), only_trades());
    let simulator = SimulatorProcess::start(data.path(), &["--replay", "--rate", "2000"]).await;
    let mut settings: BTreeMap<String, String> = simulator.settings();
    settings.insert("FEED_CLOCK".to_owned(), "event".to_owned());
    settings.insert("RATE_LIMIT_PER_SECOND".to_owned(), "0".to_owned());
    for (name, value) in engine.settings().await {
        settings.insert(name.to_owned(), value);
    }
    let server = Server::start(folder.path(), &settings).await;

    // A subscription outlives the restart; streams would not.
    let first = channel(&server).await;
    let subscribe = pb::SubscribeRequest { symbol: ES.to_owned() };
    QuoteStreamClient::new(first.clone()).subscribe(subscribe).await.unwrap();
    let (mut reading, unread) = five_hundred_streams(&server, &first).await;
    let strangers = strangers(&server).await;
    let mut health = HealthClient::new(channel(&server).await);
    let request = HealthCheckRequest { service: "readiness".to_owned() };
    let mut readiness = health.watch(request).await.unwrap().into_inner();
    assert_eq!(readiness.message().await.unwrap().unwrap().status, 1);

    let log = std::sync::Arc::clone(&server.log);
    let stopped = timeout(GRACE, server.terminate()).await.expect("it stops in time");
    assert_eq!(stopped, Some(0), "{:#?}", log.lock().unwrap());
    assert_eq!(readiness.message().await.unwrap().unwrap().status, 2, "it was not ready any more");
    assert!(readiness.message().await.unwrap().is_none(), "and who watches was let go, not cut");
    assert_eq!(reading.len(), 475);
    while let Some(ended) = timeout(PATIENCE, reading.join_next()).await.unwrap() {
        let (draining, status) = ended.unwrap();
        assert!(draining, "{status:?}");
        assert_eq!(reason(&status), (Code::Unavailable, "DRAINING".to_owned()));
    }
    assert_order(&log.lock().unwrap());
    drop((unread, strangers));

    // Started again, it ends up where it would have been.
    let server = Server::start(folder.path(), &settings).await;
    until_complete(&server, last).await;
    assert_eq!(server.terminate().await, Some(0));
}

/// Waits until all minutes but that of the last trade are there, and right.
async fn until_complete(server: &Server, last: Timestamp) {
    let mut client = server.market_data().await;
    let mut file = file_bars(&demo_data().join("CME_ES_1m.csv"));
    file.retain(|bar| bar.time_ms + 60_000 <= last.as_millisecond());
    let complete = async {
        loop {
            let stored = exported(&mut client, ES, Interval::Interval1m).await;
            if stored.get(..file.len()).is_some_and(|stored| stored == file) {
                return;
            }
            sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(PATIENCE, complete).await.expect("every bar is there, and right");
}

/// Each step is in the log, in the order in which they must happen.
fn assert_order(log: &[String]) {
    let steps =
        ["nothing more is accepted", "streams", "the feed and all tasks", "clients", "stopped"];
    let of_the_stop = |line: &&String| line.contains("\"target\":\"pocketquant::app::stop\"");
    let lines: Vec<&String> = log.iter().filter(of_the_stop).collect();
    assert_eq!(lines.len(), steps.len(), "{lines:#?}");
    for (line, step) in lines.iter().zip(steps) {
        assert!(line.contains(step), "{step}: {lines:#?}");
    }
    // The streams end in their own step: all but those that cannot be told, of which there may be
    // none, as a socket takes something for a reader that does not read.
    let line: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
    let all_ended = line["message"].as_str().unwrap().ends_with("streams ended");
    assert!(all_ended || line["streams"].as_u64().unwrap() <= 35, "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let simulator = SimulatorProcess::start(demo_data(), &[]).await;
    let server = Server::start(folder.path(), &simulator.settings()).await;
    // A call that is never read to its end keeps a connection, and so the stop, waiting.
    let mut raw = Raw::greeted(server.address.parse().unwrap()).await;
    let open = call("/pocketquant.v1.System/GetHealth");
    raw.send(&Frame::new(HEADERS, END_HEADERS, 1, open).bytes()).await;
    SystemClient::new(channel(&server).await).get_health(pb::GetHealthRequest {}).await.unwrap();
    let pid = server.pid().to_string();
    let kill = async || Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
    assert!(kill().await.success());
    let asked = async {
        while !server.lines().iter().any(|line| line.contains("all tasks have ended")) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, asked).await.unwrap();
    let log = std::sync::Arc::clone(&server.log);
    assert_eq!(server.terminate().await, Some(130));
    let log = log.lock().unwrap();
    assert!(log.iter().any(|line| line.contains("ending at once")), "{log:#?}");
    assert!(!log.iter().any(|line| line.contains("\"stopped\"")), "{log:#?}");
}
