//! The database is away for longer than bars can wait for it: the feed lets go of its connection,
//! says so, and once the database is back, nothing is missing.

use std::collections::BTreeMap;
use std::time::Duration;

use pocketquant::domain::shared;
use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::bar_event::Event;
use pocketquant::proto::v1::quote_stream_client::QuoteStreamClient;
use pocketquant::proto::v1::{ConnectionState, CoverageReason, Interval};
use pocketquant::simulator::{Pace, ReplayConfig};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

use crate::market::{Market, bars_of_trades, session, time, trades_from};
use crate::servers::Server;
use crate::support::{ExportedBar, TestApp};

const COIN: &str = "T:COIN";
const PATIENCE: Duration = Duration::from_mins(2);
/// Two trades a minute, 100 minutes a second, for longer than this may take.
const TRADES: i32 = 40_000;
const RATE: f64 = 200.0;

/// What a subscriber was told: the newest of each one-minute bar, by its open time, and gaps.
#[derive(Clone, Debug, Default)]
struct Told {
    bars: BTreeMap<i64, pb::Bar>,
    gaps: usize,
    waits: bool,
}

async fn subscriber(channel: &Channel) -> watch::Receiver<Told> {
    let request = pb::StreamBarsRequest {
        symbols: vec![COIN.to_owned()],
        intervals: vec![Interval::Interval1m.into()],
        ..Default::default()
    };
    let stream = QuoteStreamClient::new(channel.clone()).stream_bars(request).await;
    let mut stream = stream.unwrap().into_inner();
    let (told, received) = watch::channel(Told::default());
    drop(tokio::spawn(async move {
        while let Ok(Some(event)) = stream.message().await {
            told.send_modify(|told| match event.event.unwrap() {
                Event::Bar(bar) => {
                    let bar = bar.bar.unwrap();
                    told.bars.insert(bar.open_time.unwrap().seconds * 1_000, bar);
                }
                Event::Gap(_) => told.gaps += 1,
                Event::Feed(feed) => told.waits |= feed.error.contains("SPOOL_MAX_SIZE"),
                Event::IntervalClosed(_) | Event::Heartbeat(_) | Event::Draining(_) => {}
                Event::SymbolError(error) => panic!("{error:?}"),
            });
        }
    }));
    received
}

async fn until(told: &mut watch::Receiver<Told>, what: &str, is_it: impl FnMut(&Told) -> bool) {
    let reached = timeout(PATIENCE, told.wait_for(is_it)).await;
    assert!(reached.is_ok_and(|told| told.is_ok()), "never {what}");
}

async fn state(quotes: &mut QuoteStreamClient<Channel>) -> ConnectionState {
    let status = quotes.get_feed_status(pb::GetFeedStatusRequest {}).await;
    status.unwrap().into_inner().state()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod: run scripts/test"]
async fn where_bars_cannot_wait_any_more_the_feed_does_and_nothing_is_missing_in_the_end() {
    let market = Market::new();
    let trades = trades_from(time("2024-03-04T00:00:05Z"), TRADES, 30);
    market.trades(COIN, &trades);
    let simulator =
        market.replay(ReplayConfig { pace: Pace::Rate(RATE), ..ReplayConfig::default() }).await;
    let mut mongodb = Server::mongodb().await;
    let settings = [
        ("MONGODB_URL", mongodb.url()),
        ("FEED_CLOCK", "event".to_owned()),
        ("SPOOL_MAX_SIZE", "64KiB".to_owned()),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let mut app = TestApp::with_settings(&simulator, settings).await;
    let mut quotes = QuoteStreamClient::new(app.channel.clone());
    quotes.subscribe(pb::SubscribeRequest { symbol: COIN.to_owned() }).await.unwrap();
    let mut told = subscriber(&app.channel).await;
    until(&mut told, "bars", |told| told.bars.len() >= 20).await;

    mongodb.crash();
    until(&mut told, "no room", |told| told.waits).await;
    assert_eq!(state(&mut quotes).await, ConnectionState::Reconnecting);
    // Whoever asks is answered, and the market goes on without us.
    let list = quotes.list_subscriptions(pb::ListSubscriptionsRequest {}).await.unwrap();
    assert_eq!(list.into_inner().subscriptions.len(), 1);
    let newest = pb::GetLatestQuoteRequest { symbol: COIN.to_owned() };
    let newest = quotes.get_latest_quote(newest).await.unwrap().into_inner();
    assert!(newest.last_price > 0.0);

    mongodb.restart().await;
    // Up to where it is live again, and some.
    until(&mut told, "a gap", |told| told.gaps > 0).await;
    let before = told.borrow().bars.len();
    until(&mut told, "live bars", |told| told.bars.len() >= before + 100).await;
    let end = told.borrow().bars.last_key_value().unwrap().1.close_time.unwrap().seconds;
    let session = session("Etc/UTC", "24x7", "");
    let expected = |interval: shared::Interval| {
        let mut bars = bars_of_trades(&trades, &session, interval);
        let length = i64::from(interval.minutes().unwrap()) * 60;
        bars.retain(|bar| bar.time_ms / 1_000 + length <= end);
        bars
    };
    for (interval, ours) in [
        (Interval::Interval1m, shared::Interval::M1),
        (Interval::Interval5m, shared::Interval::M5),
        (Interval::Interval1h, shared::Interval::H1),
    ] {
        until_right(&mut app, interval, &expected(ours)).await;
    }
    let minutes = expected(shared::Interval::M1);
    until(&mut told, "every bar", |told| {
        minutes.iter().all(|minute| told.bars.get(&minute.time_ms).map(exported) == Some(*minute))
    })
    .await;
    let told = told.borrow().clone();
    let repaired = |bar: &&pb::Bar| bar.source() == pb::BarSource::Repair;
    assert!(told.bars.values().filter(repaired).count() > 10, "what was missed came later");
    assert_covered(&mut app, &minutes).await;
    app.stop().await;
}

/// All of the time of `minutes` has data, and no hole.
async fn assert_covered(app: &mut TestApp, minutes: &[ExportedBar]) {
    let request = pb::GetCoverageRequest {
        symbol: COIN.to_owned(),
        interval: Interval::Interval1m.into(),
        start_time: minutes.first().map(|bar| at(bar.time_ms)),
        end_time: minutes.last().map(|bar| at(bar.time_ms)),
    };
    let segments = app.market_data.get_coverage(request).await.unwrap().into_inner().segments;
    assert_eq!(segments.len(), 1, "{segments:?}");
    assert_eq!(segments[0].reason(), CoverageReason::Data);
}

async fn until_right(app: &mut TestApp, interval: Interval, expected: &[ExportedBar]) {
    let mut stored = Vec::new();
    let right = async {
        while stored != expected {
            sleep(Duration::from_millis(100)).await;
            stored = app.export(COIN, interval).await;
            stored.truncate(expected.len());
        }
    };
    if timeout(PATIENCE, right).await.is_err() {
        let missing: Vec<_> = expected.iter().filter(|bar| !stored.contains(bar)).collect();
        let first = missing.first();
        panic!("{interval:?}: {} of {} wrong, first {first:?}", missing.len(), expected.len());
    }
}

fn exported(bar: &pb::Bar) -> ExportedBar {
    ExportedBar {
        time_ms: bar.open_time.unwrap().seconds * 1_000,
        values: [bar.open, bar.high, bar.low, bar.close, bar.volume.unwrap()],
    }
}

fn at(time_ms: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time_ms / 1_000, nanos: 0 }
}
