//! Real trades through socket, merge, bars and database, and the streams that serve them.

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
use pocketquant::proto::v1::quote_stream_client::QuoteStreamClient;
use pocketquant::simulator::{Pace, ReplayConfig, SimulatorConfig};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use crate::engines::{Engine, on_every_engine};
use crate::support::{ExportedBar, TestApp, TestSimulator, demo_data, file_bars, reason};

on_every_engine!(the_real_trades_make_the_real_bars);

pub const ES: &str = "CME:ES";
/// Longer than anything here takes.
pub const PATIENCE: Duration = Duration::from_mins(3);

/// A folder that holds nothing but trades and `symbols.json`.
pub fn only_trades() -> &'static Path {
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

pub fn quote_stream(channel: &Channel) -> QuoteStreamClient<Channel> {
    QuoteStreamClient::new(channel.clone())
}

pub async fn subscribe(quotes: &mut QuoteStreamClient<Channel>) {
    let request = pb::SubscribeRequest { symbol: ES.to_owned() };
    quotes.subscribe(request).await.unwrap();
}

pub fn bars_of(intervals: &[Interval]) -> pb::StreamBarsRequest {
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

pub fn es_session() -> Arc<TradingSession> {
    let spec = SessionSpec {
        timezone: "America/Chicago".to_owned(),
        session: "1700-1600".to_owned(),
        holidays: String::new(),
        corrections: "1700-1030:20130902".to_owned(),
    };
    Arc::new(TradingSession::parse(&spec).unwrap())
}

/// What `minutes` come to, bars whose time was over at the end only.
pub fn rolled(minutes: &[ExportedBar], interval: shared::Interval) -> Vec<ExportedBar> {
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

pub const HIGHER: [(Interval, shared::Interval); 10] = [
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

pub fn real_minutes() -> Vec<ExportedBar> {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_shows_in_the_subscription_and_says_why() {
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
