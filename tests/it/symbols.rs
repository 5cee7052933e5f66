//! Symbols: searched at the provider, changed by people, kept current by syncs, deleted.

use std::time::Duration;

use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::Interval::{Interval1d, Interval1h};
use pocketquant::proto::v1::quote_stream_client::QuoteStreamClient;
use tempfile::TempDir;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::engines::{Engine, on_every_engine};
use crate::support::{TestApp, TestSimulator, demo_data, fact, reason, retry_delay};

on_every_engine!(
    what_the_provider_says_anew_stands_behind_what_a_person_set,
    a_deleted_symbols_bars_stay_and_end_when_they_did,
    deleted_bars_are_gone_and_can_be_fetched_again,
    a_symbol_that_no_sync_ever_found_is_forgotten_when_it_is_deleted,
    a_sync_waits_for_the_deletion_that_it_came_into,
    a_symbol_is_not_deleted_beside_a_sync_of_it,
    commands_under_a_key_are_carried_out_once,
);

const IBM: &str = "NYSE:IBM";
const BTC: &str = "BINANCE:BTCUSDT";

async fn search(
    app: &mut TestApp,
    query: &str,
    change: impl FnOnce(&mut pb::SearchSymbolsRequest),
) -> Result<Vec<pb::SymbolMatch>, Status> {
    let mut request = pb::SearchSymbolsRequest { query: query.to_owned(), ..Default::default() };
    change(&mut request);
    app.market_data.search_symbols(request).await.map(|answer| answer.into_inner().matches)
}

fn names(matches: &[pb::SymbolMatch]) -> Vec<&str> {
    matches.iter().map(|found| found.symbol.as_str()).collect()
}

async fn get(app: &mut TestApp, symbol: &str) -> Result<pb::SymbolInfo, Status> {
    let request = pb::GetSymbolRequest { symbol: symbol.to_owned() };
    app.market_data.get_symbol(request).await.map(tonic::Response::into_inner)
}

async fn update(
    app: &mut TestApp,
    symbol: &str,
    change: impl FnOnce(&mut pb::UpdateSymbolRequest),
) -> Result<pb::SymbolInfo, Status> {
    let mut request = pb::UpdateSymbolRequest { symbol: symbol.to_owned(), ..Default::default() };
    change(&mut request);
    app.market_data.update_symbol(request).await.map(tonic::Response::into_inner)
}

