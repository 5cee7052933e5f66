//! Many calls, other requests, callers that go away, deadlines: one running service.

use std::process::Stdio;
use std::time::Duration;

use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::market_data_client::MarketDataClient;
use pocketquant::proto::v1::quote_stream_client::QuoteStreamClient;
use prost::Message as _;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::{Keeper, SYMBOL, is_replayed, on_every_keeper, sync, sync_without_key, with_key};
use crate::processes::pocketquant;
use crate::support::{TestApp, TestSimulator, demo_data, reason, retry_delay};

on_every_keeper!(
    a_hundred_calls_with_one_key_are_one_fetch,
    another_request_under_the_key_is_refused,
    a_caller_that_goes_away_loses_nothing,
    a_command_line_that_is_killed_and_run_again_follows_the_same_sync,
    a_deadline_ends_the_wait_and_not_the_work,
    failures_are_kept_where_they_are_final,
    every_command_takes_a_key,
);

async fn app(keeper: Keeper, simulator: &TestSimulator) -> TestApp {
    let mut settings = Vec::new();
    for (name, value) in keeper.settings().await {
        settings.push((name.to_owned(), value));
    }
    TestApp::with_settings(simulator, settings).await
}

/// What the simulator was asked for.
async fn fetches(simulator: &TestSimulator) -> u64 {
    simulator.stats().await["series_requests"].as_u64().unwrap()
}

/// Waits until the simulator was asked, so that the command is under way.
async fn until_fetched(simulator: &TestSimulator, before: u64) {
    let asked = async {
        while fetches(simulator).await == before {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_mins(1), asked).await.unwrap();
}

async fn a_hundred_calls_with_one_key_are_one_fetch(keeper: Keeper) {
    let simulator = TestSimulator::start(demo_data()).await;
    let app = app(keeper, &simulator).await;
    simulator.fault("slow", Some("300"), None, true).await;
    let calls = (0..100).map(|_| {
        let mut client = app.market_data.clone();
        async move { client.sync_symbol(sync("order-1", 300)).await }
    });
    let (mut first, mut replayed, mut bodies) = (0, 0, Vec::new());
    for answer in futures::future::join_all(calls).await {
        match answer {
            Ok(answer) if is_replayed(answer.metadata()) => {
                replayed += 1;
                bodies.push(answer.into_inner().encode_to_vec());
            }
            Ok(answer) => {
                first += 1;
                bodies.push(answer.into_inner().encode_to_vec());
            }
            Err(status) => {
                let in_progress = "IDEMPOTENCY_IN_PROGRESS".to_owned();
                assert_eq!(reason(&status), (Code::Aborted, in_progress), "{status:?}");
                assert!(retry_delay(&status).is_some());
            }
        }
    }
    assert_eq!(first, 1, "and {replayed} were replayed");
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    assert_eq!(fetches(&simulator).await, 1);
    // Now it is over: all are answered, with the same.
    let again = app.market_data.clone().sync_symbol(sync("order-1", 300)).await.unwrap();
    assert!(is_replayed(again.metadata()));
    assert_eq!(again.into_inner().encode_to_vec(), bodies[0]);
    assert_eq!(fetches(&simulator).await, 1);
}

async fn another_request_under_the_key_is_refused(keeper: Keeper) {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = app(keeper, &simulator).await;
    let refused = |answer: Result<_, Status>| {
        let status = answer.unwrap_err();
        let reused = "IDEMPOTENCY_KEY_REUSED".to_owned();
        assert_eq!(reason(&status), (Code::FailedPrecondition, reused), "{status:?}");
    };
    // While the first one runs.
    simulator.fault("slow", Some("300"), None, true).await;
    let mut client = app.market_data.clone();
    let first = tokio::spawn(async move { client.sync_symbol(sync("order-1", 300)).await });
    until_fetched(&simulator, 0).await;
    refused(app.market_data.sync_symbol(sync("order-1", 299)).await);
    first.await.unwrap().unwrap();
    // And after it.
    refused(app.market_data.sync_symbol(sync("order-1", 299)).await);
    // Another key is another command, and no key is none.
    simulator.fault("slow", None, None, false).await;
    app.market_data.sync_symbol(sync("order-2", 299)).await.unwrap();
    app.market_data.sync_symbol(sync_without_key(299)).await.unwrap();
    assert_eq!(fetches(&simulator).await, 3);
    // What is no request takes no key.
    let invalid = app.market_data.sync_symbol(sync("order-3", 0)).await.unwrap_err();
    assert_eq!(reason(&invalid).1, "INVALID_FIELDS");
    app.market_data.sync_symbol(sync("order-3", 300)).await.unwrap();
}

async fn a_caller_that_goes_away_loses_nothing(keeper: Keeper) {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = app(keeper, &simulator).await;
    simulator.fault("slow", Some("300"), None, true).await;
    let own = Channel::from_shared(app.url.clone()).unwrap().connect().await.unwrap();
    let call = async move { MarketDataClient::new(own).sync_symbol(sync("order-1", 300)).await };
    let caller = tokio::spawn(call);
    until_fetched(&simulator, 0).await;
    // Its connection goes with it.
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    let answer = loop {
        match app.market_data.sync_symbol(sync("order-1", 300)).await {
            Ok(answer) => break answer,
            Err(status) => assert_eq!(status.code(), Code::Aborted, "{status:?}"),
        }
    };
    assert!(is_replayed(answer.metadata()));
    assert_eq!(answer.into_inner().bars_inserted, 300);
    assert_eq!(fetches(&simulator).await, 1);
}

async fn a_command_line_that_is_killed_and_run_again_follows_the_same_sync(keeper: Keeper) {
    let simulator = TestSimulator::start(demo_data()).await;
    let app = app(keeper, &simulator).await;
    simulator.fault("slow", Some("300"), None, true).await;
    let run = || {
        let arguments = ["sync", SYMBOL, "-n", "300", "--idempotency-key", "order-1", "--server"];
        let mut command = pocketquant(&arguments);
        command.arg(&app.url).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let mut killed = run().spawn().unwrap();
    until_fetched(&simulator, 0).await;
    killed.kill().await.unwrap();
    let again = run().output().await.unwrap();
    assert!(again.status.success(), "{again:?}");
    assert!(String::from_utf8(again.stdout).unwrap().contains("300"));
    assert_eq!(fetches(&simulator).await, 1);
}

async fn a_deadline_ends_the_wait_and_not_the_work(keeper: Keeper) {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = app(keeper, &simulator).await;
    simulator.fault("slow", Some("5000"), None, true).await;
    // tonic's client would end the call itself, so this one speaks plain HTTP/2.
    let plain = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let mut client = app.market_data.clone();
    let first = tokio::spawn(async move { client.sync_symbol(sync("order-1", 300)).await });
    until_fetched(&simulator, 0).await;
    let message = sync_without_key(300).encode_to_vec();
    let mut body = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
    body.extend(message);
    let answer = plain
        .post(format!("{}/pocketquant.v1.MarketData/SyncSymbol", app.url))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "300m")
        .header("idempotency-key", "order-1")
        .body(body)
        .send()
        .await
        .unwrap();
    let status = Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(reason(&status), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned()));
    assert!(!first.is_finished(), "there was nothing to wait for");
    let first = first.await.unwrap().unwrap().into_inner();
    assert_eq!(first.bars_inserted, 300);
    let again = app.market_data.sync_symbol(sync("order-1", 300)).await.unwrap();
    assert!(is_replayed(again.metadata()));
    assert_eq!(again.into_inner(), first);
}

