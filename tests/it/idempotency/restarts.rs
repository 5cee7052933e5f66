//! The service stops, or is killed, between two calls with one key.

use std::time::Duration;

use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::quote_stream_client::QuoteStreamClient;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tonic::Code;

use super::{
    Keeper, SYMBOL, is_replayed, on_every_keeper, settings, stats, sync, sync_without_key,
};
use crate::processes::{Server, SimulatorProcess};
use crate::support::demo_data;

on_every_keeper!(
    what_was_answered_is_answered_after_a_restart_and_a_crash,
    a_command_that_a_crash_cut_off_is_taken_over,
    a_repeated_sync_reports_what_the_first_one_did_and_a_new_one_what_has_changed,
);

async fn what_was_answered_is_answered_after_a_restart_and_a_crash(keeper: Keeper) {
    let simulator = SimulatorProcess::start(demo_data(), &[]).await;
    let (settings, folder) = (settings(&simulator, keeper).await, tempfile::tempdir().unwrap());
    let server = Server::start(folder.path(), &settings).await;
    let first = server.market_data().await.sync_symbol(sync("order-1", 300)).await.unwrap();
    assert!(!is_replayed(first.metadata()));
    let first = first.into_inner().encode_to_vec();
    server.kill().await;
    for _ in 0..2 {
        let server = Server::start(folder.path(), &settings).await;
        let again = server.market_data().await.sync_symbol(sync("order-1", 300)).await.unwrap();
        assert!(is_replayed(again.metadata()));
        assert_eq!(again.into_inner().encode_to_vec(), first);
        assert_eq!(server.terminate().await, Some(0));
    }
    assert_eq!(stats(&simulator).await["series_requests"], 1);
}

async fn a_command_that_a_crash_cut_off_is_taken_over(keeper: Keeper) {
    let simulator = SimulatorProcess::start(demo_data(), &["--fault", "slow=400"]).await;
    let (settings, folder) = (settings(&simulator, keeper).await, tempfile::tempdir().unwrap());
    let server = Server::start(folder.path(), &settings).await;
    let mut client = server.market_data().await;
    let call = tokio::spawn(async move { client.sync_symbol(sync("order-1", 300)).await });
    while stats(&simulator).await["series_requests"] == 0 {
        assert!(!call.is_finished(), "it was over before it was killed");
        sleep(Duration::from_millis(10)).await;
    }
    server.kill().await;
    assert!(call.await.unwrap().is_err());

    let server = Server::start(folder.path(), &settings).await;
    let mut client = server.market_data().await;
    // The key still stands for that request.
    let other = client.sync_symbol(sync("order-1", 299)).await.unwrap_err();
    assert_eq!(other.code(), Code::FailedPrecondition, "{other:?}");
    let taken_over = async {
        loop {
            match client.sync_symbol(sync("order-1", 300)).await {
                Ok(answer) => break answer,
                Err(status) => assert_eq!(status.code(), Code::Aborted, "{status:?}"),
            }
        }
    };
    let answer = timeout(Duration::from_mins(2), taken_over).await.unwrap();
    assert!(!is_replayed(answer.metadata()));
    assert_eq!(answer.into_inner().total_bars, 300);
    let fetched = stats(&simulator).await["series_requests"].clone();
    let again = client.sync_symbol(sync("order-1", 300)).await.unwrap();
    assert!(is_replayed(again.metadata()));
    assert_eq!(stats(&simulator).await["series_requests"], fetched);
    assert_eq!(server.terminate().await, Some(0));
}

/// How far the replay is.
async fn replay(simulator: &SimulatorProcess) -> Value {
    let replays = stats(simulator).await["replays"].clone();
    let mut replays = replays.as_array().unwrap().iter();
    replays.find(|replay| replay["symbol"] == SYMBOL).unwrap().clone()
}

/// A replay starts when somebody follows it, and goes on without them.
async fn start_replay(server: &Server, simulator: &SimulatorProcess) {
    let mut quotes = QuoteStreamClient::connect(server.url()).await.unwrap();
    quotes.subscribe(pb::SubscribeRequest { symbol: SYMBOL.to_owned() }).await.unwrap();
    let started = async {
        while replay(simulator).await["started"] != true {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_mins(1), started).await.unwrap();
    // The bars that the feed follows are its own.
    quotes.unsubscribe(pb::UnsubscribeRequest { symbol: SYMBOL.to_owned() }).await.unwrap();
}

/// A trade at the replay's position: it changes the newest bar.
async fn trade(simulator: &SimulatorProcess, price: f64) {
    let url = simulator.endpoints["http_url"].as_str().unwrap();
    let time = replay(simulator).await["position"].clone();
    let tick = json!({"symbol": SYMBOL, "time": time, "price": price, "size": 1.0});
    let client = reqwest::Client::new();
    let answer = client.post(format!("{url}/_sim/tick")).json(&tick).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
}

async fn a_repeated_sync_reports_what_the_first_one_did_and_a_new_one_what_has_changed(
    keeper: Keeper,
) {
    let simulator = SimulatorProcess::start(demo_data(), &["--walk", "2", "--speed", "1"]).await;
    let (settings, folder) = (settings(&simulator, keeper).await, tempfile::tempdir().unwrap());
    let server = Server::start(folder.path(), &settings).await;
    let mut client = server.market_data().await;
    start_replay(&server, &simulator).await;
    trade(&simulator, 200.0).await;
    let first = client.sync_symbol(sync("order-1", 100)).await.unwrap().into_inner();
    assert_eq!(first.bars_inserted, 100);
    trade(&simulator, 210.0).await;
    let again = client.sync_symbol(sync("order-1", 100)).await.unwrap();
    assert!(is_replayed(again.metadata()));
    assert_eq!(again.into_inner().encode_to_vec(), first.encode_to_vec());
    let new = client.sync_symbol(sync_without_key(100)).await.unwrap();
    assert!(!is_replayed(new.metadata()));
    assert_eq!(new.into_inner().bars_updated, 1);
    assert_eq!(server.terminate().await, Some(0));
}
