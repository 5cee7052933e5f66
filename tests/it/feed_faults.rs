//! The feed under every fault of the provider: what is said of it while it lasts, and that the bars
//! are right after it.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use pocketquant::domain::shared;
use pocketquant::domain::symbol::TradingSession;
use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::quote_stream_client::QuoteStreamClient;
use pocketquant::proto::v1::{ConnectionState, Interval};
use pocketquant::simulator::{Pace, ReplayConfig};
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::engines::Engine;
use crate::market::{Market, Trade, bars_of_trades, time, trades_from};
use crate::support::{ExportedBar, TestApp, TestSimulator};

const SYMBOL: &str = "T:COIN";
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(2);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

type Quotes = QuoteStreamClient<Channel>;

/// A market, the service that follows it, and what its bars must be in the end.
struct Scene {
    simulator: TestSimulator,
    app: TestApp,
    quotes: Quotes,
    trades: Vec<Trade>,
    _market: Market,
}

impl Scene {
    /// Two hours with six trades a minute, in twelve seconds; `fault` is on from before the first.
    async fn start(fault: Option<(&str, Option<&str>)>) -> Self {
        let market = Market::new();
        let trades = trades_from(time("2024-03-05T14:00:05Z"), 720, 10);
        market.trades(SYMBOL, &trades);
        let replay = ReplayConfig { pace: Pace::Rate(60.0), ..ReplayConfig::default() };
        let simulator = market.replay(replay).await;
        if let Some((kind, arg)) = fault {
            simulator.fault(kind, arg, None, true).await;
        }
        let app = TestApp::on(Engine::Embedded, &simulator, &[("FEED_CLOCK", "event")]).await;
        let quotes = QuoteStreamClient::new(app.channel.clone());
        Self { simulator, app, quotes, trades, _market: market }
    }

    async fn subscribe(&mut self) {
        let request = pb::SubscribeRequest { symbol: SYMBOL.to_owned() };
        self.quotes.subscribe(request).await.unwrap();
    }

    async fn status(&mut self) -> pb::FeedStatus {
        self.quotes.get_feed_status(pb::GetFeedStatusRequest {}).await.unwrap().into_inner()
    }

    /// Waits until the feed is in `state`.
    async fn until(&mut self, state: ConnectionState, why: &str) -> pb::FeedStatus {
        let looking = async {
            loop {
                let status = self.status().await;
                if status.state() == state {
                    return status;
                }
                sleep(LOOK).await;
            }
        };
        let found = timeout(PATIENCE, looking).await;
        found.unwrap_or_else(|_| panic!("{why}: it is never {state:?}"))
    }

    /// Waits until so many one-minute bars are stored.
    async fn until_bars(&mut self, count: usize, why: &str) {
        let looking = async {
            while self.app.export(SYMBOL, Interval::Interval1m).await.len() < count {
                sleep(LOOK).await;
            }
        };
        assert!(timeout(PATIENCE, looking).await.is_ok(), "{why}: fewer than {count} bars");
    }

    /// The bars of the trades.
    fn expected(&self, interval: shared::Interval) -> Vec<ExportedBar> {
        let session = Arc::new(TradingSession::around_the_clock());
        let end = self.trades.last().unwrap().time.as_millisecond();
        let bars = bars_of_trades(&self.trades, &session, interval).into_iter();
        let over = |bar: &ExportedBar| {
            bar.time_ms + 60_000 * i64::from(interval.minutes().unwrap()) <= end + 60_000
        };
        bars.filter(over).collect()
    }

    /// Waits until the stored bars are those of the trades, in the minute and above it.
    async fn until_right(&mut self, why: &str) {
        for (interval, ours) in [
            (Interval::Interval1m, shared::Interval::M1),
            (Interval::Interval5m, shared::Interval::M5),
        ] {
            let expected = self.expected(ours);
            let mut last = Vec::new();
            let looking = async {
                loop {
                    last = self.app.export(SYMBOL, interval).await;
                    if last == expected {
                        return;
                    }
                    sleep(LOOK).await;
                }
            };
            if timeout(Duration::from_secs(45), looking).await.is_err() {
                let differs = |(a, b): &(&ExportedBar, &ExportedBar)| a != b;
                let first = last.iter().zip(&expected).find(differs);
                panic!("{why} {ours}: {} of {} bars: {first:?}", last.len(), expected.len());
            }
        }
    }

