//! Coverage of what the feed built, and of what it missed.

use std::time::Duration;

use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::CoverageReason::{Data, FeedDown, NoTrades, NotSynced};
use pocketquant::proto::v1::quote_stream_client::QuoteStreamClient;
use pocketquant::proto::v1::{ConnectionState, Interval};
use pocketquant::simulator::{Pace, ReplayConfig};
use tokio::time::{sleep, timeout};
use tonic::Code;
use tonic::transport::Channel;

use super::{Row, coverage, is_down, of, repair};
use crate::engines::{Engine, on_every_engine};
use crate::market::{Market, time, trades_from};
use crate::support::{TestApp, TestSimulator, reason};

on_every_engine!(
    an_outage_of_feed_and_history_is_said_and_then_repaired,
    an_outage_is_repaired_by_the_feed_itself_when_it_is_back,
);

const COIN: &str = "T:COIN";
const PATIENCE: Duration = Duration::from_mins(2);
const LOOK: Duration = Duration::from_millis(50);
/// All trades, and time around them.
const DAY: (&str, &str) = ("2024-03-05T14:00", "2024-03-05T16:10");

/// A market of two hours in half a minute, with nothing traded in [`QUIET`].
pub fn market() -> Market {
    let market = Market::new();
    let mut trades = trades_from(time("2024-03-05T14:00:05Z"), 180, 10);
    trades.extend(trades_from(time("2024-03-05T14:40:05Z"), 300, 10));
    trades.extend(trades_from(time("2024-03-05T15:40:05Z"), 120, 10));
    market.trades(COIN, &trades);
    market
}

/// Trades a second.
pub const RATE: f64 = 20.0;

const QUIET: [(&str, &str); 2] =
    [("2024-03-05T14:30", "2024-03-05T14:40"), ("2024-03-05T15:30", "2024-03-05T15:40")];

struct Scene {
    simulator: TestSimulator,
    app: TestApp,
    quotes: QuoteStreamClient<Channel>,
    _market: Market,
}

impl Scene {
    async fn start(engine: Engine) -> Self {
        let market = market();
        let replay = ReplayConfig { pace: Pace::Rate(RATE), ..ReplayConfig::default() };
        let simulator = market.replay(replay).await;
        let app = TestApp::on(engine, &simulator, &[("FEED_CLOCK", "event")]).await;
        let mut quotes = QuoteStreamClient::new(app.channel.clone());
        let request = pb::SubscribeRequest { symbol: COIN.to_owned() };
        quotes.subscribe(request).await.unwrap();
        Self { simulator, app, quotes, _market: market }
    }

    async fn coverage(&mut self) -> Vec<Row> {
        coverage(&mut self.app.market_data, COIN, Interval::Interval1m, DAY).await.unwrap()
    }

    async fn until(&mut self, what: &str, is_it: impl Fn(&[Row]) -> bool) -> Vec<Row> {
        let looking = async {
            loop {
                let rows =
                    coverage(&mut self.app.market_data, COIN, Interval::Interval1m, DAY).await;
                // Not known before the feed has looked it up.
                if let Some(rows) = rows.ok().filter(|rows| is_it(rows)) {
                    return rows;
                }
                sleep(LOOK).await;
            }
        };
        timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("never {what}"))
    }

    async fn until_feed(&mut self, state: ConnectionState) {
        let looking = async {
            while self.status().await != state {
                sleep(LOOK).await;
            }
        };
        assert!(timeout(PATIENCE, looking).await.is_ok(), "never {state:?}");
    }

    async fn status(&mut self) -> ConnectionState {
        let status = self.quotes.get_feed_status(pb::GetFeedStatusRequest {}).await;
        status.unwrap().into_inner().state()
    }

    async fn until_the_market_is_over(&self) {
        while self.simulator.stats().await["replays"][0]["ended"] != true {
            sleep(LOOK).await;
        }
    }

    /// Nobody gets in any more.
    async fn cut(&mut self) {
        self.simulator.fault("handshake-403", None, None, true).await;
        self.simulator.fault("cut", None, None, true).await;
        self.simulator.fault("cut", None, None, false).await;
        self.until_feed(ConnectionState::Reconnecting).await;
    }
}

