//! The main job: a symbol's history asked for, fetched, checked, stored and served again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::Interval;
use pocketquant::simulator::SimulatorConfig;
use tonic::Code;

use crate::engines::{Engine, on_every_engine};
use crate::support::{ExportedBar, TestApp, TestSimulator, demo_data, fact, file_bars, reason};

on_every_engine!(
    a_full_history_is_stored_value_for_value_and_written_once,
    bars_page_without_overlap_or_hole_in_both_orders,
    a_bar_that_the_provider_corrects_becomes_a_revision,
    an_unfinished_bar_is_forming_whatever_our_clock_says,
    statuses_and_symbols_are_listed_page_by_page,
);

const BTC: &str = "BINANCE:BTCUSDT";

async fn a_full_history_is_stored_value_for_value_and_written_once(engine: Engine) {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = TestApp::on(engine, &simulator, &[]).await;
    let file = file_bars(&demo_data().join("BINANCE_BTCUSDT_1h.csv"));
    let rows = i32::try_from(file.len()).unwrap();

    let first = app.sync_all(BTC, Interval::Interval1h).await.unwrap();
    assert_eq!((first.bars_fetched, first.bars_inserted, first.total_bars), (rows, rows, rows));
    assert_eq!(first.history_end(), pb::HistoryEnd::End);
    assert_eq!(app.export(BTC, Interval::Interval1h).await, file);

    let again = app.sync_all(BTC, Interval::Interval1h).await.unwrap();
    assert_eq!((again.bars_unchanged, again.bars_inserted, again.bars_updated), (rows, 0, 0));
    assert_eq!(app.export(BTC, Interval::Interval1h).await, file);
}

async fn bars_page_without_overlap_or_hole_in_both_orders(engine: Engine) {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = TestApp::on(engine, &simulator, &[]).await;
    app.sync("NYSE:IBM", Interval::Interval1d, 1_000).await.unwrap();
    let stored = app.export("NYSE:IBM", Interval::Interval1d).await;
    let mut oldest_first: Vec<i64> = stored.iter().map(|bar| bar.time_ms).collect();

    assert_eq!(pages(&mut app, pb::BarOrder::OldestFirst).await, oldest_first);
    oldest_first.reverse();
    assert_eq!(pages(&mut app, pb::BarOrder::NewestFirst).await, oldest_first);
    assert_eq!(
        pages(&mut app, pb::BarOrder::Unspecified).await,
        oldest_first,
        "from the cache too"
    );
}

/// The open times of all pages, one after the other.
async fn pages(app: &mut TestApp, order: pb::BarOrder) -> Vec<i64> {
    let mut times = Vec::new();
    let mut token = String::new();
    loop {
        let page = app
            .bars("NYSE:IBM", Interval::Interval1d, |request| {
                request.limit = Some(77);
                request.order = order.into();
                request.page_token.clone_from(&token);
            })
            .await
            .unwrap();
        assert_eq!((page.symbol.as_str(), page.interval()), ("NYSE:IBM", Interval::Interval1d));
        times.extend(page.bars.iter().map(|bar| bar.open_time.unwrap().seconds * 1_000));
        token = page.next_page_token;
        if token.is_empty() {
            return times;
        }
    }
}

/// A folder with one hourly series that a test can rewrite: `TEST:ONE`, 24x7.
fn one_series(folder: &Path, closes: &[f64]) {
    let mut text = String::from("time,open,high,low,close,volume\n");
    for (hour, close) in closes.iter().enumerate() {
        let time = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hour.try_into().unwrap());
        text.push_str(&format!("{time},1,{},0.5,{close},10\n", close.max(1.0)));
    }
    fs::write(folder.join("TEST_ONE_1h.csv"), text).unwrap();
}

async fn a_bar_that_the_provider_corrects_becomes_a_revision(engine: Engine) {
    let folder = tempfile::tempdir().unwrap();
    one_series(folder.path(), &[1.5, 2.5, 3.5]);
    let simulator = TestSimulator::start(folder.path()).await;
    let mut app = TestApp::on(engine, &simulator, &[]).await;
    app.sync("TEST:ONE", Interval::Interval1h, 10).await.unwrap();
    let before = app.bars("TEST:ONE", Interval::Interval1h, |_| ()).await.unwrap();

    drop(simulator);
    one_series(folder.path(), &[1.5, 7.25, 3.5]);
    let simulator = TestSimulator::start(folder.path()).await;
    let mut app = app.restarted(&simulator).await;
    let corrected = app.sync("TEST:ONE", Interval::Interval1h, 10).await.unwrap();
    assert_eq!((corrected.bars_updated, corrected.bars_unchanged), (1, 2));

    let after = app.bars("TEST:ONE", Interval::Interval1h, |_| ()).await.unwrap();
    let bars: Vec<_> =
        after.bars.iter().map(|bar| (bar.close, bar.state(), bar.revision)).collect();
    let (closed, revised) = (pb::BarState::Closed, pb::BarState::Revised);
    assert_eq!(bars, [(3.5, closed, 1), (7.25, revised, 2), (1.5, closed, 1)]);
    assert_ne!(before, after, "nothing old comes from the cache");
}

