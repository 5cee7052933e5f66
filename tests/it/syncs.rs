//! Syncs in the background and in bulk: started, watched, cancelled, resumed.

use std::collections::HashMap;
use std::time::Duration;

use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::market_data_client::MarketDataClient;
use pocketquant::proto::v1::sync_progress::Outcome;
use pocketquant::proto::v1::{Interval, SyncState};
use tonic::transport::Channel;
use tonic::{Code, Streaming};
use tonic_types::StatusExt as _;

use crate::engines::{Engine, on_every_engine};
use crate::processes::{Server, SimulatorProcess};
use crate::support::{TestApp, TestSimulator, demo_data, exported, file_bars, reason};

on_every_engine!(
    many_symbols_are_synced_four_at_a_time_and_a_bad_one_stops_nobody,
    a_background_sync_is_watched_by_others_and_known_after_its_end,
    a_cancelled_sync_keeps_what_it_stored_and_says_so,
    a_sync_that_fails_says_how_long_it_took,
    a_sync_that_a_stop_interrupted_goes_on_with_the_next_start,
);

const BTC: &str = "BINANCE:BTCUSDT";
const BTC_BARS: i32 = 55_765;

fn start(symbol: &str, full_history: bool) -> pb::StartSyncRequest {
    pb::StartSyncRequest {
        symbol: symbol.to_owned(),
        interval: Interval::Interval1h.into(),
        bar_count: None,
        full_history,
    }
}

async fn watch(
    client: &mut MarketDataClient<Channel>,
    sync_id: &str,
) -> Streaming<pb::SyncProgress> {
    let request = pb::WatchSyncRequest { sync_id: sync_id.to_owned() };
    client.watch_sync(request).await.unwrap().into_inner()
}

async fn all(mut steps: Streaming<pb::SyncProgress>) -> Vec<pb::SyncProgress> {
    let mut all = Vec::new();
    while let Some(step) = steps.message().await.unwrap() {
        all.push(step);
    }
    all
}

async fn status(client: &mut MarketDataClient<Channel>) -> pb::SyncStatus {
    let request =
        pb::GetSyncStatusRequest { symbol: BTC.to_owned(), interval: Interval::Interval1h.into() };
    client.get_sync_status(request).await.unwrap().into_inner()
}

async fn many_symbols_are_synced_four_at_a_time_and_a_bad_one_stops_nobody(engine: Engine) {
    let simulator = TestSimulator::start(demo_data()).await;
    simulator.fault("slow", Some("100"), None, true).await;
    let mut app = TestApp::on(engine, &simulator, &[]).await;
    let mut symbols =
        vec!["nasdaq:aapl-unadj", "NYSE:IBM", "BINANCE:BTCUSDT", "no symbol", "NYSE:IBM"];
    let unknown: Vec<String> = (0..6).map(|number| format!("NYSE:NONE{number}")).collect();
    symbols.extend(unknown.iter().map(String::as_str));
    let request = pb::SyncSymbolsRequest {
        symbols: symbols.iter().map(|&symbol| symbol.to_owned()).collect(),
        interval: Interval::Interval1d.into(),
        bar_count: Some(100),
        full_history: false,
    };
    let steps = all(app.market_data.sync_symbols(request).await.unwrap().into_inner()).await;

    let mut newest: HashMap<String, pb::SyncProgress> = HashMap::new();
    for step in steps {
        let before = newest.insert(step.symbol.clone(), step.clone());
        assert!(before.is_none_or(|before| before.outcome.is_none()), "{step:?} after its end");
        let running = newest.values().filter(|step| step.state() == SyncState::Syncing).count();
        assert!(running <= 4, "{running} at once");
    }
    assert_eq!(newest.len(), 10);
    for symbol in ["NASDAQ:AAPL-UNADJ", "NYSE:IBM", BTC] {
        let step = &newest[symbol];
        let Some(Outcome::Result(result)) = &step.outcome else { panic!("{step:?}") };
        assert_eq!((result.bars_fetched, result.total_bars), (100, 100));
        assert_eq!((step.bars_fetched, step.bars_expected), (100, Some(100)));
        let kept = all(watch(&mut app.market_data, &step.sync_id).await).await;
        assert_eq!(kept, std::slice::from_ref(step), "others see the same");
    }
    for symbol in &unknown {
        assert_eq!(code(&newest[symbol]), Code::NotFound);
    }
    assert_eq!(code(&newest["no symbol"]), Code::InvalidArgument);
    app.stop().await;
}