/// Bars, then the quiet minutes, then more bars.
fn has_heard_silence(rows: &[Row]) -> bool {
    let quiet = rows.iter().position(|row| row.2 == NoTrades);
    quiet.is_some_and(|quiet| rows[quiet + 1..].iter().any(|row| row.2 == Data))
}

async fn an_outage_of_feed_and_history_is_said_and_then_repaired(engine: Engine) {
    let mut scene = Scene::start(engine).await;
    scene.until("quiet", has_heard_silence).await;
    scene.cut().await;
    let rows = scene.until("down", is_down).await;
    assert_eq!(rows.last().unwrap().2, FeedDown, "it is away still: {rows:?}");
    let quiet: Vec<_> = of(&rows, NoTrades).into_iter().map(|row| (&*row.0, &*row.1)).collect();
    assert!(!quiet.is_empty() && quiet.iter().all(|quiet| QUIET.contains(quiet)), "{rows:?}");
    assert_eq!(of(&rows, NotSynced).len(), usize::from(rows[0].2 == NotSynced), "{rows:?}");

    scene.until_the_market_is_over().await;
    let client = &mut scene.app.market_data;
    let status = repair(client, COIN, Interval::Interval1m, DAY).await.unwrap_err();
    assert_eq!(reason(&status), (Code::Unavailable, "PROVIDER_UNAVAILABLE".to_owned()));
    assert!(is_down(&scene.coverage().await), "what could not be asked for is still missing");

    // The history comes back before the feed does.
    scene.quotes.stop_feed(pb::StopFeedRequest {}).await.unwrap();
    scene.simulator.fault("handshake-403", None, None, false).await;
    let before = scene.coverage().await;
    assert!(is_down(&before));
    let client = &mut scene.app.market_data;
    let (result, repaired) = repair(client, COIN, Interval::Interval1m, DAY).await.unwrap();
    assert!(result.bars_inserted > 0, "{result:?}");
    let down = of(&before, FeedDown)[0];
    let found: Vec<_> = repaired.iter().filter(|row| row.0 >= down.0).collect();
    assert_eq!((&found[0].0, found[0].2), (&down.0, Data), "{repaired:?} of {before:?}");

    let after = scene.coverage().await;
    let minutes = after.iter().filter(|row| row.2 == Data).map(|row| row.3).sum::<i32>();
    assert_eq!(minutes, 100, "every minute with a trade: {after:?}");
    let last = after.iter().rev().find(|row| row.2 == Data).unwrap();
    assert_eq!(last.1, "2024-03-05T16:00");
    let quiet_later = after.iter().find(|row| row.0 == "2024-03-05T15:30").unwrap();
    assert_eq!(
        (&*quiet_later.1, quiet_later.2),
        ("2024-03-05T15:40", pb::CoverageReason::ProviderEmpty)
    );
    scene.app.stop().await;
}

async fn an_outage_is_repaired_by_the_feed_itself_when_it_is_back(engine: Engine) {
    let mut scene = Scene::start(engine).await;
    scene.until("quiet", has_heard_silence).await;
    scene.cut().await;
    let before = scene.until("down", is_down).await;
    let at = of(&before, FeedDown)[0].0.clone();
    sleep(LOOK * 10).await;
    scene.simulator.fault("handshake-403", None, None, false).await;
    scene.until_feed(ConnectionState::Connected).await;
    scene.until_the_market_is_over().await;
    // The tail is not over by the clock of the trades; all before it is accounted for.
    let accounted = |rows: &[Row]| {
        let holds = |row: &&Row| row.0 <= at && at < row.1;
        rows.iter().find(holds).is_some_and(|row| row.2 == Data)
            && rows
                .iter()
                .filter(|row| row.1.as_str() <= "2024-03-05T15:59")
                .all(|row| row.2 != FeedDown)
    };
    scene.until("repaired by the feed", accounted).await;
    // The cells of the outage, an hour's too, were asked for.
    let hours = ("2024-03-05T14:00", "2024-03-05T15:00");
    let client = &mut scene.app.market_data;
    let rows = coverage(client, COIN, Interval::Interval1h, hours).await.unwrap();
    assert_eq!(rows[0].2, Data);
    scene.app.stop().await;
}