    async fn sources(&mut self) -> Vec<pb::BarSource> {
        let page = self.app.bars(SYMBOL, Interval::Interval1m, |_| {}).await.unwrap();
        page.bars.iter().map(pb::Bar::source).collect()
    }
}

/// What goes wrong in the middle of a day, and how it ends.
#[derive(Clone, Copy)]
enum Course {
    /// On from before the first trade: the feed gets over it by itself, without a reconnect.
    Borne,
    /// What the provider tells of its trades is wrong: a sync puts it right.
    Misled,
    /// The connection is given up, and again until the fault is gone.
    Reconnects,
    /// The same after every connection was cut.
    CutThenReconnects,
}

const COURSES: [(&str, Option<&str>, Course); 15] = [
    ("duplicates", None, Course::Borne),
    ("reorder", None, Course::Borne),
    ("late", Some("3"), Course::Borne),
    ("session-reset", Some("50"), Course::Borne),
    ("slow", Some("300"), Course::Borne),
    // Within the window for late ticks, and beyond it.
    ("late", Some("90"), Course::Misled),
    ("late", Some("600"), Course::Misled),
    ("silence", None, Course::Misled),
    ("garbage", None, Course::Reconnects),
    ("truncated-frame", None, Course::Reconnects),
    ("cut", None, Course::Reconnects),
    ("cut", Some("1500"), Course::Reconnects),
    ("handshake-403", None, Course::CutThenReconnects),
    ("handshake-429", None, Course::CutThenReconnects),
    ("no-hello", None, Course::CutThenReconnects),
];