async fn an_unfinished_bar_is_forming_whatever_our_clock_says(engine: Engine) {
    let folder = tempfile::tempdir().unwrap();
    one_series(folder.path(), &[1.5, 2.5, 3.5, 4.5]);
    // By the provider's clock the third bar is half over; ours is decades ahead.
    let now: Timestamp = "1970-01-01T02:30:00Z".parse().unwrap();
    let config = SimulatorConfig { now: Some(now), ..SimulatorConfig::new(folder.path()) };
    let simulator = TestSimulator::with(config).await;
    let mut app = TestApp::on(engine, &simulator, &[]).await;

    let synced = app.sync("TEST:ONE", Interval::Interval1h, 10).await.unwrap();
    assert_eq!((synced.bars_fetched, synced.bars_inserted, synced.total_bars), (3, 3, 2));
    assert_eq!(synced.last_bar_time.unwrap().seconds, 3_600);
    let finished = app.bars("TEST:ONE", Interval::Interval1h, |_| ()).await.unwrap();
    assert_eq!(finished.bars.len(), 2);
    let all = app
        .bars("TEST:ONE", Interval::Interval1h, |request| request.include_forming = true)
        .await
        .unwrap();
    assert_eq!((all.bars[0].state(), all.bars[0].revision), (pb::BarState::Forming, 0));
    assert_eq!(all.bars[0].close_time.unwrap().seconds, 3 * 3_600);
    assert_eq!(app.export("TEST:ONE", Interval::Interval1h).await.len(), 2);

    // A clock that runs behind by an hour, on a bar that is over by the provider's.
    drop(simulator);
    let now: Timestamp = "1970-01-01T03:00:00Z".parse().unwrap();
    let config = SimulatorConfig { now: Some(now), ..SimulatorConfig::new(folder.path()) };
    let simulator = TestSimulator::with(config).await;
    let mut app = app.restarted(&simulator).await;
    let synced = app.sync("TEST:ONE", Interval::Interval1h, 10).await.unwrap();
    assert_eq!((synced.bars_updated, synced.total_bars), (1, 3));
    let closed = app.bars("TEST:ONE", Interval::Interval1h, |_| ()).await.unwrap();
    assert_eq!((closed.bars[0].state(), closed.bars[0].revision), (pb::BarState::Closed, 1));
}

