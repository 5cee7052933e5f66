//! A small market of made-up trades around the clock, and how to listen to it.

use std::io::Write as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::{SignedDuration, Timestamp};
use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::Interval;
use pocketquant::proto::v1::bar_event::Event;
use pocketquant::proto::v1::quote_stream_client::QuoteStreamClient;
use pocketquant::simulator::{Pace, ReplayConfig, SimulatorConfig};
use tempfile::TempDir;
use tokio::time::timeout;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use crate::support::{TestApp, TestSimulator};

/// A symbol with trades.
pub const TRADED: &str = "TEST:TRADED";
/// Another one, with few.
pub const QUIET: &str = "TEST:QUIET";
/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_mins(3);
/// Seven trades a minute.
const TRADES_A_MINUTE: i64 = 7;
/// Minutes in which nothing is traded, from the first on.
pub const SILENT: std::ops::Range<i64> = 10..13;

/// The minute of the market that opens `minute` minutes after its first.
pub fn open_of(minute: i64) -> Timestamp {
    let first: Timestamp = "2024-03-04T00:00:00Z".parse().unwrap();
    first + SignedDuration::from_mins(minute)
}

/// A folder of trades; removed when dropped.
pub fn trades(minutes: i64) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("ticks")).unwrap();
    for (symbol, minutes) in [(TRADED, minutes), (QUIET, 3)] {
        let name = format!("ticks/{}_trades.csv.gz", symbol.replace(':', "_"));
        let file = std::fs::File::create(folder.path().join(name)).unwrap();
        let mut file = GzEncoder::new(file, Compression::fast());
        writeln!(file, "time,price,size").unwrap();
        for minute in (0..minutes).filter(|minute| !SILENT.contains(minute)) {
            for trade in 0..TRADES_A_MINUTE {
                let time = open_of(minute) + SignedDuration::from_secs(trade * 8);
                let price = 100 + (minute * 31 + trade * 17) % 23;
                writeln!(file, "{time},{price}.25,{}", 1 + trade).unwrap();
            }
        }
        file.finish().unwrap();
    }
    folder
}

pub async fn replay(folder: &TempDir, pace: Pace) -> TestSimulator {
    let replay = Some(ReplayConfig { pace, ..ReplayConfig::default() });
    TestSimulator::with(SimulatorConfig { replay, ..SimulatorConfig::new(folder.path()) }).await
}

pub fn quotes(app: &TestApp) -> QuoteStreamClient<Channel> {
    QuoteStreamClient::new(app.channel.clone())
}

/// A connection of its own that takes in little of what is not read.
pub async fn narrow(app: &TestApp) -> QuoteStreamClient<Channel> {
    let endpoint = Endpoint::from_shared(app.url.clone()).unwrap();
    let channel = endpoint.initial_stream_window_size(1_024).connect().await.unwrap();
    QuoteStreamClient::new(channel)
}

pub async fn subscribe(app: &TestApp) {
    quotes(app).subscribe(pb::SubscribeRequest { symbol: TRADED.to_owned() }).await.unwrap();
}

pub fn bars_of(symbols: &[&str], intervals: &[Interval]) -> pb::StreamBarsRequest {
    pb::StreamBarsRequest {
        symbols: symbols.iter().map(|symbol| (*symbol).to_owned()).collect(),
        intervals: intervals.iter().map(|interval| (*interval).into()).collect(),
        ..Default::default()
    }
}

pub fn resumed(mut request: pb::StreamBarsRequest, cursor: &str) -> pb::StreamBarsRequest {
    request.from = Some(pb::stream_bars_request::From::ResumeCursor(cursor.to_owned()));
    request
}

pub fn since(mut request: pb::StreamBarsRequest, minute: i64) -> pb::StreamBarsRequest {
    let seconds = open_of(minute).as_second();
    let time = prost_types::Timestamp { seconds, nanos: 0 };
    request.from = Some(pb::stream_bars_request::From::StartTime(time));
    request
}

/// The next event.
pub async fn next(stream: &mut Streaming<pb::BarEvent>) -> pb::BarEvent {
    timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap()
}

/// The next bar of the symbol with trades, with its cursor.
pub async fn next_bar(stream: &mut Streaming<pb::BarEvent>) -> (Seen, String) {
    loop {
        let event = next(stream).await;
        if let Some(Event::Bar(bar)) = &event.event
            && bar.symbol == TRADED
        {
            return (seen(bar), event.cursor);
        }
    }
}

/// A bar that was told: its interval, the minute of the market in which it opens, its revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    pub interval: i32,
    pub minute: i64,
    pub revision: i32,
}

pub fn seen(bar: &pb::SeriesBar) -> Seen {
    let open = bar.bar.as_ref().unwrap().open_time.unwrap().seconds;
    Seen {
        interval: bar.interval,
        minute: (open - open_of(0).as_second()).div_euclid(60),
        revision: bar.bar.as_ref().unwrap().revision,
    }
}

/// Every final bar that is stored of the symbol with trades.
pub async fn stored(app: &mut TestApp) -> Vec<Seen> {
    let mut all = Vec::new();
    for interval in 1..=13 {
        let interval = Interval::try_from(interval).unwrap();
        let page = match app.bars(TRADED, interval, |page| page.limit = Some(5_000)).await {
            Ok(page) => page,
            Err(status) => {
                assert_eq!(crate::support::reason(&status).1, "NOT_SYNCED");
                continue;
            }
        };
        let (symbol, interval) = (TRADED.to_owned(), interval.into());
        all.extend(
            page.bars.into_iter().map(|bar| {
                seen(&pb::SeriesBar { symbol: symbol.clone(), interval, bar: Some(bar) })
            }),
        );
    }
    all.sort_unstable();
    all
}
