//! Real trades through socket, merge, bars and database, and the streams that serve them.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use pocketquant::domain::ohlcv::Ohlcv;
use pocketquant::domain::ohlcv::services::roll_up;
use pocketquant::domain::shared;
use pocketquant::domain::symbol::{SessionSpec, TradingSession};
use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::Interval;
use pocketquant::proto::v1::bar_event::Event;
use pocketquant::proto::v1::market_data_client::MarketDataClient;
use pocketquant::proto::v1::quote_stream_client::QuoteStreamClient;
use pocketquant::simulator::{Pace, ReplayConfig, SimulatorConfig};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use crate::engines::{Engine, on_every_engine};
use crate::processes::{Server, SimulatorProcess};
use crate::support::{ExportedBar, TestApp, TestSimulator, demo_data, exported, file_bars, reason};

on_every_engine!(
    the_real_trades_make_the_real_bars,
    killed_three_times_the_bars_are_the_same_and_a_subscriber_misses_nothing,
);

const ES: &str = "CME:ES";
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(3);

/// A folder that holds nothing but trades and `symbols.json`.
fn only_trades() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo");
            std::fs::create_dir(folder.path().join("ticks")).unwrap();
            for name in ["symbols.json", "ticks/CME_ES_trades.csv.gz"] {
                std::fs::copy(demo.join(name), folder.path().join(name)).unwrap();
            }
            folder
        })
        .path()
}

async fn replay(pace: Pace) -> TestSimulator {
    let replay = Some(ReplayConfig { pace, ..ReplayConfig::default() });
    TestSimulator::with(SimulatorConfig { replay, ..SimulatorConfig::new(only_trades()) }).await
}

fn quote_stream(channel: &Channel) -> QuoteStreamClient<Channel> {
    QuoteStreamClient::new(channel.clone())
}

async fn subscribe(quotes: &mut QuoteStreamClient<Channel>) {
    let request = pb::SubscribeRequest { symbol: ES.to_owned() };
    quotes.subscribe(request).await.unwrap();
}

fn bars_of(intervals: &[Interval]) -> pb::StreamBarsRequest {
    pb::StreamBarsRequest {
        symbols: vec![ES.to_owned()],
        intervals: intervals.iter().map(|interval| (*interval).into()).collect(),
        ..Default::default()
    }
}

/// The next event that says something of bars.
async fn next(stream: &mut Streaming<pb::BarEvent>) -> pb::BarEvent {
    loop {
        let event = timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap();
        if !matches!(event.event, Some(Event::Feed(_) | Event::Heartbeat(_))) {
            return event;
        }
    }
}

fn es_session() -> Arc<TradingSession> {
    let spec = SessionSpec {
        timezone: "America/Chicago".to_owned(),
        session: "1700-1600".to_owned(),
        holidays: String::new(),
        corrections: "1700-1030:20130902".to_owned(),
    };
    Arc::new(TradingSession::parse(&spec).unwrap())
}

/// What `minutes` come to, bars whose time was over at the end only.
fn rolled(minutes: &[ExportedBar], interval: shared::Interval) -> Vec<ExportedBar> {
    let end = minutes.last().unwrap().time_ms + 60_000;
    let children = minutes.iter().map(|bar| {
        let [open, high, low, close, volume] = bar.values;
        let time = Timestamp::from_millisecond(bar.time_ms).unwrap();
        (time, Ohlcv::new(open, high, low, close, Some(volume)).unwrap())
    });
    let bars = roll_up(children, &es_session(), interval).into_iter();
    bars.filter(|bar| bar.range.close().as_millisecond() <= end)
        .map(|bar| ExportedBar {
            time_ms: bar.range.open().as_millisecond(),
            values: [
                bar.values.open(),
                bar.values.high(),
                bar.values.low(),
                bar.values.close(),
                bar.values.volume().unwrap(),
            ],
        })
        .collect()
}

const HIGHER: [(Interval, shared::Interval); 10] = [
    (Interval::Interval3m, shared::Interval::M3),
    (Interval::Interval5m, shared::Interval::M5),
    (Interval::Interval15m, shared::Interval::M15),
    (Interval::Interval30m, shared::Interval::M30),
    (Interval::Interval45m, shared::Interval::M45),
    (Interval::Interval1h, shared::Interval::H1),
    (Interval::Interval2h, shared::Interval::H2),
    (Interval::Interval3h, shared::Interval::H3),
    (Interval::Interval4h, shared::Interval::H4),
    (Interval::Interval1d, shared::Interval::D1),
];

fn real_minutes() -> Vec<ExportedBar> {
    file_bars(&demo_data().join("CME_ES_1m.csv"))
}

