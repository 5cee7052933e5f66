//! One socket for many requests.

use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use pocketquant::infrastructure::interfaces::{HistoryDepth, Phase, ProviderError};
use pocketquant::infrastructure::tradingview::TradingViewConfig;
use serde_json::json;

use super::script::{Client, Server, both, completed, frame, loading, rows, update, within};

#[tokio::test]
async fn concurrent_requests_share_one_connection() {
    let server = Server::start().await;
    let client = server.client();
    let symbols = ["NYSE:A", "NYSE:B", "NYSE:C", "NYSE:D"];
    let (pages, ()) = both(join_all(symbols.map(|symbol| client.page(symbol))), async {
        let mut connection = server.greet().await;
        let mut requests = Vec::new();
        for _ in symbols {
            requests.push(connection.request().await);
        }
        // The last one first, and their messages mixed.
        requests.reverse();
        let updates = requests.iter().zip(1..).map(|((session, ..), count)| {
            frame(&loading(session)) + &frame(&update(session, &rows(1_600_000_000, count)))
        });
        let ends = requests.iter().map(|(session, ..)| frame(&completed(session, &json!({}))));
        connection.raw(updates.chain(ends).collect()).await;
        for _ in symbols {
            connection.farewell().await;
        }
    })
    .await;
    let counts: Vec<usize> = pages.into_iter().map(|page| page.unwrap().bars.len()).collect();
    assert_eq!(counts, [4, 3, 2, 1]);
}

#[tokio::test]
async fn heartbeats_are_echoed_byte_for_byte_wherever_they_stand() {
    let server = Server::start().await;
    let client = server.client();
    let (page, ()) = both(client.page("NYSE:IBM"), async {
        let mut connection = server.accept().await;
        connection.raw(format!("{}~m~4~m~~h~1", frame(super::script::HELLO))).await;
        assert_eq!(connection.text().await.unwrap(), "~m~4~m~~h~1");
        connection.expect("set_auth_token").await;
        connection.expect("set_locale").await;
        let (session, ..) = connection.request().await;
        let start = frame(&loading(&session));
        connection.raw(format!("{start}~m~5~m~~h~19{start}~m~6~m~~h~100")).await;
        assert_eq!(connection.text().await.unwrap(), "~m~5~m~~h~19");
        assert_eq!(connection.text().await.unwrap(), "~m~6~m~~h~100");
        connection.bars(&session, &rows(0, 10), &json!({})).await;
    })
    .await;
    assert!(page.is_ok());
}

#[tokio::test]
async fn a_fresh_connection_is_opened_before_the_limit_while_the_old_one_finishes() {
    let server = Server::start().await;
    let client = Client::new(TradingViewConfig { sessions_per_connection: 2, ..server.config() });
    let symbols = ["NYSE:A", "NYSE:B", "NYSE:C"];
    let (pages, ()) = both(join_all(symbols.map(|symbol| client.page(symbol))), async {
        let mut old = server.greet().await;
        let (first, second) = (old.request().await, old.request().await);
        let mut fresh = server.greet().await;
        fresh.serve(10).await;
        old.bars(&first.0, &rows(0, 10), &json!({})).await;
        old.bars(&second.0, &rows(0, 10), &json!({})).await;
        old.farewell().await;
        old.farewell().await;
        old.closed().await;
    })
    .await;
    assert!(pages.iter().all(Result::is_ok), "{pages:?}");
}

#[tokio::test]
async fn an_unused_connection_is_closed_and_opened_again_when_needed() {
    let server = Server::start().await;
    let idle_after = Duration::from_millis(500);
    let client = Client::new(TradingViewConfig { idle_after, ..server.config() });
    for _ in 0..2 {
        let (page, ()) = both(client.page("NYSE:IBM"), async {
            let mut connection = server.greet().await;
            connection.serve(10).await;
            connection.farewell().await;
            connection.closed().await;
        })
        .await;
        assert!(page.is_ok());
    }
}

#[tokio::test]
async fn many_requests_wait_for_one_connection_in_the_making() {
    let server = Server::start().await;
    let client = server.client();
    let symbols: Vec<String> = (0..30).map(|number| format!("NYSE:S{number}")).collect();
    let requests = symbols.iter().map(|symbol| client.page(symbol));
    let (pages, ()) = both(join_all(requests), async {
        let mut connection = server.greet().await;
        let mut sessions = Vec::new();
        for _ in &symbols {
            sessions.push(connection.request().await.0);
        }
        for session in &sessions {
            connection.bars(session, &rows(0, 10), &json!({})).await;
        }
        for _ in &sessions {
            connection.farewell().await;
        }
    })
    .await;
    assert!(pages.iter().all(Result::is_ok));
}

#[tokio::test]
async fn stopping_fails_what_is_under_way_and_ends_all_tasks() {
    let server = Server::start().await;
    let client = server.client();
    let mut pages = client.history("NYSE:IBM", HistoryDepth::Full);
    let (page, mut connection) = both(pages.next(), async {
        let mut connection = server.greet().await;
        connection.request().await;
        client.stopping.cancel();
        connection
    })
    .await;
    assert!(matches!(page, Some(Err(ProviderError::Unavailable { .. }))), "{page:?}");
    within(join_all([async { connection.closed().await }])).await;
    client.tasks.close();
    within(client.tasks.wait()).await;
    let error = client.page("NYSE:IBM").await.unwrap_err();
    assert!(matches!(error, ProviderError::Unavailable { phase: Phase::Connect, .. }), "{error}");
}