#[tokio::test]
async fn a_call_syncs_fifty_symbols_at_most_and_one_at_least() {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = TestApp::start(&simulator).await;
    let mut call = async |count: usize| {
        let request = pb::SyncSymbolsRequest {
            symbols: (0..count).map(|number| format!("no symbol {number}")).collect(),
            interval: Interval::Interval1d.into(),
            ..Default::default()
        };
        app.market_data.sync_symbols(request).await.map(tonic::Response::into_inner)
    };
    assert_eq!(all(call(50).await.unwrap()).await.len(), 50);
    for count in [0, 51] {
        let refused = call(count).await.unwrap_err();
        assert_eq!(reason(&refused), (Code::InvalidArgument, "INVALID_FIELDS".to_owned()));
        let violations = refused.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "symbols");
    }
}

fn code(step: &pb::SyncProgress) -> Code {
    assert_eq!(step.state(), SyncState::Error);
    let Some(Outcome::Error(error)) = &step.outcome else { panic!("{step:?}") };
    assert!(!error.message.is_empty() && !error.details.is_empty(), "{error:?}");
    Code::from_i32(error.code)
}

async fn a_background_sync_is_watched_by_others_and_known_after_its_end(engine: Engine) {
    let simulator = TestSimulator::start(demo_data()).await;
    simulator.fault("slow", Some("20"), None, true).await;
    let mut app = TestApp::on(engine, &simulator, &[]).await;
    let begun = app.market_data.start_sync(start(BTC, true)).await.unwrap().into_inner();
    assert_ne!(begun.state(), SyncState::Completed);
    let joined = app.market_data.start_sync(start(BTC, false)).await.unwrap().into_inner();
    assert_eq!(joined.sync_id, begun.sync_id, "one that asks for less joins");

    let steps = all(watch(&mut app.market_data, &begun.sync_id).await).await;
    let (last, before) = steps.split_last().unwrap();
    assert!(before.iter().all(|step| step.outcome.is_none()), "an outcome before the end");
    assert!(before.is_sorted_by_key(|step| (step.bars_fetched, step.pages)));
    assert!(before.len() > 2, "no steps: {before:?}");
    let Some(Outcome::Result(result)) = &last.outcome else { panic!("{last:?}") };
    assert_eq!((result.total_bars, last.bars_fetched), (BTC_BARS, BTC_BARS));
    assert_eq!(last.bars_expected, None);

    let app = app.restarted(&simulator).await;
    let mut client = app.market_data.clone();
    let kept = all(watch(&mut client, &begun.sync_id).await).await;
    assert_eq!(kept, std::slice::from_ref(last));
    let request = pb::CancelSyncRequest { sync_id: begun.sync_id.clone() };
    let left = client.cancel_sync(request).await.unwrap().into_inner();
    assert_eq!(left, *last, "one that is over is left as it is");

    let nothing = pb::WatchSyncRequest { sync_id: uuid::Uuid::now_v7().to_string() };
    let refused = client.watch_sync(nothing).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::NotFound, "SYNC_NOT_FOUND".to_owned()));
    assert_eq!(refused.get_details_resource_info().unwrap().resource_type, "sync");
    let garbage = pb::CancelSyncRequest { sync_id: "7".to_owned() };
    let refused = client.cancel_sync(garbage).await.unwrap_err();
    assert_eq!(reason(&refused), (Code::InvalidArgument, "INVALID_FIELDS".to_owned()));
    app.stop().await;
}

async fn a_cancelled_sync_keeps_what_it_stored_and_says_so(engine: Engine) {
    let simulator = TestSimulator::start(demo_data()).await;
    simulator.fault("slow", Some("50"), None, true).await;
    let app = TestApp::on(engine, &simulator, &[]).await;
    let mut client = app.market_data.clone();
    let sync_id = client.start_sync(start(BTC, true)).await.unwrap().into_inner().sync_id;
    let mut steps = watch(&mut client, &sync_id).await;
    while steps.message().await.unwrap().unwrap().pages < 2 {}
    let cancel = pb::CancelSyncRequest { sync_id: sync_id.clone() };
    let cancelled = client.cancel_sync(cancel).await.unwrap().into_inner();
    assert_eq!(code(&cancelled), Code::Cancelled);
    assert_eq!(all(steps).await.last(), Some(&cancelled));

    let status = status(&mut client).await;
    assert_eq!((status.state(), status.error_message.as_str()), (SyncState::Error, "cancelled"));
    let stored = exported(&mut client, BTC, Interval::Interval1h).await.len();
    assert_eq!(i32::try_from(stored).unwrap(), cancelled.bars_fetched);
    assert!(cancelled.bars_fetched < BTC_BARS);
    app.stop().await;
}

