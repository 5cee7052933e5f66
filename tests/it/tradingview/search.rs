//! The symbol directory. It is a mock here: what it is asked, and what it may answer.

use std::time::Duration;

use http::StatusCode;
use pocketquant::infrastructure::interfaces::{
    AssetClass, DirectoryQuery, Phase, ProviderError, SymbolDirectory as _,
};
use pocketquant::infrastructure::tradingview::{TradingView, TradingViewConfig};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wiremock::matchers::{header, header_exists, method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::script::{Client, Server, both, within};

fn directory(site: &MockServer, change: impl FnOnce(&mut TradingViewConfig)) -> TradingView {
    pocketquant::infrastructure::tls::install_crypto_provider();
    let mut config = TradingViewConfig { search_url: site.uri(), ..TradingViewConfig::default() };
    change(&mut config);
    TradingView::new(config, TaskTracker::new(), CancellationToken::new()).unwrap()
}

fn query(text: &str) -> DirectoryQuery {
    DirectoryQuery { text: text.to_owned(), exchange: None, class: None, limit: 50 }
}

fn row(code: &str) -> Value {
    json!({"symbol": code, "description": "", "type": "stock", "exchange": "NYSE"})
}

fn rows(count: usize, from: usize) -> Vec<Value> {
    (from..from + count).map(|number| row(&format!("A{number:03}"))).collect()
}

async fn answers(site: &MockServer, answer: ResponseTemplate) {
    Mock::given(path("/symbol_search/v3/")).respond_with(answer).mount(site).await;
}

async fn count(site: &MockServer) -> usize {
    site.received_requests().await.unwrap().len()
}

#[tokio::test]
async fn the_directory_is_asked_as_the_web_site_asks_it() {
    let site = MockServer::start().await;
    let page = json!({"symbols_remaining": 0, "symbols": [row("IBM")]});
    Mock::given(method("GET"))
        .and(path("/symbol_search/v3/"))
        .and(header("origin", "https://www.tradingview.com"))
        .and(header_exists("user-agent"))
        .and(query_param("text", "ib m&"))
        .and(query_param("hl", "0"))
        .and(query_param("exchange", "NYSE"))
        .and(query_param("lang", "en"))
        .and(query_param("search_type", "stocks"))
        .and(query_param("start", "0"))
        .and(query_param("domain", "production"))
        .and(query_param("sort_by_country", "US"))
        .respond_with(ResponseTemplate::new(200).set_body_json(page))
        .expect(1)
        .mount(&site)
        .await;
    let directory = directory(&site, |_| {});
    let query = DirectoryQuery {
        exchange: Some("NYSE".to_owned()),
        class: Some(AssetClass::Stock),
        ..query("ib m&")
    };
    for _ in 0..2 {
        // The second time it is remembered.
        let found = directory.search(query.clone()).await.unwrap();
        assert_eq!(found[0].symbol.as_str(), "NYSE:IBM");
    }
}

#[tokio::test]
async fn a_whole_symbol_is_asked_for_in_its_parts() {
    let site = MockServer::start().await;
    let page = json!({"symbols_remaining": 0, "symbols": [row("IBM")]});
    Mock::given(query_param("text", "IBM"))
        .and(query_param("exchange", "NYSE"))
        .respond_with(ResponseTemplate::new(200).set_body_json(page))
        .mount(&site)
        .await;
    assert_eq!(directory(&site, |_| {}).search(query("NYSE:IBM")).await.unwrap().len(), 1);
}

#[tokio::test]
async fn pages_are_turned_until_there_is_enough() {
    let site = MockServer::start().await;
    for (start, count, remaining) in [(0, 50, 70), (50, 50, 20), (100, 20, 0)] {
        let page = json!({"symbols_remaining": remaining, "symbols": rows(count, start)});
        Mock::given(query_param("start", start.to_string()))
            .respond_with(ResponseTemplate::new(200).set_body_json(page))
            .mount(&site)
            .await;
    }
    for (limit, found, asked) in [(10, 10, 1), (60, 60, 2), (500, 120, 3)] {
        let before = count(&site).await;
        let query = DirectoryQuery { limit, ..query("A") };
        assert_eq!(directory(&site, |_| {}).search(query).await.unwrap().len(), found);
        assert_eq!(count(&site).await - before, asked);
    }
}

#[tokio::test]
async fn a_directory_that_repeats_itself_is_not_asked_for_ever() {
    let site = MockServer::start().await;
    let page = json!({"symbols_remaining": 1_000_000, "symbols": rows(50, 0)});
    answers(&site, ResponseTemplate::new(200).set_body_json(page)).await;
    let found = directory(&site, |_| {}).search(DirectoryQuery { limit: 500, ..query("A") }).await;
    assert_eq!(found.unwrap().len(), 50);
    assert_eq!(count(&site).await, 20);
}

#[tokio::test]
async fn equal_questions_at_one_time_are_one() {
    let site = MockServer::start().await;
    let page = json!({"symbols_remaining": 0, "symbols": [row("IBM")]});
    let slowly = ResponseTemplate::new(200).set_body_json(page);
    answers(&site, slowly.set_delay(Duration::from_millis(50))).await;
    let directory = directory(&site, |_| {});
    let (one, other) = tokio::join!(directory.search(query("IBM")), directory.search(query("IBM")));
    assert_eq!(one.unwrap(), other.unwrap());
    assert_eq!(count(&site).await, 1);
}

#[tokio::test]
async fn trouble_that_passes_is_not_seen() {
    let site = MockServer::start().await;
    let broken = ResponseTemplate::new(500);
    Mock::given(method("GET")).respond_with(broken).up_to_n_times(1).mount(&site).await;
    let slow = ResponseTemplate::new(429).insert_header("retry-after", "0");
    Mock::given(method("GET")).respond_with(slow).up_to_n_times(1).mount(&site).await;
    answers(&site, ResponseTemplate::new(200).set_body_json(json!({"symbols": [row("IBM")]})))
        .await;
    assert_eq!(directory(&site, |_| {}).search(query("IBM")).await.unwrap().len(), 1);
    assert_eq!(count(&site).await, 3);
}

#[tokio::test]
async fn each_failure_has_its_reason() {
    let html = ResponseTemplate::new(200).set_body_string("<html>a captcha</html>");
    let huge = ResponseTemplate::new(200).set_body_bytes(vec![b' '; 9 << 20]);
    for (answer, text) in [
        (ResponseTemplate::new(403), "403"),
        (ResponseTemplate::new(500), "500"),
        (html, "not JSON"),
        (huge, "longer than"),
        (ResponseTemplate::new(200).set_body_json(json!([])), "not a page"),
        (ResponseTemplate::new(302).insert_header("location", "/"), "302"),
    ] {
        let site = MockServer::start().await;
        answers(&site, answer).await;
        let error = directory(&site, |_| {}).search(query("IBM")).await.unwrap_err();
        let ProviderError::Unavailable { phase: Phase::Search, detail, .. } = &error else {
            panic!("{error:?}")
        };
        assert!(detail.contains(text), "{detail}");
    }
}

#[tokio::test]
async fn a_directory_that_wants_rest_says_how_long() {
    let site = MockServer::start().await;
    let status = StatusCode::TOO_MANY_REQUESTS.as_u16();
    answers(&site, ResponseTemplate::new(status).insert_header("retry-after", "120")).await;
    let error = directory(&site, |_| {}).search(query("IBM")).await.unwrap_err();
    let ProviderError::RateLimited { retry_after, .. } = error else { panic!("{error:?}") };
    assert_eq!((retry_after, count(&site).await), (Duration::from_mins(2), 1));
}

#[tokio::test]
async fn a_silent_directory_is_not_waited_for() {
    let site = MockServer::start().await;
    answers(&site, ResponseTemplate::new(200).set_delay(Duration::from_hours(1))).await;
    let quick = |config: &mut TradingViewConfig| config.http_timeout = Duration::from_millis(100);
    let error = directory(&site, quick).search(query("IBM")).await.unwrap_err();
    assert!(matches!(error, ProviderError::Timeout { phase: Phase::Search, .. }), "{error:?}");
}

#[tokio::test]
async fn a_failure_is_not_remembered() {
    let site = MockServer::start().await;
    Mock::given(method("GET"))
        .respond_with(ResponseTemplate::new(403))
        .up_to_n_times(1)
        .mount(&site)
        .await;
    answers(&site, ResponseTemplate::new(200).set_body_json(json!({"symbols": [row("IBM")]})))
        .await;
    let directory = directory(&site, |_| {});
    assert!(directory.search(query("IBM")).await.is_err());
    assert!(directory.search(query("IBM")).await.is_ok());
}

#[tokio::test]
async fn a_symbol_that_does_not_exist_comes_with_those_that_may_be_meant() {
    let (server, site) = (Server::start().await, MockServer::start().await);
    let page = json!({"symbols": [
        row("NOPE"), {"symbol": "NOPE", "exchange": "NASDAQ"}, {"symbol": "NOPE2", "exchange": "TSX"},
    ]});
    Mock::given(query_param("text", "NOPE"))
        .respond_with(ResponseTemplate::new(200).set_body_json(page))
        .mount(&site)
        .await;
    let suggestions = async |search_url: String| {
        let config = TradingViewConfig { search_url, ..server.config() };
        let client = Client::new(config);
        let (page, ()) = both(client.page("NYSE:NOPE"), async {
            let mut connection = server.greet().await;
            let (session, ..) = connection.request().await;
            let error = json!({"m": "symbol_error", "p": [session, "sds_sym_1", "invalid symbol"]});
            connection.say(&error.to_string()).await;
        })
        .await;
        let error = page.unwrap_err();
        let ProviderError::SymbolNotFound { suggestions, .. } = error else { panic!("{error:?}") };
        suggestions
    };
    assert_eq!(within(Box::pin(suggestions(site.uri()))).await, ["NASDAQ:NOPE", "TSX:NOPE2"]);
    // Nobody is there: what was asked for is answered all the same.
    assert!(within(Box::pin(suggestions("http://127.0.0.1:9".to_owned()))).await.is_empty());
}
