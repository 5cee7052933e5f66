//! What is told, to whom, and what `ListEvents` says of it.

use std::collections::HashSet;
use std::time::Duration;

use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::Interval;
use pocketquant::simulator::{Pace, ReplayConfig, SimulatorConfig};
use serde_json::Value;
use tokio::time::{sleep, timeout};
use tonic::Request;

use super::{LOCAL, PATIENCE, create, quick, scene, sync};
use crate::engines::{Engine, on_every_engine};
use crate::live::{ES, only_trades, quote_stream, subscribe};
use crate::support::{TestApp, TestSimulator};
use crate::webhooks::receiver::{Received, Receiver};

on_every_engine!(syncs_are_told_however_they_end, bars_and_the_feed_are_told_to_who_wants_them,);

const PATIENT: Duration = Duration::from_secs(15);

async fn events(app: &mut TestApp, limit: Option<i32>) -> Vec<pb::Event> {
    app.system.list_events(pb::ListEventsRequest { limit }).await.unwrap().into_inner().events
}

async fn syncs_are_told_however_they_end(engine: Engine) {
    let (_simulator, mut app, receiver) = scene(engine, quick(3, PATIENT)).await;
    create(&mut app, &receiver.url(), &["sync.completed", "sync.failed"]).await;
    sync(&mut app).await;
    let mut request = Request::new(pb::SyncSymbolRequest {
        symbol: "NYSE:NOTHING".to_owned(),
        interval: Interval::Interval1d.into(),
        ..Default::default()
    });
    request.metadata_mut().insert("x-correlation-id", "my call".parse().unwrap());
    app.market_data.sync_symbol(request).await.unwrap_err();
    let messages = receiver.until(2).await;
    let of = |name: &str| messages.iter().find(|each| each.event_type() == name).unwrap();
    let (completed, failed) = (of("sync.completed"), of("sync.failed"));
    assert_eq!(completed.json()["data"]["interval"], "1d");
    assert_eq!(failed.json()["data"]["symbol"], "NYSE:NOTHING");
    assert!(failed.json()["data"]["error"].as_str().is_some_and(|error| !error.is_empty()));

    // The newest first, by the ids that webhooks were sent.
    let listed = events(&mut app, None).await;
    let ids: Vec<&str> = listed.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(ids, [&failed.id, &completed.id]);
    assert_eq!(
        (listed[0].r#type.as_str(), listed[0].correlation_id.as_str()),
        ("sync.failed", "my call")
    );
    let payload: Value = serde_json::from_str(&listed[0].payload).unwrap();
    assert_eq!(payload, failed.json()["data"]);
    assert_eq!(events(&mut app, Some(1)).await.len(), 1);
    app.system.list_events(pb::ListEventsRequest { limit: Some(0) }).await.unwrap_err();
}

/// Waits until `receiver` was told all of `types`.
async fn until_told(receiver: &Receiver, types: &[&str]) -> Vec<Received> {
    let told = async {
        loop {
            let messages = receiver.received();
            let has = |name: &&str| messages.iter().any(|each| each.event_type() == *name);
            if types.iter().all(has) {
                return messages;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let told = timeout(PATIENCE, told).await;
    told.unwrap_or_else(|_| {
        let types: HashSet<_> = receiver.received().iter().map(Received::event_type).collect();
        panic!("only {types:?}")
    })
}

async fn bars_and_the_feed_are_told_to_who_wants_them(engine: Engine) {
    let pace = Pace::Rate(2_000.0);
    let replay = Some(ReplayConfig { pace, ..ReplayConfig::default() });
    let config = SimulatorConfig { replay, ..SimulatorConfig::new(only_trades()) };
    let simulator = TestSimulator::with(config).await;
    let settings = [LOCAL, ("FEED_CLOCK", "event")];
    let mut app = TestApp::with_webhooks(engine, &simulator, &settings, quick(3, PATIENT)).await;
    let (all, fives) = (Receiver::start().await, Receiver::start().await);
    create(&mut app, &all.url(), &[]).await;
    let request = pb::CreateWebhookRequest {
        url: fives.url(),
        event_types: vec!["bar.closed".to_owned()],
        symbols: vec![ES.to_owned()],
        intervals: vec![Interval::Interval5m.into()],
        ..Default::default()
    };
    app.system.create_webhook(request).await.unwrap();
    subscribe(&mut quote_stream(&app.channel)).await;
    let messages = until_told(&all, &["bar.closed", "feed.up"]).await;
    let closed = messages.iter().find(|each| each.event_type() == "bar.closed").unwrap().json();
    let data = &closed["data"];
    assert_eq!((&data["symbol"], &data["revision"]), (&Value::from(ES), &Value::from(1)));
    assert!(data["open_time"].as_str() < data["close_time"].as_str(), "{data}");

    simulator.fault("cut", None, None, true).await;
    simulator.fault("cut", None, None, false).await;
    until_told(&all, &["bar.closed", "feed.up", "feed.down", "gap.detected"]).await;
    for each in fives.until(3).await {
        assert_eq!(each.event_type(), "bar.closed");
        assert_eq!(each.json()["data"]["interval"], "5m");
    }
    let listed: HashSet<_> =
        events(&mut app, Some(1_000)).await.into_iter().map(|each| each.r#type).collect();
    assert!(listed.contains("bar.closed") && listed.contains("feed.down"), "{listed:?}");
}
