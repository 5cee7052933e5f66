//! What a caller sees when the provider fails, and that the next sync succeeds.

use std::time::Duration;

use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::Interval;
use prost::Message as _;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use crate::engines::Engine;
use crate::support::{TestApp, TestSimulator, demo_data, fact, reason, retry_delay};

/// A fault of the simulator, and what it must look like from outside.
struct Case {
    fault: &'static str,
    arg: Option<&'static str>,
    code: Code,
    reason: &'static str,
    phase: Option<&'static str>,
}

const fn case(
    fault: &'static str,
    arg: Option<&'static str>,
    code: Code,
    reason: &'static str,
    phase: Option<&'static str>,
) -> Case {
    Case { fault, arg, code, reason, phase }
}

const UNAVAILABLE: &str = "PROVIDER_UNAVAILABLE";
const TIMEOUT: &str = "PROVIDER_TIMEOUT";

const CASES: &[Case] = &[
    case("handshake-403", None, Code::Unavailable, UNAVAILABLE, Some("handshake")),
    case("handshake-429", None, Code::ResourceExhausted, "PROVIDER_RATE_LIMITED", None),
    case("bad-token", None, Code::FailedPrecondition, "PROVIDER_AUTH_REQUIRED", None),
    case("silence", None, Code::Unavailable, TIMEOUT, Some("history")),
    case("dead", None, Code::Unavailable, TIMEOUT, None),
    case("cut", None, Code::Unavailable, UNAVAILABLE, None),
    case("cut-mid-history", None, Code::Unavailable, UNAVAILABLE, Some("history")),
    case("no-completed", None, Code::Unavailable, TIMEOUT, Some("history")),
    case("garbage", None, Code::Unavailable, UNAVAILABLE, Some("history")),
    case("truncated-frame", None, Code::Unavailable, UNAVAILABLE, Some("history")),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_has_its_error_and_the_next_sync_succeeds() {
    for Case { fault, arg, code, reason: expected, phase } in CASES {
        let simulator = TestSimulator::start(demo_data()).await;
        let mut app = TestApp::on(Engine::Embedded, &simulator, &[("HISTORY_TIMEOUT", "1s")]).await;
        simulator.fault(fault, *arg, None, true).await;

        let call = app.sync("NYSE:IBM", Interval::Interval1d, 300);
        let status = timeout(Duration::from_secs(20), call).await.unwrap().unwrap_err();

        assert_eq!(reason(&status), (*code, (*expected).to_owned()), "{fault}: {status:?}");
        assert_eq!(fact(&status, "provider").as_deref(), Some("tradingview"), "{fault}");
        if let Some(phase) = phase {
            assert_eq!(fact(&status, "phase").as_deref(), Some(*phase), "{fault}: {status:?}");
        }
        let retryable = matches!(code, Code::Unavailable | Code::ResourceExhausted);
        assert_eq!(retry_delay(&status).is_some(), retryable, "{fault}");
        let row = app.status("NYSE:IBM", Interval::Interval1d).await.unwrap();
        assert_eq!(row.state(), pb::SyncState::Error, "{fault}");
        assert!(!row.error_message.is_empty(), "{fault}");

        simulator.fault(fault, *arg, None, false).await;
        if *expected == "PROVIDER_AUTH_REQUIRED" {
            // Who we say we are has not changed, so it takes a restart with other settings.
            app = app.restarted(&simulator).await;
        }
        let synced = synced_in_time(&mut app).await;
        assert_eq!((synced.bars_fetched, synced.total_bars), (300, 300), "{fault}");
        let row = app.status("NYSE:IBM", Interval::Interval1d).await.unwrap();
        assert_eq!((row.state(), row.error_message.as_str()), (pb::SyncState::Completed, ""));
    }
}

/// The next sync, after the wait that the provider asks for where it does.
async fn synced_in_time(app: &mut TestApp) -> pb::SyncResult {
    for _ in 0..20 {
        match app.sync("NYSE:IBM", Interval::Interval1d, 300).await {
            Ok(synced) => return synced,
            Err(status) => sleep(retry_delay(&status).unwrap()).await,
        }
    }
    panic!("no sync succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_and_shuffled_bars_do_no_harm() {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = TestApp::start(&simulator).await;
    let calm = app.sync("NYSE:IBM", Interval::Interval1d, 500).await.unwrap();
    let stored = app.export("NYSE:IBM", Interval::Interval1d).await;
    for fault in ["duplicates", "reorder", "slow"] {
        simulator.fault(fault, None, None, true).await;
        let again = app.sync("NYSE:IBM", Interval::Interval1d, 500).await.unwrap();
        assert_eq!((again.bars_unchanged, again.bars_fetched), (500, 500), "{fault}");
        assert_eq!(again.total_bars, calm.total_bars);
        simulator.fault(fault, None, None, false).await;
    }
    assert_eq!(app.export("NYSE:IBM", Interval::Interval1d).await, stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_symbol_fails_at_once() {
    let simulator = TestSimulator::start(demo_data()).await;
    // With this much patience the test would not end, if it waited.
    let mut app = TestApp::on(Engine::Embedded, &simulator, &[("HISTORY_TIMEOUT", "10m")]).await;
    let status = app.sync("NYSE:NOPE", Interval::Interval1d, 10).await.unwrap_err();
    assert_eq!(reason(&status), (Code::NotFound, "SYMBOL_NOT_FOUND".to_owned()));
    let resource = tonic_types::StatusExt::get_details_resource_info(&status).unwrap();
    assert_eq!(
        (resource.resource_type.as_str(), resource.resource_name.as_str()),
        ("symbol", "NYSE:NOPE")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_plan_lacks_names_the_group() {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = TestApp::start(&simulator).await;
    simulator.fault("permission-denied", Some("nyse_paid"), Some("NYSE:IBM"), true).await;
    let status = app.sync("NYSE:IBM", Interval::Interval1d, 10).await.unwrap_err();
    assert_eq!(reason(&status), (Code::FailedPrecondition, "PROVIDER_NOT_ENTITLED".to_owned()));
    assert_eq!(fact(&status, "group").as_deref(), Some("nyse_paid"));
    app.sync("NASDAQ:AAPL-UNADJ", Interval::Interval1d, 10).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_deadline_bounds_the_call_and_not_the_sync() {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = TestApp::start(&simulator).await;
    simulator.fault("silence", None, None, true).await;
    let request = pb::SyncSymbolRequest {
        symbol: "NYSE:IBM".to_owned(),
        interval: Interval::Interval1d.into(),
        bar_count: Some(10),
        full_history: false,
    };
    // Not through tonic's client, which would end the call by its own clock.
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let mut body = vec![0];
    body.extend(u32::try_from(request.encoded_len()).unwrap().to_be_bytes());
    body.extend(request.encode_to_vec());
    let answer = client
        .post(format!("{}/pocketquant.v1.MarketData/SyncSymbol", app.url))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "300m")
        .body(body)
        .send()
        .await
        .unwrap();
    let status = Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(reason(&status), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned()));
    // The work goes on.
    let syncing = async {
        loop {
            let row = app.status("NYSE:IBM", Interval::Interval1d).await;
            if row.is_ok_and(|row| row.state() == pb::SyncState::Syncing) {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(9), syncing).await.expect("less than the silence lasts");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_were_written_before_a_cut_stay() {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = TestApp::start(&simulator).await;
    app.sync("BINANCE:BTCUSDT", Interval::Interval1h, 10).await.unwrap();
    simulator.fault("cut-mid-history", Some("12000"), None, true).await;
    let status = app.sync_all("BINANCE:BTCUSDT", Interval::Interval1h).await.unwrap_err();
    assert_eq!(reason(&status), (Code::Unavailable, "PROVIDER_UNAVAILABLE".to_owned()));
    assert_eq!(fact(&status, "phase").as_deref(), Some("history"));
    let row = app.status("BINANCE:BTCUSDT", Interval::Interval1h).await.unwrap();
    assert!(row.bar_count >= 10_000, "{row:?}");
    assert_eq!(row.state(), pb::SyncState::Error);
    simulator.fault("cut-mid-history", None, None, false).await;
    let synced = app.sync_all("BINANCE:BTCUSDT", Interval::Interval1h).await.unwrap();
    assert_eq!(synced.total_bars, 55_765);
}