async fn statuses_and_symbols_are_listed_page_by_page(engine: Engine) {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = TestApp::on(engine, &simulator, &[]).await;
    for interval in [Interval::Interval1d, Interval::Interval1w, Interval::Interval1mo] {
        app.sync("NYSE:IBM", interval, 5).await.unwrap();
        app.sync("NASDAQ:AAPL-UNADJ", interval, 5).await.unwrap();
    }
    app.sync("NYSE:NOPE", Interval::Interval1d, 5).await.unwrap_err();

    let mut listed = Vec::new();
    let mut request = pb::ListSyncStatusesRequest { page_size: 2, ..Default::default() };
    loop {
        let page = app.market_data.list_sync_statuses(request.clone()).await.unwrap().into_inner();
        listed.extend(page.statuses.iter().map(|status| (status.symbol.clone(), status.state())));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    let done = pb::SyncState::Completed;
    let expected = [
        ("NASDAQ:AAPL-UNADJ", done),
        ("NASDAQ:AAPL-UNADJ", done),
        ("NASDAQ:AAPL-UNADJ", done),
        ("NYSE:IBM", done),
        ("NYSE:IBM", done),
        ("NYSE:IBM", done),
        ("NYSE:NOPE", pb::SyncState::Error),
    ];
    assert_eq!(listed, expected.map(|(symbol, state)| (symbol.to_owned(), state)));

    let failed = pb::ListSyncStatusesRequest {
        exchange: Some("nyse".to_owned()),
        state: Some(pb::SyncState::Error.into()),
        ..Default::default()
    };
    let failed = app.market_data.list_sync_statuses(failed).await.unwrap().into_inner();
    assert_eq!(failed.statuses.len(), 1);
    assert!(failed.statuses[0].error_message.contains("NYSE:NOPE"), "{failed:?}");

    let first = pb::ListSymbolsRequest { page_size: 1, ..Default::default() };
    let first = app.market_data.list_symbols(first).await.unwrap().into_inner();
    assert_eq!(first.symbols[0].symbol, "NASDAQ:AAPL-UNADJ");
    assert_eq!(first.symbols[0].description, "Apple Inc., prices as traded 🍏");
    let second = pb::ListSymbolsRequest { page_token: first.next_page_token, ..Default::default() };
    let second = app.market_data.list_symbols(second).await.unwrap().into_inner();
    let ibm = &second.symbols[0];
    assert_eq!((ibm.symbol.as_str(), ibm.session_known), ("NYSE:IBM", true));
    assert_eq!((ibm.timezone.as_str(), ibm.session.as_str()), ("America/New_York", "0930-1600"));
    assert_eq!(ibm.price_scale, Some(10_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn off_grid_bars_keep_their_times_and_close_with_the_grid() {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = TestApp::start(&simulator).await;
    app.sync_all(BTC, Interval::Interval1h).await.unwrap();
    let range = |text: &str| {
        let time: Timestamp = text.parse().unwrap();
        Some(prost_types::Timestamp { seconds: time.as_second(), nanos: 0 })
    };
    let page = app
        .bars(BTC, Interval::Interval1h, |request| {
            request.start_time = range("2018-02-09T00:00:00Z");
            request.end_time = range("2018-02-11T05:00:00Z");
            request.order = pb::BarOrder::OldestFirst.into();
        })
        .await
        .unwrap();
    let bounds: BTreeMap<i64, i64> = page
        .bars
        .iter()
        .map(|bar| (bar.open_time.unwrap().seconds, bar.close_time.unwrap().seconds))
        .collect();
    let off_grid: Vec<_> = bounds.iter().filter(|(open, _)| *open % 3_600 != 0).collect();
    assert_eq!(off_grid.len(), 43);
    assert!(
        off_grid.iter().all(|(open, close)| *open % 3_600 == 28 * 60 + 14 && *close % 3_600 == 0)
    );
    assert!(bounds.iter().all(|(open, close)| open < close && close - open <= 3_600));
    let file = file_bars(&demo_data().join("BINANCE_BTCUSDT_1h.csv"));
    let in_file = |bar: &&ExportedBar| bounds.contains_key(&(bar.time_ms / 1_000));
    assert_eq!(file.iter().filter(in_file).count(), bounds.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_syncs_share_one_connection_and_one_series_is_fetched_once() {
    let simulator = TestSimulator::start(demo_data()).await;
    let app = TestApp::start(&simulator).await;
    let mut calls = tokio::task::JoinSet::new();
    for interval in [Interval::Interval1h, Interval::Interval2h, Interval::Interval4h] {
        for _ in 0..4 {
            let mut client = app.market_data.clone();
            calls.spawn(async move {
                let request = pb::SyncSymbolRequest {
                    symbol: BTC.to_owned(),
                    interval: interval.into(),
                    bar_count: Some(3_000),
                    full_history: false,
                };
                client.sync_symbol(request).await.unwrap().into_inner()
            });
        }
    }
    let results = calls.join_all().await;
    assert!(results.iter().all(|result| result.total_bars == 3_000));
    let stats = simulator.stats().await;
    assert_eq!(stats["connections"], 1, "{stats}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_limits_history_says_so() {
    let config =
        SimulatorConfig { history_limit: Some(7_000), ..SimulatorConfig::new(demo_data()) };
    let simulator = TestSimulator::with(config).await;
    let mut app = TestApp::start(&simulator).await;
    let synced = app.sync_all(BTC, Interval::Interval1h).await.unwrap();
    assert_eq!((synced.total_bars, synced.history_end()), (7_000, pb::HistoryEnd::Limit));
    let newest = app.sync(BTC, Interval::Interval4h, 10).await.unwrap();
    assert_eq!((newest.bars_fetched, newest.history_end), (10, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_without_bars_says_which_call_fetches_it() {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = TestApp::start(&simulator).await;
    let status = app.bars("NYSE:IBM", Interval::Interval1d, |_| ()).await.unwrap_err();
    assert_eq!(reason(&status), (Code::NotFound, "NOT_SYNCED".to_owned()));
    assert_eq!(fact(&status, "call").unwrap(), "pocketquant.v1.MarketData/SyncSymbol");
    let status = app.status("NYSE:IBM", Interval::Interval1d).await.unwrap_err();
    assert_eq!(reason(&status), (Code::NotFound, "NOT_SYNCED".to_owned()));

    app.sync("NYSE:IBM", Interval::Interval1d, 10).await.unwrap();
    let empty = app
        .bars("NYSE:IBM", Interval::Interval1d, |request| {
            request.end_time = Some(prost_types::Timestamp::default());
        })
        .await
        .unwrap();
    assert!(empty.bars.is_empty() && empty.next_page_token.is_empty());
}
