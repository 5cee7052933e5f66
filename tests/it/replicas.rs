//! One process follows the market, and others beside it on the same servers answer.

use std::collections::BTreeMap;
use std::time::Duration;

use pocketquant::infrastructure::tls::install_crypto_provider;
use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::Interval;
use pocketquant::proto::v1::bar_event::Event;
use pocketquant::proto::v1::stream_bars_request::From;
use tokio::time::{sleep, timeout};
use tonic::{Code, Response, Status};

use crate::engines::Engine;
use crate::live::{ES, PATIENCE, bars_of, only_trades, real_minutes, subscribe};
use crate::live_crash::Run;
use crate::processes::SimulatorProcess;
use crate::support::{ExportedBar, exported, fact, reason};

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

/// The settings of a process beside the one with `settings`.
fn without_feed(settings: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut settings = settings.clone();
    settings.insert("FEED_AUTOSTART".to_owned(), "false".to_owned());
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

async fn delete(run: &mut Run) -> Result<(), Status> {
    let request = pb::DeleteSymbolRequest { symbol: ES.to_owned(), delete_bars: true };
    run.market_data.delete_symbol(request).await.map(Response::into_inner)
}

/// Why there is no bar of any interval, whether it is over or not.
async fn no_bars(run: &mut Run) {
    for interval in Interval::Interval1m.into()..=Interval::Interval1mo.into() {
        let request = pb::GetBarsRequest {
            symbol: ES.to_owned(),
            interval,
            include_forming: true,
            ..Default::default()
        };
        let status = run.market_data.get_bars(request).await.unwrap_err();
        assert_eq!(reason(&status).1, "NOT_SYNCED", "{interval}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod and Redis: run scripts/test"]
async fn bars_that_a_feed_builds_are_deleted_by_others_once_it_has_let_go_of_them() {
    let simulator = SimulatorProcess::start(only_trades(), &["--replay", "--rate", "3000"]).await;
    let follows = settings(&simulator).await;
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mut feed = Run::start(folders[0].path(), &follows).await;
    let answers = without_feed(&follows);
    let mut other = Run::start(folders[1].path(), &answers).await;
    subscribe(&mut feed.quotes).await;
    let known = serves(&mut other, BARS).await;
    let status = delete(&mut other).await.unwrap_err();
    assert_eq!(reason(&status), (Code::FailedPrecondition, "SYMBOL_FOLLOWED".to_owned()));
    assert!(fact(&status, "remedy").is_some());
    serves(&mut other, known).await;

    // Whichever process is asked, and whether it knew of the subscription.
    let unsubscribe = || pb::UnsubscribeRequest { symbol: ES.to_owned() };
    other.quotes.unsubscribe(unsubscribe()).await.unwrap();
    let let_go = async {
        while let Err(status) = delete(&mut other).await {
            assert_eq!(reason(&status).1, "SYMBOL_FOLLOWED");
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, let_go).await.expect("the feed lets go");
    let list = feed.quotes.list_subscriptions(pb::ListSubscriptionsRequest {}).await.unwrap();
    assert!(list.into_inner().subscriptions.is_empty());
    no_bars(&mut other).await;
    assert_eq!(feed.server.terminate().await, Some(0));
    no_bars(&mut other).await;
    let status = other.quotes.unsubscribe(unsubscribe()).await.unwrap_err();
    assert_eq!(reason(&status).1, "NOT_SUBSCRIBED");
    assert_eq!(other.server.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod and Redis: run scripts/test"]
async fn a_process_without_a_feed_serves_what_the_one_with_it_builds() {
    let simulator = SimulatorProcess::start(only_trades(), &["--replay", "--rate", "3000"]).await;
    let follows = settings(&simulator).await;
    let answers = without_feed(&follows);
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