async fn the_real_trades_make_the_real_bars(engine: Engine) {
    let simulator = replay(Pace::Max).await;
    let mut app = TestApp::on(engine, &simulator, &[("FEED_CLOCK", "event")]).await;
    let mut quotes = quote_stream(&app.channel);
    let stream = quotes.stream_bars(bars_of(&[Interval::Interval1m])).await.unwrap();
    let mut stream = stream.into_inner();

    let minutes = real_minutes();
    let mut streamed = Vec::new();
    while streamed.len() < minutes.len() {
        if let Some(Event::Bar(bar)) = next(&mut stream).await.event {
            let bar = bar.bar.unwrap();
            assert_eq!((bar.state(), bar.revision), (pb::BarState::Closed, 1));
            assert_eq!(bar.source(), pb::BarSource::Ticks);
            streamed.push(ExportedBar {
                time_ms: bar.open_time.unwrap().seconds * 1_000,
                values: [bar.open, bar.high, bar.low, bar.close, bar.volume.unwrap()],
            });
        }
    }
    assert_eq!(streamed, minutes);
    assert_eq!(app.export(ES, Interval::Interval1m).await, minutes);
    for (interval, ours) in HIGHER {
        assert_eq!(app.export(ES, interval).await, rolled(&minutes, ours), "{ours}");
        let page = app.bars(ES, interval, |request| request.limit = Some(5_000)).await.unwrap();
        assert!(page.bars.iter().all(|bar| bar.source() == pb::BarSource::Ticks), "{ours}");
    }
    let request =
        pb::GetCurrentBarRequest { symbol: ES.to_owned(), interval: Interval::Interval1w.into() };
    let week = quotes.get_current_bar(request).await.unwrap().into_inner();
    let total: f64 = minutes.iter().map(|bar| bar.values[4]).sum();
    assert_eq!(week.volume, Some(total));
    assert_eq!(week.open_time.unwrap().seconds, 1_378_072_800);
    app.stop().await;
}

/// The newest revision and values of each bar, by interval and open time.
type Seen = HashMap<(i32, i64), (i32, [f64; 5])>;

/// Reads bars until the server goes away; goes on from the last cursor. Keeps the newest of each.
async fn follow(client: &mut QuoteStreamClient<Channel>, cursor: &mut String, seen: &mut Seen) {
    use pb::stream_bars_request::From;
    let mut request = bars_of(&[Interval::Interval1m, Interval::Interval5m]);
    request.from = Some(if cursor.is_empty() {
        From::StartTime(prost_types::Timestamp::default())
    } else {
        From::ResumeCursor(cursor.clone())
    });
    let Ok(stream) = client.stream_bars(request).await else { return };
    let mut stream = stream.into_inner();
    while let Ok(Some(event)) = stream.message().await {
        if let Some(Event::Bar(bar)) = event.event {
            let (interval, bar) = (bar.interval, bar.bar.unwrap());
            let values = [bar.open, bar.high, bar.low, bar.close, bar.volume.unwrap()];
            let key = (interval, bar.open_time.unwrap().seconds * 1_000);
            let known = seen.insert(key, (bar.revision, values));
            let in_order = known.is_none_or(|(revision, _)| revision <= bar.revision);
            assert!(in_order, "a revision out of order: {bar:?} after {known:?}");
        }
        *cursor = event.cursor;
    }
}

/// Waits until the bars are what the trades make of them: what was missed is fetched again by itself.
async fn until_complete(client: &mut MarketDataClient<Channel>, minutes: &[ExportedBar]) {
    let fives = rolled(minutes, shared::Interval::M5);
    let complete = async {
        while exported(client, ES, Interval::Interval1m).await != minutes
            || exported(client, ES, Interval::Interval5m).await != fives
        {
            sleep(Duration::from_millis(200)).await;
        }
    };
    if timeout(PATIENCE, complete).await.is_ok() {
        return;
    }
    let stored = exported(client, ES, Interval::Interval1m).await;
    let stored: BTreeMap<_, _> = stored.iter().map(|bar| (bar.time_ms, bar.values)).collect();
    let is_wrong = |bar: &&ExportedBar| stored.get(&bar.time_ms) != Some(&bar.values);
    let wrong: Vec<_> = minutes.iter().filter(is_wrong).collect();
    panic!("{} of {} bars differ, the first is {:?}", wrong.len(), minutes.len(), wrong.first());
}