async fn failures_are_kept_where_they_are_final(keeper: Keeper) {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = app(keeper, &simulator).await;
    let unknown = || {
        let request = pb::SyncSymbolRequest { symbol: "NYSE:NOPE".into(), ..sync_without_key(1) };
        with_key("order-1", request)
    };
    let first = app.market_data.sync_symbol(unknown()).await.unwrap_err();
    assert_eq!(reason(&first), (Code::NotFound, "SYMBOL_NOT_FOUND".to_owned()));
    assert!(!is_replayed(first.metadata()));
    let resolved = simulator.stats().await["resolve_requests"].clone();
    let again = app.market_data.sync_symbol(unknown()).await.unwrap_err();
    assert!(is_replayed(again.metadata()));
    assert_eq!((again.code(), again.message()), (first.code(), first.message()));
    assert_eq!(again.details(), first.details());
    assert_eq!(simulator.stats().await["resolve_requests"], resolved);

    simulator.fault("cut", None, None, true).await;
    let away = app.market_data.sync_symbol(sync("order-2", 300)).await.unwrap_err();
    assert_eq!(reason(&away), (Code::Unavailable, "PROVIDER_UNAVAILABLE".to_owned()));
    simulator.fault("cut", None, None, false).await;
    let answer = app.market_data.sync_symbol(sync("order-2", 300)).await.unwrap();
    assert!(!is_replayed(answer.metadata()));
    assert_eq!(answer.into_inner().bars_inserted, 300);
}

async fn every_command_takes_a_key(keeper: Keeper) {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = app(keeper, &simulator).await;
    let mut quotes = QuoteStreamClient::new(app.channel.clone());
    let symbol = || SYMBOL.to_owned();
    let mut sync_ids = Vec::new();
    for replayed in [false, true] {
        let start = pb::StartSyncRequest {
            symbol: symbol(),
            interval: pb::Interval::Interval1d.into(),
            ..Default::default()
        };
        let started = app.market_data.start_sync(with_key("k", start)).await.unwrap();
        assert_eq!(is_replayed(started.metadata()), replayed);
        sync_ids.push(started.into_inner().sync_id);
        let subscribe = with_key("k", pb::SubscribeRequest { symbol: symbol() });
        assert_eq!(is_replayed(quotes.subscribe(subscribe).await.unwrap().metadata()), replayed);
        let unsubscribe = with_key("k", pb::UnsubscribeRequest { symbol: symbol() });
        let unsubscribed = quotes.unsubscribe(unsubscribe).await.unwrap();
        assert_eq!(is_replayed(unsubscribed.metadata()), replayed);
        let started = quotes.start_feed(with_key("k", pb::StartFeedRequest {})).await.unwrap();
        assert_eq!(is_replayed(started.metadata()), replayed);
        let stopped = quotes.stop_feed(with_key("k", pb::StopFeedRequest {})).await.unwrap();
        assert_eq!(is_replayed(stopped.metadata()), replayed);
        // On a query it is ignored, whatever it is.
        for key in ["k", ""] {
            let query = with_key(key, pb::ListSubscriptionsRequest {});
            assert!(!is_replayed(quotes.list_subscriptions(query).await.unwrap().metadata()));
        }
    }
    assert_eq!(sync_ids[0], sync_ids[1]);
    let subscribe = with_key("\t", pb::SubscribeRequest { symbol: symbol() });
    let refused = quotes.subscribe(subscribe).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::InvalidArgument, "INVALID_FIELDS".to_owned()));
    assert!(refused.message().contains("`idempotency-key`"), "{refused:?}");
}
