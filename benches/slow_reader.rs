//! Whether one slow reader is noticed by others: a hundred subscribers of quotes at 5,000 updates a
//! second, with and without a reader of bars that takes one message a second.
//!
//!     cargo bench --bench slow_reader                    # 7 rounds of each
//!     cargo bench --bench slow_reader -- --rounds 3 --seconds 5
//!
//! A quote's delay is when it arrives, less when the replay has it (its sequence by the rate), less
//! the smallest of the round. Rounds with and without alternate; what counts is the ratio of the two
//! of a pair. The slow reader goes on from its cursor wherever it is ended, and in the end reads on
//! at full speed: it must have every closed bar that a fast reader has, in the same order.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    reason = "a measurement: what is unexpected ends it, and its tasks; it prints a table"
)]

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser;
use comfy_table::Table;
use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::bar_event::Event;
use pocketquant::proto::v1::quote_event::Event as QuoteEvent;
use pocketquant::proto::v1::quote_stream_client::QuoteStreamClient;
use pocketquant::proto::v1::stream_bars_request::From;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;
use tonic::transport::Channel;

const SYMBOL: &str = "CME:ES";
const RATE: f64 = 5_000.0;
const SUBSCRIBERS: usize = 100;
const CONNECTIONS: usize = 8;
const A_SECOND: Duration = Duration::from_secs(1);
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(3);

type Client = QuoteStreamClient<Channel>;
/// A closed bar: interval, open time, revision.
type Seen = (i32, i64, i32);

/// How long it measures.
#[derive(Debug, Parser)]
struct Arguments {
    /// Pairs of rounds.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds that a round lasts.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Seconds that the slow reader is left alone after that.
    #[arg(long, default_value_t = 90)]
    hold: u64,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The binary with these arguments; killed when dropped.
fn start(arguments: &[&str], settings: &[(&str, &str)], log: Stdio) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pocketquant"));
    command.args(arguments).envs(settings.iter().copied()).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap()
}

/// What follows `mark` in the first line of `output` that has it; the rest is read and dropped.
async fn after(output: impl AsyncRead + Unpin + Send + 'static, mark: &str) -> String {
    let mut lines = BufReader::new(output).lines();
    let find = async {
        loop {
            let line = lines.next_line().await.unwrap().expect("it ended");
            if let Some((_, rest)) = line.split_once(mark) {
                return rest.to_owned();
            }
        }
    };
    let found = timeout(PATIENCE, find).await.expect("it starts");
    drop(tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} }));
    found
}

async fn connect(url: &str) -> Client {
    let channel = Channel::from_shared(url.to_owned()).unwrap().connect().await.unwrap();
    QuoteStreamClient::new(channel)
}

/// The delays that one subscriber sees until `over`, in seconds since some moment.
async fn delays(mut client: Client, begun: Instant, mut over: watch::Receiver<bool>) -> Vec<f64> {
    let request =
        pb::StreamQuotesRequest { symbols: vec![SYMBOL.to_owned()], ..Default::default() };
    let mut stream = client.stream_quotes(request).await.unwrap().into_inner();
    let mut delays = Vec::new();
    let mut first = true;
    loop {
        let event = tokio::select! {
            event = stream.message() => event.unwrap().unwrap(),
            _ = over.wait_for(|over| *over) => return delays,
        };
        if let Some(QuoteEvent::Quote(quote)) = event.event {
            // The first is the newest of before.
            if !std::mem::take(&mut first) {
                delays.push(begun.elapsed().as_secs_f64() - quote.sequence as f64 / RATE);
            }
        }
    }
}

/// The median and the 99th percentile of a round, in milliseconds, and how many quotes came.
async fn round(url: &str, length: Duration) -> (f64, f64, usize) {
    let (begun, (end, over)) = (Instant::now(), watch::channel(false));
    let mut readers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let client = connect(url).await;
        for _ in 0..SUBSCRIBERS.div_ceil(CONNECTIONS) {
            if readers.len() < SUBSCRIBERS {
                readers.spawn(delays(client.clone(), begun, over.clone()));
            }
        }
    }
    sleep(length).await;
    end.send_replace(true);
    let mut all: Vec<f64> = readers.join_all().await.into_iter().flatten().collect();
    assert!(all.len() > 1_000, "quotes come");
    all.sort_by(f64::total_cmp);
    let at = |part: f64| {
        let index = (all.len() as f64 * part) as usize;
        (all.get(index).unwrap() - all.first().unwrap()) * 1_000.0
    };
    (at(0.5), at(0.99), all.len())
}

