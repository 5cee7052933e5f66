//! One process follows the market, and others beside it on the same servers answer.

use std::collections::BTreeMap;
use std::time::Duration;

use pocketquant::infrastructure::tls::install_crypto_provider;
use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::Interval;
use pocketquant::proto::v1::bar_event::Event;
use pocketquant::proto::v1::stream_bars_request::From;
use tokio::time::{sleep, timeout};

use crate::engines::Engine;
use crate::live::{ES, PATIENCE, bars_of, only_trades, real_minutes, subscribe};
use crate::live_crash::Run;
use crate::processes::SimulatorProcess;
use crate::support::{ExportedBar, exported};

/// Bars that both have to know, before and after the second process was replaced.
const BARS: usize = 40;

async fn settings(simulator: &SimulatorProcess) -> BTreeMap<String, String> {
    let mut settings = simulator.settings();
    settings.insert("FEED_CLOCK".to_owned(), "event".to_owned());
    for (name, value) in Engine::Servers.settings().await {
        settings.insert(name.to_owned(), value);
    }
    settings
}

/// Waits until `run` serves more than `count` bars, which are the market's.
async fn serves(run: &mut Run, count: usize) -> usize {
    let minutes = real_minutes();
    let enough = async {
        loop {
            let bars: Vec<ExportedBar> =
                exported(&mut run.market_data, ES, Interval::Interval1m).await;
            assert_eq!(bars, minutes[..bars.len()]);
            if bars.len() > count {
                return bars.len();
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, enough).await.expect("bars come")
}

/// What a process that follows nothing says of the feed, and the stored bars that it streams.
async fn says_that_it_follows_nothing(run: &mut Run) {
    let status = run.quotes.get_feed_status(pb::GetFeedStatusRequest {}).await.unwrap();
    assert_eq!(status.into_inner().state(), pb::ConnectionState::Stopped);
    let mut request = bars_of(&[Interval::Interval1m]);
    request.from = Some(From::StartTime(prost_types::Timestamp::default()));
    let mut stream = run.quotes.stream_bars(request).await.unwrap().into_inner();
    let (mut stopped, mut bars) = (false, 0);
    while !stopped || bars < BARS {
        match timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap().event {
            Some(Event::Feed(feed)) => stopped = feed.state() == pb::ConnectionState::Stopped,
            Some(Event::Bar(_)) => bars += 1,
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod and Redis: run scripts/test"]
async fn a_process_without_a_feed_serves_what_the_one_with_it_builds() {
    let simulator = SimulatorProcess::start(only_trades(), &["--replay", "--rate", "3000"]).await;
    let follows = settings(&simulator).await;
    let mut answers = follows.clone();
    answers.insert("FEED_AUTOSTART".to_owned(), "false".to_owned());
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut feed = Run::start(folders[0].path(), &follows).await;
    let mut other = Run::start(folders[1].path(), &answers).await;
    subscribe(&mut feed.quotes).await;

    let known = serves(&mut other, BARS).await;
    says_that_it_follows_nothing(&mut other).await;
    let request = pb::GetLatestQuoteRequest { symbol: ES.to_owned() };
    let quote = other.quotes.get_latest_quote(request).await.unwrap().into_inner();
    assert!(quote.last_price > 1_000.0, "{quote:?}");

    // One that stops, or starts, takes nothing from the one that follows the market.
    assert_eq!(other.server.terminate().await, Some(0));
    let mut other = Run::start(folders[1].path(), &answers).await;
    let known = serves(&mut other, known + BARS).await;
    serves(&mut feed, known).await;
    install_crypto_provider();
    let stats =
        reqwest::get(format!("{}/_sim/stats", simulator.endpoints["http_url"].as_str().unwrap()));
    let stats: serde_json::Value = stats.await.unwrap().json().await.unwrap();
    assert_eq!(stats["conflations"], 0, "the machine is too busy for this test");
    assert_eq!(feed.server.terminate().await, Some(0));
    assert_eq!(other.server.terminate().await, Some(0));
}
