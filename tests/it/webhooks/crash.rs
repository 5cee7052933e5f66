//! The sender is killed, and again: what closed was sent, and each event has one id.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::Interval;
use pocketquant::proto::v1::system_client::SystemClient;
use serde_json::Value;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

use super::LOCAL;
use super::receiver::{Received, Receiver};
use crate::engines::{Engine, on_every_engine};
use crate::live::{ES, PATIENCE, only_trades, subscribe};
use crate::live_crash::{Run, until_stored};
use crate::processes::SimulatorProcess;
use crate::support::exported;

on_every_engine!(killed_three_times_every_bar_is_sent_and_has_one_id);

/// A bar, as its events name it.
type Key = (String, String, u64);

async fn killed_three_times_every_bar_is_sent_and_has_one_id(engine: Engine) {
    let folder = tempfile::tempdir().unwrap();
    let simulator = SimulatorProcess::start(only_trades(), &["--replay", "--rate", "10000"]).await;
    let mut settings: BTreeMap<String, String> = simulator.settings();
    settings.insert("FEED_CLOCK".to_owned(), "event".to_owned());
    settings.insert(LOCAL.0.to_owned(), LOCAL.1.to_owned());
    for (name, value) in engine.settings().await {
        settings.insert(name.to_owned(), value);
    }
    let receiver = Receiver::start().await;
    for part in 0..3 {
        let mut run = Run::start(folder.path(), &settings).await;
        if part == 0 {
            create(&run, &receiver).await;
            subscribe(&mut run.quotes).await;
        }
        // Some bars are told, others are not, and some are under way.
        until_stored(&mut run, 300 * (part + 1)).await;
        receiver.until(200 * (part + 1)).await;
        run.server.kill().await;
    }
    let mut run = Run::start(folder.path(), &settings).await;
    until_stored(&mut run, 1_000).await;
    run.quotes.stop_feed(pb::StopFeedRequest {}).await.unwrap();
    let mut left = Vec::new();
    let all = async {
        loop {
            let stored = exported(&mut run.market_data, ES, Interval::Interval1m).await;
            let sent = first_by_open(&receiver.received());
            let is_missing = |time: &i64| !sent.contains_key(time);
            left = stored.iter().map(|bar| bar.time_ms).filter(is_missing).collect();
            if left.is_empty() {
                return;
            }
            sleep(Duration::from_millis(200)).await;
        }
    };
    let outcome = timeout(PATIENCE, all).await;
    assert!(outcome.is_ok(), "{} bars were not sent: {left:?}", left.len());
    assert_one_id_each(&receiver.received());
    assert_eq!(run.server.terminate().await, Some(0));
}

async fn create(run: &Run, receiver: &Receiver) {
    let channel = Channel::from_shared(run.server.url()).unwrap().connect().await.unwrap();
    let request = pb::CreateWebhookRequest {
        url: receiver.url(),
        event_types: vec!["bar.closed".to_owned(), "bar.revised".to_owned()],
        intervals: vec![Interval::Interval1m.into(), Interval::Interval5m.into()],
        ..Default::default()
    };
    SystemClient::new(channel).create_webhook(request).await.unwrap();
}

fn key(received: &Received) -> Key {
    let data = received.json()["data"].clone();
    let text = |name: &str| data[name].as_str().unwrap().to_owned();
    (text("interval"), text("open_time"), data["revision"].as_u64().unwrap())
}

/// The minutes that were sent, by when they open.
fn first_by_open(received: &[Received]) -> HashMap<i64, Value> {
    let minutes =
        received.iter().map(Received::json).filter(|json| json["data"]["interval"] == "1m");
    minutes
        .map(|json| {
            let at: jiff::Timestamp = json["data"]["open_time"].as_str().unwrap().parse().unwrap();
            (at.as_millisecond(), json)
        })
        .collect()
}

/// The same bar and revision has the same id, another one another.
fn assert_one_id_each(received: &[Received]) {
    let (mut by_key, mut by_id) = (HashMap::new(), HashMap::new());
    for each in received {
        let (key, id) = (key(each), each.id.clone());
        assert_eq!(by_key.entry(key.clone()).or_insert_with(|| id.clone()), &id, "{key:?}");
        assert_eq!(by_id.entry(id.clone()).or_insert_with(|| key.clone()), &key, "{id}");
    }
    assert!(by_key.len() > 1_000, "{}", by_key.len());
}
