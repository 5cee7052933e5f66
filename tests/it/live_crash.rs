//! Bars over the end of the process, wherever it ends: nothing is lost, nothing is told twice.
#![expect(clippy::print_stdout, reason = "a failed run is repeated by what it printed")]

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::path::Path;
use std::time::Duration;

use pocketquant::domain::ohlcv::Ohlcv;
use pocketquant::domain::ohlcv::services::roll_up;
use pocketquant::domain::shared;
use pocketquant::infrastructure::tls::install_crypto_provider;
use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::Interval;
use pocketquant::proto::v1::bar_event::Event;
use pocketquant::proto::v1::market_data_client::MarketDataClient;
use pocketquant::proto::v1::quote_stream_client::QuoteStreamClient;
use pocketquant::proto::v1::stream_bars_request::From;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

use crate::engines::{Engine, on_every_engine};
use crate::live::{
    ES, HIGHER, PATIENCE, bars_of, es_session, only_trades, quote_stream, real_minutes, rolled,
    subscribe,
};
use crate::processes::{Server, SimulatorProcess};
use crate::support::{ExportedBar, exported};

on_every_engine!(
    killed_three_times_the_bars_are_the_same_and_a_subscriber_misses_nothing,
    stopped_the_feed_and_the_service_keep_what_is_forming,
    a_stream_of_an_unsubscribed_symbol_misses_nothing_over_restarts,
);

const PERIODS: [(Interval, shared::Interval); 2] =
    [(Interval::Interval1w, shared::Interval::W1), (Interval::Interval1mo, shared::Interval::Mo1)];

/// What a subscriber was told.
#[derive(Default)]
struct Seen {
    /// The newest revision and values of each bar, by interval and open time.
    bars: HashMap<(i32, i64), (i32, [f64; 5])>,
    /// How often the feed was away.
    gaps: u32,
}

/// Numbers that differ from run to run; the seed is printed.
struct Chance(u64);

impl Chance {
    fn new() -> Self {
        let seed = std::env::var("TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
        println!("TEST_SEED={seed}");
        Self(seed)
    }

    /// At least `from`, less than `to`.
    fn within(&mut self, from: u64, to: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        from + (self.0 >> 33) % (to - from)
    }
}

/// A server, with what talks to it.
pub struct Run {
    pub server: Server,
    pub channel: Channel,
    pub quotes: QuoteStreamClient<Channel>,
    pub market_data: MarketDataClient<Channel>,
}

impl Run {
    pub async fn start(folder: &Path, settings: &BTreeMap<String, String>) -> Self {
        Self::of(Server::start(folder, settings).await).await
    }

    pub async fn of(server: Server) -> Self {
        let channel = Channel::from_shared(server.url()).unwrap().connect().await.unwrap();
        let market_data = server.market_data().await;
        Self { server, quotes: quote_stream(&channel), market_data, channel }
    }
}

/// A market that does not wait: slow enough for a reader on a busy machine.
async fn market() -> SimulatorProcess {
    SimulatorProcess::start(only_trades(), &["--replay", "--rate", "10000"]).await
}

/// A reader that is too slow gets the newest quote in place of many, and no bar can then be right.
async fn assert_all_trades_were_sent(simulator: &SimulatorProcess) {
    install_crypto_provider();
    let url = format!("{}/_sim/stats", simulator.endpoints["http_url"].as_str().unwrap());
    let stats: serde_json::Value = reqwest::get(url).await.unwrap().json().await.unwrap();
    assert_eq!(stats["conflations"], 0, "the machine is too busy for this test");
}

/// Settings for a replay.
async fn settings(engine: Engine, simulator: &SimulatorProcess) -> BTreeMap<String, String> {
    let mut settings = simulator.settings();
    settings.insert("FEED_CLOCK".to_owned(), "event".to_owned());
    for (name, value) in engine.settings().await {
        settings.insert(name.to_owned(), value);
    }
    settings
}

/// Reads bars until the server goes away; goes on from the last cursor. Keeps the newest of each.
async fn follow(client: &mut QuoteStreamClient<Channel>, cursor: &mut String, seen: &mut Seen) {
    let mut request = bars_of(&[]);
    request.from = Some(if cursor.is_empty() {
        From::StartTime(prost_types::Timestamp::default())
    } else {
        From::ResumeCursor(cursor.clone())
    });
    let Ok(stream) = client.stream_bars(request).await else { return };
    let mut stream = stream.into_inner();
    while let Ok(Some(event)) = stream.message().await {
        if let Some(Event::Gap(_)) = event.event {
            seen.gaps += 1;
        }
        if let Some(Event::Bar(bar)) = event.event {
            let (interval, bar) = (bar.interval, bar.bar.unwrap());
            let values = [bar.open, bar.high, bar.low, bar.close, bar.volume.unwrap()];
            let key = (interval, bar.open_time.unwrap().seconds * 1_000);
            let known = seen.bars.insert(key, (bar.revision, values));
            let in_order = known.is_none_or(|(revision, _)| revision <= bar.revision);
            assert!(in_order, "a revision out of order: {bar:?} after {known:?}");
        }
        *cursor = event.cursor;
    }
}

/// What the bars are to be once the replay is over: closed ones, and the forming one where there is
/// one.
pub struct Oracle {
    closed: Vec<(Interval, Vec<ExportedBar>)>,
    forming: Vec<(Interval, ExportedBar)>,
}

impl Oracle {
    pub fn new() -> Self {
        let minutes = real_minutes();
        let mut closed = vec![(Interval::Interval1m, minutes.clone())];
        let mut forming = Vec::new();
        for (interval, ours) in HIGHER.into_iter().chain(PERIODS) {
            let bars = rolled(&minutes, ours);
            let newest = newest(&minutes, ours);
            if bars.last().is_none_or(|last| last.time_ms < newest.time_ms) {
                forming.push((interval, newest));
            }
            closed.push((interval, bars));
        }
        Self { closed, forming }
    }