/// A reader of all closed bars and their forming ones, at `pause` between two messages.
struct Reader {
    pause: watch::Sender<Duration>,
    bars: Arc<std::sync::Mutex<Vec<Seen>>>,
    messages: Arc<AtomicU64>,
    ended: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Reader {
    fn start(client: Client, cursor: String, pause: Duration) -> Self {
        let (pause, paused) = watch::channel(pause);
        let bars = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (messages, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let reads = read(
            client,
            cursor,
            paused,
            Arc::clone(&bars),
            Arc::clone(&messages),
            Arc::clone(&ended),
        );
        let task = tokio::spawn(reads);
        Self { pause, bars, messages, ended, task }
    }

    fn bars(&self) -> Vec<Seen> {
        self.bars.lock().unwrap().clone()
    }
}

async fn read(
    mut client: Client,
    mut cursor: String,
    mut paused: watch::Receiver<Duration>,
    bars: Arc<std::sync::Mutex<Vec<Seen>>>,
    messages: Arc<AtomicU64>,
    ended: Arc<AtomicU64>,
) {
    loop {
        let request = pb::StreamBarsRequest {
            symbols: vec![SYMBOL.to_owned()],
            intervals: Vec::new(),
            include_forming: true,
            from: Some(From::ResumeCursor(cursor.clone())),
        };
        let mut stream = client.stream_bars(request).await.unwrap().into_inner();
        loop {
            let event = match stream.message().await {
                Ok(event) => event.expect("it does not end"),
                Err(status) => {
                    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
                    ended.fetch_add(1, Ordering::Relaxed);
                    break;
                }
            };
            messages.fetch_add(1, Ordering::Relaxed);
            cursor.clone_from(&event.cursor);
            if let Some(Event::Bar(bar)) = event.event
                && let Some(values) = bar.bar.filter(|bar| bar.revision > 0)
            {
                let open = values.open_time.map_or(0, |time| time.seconds);
                bars.lock().unwrap().push((bar.interval, open, values.revision));
            }
            let pause = *paused.borrow_and_update();
            // A reader that shall read faster does so at once.
            drop(timeout(pause, paused.changed()).await);
        }
    }
}

/// The cursor of the first event of a stream.
async fn first_cursor(client: &mut Client) -> String {
    let request = pb::StreamBarsRequest { symbols: vec![SYMBOL.to_owned()], ..Default::default() };
    let mut stream = client.stream_bars(request).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap().cursor
}

/// How many bars the slow reader has to catch up with; panics where it lacks one.
async fn compare(slow: &Reader, fast: &Reader) -> usize {
    let wanted = fast.bars();
    slow.pause.send_replace(Duration::ZERO);
    let caught_up = async {
        while slow.bars().len() < wanted.len() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, caught_up).await.expect("the slow reader catches up");
    let differs = slow.bars().into_iter().zip(&wanted).position(|(slow, fast)| slow != *fast);
    assert_eq!(differs, None, "the slow reader has each bar, in order");
    wanted.len()
}

/// A server that follows a replay.
struct World {
    _folder: tempfile::TempDir,
    _simulator: Child,
    server: Child,
    url: String,
}

impl World {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo");
        let (demo, rate) = (demo.to_str().unwrap(), RATE.to_string());
        let mut simulator =
            start(&["simulate", "--data", demo, "--loop", "--rate", &rate], &[], Stdio::null());
        let line = after(simulator.stdout.take().unwrap(), "\"http_url\":\"").await;
        let http = line.split('"').next().unwrap();
        let ws = http.replacen("http", "ws", 1) + "/socket.io/websocket";
        let settings = [
            ("GRPC_ADDR", "127.0.0.1:0"),
            ("DATA_DIR", folder.path().to_str().unwrap()),
            ("FEED_CLOCK", "event"),
            ("RATE_LIMIT_PER_SECOND", "0"),
            ("TRADINGVIEW_WS_URL", &ws),
            ("TRADINGVIEW_HTTP_URL", http),
        ];
        let mut server = start(&["serve"], &settings, Stdio::piped());
        let line = after(server.stderr.take().unwrap(), "serving gRPC on ").await;
        let url = format!("http://{}", line.split_whitespace().next().unwrap());
        Self { _folder: folder, _simulator: simulator, server, url }
    }

    /// The server's resident memory, in MiB.
    fn memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.server.id().unwrap());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1_024
    }
}

/// Rounds with and without a slow reader; prints what the hundred others saw.
async fn compare_delays(world: &World, cursor: &str, rounds: usize, length: Duration) {
    let url = world.url.as_str();
    let mut table = Table::new();
    table.set_header([
        "pair",
        "p50 ms",
        "p99 ms",
        "p50 ms slow",
        "p99 ms slow",
        "ratio p99",
        "MiB",
    ]);
    let mut ratios = Vec::new();
    round(url, length.min(Duration::from_secs(5))).await;
    for pair in 1..=rounds {
        let without = round(url, length).await;
        let slow = Reader::start(connect(url).await, cursor.to_owned(), A_SECOND);
        let with = round(url, length).await;
        slow.task.abort();
        ratios.push(with.1 / without.1);
        table.add_row([
            format!("{pair} ({} and {} quotes)", without.2, with.2),
            format!("{:.2}", without.0),
            format!("{:.2}", without.1),
            format!("{:.2}", with.0),
            format!("{:.2}", with.1),
            format!("{:.2}", with.1 / without.1),
            world.memory().to_string(),
        ]);
    }
    ratios.sort_by(f64::total_cmp);
    println!("{table}");
    println!(
        "p99 with the slow reader to p99 without: median {:.2}, from {:.2} to {:.2}",
        ratios.get(ratios.len() / 2).unwrap(),
        ratios.first().unwrap(),
        ratios.last().unwrap()
    );
}

#[tokio::main]
async fn main() {
    let Arguments { rounds, seconds, hold, bench: _ } = Arguments::parse();
    let world = World::start().await;
    let url = world.url.as_str();
    let mut client = connect(url).await;
    client.subscribe(pb::SubscribeRequest { symbol: SYMBOL.to_owned() }).await.unwrap();
    let cursor = first_cursor(&mut client).await;
    let fast = Reader::start(connect(url).await, cursor.clone(), Duration::ZERO);
    compare_delays(&world, &cursor, rounds, Duration::from_secs(seconds)).await;
    let slow = Reader::start(connect(url).await, cursor, A_SECOND);
    let mut used = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(hold) {
        sleep(Duration::from_secs(5)).await;
        used.push(world.memory());
    }
    println!(
        "a reader of one message a second, for {hold} s: {} messages, ended {} times with its cursor; \
         MiB every 5 s: {used:?}",
        slow.messages.load(Ordering::Relaxed),
        slow.ended.load(Ordering::Relaxed),
    );
    let bars = compare(&slow, &fast).await;
    println!("the slow reader has all {bars} closed bars, in order; {} MiB", world.memory());
}