async fn a_sync_that_fails_says_how_long_it_took(engine: Engine) {
    let simulator = TestSimulator::start(demo_data()).await;
    simulator.fault("silence", None, None, true).await;
    let waited = Duration::from_millis(200);
    let mut app = TestApp::on(engine, &simulator, &[("HISTORY_TIMEOUT", "200ms")]).await;
    let request = pb::SyncSymbolsRequest {
        symbols: vec!["NYSE:IBM".to_owned()],
        interval: Interval::Interval1d.into(),
        bar_count: None,
        full_history: false,
    };
    let last = all(app.market_data.sync_symbols(request).await.unwrap().into_inner()).await.pop();
    let last = last.unwrap();
    assert_eq!(code(&last), Code::Unavailable);
    assert!(Duration::try_from(last.elapsed.unwrap()).unwrap() >= waited, "{last:?}");
    let kept = all(watch(&mut app.market_data, &last.sync_id).await).await;
    // The details of an error are a map: not their bytes.
    let seen: Vec<_> = kept.iter().map(|step| (step.elapsed, code(step))).collect();
    assert_eq!(seen, [(last.elapsed, Code::Unavailable)], "others see the same");
    app.stop().await;
}

async fn a_sync_that_a_stop_interrupted_goes_on_with_the_next_start(engine: Engine) {
    let simulator = TestSimulator::start(demo_data()).await;
    simulator.fault("slow", Some("50"), None, true).await;
    let app = TestApp::on(engine, &simulator, &[]).await;
    let mut client = app.market_data.clone();
    let sync_id = client.start_sync(start(BTC, true)).await.unwrap().into_inner().sync_id;
    let mut steps = watch(&mut client, &sync_id).await;
    while steps.message().await.unwrap().unwrap().pages < 2 {}

    let app = app.restarted(&simulator).await;
    let mut client = app.market_data.clone();
    let steps = all(watch(&mut client, &sync_id).await).await;
    assert!(steps[0].pages >= 2, "it begins again: {:?}", steps[0]);
    assert_whole(&mut client, steps.last().unwrap()).await;
    app.stop().await;
}

/// The sync ended well, and all bars came once.
async fn assert_whole(client: &mut MarketDataClient<Channel>, last: &pb::SyncProgress) {
    let Some(Outcome::Result(result)) = &last.outcome else { panic!("{last:?}") };
    assert_eq!((result.bars_fetched, result.total_bars), (BTC_BARS, BTC_BARS));
    assert_eq!((result.bars_inserted, result.bars_unchanged), (BTC_BARS, 0));
    let file = file_bars(&demo_data().join("BINANCE_BTCUSDT_1h.csv"));
    assert_eq!(exported(client, BTC, Interval::Interval1h).await, file);
    let status = status(client).await;
    assert_eq!((status.state(), status.bar_count), (SyncState::Completed, BTC_BARS));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod and Redis: run scripts/test"]
async fn another_service_shows_and_cancels_a_sync_and_goes_on_with_it_after_a_crash() {
    let simulator = SimulatorProcess::start(demo_data(), &["--fault", "slow=400"]).await;
    let mut settings = simulator.settings();
    for (name, value) in Engine::Servers.settings().await {
        settings.insert(name.to_owned(), value);
    }
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let one = Server::start(folders[0].path(), &settings).await;
    let other = Server::start(folders[1].path(), &settings).await;
    let (mut client, mut second) = (one.market_data().await, other.market_data().await);

    let sync_id = client.start_sync(start(BTC, true)).await.unwrap().into_inner().sync_id;
    let mut steps = watch(&mut second, &sync_id).await;
    while steps.message().await.unwrap().unwrap().pages < 1 {}
    let cancel = pb::CancelSyncRequest { sync_id };
    assert_eq!(code(&second.cancel_sync(cancel).await.unwrap().into_inner()), Code::Cancelled);

    let sync_id = client.start_sync(start(BTC, true)).await.unwrap().into_inner().sync_id;
    let mut steps = watch(&mut second, &sync_id).await;
    while steps.message().await.unwrap().unwrap().pages < 2 {}
    one.kill().await;
    let last = all(steps).await.pop().unwrap();
    let Some(Outcome::Result(result)) = &last.outcome else { panic!("{last:?}") };
    assert_eq!((result.bars_fetched, result.total_bars), (BTC_BARS, BTC_BARS));
    assert_eq!(other.terminate().await, Some(0));
}