async fn run(fault: &str, arg: Option<&str>, course: Course) {
    let why = format!("{fault}={arg:?}");
    let early = matches!(course, Course::Borne);
    let mut scene = Scene::start(early.then_some((fault, arg))).await;
    scene.subscribe().await;
    if !early {
        scene.until_bars(4, &why).await;
        scene.simulator.fault(fault, arg, None, true).await;
    }
    if matches!(course, Course::CutThenReconnects) {
        scene.simulator.fault("cut", None, None, true).await;
        scene.simulator.fault("cut", None, None, false).await;
    }
    match course {
        Course::Misled if fault == "silence" => {
            let told = scene.simulator.stats().await["replays"][0]["updates"].as_u64().unwrap();
            while scene.simulator.stats().await["replays"][0]["updates"].as_u64().unwrap()
                < told + 60
            {
                sleep(LOOK).await;
            }
            // Heartbeats go on: a market may be quiet.
            assert_eq!(scene.status().await.state(), ConnectionState::Connected);
            scene.simulator.fault(fault, None, None, false).await;
        }
        Course::Borne | Course::Misled => {}
        Course::Reconnects | Course::CutThenReconnects => {
            let status = scene.until(ConnectionState::Reconnecting, &why).await;
            assert!(!status.last_error.is_empty(), "{why}");
            scene.simulator.fault(fault, None, None, false).await;
        }
    }
    scene.until(ConnectionState::Connected, &why).await;
    while scene.simulator.stats().await["replays"][0]["ended"] != true {
        sleep(LOOK).await;
    }
    if matches!(course, Course::Misled) {
        let last = scene.expected(shared::Interval::M1).len();
        scene.until_bars(last - 12, &why).await;
        for interval in [Interval::Interval1m, Interval::Interval5m] {
            scene.app.sync(SYMBOL, interval, 5_000).await.unwrap();
        }
    }
    scene.until_right(&why).await;
    let status = scene.status().await;
    match course {
        Course::Borne | Course::Misled => assert_eq!(status.reconnects, 0, "{why}"),
        Course::Reconnects | Course::CutThenReconnects => {
            assert!(status.reconnects >= 1, "{why}");
            assert!(scene.sources().await.contains(&pb::BarSource::Repair), "{why}");
        }
    }
    assert_eq!((status.state(), status.last_error.as_str()), (ConnectionState::Connected, ""));
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_every_fault_the_bars_are_those_of_the_trades() {
    join_all(COURSES.map(|(fault, arg, course)| tokio::spawn(run(fault, arg, course))))
        .await
        .into_iter()
        .for_each(Result::unwrap);
}

/// Waits for the next thing that a stream of quotes says of the feed.
async fn next_feed(stream: &mut tonic::Streaming<pb::QuoteEvent>) -> pb::FeedEvent {
    loop {
        let event = timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap();
        if let Some(pb::quote_event::Event::Feed(feed)) = event.event {
            return feed;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_token_is_the_end_until_someone_acts_and_everybody_says_what_to_do() {
    let from_the_start = async {
        let mut scene = Scene::start(Some(("bad-token", None))).await;
        scene.subscribe().await;
        refused_and_started_again(scene).await;
    };
    let in_the_middle = async {
        let mut scene = Scene::start(None).await;
        scene.subscribe().await;
        scene.until_bars(3, "before the token is bad").await;
        scene.simulator.fault("bad-token", None, None, true).await;
        scene.simulator.fault("cut", None, None, true).await;
        scene.simulator.fault("cut", None, None, false).await;
        refused_and_started_again(scene).await;
    };
    tokio::join!(from_the_start, in_the_middle);
}

async fn refused_and_started_again(mut scene: Scene) {
    let what_to_do =
        |text: &str| text.contains("TRADINGVIEW_AUTH_TOKEN") && text.contains("StartFeed");
    let status = scene.until(ConnectionState::Stopped, "a bad token").await;
    assert!(what_to_do(&status.last_error), "{status:?}");

    let request =
        pb::StreamQuotesRequest { symbols: vec![SYMBOL.to_owned()], ..Default::default() };
    let mut stream = scene.quotes.stream_quotes(request).await.unwrap().into_inner();
    let feed = next_feed(&mut stream).await;
    assert_eq!(feed.state(), ConnectionState::Stopped);
    assert!(what_to_do(&feed.error), "{feed:?}");
    let list = scene.quotes.list_subscriptions(pb::ListSubscriptionsRequest {}).await.unwrap();
    let subscription = list.into_inner().subscriptions.remove(0);
    assert_eq!(subscription.state(), pb::SubscriptionState::Error);

    let mut health = HealthClient::new(scene.app.channel.clone());
    let looking = async {
        loop {
            let request = HealthCheckRequest { service: "feed".to_owned() };
            let answer = health.check(request).await.unwrap().into_inner();
            if answer.status() == ServingStatus::NotServing {
                break;
            }
            sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, looking).await.unwrap();
    let report = scene.app.system.get_health(pb::GetHealthRequest {}).await.unwrap().into_inner();
    let feed = report.dependencies.iter().find(|each| each.name == "feed").unwrap();
    assert!(what_to_do(&feed.error), "{feed:?}");

    // Nothing was tried meanwhile, and starting it again is one more try.
    let tried = scene.simulator.stats().await["connections"].as_u64().unwrap();
    scene.quotes.start_feed(pb::StartFeedRequest {}).await.unwrap();
    let looking = async {
        while scene.simulator.stats().await["connections"].as_u64().unwrap() == tried {
            sleep(LOOK).await;
        }
    };
    timeout(PATIENCE, looking).await.unwrap();
    scene.until(ConnectionState::Stopped, "still a bad token").await;
    let now = scene.simulator.stats().await["connections"].as_u64().unwrap();
    assert!(now <= tried + 3, "{now} connections after {tried}");

    scene.simulator.fault("bad-token", None, None, false).await;
    let started = scene.quotes.start_feed(pb::StartFeedRequest {}).await.unwrap().into_inner();
    assert_eq!(started.last_error, "");
    while next_feed(&mut stream).await.state() != ConnectionState::Connected {}
    scene.until_right("after a bad token").await;
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_handshake_is_tried_again_from_the_first_look_up_on() {
    for fault in ["handshake-403", "handshake-429"] {
        let mut scene = Scene::start(Some((fault, None))).await;
        scene.subscribe().await;
        let status = scene.until(ConnectionState::Reconnecting, fault).await;
        assert!(status.last_error.contains(&fault[fault.len() - 3..]), "{fault}: {status:?}");
        scene.simulator.fault(fault, None, None, false).await;
        scene.until(ConnectionState::Connected, fault).await;
        scene.until_right(fault).await;
        scene.app.stop().await;
    }
}