    /// What is different, in words; nothing where all is right.
    async fn difference(&self, run: &mut Run) -> Option<String> {
        for (interval, bars) in &self.closed {
            let stored = exported(&mut run.market_data, ES, *interval).await;
            if stored != *bars {
                let wrong = bars.iter().filter(|bar| !stored.contains(bar));
                let missing: Vec<_> = wrong.take(3).collect();
                let surplus: Vec<_> =
                    stored.iter().filter(|bar| !bars.contains(bar)).take(3).collect();
                return Some(format!("{interval:?}: expected {missing:?}, found {surplus:?}"));
            }
        }
        for (interval, expected) in &self.forming {
            let found = current(&mut run.quotes, *interval).await;
            if found != Some(*expected) {
                return Some(format!(
                    "forming {interval:?}: expected {expected:?}, found {found:?}"
                ));
            }
        }
        None
    }

    /// Waits until all is right: what was missed is fetched again by itself.
    pub async fn until_right(&self, run: &mut Run, simulator: &SimulatorProcess) {
        let mut last = None;
        let right = async {
            loop {
                last = self.difference(run).await;
                if last.is_none() {
                    return;
                }
                sleep(Duration::from_millis(200)).await;
            }
        };
        let outcome = timeout(PATIENCE, right).await;
        if outcome.is_err() {
            println!("{last:?}");
            assert_all_trades_were_sent(simulator).await;
        }
        let log = run.server.lines().join("\n");
        assert!(outcome.is_ok(), "{log}\n{}", last.unwrap_or_default());
    }