async fn delete(app: &mut TestApp, symbol: &str, delete_bars: bool) -> Result<(), Status> {
    let request = pb::DeleteSymbolRequest { symbol: symbol.to_owned(), delete_bars };
    app.market_data.delete_symbol(request).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn symbols_are_found_by_code_name_exchange_and_kind() {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = TestApp::start(&simulator).await;
    let found = search(&mut app, " ibm ", |_| {}).await.unwrap();
    let expected = pb::SymbolMatch {
        symbol: IBM.to_owned(),
        description: "International Business Machines (国際商業機械)".to_owned(),
        asset_type: "stock".to_owned(),
        currency: "USD".to_owned(),
        exchange_name: "NYSE".to_owned(),
        country: "US".to_owned(),
    };
    assert_eq!(found, [expected]);
    assert_eq!(names(&search(&mut app, IBM, |_| {}).await.unwrap()), [IBM]);
    assert_eq!(names(&search(&mut app, "bitcoin", |_| {}).await.unwrap()), [BTC]);
    let on_cme = |request: &mut pb::SearchSymbolsRequest| request.exchange = Some("cme".to_owned());
    assert_eq!(names(&search(&mut app, "e", on_cme).await.unwrap()), ["CME:ES"]);
    for kind in ["stock", "Stocks"] {
        let stocks =
            |request: &mut pb::SearchSymbolsRequest| request.r#type = Some(kind.to_owned());
        let found = search(&mut app, "m", stocks).await.unwrap();
        assert!(found.iter().all(|found| found.asset_type == "stock") && !found.is_empty());
    }
    assert!(search(&mut app, "no such thing", |_| {}).await.unwrap().is_empty());

    let before = simulator.stats().await["searches"].clone();
    search(&mut app, "bitcoin", |_| {}).await.unwrap();
    assert_eq!(simulator.stats().await["searches"], before, "it is remembered");
}

#[tokio::test]
async fn more_than_a_page_of_symbols_is_found() {
    let folder = TempDir::new().unwrap();
    for number in 0..120 {
        let csv = "time,open,high,low,close,volume\n2020-01-02,1,1,1,1,1\n";
        std::fs::write(folder.path().join(format!("BULK_B{number:03}_1d.csv")), csv).unwrap();
    }
    let simulator = TestSimulator::start(folder.path()).await;
    let mut app = TestApp::start(&simulator).await;
    for (limit, count) in [(None, 50), (Some(1), 1), (Some(70), 70), (Some(500), 120)] {
        let limited = |request: &mut pb::SearchSymbolsRequest| request.limit = limit;
        let found = search(&mut app, "B", limited).await.unwrap();
        let mut distinct = names(&found);
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!((found.len(), distinct.len()), (count, count));
    }
}

#[tokio::test]
async fn a_directory_that_fails_is_told_by_its_reason() {
    let simulator = TestSimulator::start(demo_data()).await;
    let quick = [("HISTORY_TIMEOUT", "1s")];
    let mut app = TestApp::on(Engine::Embedded, &simulator, &quick).await;
    for (kind, arg, code, said) in [
        ("http-status", Some("403"), Code::Unavailable, "PROVIDER_UNAVAILABLE"),
        ("http-status", Some("429"), Code::ResourceExhausted, "PROVIDER_RATE_LIMITED"),
        ("http-html", None, Code::Unavailable, "PROVIDER_UNAVAILABLE"),
        ("http-huge", None, Code::Unavailable, "PROVIDER_UNAVAILABLE"),
        ("http-status", Some("500"), Code::Unavailable, "PROVIDER_UNAVAILABLE"),
        ("http-hang", None, Code::Unavailable, "PROVIDER_TIMEOUT"),
    ] {
        simulator.fault(kind, arg, None, true).await;
        let status = search(&mut app, "ibm", |_| {}).await.unwrap_err();
        assert_eq!(reason(&status), (code, said.to_owned()), "{kind} {arg:?}: {status:?}");
        assert!(retry_delay(&status).is_some());
        if code == Code::Unavailable {
            assert_eq!(fact(&status, "phase").unwrap(), "search");
        } else {
            assert_eq!(retry_delay(&status), Some(Duration::from_mins(1)));
        }
        simulator.fault(kind, arg, None, false).await;
    }
    assert_eq!(names(&search(&mut app, "ibm", |_| {}).await.unwrap()), [IBM]);
}

#[tokio::test]
async fn a_directory_that_keeps_failing_is_left_alone() {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = TestApp::start(&simulator).await;
    simulator.fault("http-status", Some("500"), None, true).await;
    for _ in 0..2 {
        assert!(search(&mut app, "ibm", |_| {}).await.is_err());
    }
    simulator.fault("http-status", Some("500"), None, false).await;
    let status = search(&mut app, "ibm", |_| {}).await.unwrap_err();
    assert!(status.message().contains("left alone"), "{status:?}");
    assert!(retry_delay(&status) > Some(Duration::from_secs(5)));
    assert_eq!(simulator.stats().await["searches"], 0);
}

#[tokio::test]
async fn every_violation_is_told_at_once() {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = TestApp::start(&simulator).await;
    let fields = |status: &Status| -> Vec<String> {
        assert_eq!(reason(status).1, "INVALID_FIELDS");
        let violations = status.get_details_bad_request().unwrap().field_violations;
        violations.into_iter().map(|violation| violation.field).collect()
    };
    let wrong = |request: &mut pb::SearchSymbolsRequest| {
        request.exchange = Some("NO PE".to_owned());
        request.r#type = Some("shares".to_owned());
        request.limit = Some(0);
    };
    let status = search(&mut app, "  ", wrong).await.unwrap_err();
    assert_eq!(fields(&status), ["query", "exchange", "type", "limit"]);
    for (query, limit) in [("x".repeat(101), 1), ("a\nb".to_owned(), 1), ("a".to_owned(), 501)] {
        let limited = |request: &mut pb::SearchSymbolsRequest| request.limit = Some(limit);
        let status = search(&mut app, &query, limited).await.unwrap_err();
        assert_eq!(fields(&status).len(), 1, "{query} {limit}");
    }
    let wrong = |request: &mut pb::UpdateSymbolRequest| {
        request.name = Some("x".repeat(101));
        request.description = Some("a\nb".to_owned());
        request.asset_type = Some("x".repeat(51));
    };
    let status = update(&mut app, "no colon", wrong).await.unwrap_err();
    assert_eq!(fields(&status), ["symbol", "name", "description", "asset_type"]);
    assert_eq!(fields(&delete(&mut app, "", true).await.unwrap_err()), ["symbol"]);
    for status in [
        update(&mut app, IBM, |request| request.active = Some(true)).await.unwrap_err(),
        delete(&mut app, IBM, false).await.unwrap_err(),
        delete(&mut app, IBM, true).await.unwrap_err(),
    ] {
        assert_eq!(reason(&status), (Code::NotFound, "SYMBOL_UNKNOWN".to_owned()));
        assert_eq!(status.get_details_resource_info().unwrap().resource_name, IBM);
    }
}

#[tokio::test]
async fn a_symbol_that_does_not_exist_comes_with_suggestions() {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = TestApp::start(&simulator).await;
    let status = app.sync("NASDAQ:IBM", Interval1d, 5).await.unwrap_err();
    assert_eq!(reason(&status), (Code::NotFound, "SYMBOL_NOT_FOUND".to_owned()));
    assert_eq!(fact(&status, "suggestions").as_deref(), Some(IBM));
    simulator.fault("http-status", Some("403"), None, true).await;
    let status = app.sync("NASDAQ:BTCUSDT", Interval1d, 5).await.unwrap_err();
    assert_eq!(reason(&status).1, "SYMBOL_NOT_FOUND");
    assert_eq!(fact(&status, "suggestions"), None);
}

/// The provider as it describes IBM anew.
async fn another_provider(folder: &TempDir) -> TestSimulator {
    for entry in std::fs::read_dir(demo_data()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let target = folder.path().join(name);
        if name == "symbols.json" {
            let symbols = std::fs::read_to_string(&path).unwrap();
            let ibm = r#""description": "International Business Machines (国際商業機械)", "type": "stock", "currency": "USD", "calendar": "nyse", "price_scale": 10000"#;
            let anew = r#""description": "IBM anew", "type": "dr", "currency": "EUR", "calendar": "always", "price_scale": 1000"#;
            assert!(symbols.contains(ibm));
            std::fs::write(target, symbols.replace(ibm, anew)).unwrap();
        } else if path.is_file() {
            std::fs::copy(&path, target).unwrap();
        }
    }
    TestSimulator::start(folder.path()).await
}

async fn what_the_provider_says_anew_stands_behind_what_a_person_set(engine: Engine) {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = TestApp::on(engine, &simulator, &[]).await;
    app.sync(IBM, Interval1d, 5).await.unwrap();
    let first = get(&mut app, IBM).await.unwrap();
    assert_eq!((first.currency.as_str(), first.custom_fields.len()), ("USD", 0));
    let mine = |request: &mut pb::UpdateSymbolRequest| {
        request.name = Some(" Big Blue ".to_owned());
        request.asset_type = Some("share".to_owned());
        request.active = Some(false);
    };
    let changed = update(&mut app, IBM, mine).await.unwrap();
    let expected = pb::SymbolInfo {
        name: "Big Blue".to_owned(),
        asset_type: "share".to_owned(),
        active: false,
        custom_fields: vec!["name".to_owned(), "asset_type".to_owned()],
        update_time: changed.update_time,
        ..first.clone()
    };
    assert_eq!(changed, expected);
    // What changes nothing is no change.
    let same =
        update(&mut app, IBM, |request| request.name = Some("Big Blue".to_owned())).await.unwrap();
    assert_eq!(same, expected);

    let folder = TempDir::new().unwrap();
    let anew = another_provider(&folder).await;
    let mut app = app.restarted(&anew).await;
    assert_eq!(get(&mut app, IBM).await.unwrap(), expected);
    app.sync(IBM, Interval1d, 5).await.unwrap();
    let info = get(&mut app, IBM).await.unwrap();
    let of_the_provider = (info.description.as_str(), info.currency.as_str(), info.price_scale);
    assert_eq!(of_the_provider, ("IBM anew", "EUR", Some(1_000)));
    assert_eq!((info.session.as_str(), info.timezone.as_str()), ("24x7", "Etc/UTC"));
    let of_a_person = (info.name.as_str(), info.asset_type.as_str(), info.active);
    assert_eq!(of_a_person, ("Big Blue", "share", false));
    assert_eq!(info.create_time, first.create_time);

    let taken_back =
        |request: &mut pb::UpdateSymbolRequest| request.asset_type = Some(String::new());
    let info = update(&mut app, IBM, taken_back).await.unwrap();
    assert_eq!((info.asset_type.as_str(), info.custom_fields.len()), ("dr", 1));
}

async fn bars(app: &mut TestApp, symbol: &str) -> Vec<pb::Bar> {
    app.bars(symbol, Interval1d, |_| {}).await.unwrap().bars
}

async fn a_deleted_symbols_bars_stay_and_end_when_they_did(engine: Engine) {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = TestApp::on(engine, &simulator, &[("FEED_AUTOSTART", "false")]).await;
    app.sync(IBM, Interval1d, 20).await.unwrap();
    update(&mut app, IBM, |request| request.name = Some("mine".to_owned())).await.unwrap();
    let mut quotes = QuoteStreamClient::new(app.channel.clone());
    quotes.subscribe(pb::SubscribeRequest { symbol: IBM.to_owned() }).await.unwrap();
    let before = bars(&mut app, IBM).await;

    delete(&mut app, IBM, false).await.unwrap();
    assert_eq!(reason(&get(&mut app, IBM).await.unwrap_err()).1, "SYMBOL_UNKNOWN");
    assert_eq!(reason(&delete(&mut app, IBM, false).await.unwrap_err()).1, "SYMBOL_UNKNOWN");
    let listed = app.market_data.list_symbols(pb::ListSymbolsRequest::default()).await.unwrap();
    assert!(listed.into_inner().symbols.is_empty());
    let list = pb::ListSubscriptionsRequest {};
    assert!(quotes.list_subscriptions(list).await.unwrap().into_inner().subscriptions.is_empty());
    // Else a scheduled sync would bring it back.
    assert_eq!(reason(&app.status(IBM, Interval1d).await.unwrap_err()).1, "NOT_SYNCED");
    // Sessions are forgotten with the process: these are from the database.
    let mut app = app.restarted(&simulator).await;
    assert_eq!(bars(&mut app, IBM).await, before);

    app.sync(IBM, Interval1d, 20).await.unwrap();
    let info = get(&mut app, IBM).await.unwrap();
    assert_eq!((info.name.as_str(), info.custom_fields.len()), ("IBM", 0));
    assert_eq!(bars(&mut app, IBM).await, before);
}

/// A day that the provider has.
fn september() -> pb::GetCoverageRequest {
    let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    pb::GetCoverageRequest {
        symbol: BTC.to_owned(),
        interval: Interval1h.into(),
        start_time: time(1_600_000_000),
        end_time: time(1_600_100_000),
    }
}

async fn deleted_bars_are_gone_and_can_be_fetched_again(engine: Engine) {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = TestApp::on(engine, &simulator, &[]).await;
    let first = app.sync_all(BTC, Interval1h).await.unwrap();
    app.sync(BTC, Interval1d, 20).await.unwrap();
    app.sync(IBM, Interval1d, 20).await.unwrap();
    // What is cached of them goes with them.
    assert!(!bars(&mut app, BTC).await.is_empty());
    let of_ibm = bars(&mut app, IBM).await;

    delete(&mut app, BTC, false).await.unwrap();
    delete(&mut app, BTC, true).await.unwrap();
    for interval in [Interval1h, Interval1d] {
        let status = app.bars(BTC, interval, |_| {}).await.unwrap_err();
        assert_eq!(reason(&status), (Code::NotFound, "NOT_SYNCED".to_owned()));
        let status = app.status(BTC, interval).await.unwrap_err();
        assert_eq!(reason(&status).1, "NOT_SYNCED");
        assert!(app.export(BTC, interval).await.is_empty());
    }
    let status = delete(&mut app, BTC, true).await.unwrap_err();
    assert_eq!(reason(&status).1, "SYMBOL_UNKNOWN");
    assert_eq!(bars(&mut app, IBM).await, of_ibm);
    let status = app.market_data.get_coverage(september()).await.unwrap_err();
    assert_eq!(reason(&status).1, "NOT_SYNCED");

    let again = app.sync_all(BTC, Interval1h).await.unwrap();
    assert_eq!((again.bars_inserted, again.total_bars), (first.bars_inserted, first.total_bars));
    assert!(get(&mut app, BTC).await.is_ok());
}

async fn a_symbol_that_no_sync_ever_found_is_forgotten_when_it_is_deleted(engine: Engine) {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = TestApp::on(engine, &simulator, &[]).await;
    let nope = "NYSE:NOPE";
    for delete_bars in [false, true] {
        app.sync(nope, Interval1d, 5).await.unwrap_err();
        let status = app.status(nope, Interval1d).await.unwrap();
        assert_eq!(status.state(), pb::SyncState::Error);
        // Whoever reads is told why there is nothing.
        let unread = app.bars(nope, Interval1d, |_| {}).await.unwrap_err();
        assert_eq!(reason(&unread).1, "NOT_SYNCED");
        assert!(unread.message().contains(&status.error_message), "{}", unread.message());

        delete(&mut app, nope, delete_bars).await.unwrap();
        assert_eq!(reason(&app.status(nope, Interval1d).await.unwrap_err()).1, "NOT_SYNCED");
        let again = delete(&mut app, nope, delete_bars).await.unwrap_err();
        assert_eq!(reason(&again).1, "SYMBOL_UNKNOWN");
    }
    let never = app.bars(nope, Interval1d, |_| {}).await.unwrap_err();
    assert!(never.message().ends_with("call SyncSymbol for it first"), "{}", never.message());
    app.stop().await;
}

async fn a_sync_waits_for_the_deletion_that_it_came_into(engine: Engine) {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = TestApp::on(engine, &simulator, &[]).await;
    app.sync_all(BTC, Interval1h).await.unwrap();
    let oldest = async |app: &mut TestApp| {
        let page = app.bars(BTC, Interval1h, |request| {
            request.order = pb::BarOrder::OldestFirst.into();
            request.limit = Some(1);
        });
        page.await.ok().and_then(|page| page.bars.first().and_then(|bar| bar.open_time))
    };
    let first = oldest(&mut app).await;
    let mut client = app.market_data.clone();
    let deleting = tokio::spawn(async move {
        let request = pb::DeleteSymbolRequest { symbol: BTC.to_owned(), delete_bars: true };
        client.delete_symbol(request).await
    });
    while oldest(&mut app).await == first {
        tokio::task::yield_now().await;
    }
    let synced = app.sync(BTC, Interval1h, 100).await.unwrap();
    deleting.await.unwrap().unwrap();
    assert_eq!((synced.bars_inserted, synced.total_bars), (100, 100));
    assert_eq!(app.export(BTC, Interval1h).await.len(), 100);
    assert!(app.status(BTC, Interval1h).await.is_ok() && get(&mut app, BTC).await.is_ok());
    let coverage = app.market_data.get_coverage(september()).await.unwrap().into_inner();
    let reasons: Vec<_> = coverage.segments.iter().map(pb::Segment::reason).collect();
    assert_eq!(reasons, [pb::CoverageReason::NotSynced], "nobody has asked since");
}

async fn a_symbol_is_not_deleted_beside_a_sync_of_it(engine: Engine) {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = TestApp::on(engine, &simulator, &[("HISTORY_TIMEOUT", "60s")]).await;
    app.sync(IBM, Interval1d, 20).await.unwrap();
    simulator.fault("silence", None, None, true).await;
    let request = pb::StartSyncRequest {
        symbol: IBM.to_owned(),
        interval: Interval1h.into(),
        bar_count: None,
        full_history: false,
    };
    let sync_id = app.market_data.start_sync(request).await.unwrap().into_inner().sync_id;
    while app.status(IBM, Interval1h).await.is_err() {
        tokio::task::yield_now().await;
    }
    for delete_bars in [false, true] {
        let status = delete(&mut app, IBM, delete_bars).await.unwrap_err();
        assert_eq!(reason(&status), (Code::Aborted, "SYMBOL_BUSY".to_owned()));
        assert!(retry_delay(&status).is_some() && fact(&status, "remedy").is_some());
    }
    assert_eq!(bars(&mut app, IBM).await.len(), 20);
    app.market_data.cancel_sync(pb::CancelSyncRequest { sync_id }).await.unwrap();
    delete(&mut app, IBM, true).await.unwrap();
    assert!(app.status(IBM, Interval1h).await.is_err());
}

async fn commands_under_a_key_are_carried_out_once(engine: Engine) {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = TestApp::on(engine, &simulator, &[]).await;
    app.sync(IBM, Interval1d, 5).await.unwrap();
    let keyed = |key: &str| key.parse::<tonic::metadata::MetadataValue<_>>().unwrap();
    let named = |name: &str| {
        let symbol = IBM.to_owned();
        let mut request = Request::new(pb::UpdateSymbolRequest {
            symbol,
            name: Some(name.to_owned()),
            ..Default::default()
        });
        request.metadata_mut().insert("idempotency-key", keyed("update"));
        request
    };
    let first = app.market_data.update_symbol(named("one")).await.unwrap().into_inner();
    update(&mut app, IBM, |request| request.name = Some("two".to_owned())).await.unwrap();
    let replayed = app.market_data.update_symbol(named("one")).await.unwrap();
    assert_eq!(replayed.metadata().get("idempotency-replayed").unwrap(), "true");
    assert_eq!(replayed.into_inner(), first);
    assert_eq!(get(&mut app, IBM).await.unwrap().name, "two");
    let status = app.market_data.update_symbol(named("three")).await.unwrap_err();
    assert_eq!(reason(&status).1, "IDEMPOTENCY_KEY_REUSED");

    let deletion = || {
        let request = pb::DeleteSymbolRequest { symbol: IBM.to_owned(), delete_bars: true };
        let mut request = Request::new(request);
        request.metadata_mut().insert("idempotency-key", keyed("delete"));
        request
    };
    app.market_data.delete_symbol(deletion()).await.unwrap();
    app.sync(IBM, Interval1d, 5).await.unwrap();
    let replayed = app.market_data.delete_symbol(deletion()).await.unwrap();
    assert_eq!(replayed.metadata().get("idempotency-replayed").unwrap(), "true");
    assert_eq!(bars(&mut app, IBM).await.len(), 5);
}
