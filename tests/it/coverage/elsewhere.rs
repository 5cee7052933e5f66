//! A process without a feed, beside one that follows the market on the machine's clock.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::CoverageReason::Data;
use pocketquant::proto::v1::Interval;
use pocketquant::proto::v1::quote_stream_client::QuoteStreamClient;
use pocketquant::simulator::{Rebase, ReplayConfig};
use tokio::time::{sleep, timeout};

use super::{coverage, is_down};
use crate::engines::Engine;
use crate::market::{Market, time, trades_from};
use crate::support::TestApp;

const COIN: &str = "T:COIN";
const PATIENCE: Duration = Duration::from_mins(2);

/// Waits until the newest cell of `interval` has a bar; it is an outage at no time.
async fn until_data(app: &mut TestApp, interval: Interval) {
    let looking = async {
        loop {
            let now = Timestamp::now();
            let (from, to) = ((now - SignedDuration::from_secs(1)).to_string(), now.to_string());
            // Not known before the feed has looked it up.
            let rows = coverage(&mut app.market_data, COIN, interval, (&from, &to)).await;
            let rows = rows.unwrap_or_default();
            assert!(!is_down(&rows), "{interval:?}: {rows:?}");
            if rows.last().is_some_and(|row| row.2 == Data) {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("{interval:?}: never a bar"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod and Redis: run scripts/test"]
async fn bars_that_form_in_another_process_are_data_and_no_outage() {
    let market = Market::new();
    market.trades(COIN, &trades_from(time("2024-03-05T14:00:00Z"), 600, 1));
    let replay = ReplayConfig { rebase: Some(Rebase::Now), ..ReplayConfig::default() };
    let simulator = market.replay(replay).await;
    let settings = Engine::Servers.settings().await.into_iter();
    let mut settings: Vec<_> = settings.map(|(name, value)| (name.to_owned(), value)).collect();
    let mut feed = TestApp::with_settings(&simulator, settings.clone()).await;
    settings.push(("FEED_AUTOSTART".to_owned(), "false".to_owned()));
    let mut beside = TestApp::with_settings(&simulator, settings.clone()).await;
    let request = pb::SubscribeRequest { symbol: COIN.to_owned() };
    QuoteStreamClient::new(feed.channel.clone()).subscribe(request).await.unwrap();
    let intervals =
        [Interval::Interval1w, Interval::Interval1d, Interval::Interval1h, Interval::Interval1m];
    for interval in intervals {
        until_data(&mut feed, interval).await;
        until_data(&mut beside, interval).await;
    }
    // One that is started later knows no less.
    let mut later = TestApp::with_settings(&simulator, settings).await;
    for interval in intervals {
        until_data(&mut later, interval).await;
    }
    for app in [later, beside, feed] {
        app.stop().await;
    }
}