    /// Whether a subscriber has every bar as it is.
    fn is_seen(&self, seen: &Seen) -> bool {
        self.closed.iter().all(|(interval, bars)| {
            let key = |bar: &ExportedBar| (i32::from(*interval), bar.time_ms);
            bars.iter().all(|bar| {
                seen.bars.get(&key(bar)).is_some_and(|(_, values)| same(values, &bar.values))
            })
        })
    }
}

/// The bar that `minutes` end in.
fn newest(minutes: &[ExportedBar], interval: shared::Interval) -> ExportedBar {
    let children = minutes.iter().map(|bar| {
        let [open, high, low, close, volume] = bar.values;
        let time = jiff::Timestamp::from_millisecond(bar.time_ms).unwrap();
        (time, Ohlcv::new(open, high, low, close, Some(volume)).unwrap())
    });
    let bar = roll_up(children, &es_session(), interval).pop().unwrap();
    let values = bar.values;
    let volume = values.volume().unwrap();
    ExportedBar {
        time_ms: bar.range.open().as_millisecond(),
        values: [values.open(), values.high(), values.low(), values.close(), volume],
    }
}

/// The forming bar, as it is told.
pub async fn current(
    quotes: &mut QuoteStreamClient<Channel>,
    interval: Interval,
) -> Option<ExportedBar> {
    let request = pb::GetCurrentBarRequest { symbol: ES.to_owned(), interval: interval.into() };
    let bar = quotes.get_current_bar(request).await.ok()?.into_inner();
    assert_eq!((bar.state(), bar.revision), (pb::BarState::Forming, 0));
    Some(ExportedBar {
        time_ms: bar.open_time.unwrap().seconds * 1_000,
        values: [bar.open, bar.high, bar.low, bar.close, bar.volume.unwrap_or(f64::NAN)],
    })
}

async fn killed_three_times_the_bars_are_the_same_and_a_subscriber_misses_nothing(engine: Engine) {
    let folder = tempfile::tempdir().unwrap();
    let simulator = market().await;
    let settings = settings(engine, &simulator).await;
    let (mut chance, oracle) = (Chance::new(), Oracle::new());
    let (mut cursor, mut seen) = (String::new(), Seen::default());
    for part in 0..3 {
        let mut run = Run::start(folder.path(), &settings).await;
        subscribe(&mut run.quotes).await;
        // Some time within this third of the bars; the market goes on after the last third.
        let bars = chance.within(600 * part + 1, 600 * part + 500);
        let and_then = Duration::from_millis(chance.within(0, 300));
        let reading = follow(&mut run.quotes, &mut cursor, &mut seen);
        let killing = async {
            while (exported(&mut run.market_data, ES, Interval::Interval1m).await.len() as u64)
                < bars
            {
                sleep(Duration::from_millis(5)).await;
            }
            sleep(and_then).await;
            run.server.kill().await;
        };
        tokio::join!(reading, killing);
    }

    let mut run = Run::start(folder.path(), &settings).await;
    let mut reader = run.quotes.clone();
    let reading = async {
        loop {
            follow(&mut reader, &mut cursor, &mut seen).await;
        }
    };
    tokio::select! {
        () = oracle.until_right(&mut run, &simulator) => {}
        () = reading => {}
    }
    let caught_up = async {
        while !oracle.is_seen(&seen) {
            let some = follow(&mut run.quotes, &mut cursor, &mut seen);
            drop(timeout(Duration::from_secs(1), some).await);
        }
    };
    let outcome = timeout(PATIENCE, caught_up).await;
    if outcome.is_err() {
        println!("{:?}", oracle.difference(&mut run).await);
        assert_all_trades_were_sent(&simulator).await;
    }
    outcome.expect("the subscriber has every bar");
    assert!(seen.gaps >= 1, "nobody said that the feed was away");
    assert_eq!(run.server.terminate().await, Some(0));
}

/// Waits until some minutes are stored.
pub async fn until_stored(run: &mut Run, minutes: usize) {
    let stored = async {
        while exported(&mut run.market_data, ES, Interval::Interval1m).await.len() < minutes {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, stored).await.expect("bars are stored");
}

/// Which week and month are forming in the database: all trades lie in one.
async fn stored_forming(run: &mut Run) -> Vec<Interval> {
    let mut found = Vec::new();
    for (interval, _) in PERIODS {
        let request = pb::GetBarsRequest {
            symbol: ES.to_owned(),
            interval: interval.into(),
            limit: Some(1),
            include_forming: true,
            ..Default::default()
        };
        let page = run.market_data.get_bars(request).await.unwrap().into_inner();
        if page.bars.first().is_some_and(|bar| bar.state() == pb::BarState::Forming) {
            found.push(interval);
        }
    }
    found
}

async fn stopped_the_feed_and_the_service_keep_what_is_forming(engine: Engine) {
    let folder = tempfile::tempdir().unwrap();
    let simulator = market().await;
    let mut settings = settings(engine, &simulator).await;
    let oracle = Oracle::new();
    let mut run = Run::start(folder.path(), &settings).await;
    subscribe(&mut run.quotes).await;
    until_stored(&mut run, 200).await;

    run.quotes.stop_feed(pb::StopFeedRequest {}).await.unwrap();
    assert_eq!(stored_forming(&mut run).await, [Interval::Interval1w, Interval::Interval1mo]);
    run.quotes.start_feed(pb::StartFeedRequest {}).await.unwrap();
    until_stored(&mut run, 600).await;

    assert_eq!(run.server.terminate().await, Some(0));
    settings.insert("FEED_AUTOSTART".to_owned(), "false".to_owned());
    let mut run = Run::start(folder.path(), &settings).await;
    assert_eq!(stored_forming(&mut run).await, [Interval::Interval1w, Interval::Interval1mo]);
    run.quotes.start_feed(pb::StartFeedRequest {}).await.unwrap();
    oracle.until_right(&mut run, &simulator).await;
    assert_eq!(run.server.terminate().await, Some(0));
}

/// Nobody subscribed: only the stream wants the symbol, and it comes back with its cursor.
async fn a_stream_of_an_unsubscribed_symbol_misses_nothing_over_restarts(engine: Engine) {
    let folder = tempfile::tempdir().unwrap();
    let simulator = market().await;
    let settings = settings(engine, &simulator).await;
    let oracle = Oracle::new();
    let (mut cursor, mut seen) = (String::new(), Seen::default());
    for (minutes, politely) in [(200, true), (900, false)] {
        let mut run = Run::start(folder.path(), &settings).await;
        let reading = follow(&mut run.quotes, &mut cursor, &mut seen);
        let ending = async {
            let stored = async {
                while exported(&mut run.market_data, ES, Interval::Interval1m).await.len() < minutes
                {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(PATIENCE, stored).await.expect("bars are stored");
            if politely {
                assert_eq!(run.server.terminate().await, Some(0));
            } else {
                run.server.kill().await;
            }
        };
        tokio::join!(reading, ending);
    }
    let mut run = Run::start(folder.path(), &settings).await;
    let caught_up = async {
        while !oracle.is_seen(&seen) {
            let some = follow(&mut run.quotes, &mut cursor, &mut seen);
            drop(timeout(Duration::from_secs(2), some).await);
        }
    };
    let outcome = timeout(PATIENCE, caught_up).await;
    if outcome.is_err() {
        println!("{:?}", oracle.difference(&mut run).await);
        assert_all_trades_were_sent(&simulator).await;
    }
    outcome.expect("the subscriber has every bar");
    assert_eq!(run.server.terminate().await, Some(0));
}

/// Prices and volumes are copied, never computed: they are equal to the bit.
fn same(one: &[f64; 5], other: &[f64; 5]) -> bool {
    one.iter().zip(other).all(|(one, other)| one.total_cmp(other).is_eq())
}