async fn killed_three_times_the_bars_are_the_same_and_a_subscriber_misses_nothing(engine: Engine) {
    let folder = tempfile::tempdir().unwrap();
    let simulator = SimulatorProcess::start(only_trades(), &["--replay", "--rate", "40000"]).await;
    let mut settings = simulator.settings();
    settings.insert("FEED_CLOCK".to_owned(), "event".to_owned());
    for (name, value) in engine.settings().await {
        settings.insert(name.to_owned(), value);
    }
    let minutes = real_minutes();
    let (mut cursor, mut seen) = (String::new(), HashMap::new());
    for kill_after in [300, 900, 1_500] {
        let server = Server::start(folder.path(), &settings).await;
        let channel = Channel::from_shared(server.url()).unwrap().connect().await.unwrap();
        let mut quotes = quote_stream(&channel);
        subscribe(&mut quotes).await;
        let mut client = server.market_data().await;
        let reading = follow(&mut quotes, &mut cursor, &mut seen);
        let killing = async {
            while exported(&mut client, ES, Interval::Interval1m).await.len() < kill_after {
                sleep(Duration::from_millis(20)).await;
            }
            server.kill().await;
        };
        tokio::join!(reading, killing);
    }

    let server = Server::start(folder.path(), &settings).await;
    let channel = Channel::from_shared(server.url()).unwrap().connect().await.unwrap();
    let mut quotes = quote_stream(&channel);
    let mut client = server.market_data().await;
    let reading = async {
        loop {
            follow(&mut quotes, &mut cursor, &mut seen).await;
        }
    };
    tokio::select! {
        () = until_complete(&mut client, &minutes) => {}
        () = reading => {}
    }
    // The newest of what the subscriber has seen is what is stored.
    let interval = i32::from(Interval::Interval1m);
    let caught_up = async {
        let is_seen = |seen: &Seen, bar: &ExportedBar| {
            seen.get(&(interval, bar.time_ms)).map(|(_, values)| values) == Some(&bar.values)
        };
        while !minutes.iter().all(|bar| is_seen(&seen, bar)) {
            let some = timeout(Duration::from_secs(1), follow(&mut quotes, &mut cursor, &mut seen));
            drop(some.await);
        }
    };
    timeout(PATIENCE, caught_up).await.expect("the subscriber has every bar");
    assert_eq!(server.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_stops_the_feed_and_says_what_to_do() {
    let simulator = replay(Pace::Max).await;
    simulator.fault("bad-token", None, None, true).await;
    let app = TestApp::on(Engine::Embedded, &simulator, &[("FEED_CLOCK", "event")]).await;
    let mut quotes = quote_stream(&app.channel);
    subscribe(&mut quotes).await;
    let refused = async {
        loop {
            let list = quotes.list_subscriptions(pb::ListSubscriptionsRequest {}).await.unwrap();
            let subscription = list.into_inner().subscriptions.remove(0);
            if subscription.state() == pb::SubscriptionState::Error {
                return subscription;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let subscription = timeout(PATIENCE, refused).await.unwrap();
    assert!(subscription.error.contains("token"), "{subscription:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn quotes_are_streamed_from_the_newest_on_and_an_unknown_symbol_is_not_found() {
    let simulator = replay(Pace::Rate(2_000.0)).await;
    let app = TestApp::on(Engine::Embedded, &simulator, &[("FEED_CLOCK", "event")]).await;
    let mut quotes = quote_stream(&app.channel);
    let unknown =
        pb::StreamQuotesRequest { symbols: vec!["CME:NOPE".to_owned()], ..Default::default() };
    let status = quotes.stream_quotes(unknown).await.unwrap_err();
    assert_eq!(reason(&status), (Code::NotFound, "SYMBOL_NOT_FOUND".to_owned()));

    let request = pb::StreamQuotesRequest { symbols: vec![ES.to_owned()], ..Default::default() };
    let mut stream = quotes.stream_quotes(request).await.unwrap().into_inner();
    let (mut last, mut count) = (0, 0);
    while count < 200 {
        let event = timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap();
        match event.event.unwrap() {
            pb::quote_event::Event::Quote(quote) => {
                assert!(quote.sequence > last, "{quote:?} after {last}");
                (last, count) = (quote.sequence, count + 1);
            }
            pb::quote_event::Event::Gap(gap) => {
                assert_eq!(gap.from_sequence, last + 1);
                last = gap.to_sequence;
            }
            pb::quote_event::Event::SymbolError(error) => panic!("{error:?}"),
            pb::quote_event::Event::Feed(_)
            | pb::quote_event::Event::Heartbeat(_)
            | pb::quote_event::Event::Draining(_) => {}
        }
    }
    let newest = pb::GetLatestQuoteRequest { symbol: ES.to_owned() };
    let newest = quotes.get_latest_quote(newest).await.unwrap().into_inner();
    assert!(newest.sequence >= last && newest.last_price > 1_600.0, "{newest:?}");

    // The service stops: the stream says so, and then ends.
    app.stop().await;
    let ended = async {
        let mut draining = false;
        loop {
            match stream.message().await {
                Ok(Some(event)) => {
                    draining |= matches!(event.event, Some(pb::quote_event::Event::Draining(_)));
                }
                Ok(None) => panic!("it ended without a status"),
                Err(status) => return (draining, status),
            }
        }
    };
    let (draining, status) = timeout(PATIENCE, ended).await.unwrap();
    assert!(draining);
    assert_eq!(reason(&status), (Code::Unavailable, "DRAINING".to_owned()));
}
