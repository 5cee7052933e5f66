//! What the feed makes of what the server says of symbols.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join;
use pocketquant::domain::quote::{Field, QuoteUpdate, SessionState};
use pocketquant::infrastructure::interfaces::{FeedEvent, ProviderError, UpdateKind};
use pocketquant::infrastructure::tradingview::{FeedConfig, TradingViewConfig};
use serde_json::json;

use super::quote_script::{Feed, SHORT, completed, hasty, names_in, opened, qsd, refusal, symbol};
use super::script::{Server, frame, within};

#[tokio::test]
async fn a_snapshot_may_come_in_parts_and_what_follows_are_changes() {
    let server = Server::start().await;
    let (mut feed, mut connection, session) = Feed::connected(&server, &["NASDAQ:AAPL"]).await;
    let naming = json!({"update_mode": "delayed_streaming_900", "current_session": "market",
        "pro_name": "NASDAQ:AAPL", "typespecs": ["common"], "bid": null, "ask": 1e100});
    let trade = json!({"lp": 180.96, "lp_time": 1_686_355_199, "volume": 48_899_973, "ch": 0.39,
        "chp": 0.22, "open_price": 180, "high_price": 181, "low_price": 179.5,
        "prev_close_price": 180.57});
    // All in one message of the socket.
    let parts = [
        qsd(&session, "NASDAQ:AAPL", &naming),
        qsd(&session, "NASDAQ:AAPL", &trade),
        completed(&session, "NASDAQ:AAPL"),
        qsd(&session, "NASDAQ:AAPL", &json!({"bid": 180.9})),
        qsd(&session, "NASDAQ:AAPL", &json!({"bid": null, "volume": 1e100})),
        qsd(&session, "NASDAQ:AAPL", &json!({"rtc": 104.55, "rtc_time": 1_778_278_370})),
        qsd(&session, "NASDAQ:AAPL", &json!({"current_session": "post_market"})),
    ];
    connection.raw(parts.iter().map(|part| frame(part)).collect()).await;

    let (update, kind) = feed.update("NASDAQ:AAPL").await;
    let expected = QuoteUpdate {
        bid: Field::Unset,
        ask: Field::Unset,
        session: Field::Set(SessionState::InSession),
        delay: Field::Set(Duration::from_mins(15)),
        ..QuoteUpdate::default()
    };
    assert_eq!((update, kind), (expected, UpdateKind::Snapshot));
    let (update, kind) = feed.update("NASDAQ:AAPL").await;
    let expected = QuoteUpdate {
        last_price: Field::Set(180.96),
        last_time: Field::Set("2023-06-09T23:59:59Z".parse().unwrap()),
        volume: Field::Set(48_899_973.0),
        change: Field::Set(0.39),
        change_percent: Field::Set(0.22),
        open_price: Field::Set(180.0),
        high_price: Field::Set(181.0),
        low_price: Field::Set(179.5),
        prev_close: Field::Set(180.57),
        ..QuoteUpdate::default()
    };
    assert_eq!((update, kind), (expected, UpdateKind::Snapshot));
    feed.complete("NASDAQ:AAPL").await;
    for expected in [
        QuoteUpdate { bid: Field::Set(180.9), ..QuoteUpdate::default() },
        QuoteUpdate { bid: Field::Unset, volume: Field::Unset, ..QuoteUpdate::default() },
        // What concerns nothing of ours in between is passed over.
        QuoteUpdate { session: Field::Set(SessionState::OutOfSession), ..QuoteUpdate::default() },
    ] {
        assert_eq!(feed.update("NASDAQ:AAPL").await, (expected, UpdateKind::Change));
    }
}

#[tokio::test]
async fn a_snapshot_whose_end_is_never_told_ends_by_itself() {
    let server = Server::start().await;
    let config = hasty(&server);
    let patient = FeedConfig { snapshot_timeout: SHORT * 5, ..config.feed.clone() };
    let mut feed = Feed::of(TradingViewConfig { feed: patient, ..config }, &["NYSE:IBM"]).await;
    feed.connecting().await;
    let mut connection = server.greet().await;
    let session = opened(&mut connection).await;
    connection.expect("quote_add_symbols").await;
    connection.say(&qsd(&session, "NYSE:IBM", &json!({"lp": 1}))).await;
    feed.is_connected().await;
    assert_eq!(feed.update("NYSE:IBM").await.1, UpdateKind::Snapshot);
    feed.complete("NYSE:IBM").await;
    connection.say(&qsd(&session, "NYSE:IBM", &json!({"lp": 2}))).await;
    assert_eq!(feed.update("NYSE:IBM").await.1, UpdateKind::Change);
}

#[tokio::test]
async fn symbols_that_are_refused_do_not_stop_the_others() {
    let server = Server::start().await;
    let names = ["ECONOMICS:X", "NASDAQ:NOPE", "NYSE:IBM"];
    let (mut feed, mut connection, session) = Feed::connected(&server, &names).await;
    let nope = refusal(&session, "NASDAQ:NOPE", "error", "no_such_symbol", &json!({}));
    let alternative = json!({"alternative": "economics_paid"});
    let denied =
        refusal(&session, "ECONOMICS:X", "permission_denied", "Permission denied", &alternative);
    for text in [&nope, &completed(&session, "NASDAQ:NOPE"), &denied, &nope] {
        connection.say(text).await;
    }
    connection.say(&completed(&session, "ECONOMICS:X")).await;
    connection.say(&qsd(&session, "NYSE:IBM", &json!({"lp": 1}))).await;

    let error = feed.refused("NASDAQ:NOPE").await;
    assert!(
        matches!(&error, ProviderError::SymbolNotFound { symbol: of, .. } if *of == symbol("NASDAQ:NOPE")),
        "{error:?}"
    );
    assert!(matches!(feed.next().await, FeedEvent::Alive), "a refusal has no snapshot");
    let error = feed.refused("ECONOMICS:X").await;
    let ProviderError::NotEntitled { group, .. } = error else { panic!("{error:?}") };
    assert_eq!(group.as_deref(), Some("economics_paid"));
    assert!(matches!(feed.next().await, FeedEvent::Alive), "a refusal is told once");
    assert!(matches!(feed.next().await, FeedEvent::Alive));
    assert_eq!(feed.update("NYSE:IBM").await.1, UpdateKind::Snapshot);
}

#[tokio::test]
async fn symbols_come_and_go_while_it_runs() {
    let server = Server::start().await;
    let (mut feed, mut connection, session) = Feed::connected(&server, &["NYSE:IBM"]).await;
    feed.add("NYSE:A").await;
    let added = connection.expect("quote_add_symbols").await;
    assert_eq!(names_in(&added, &session), ["NYSE:A"]);
    feed.remove("NYSE:IBM").await;
    let removed = connection.expect("quote_remove_symbols").await;
    assert_eq!(names_in(&removed, &session), ["NYSE:IBM"]);
    // Some were on their way; of another session is nothing.
    connection.say(&qsd(&session, "NYSE:IBM", &json!({"lp": 1}))).await;
    connection.say(&qsd("qs_other", "NYSE:A", &json!({"lp": 1}))).await;
    assert!(matches!(feed.next().await, FeedEvent::Alive));
    assert!(matches!(feed.next().await, FeedEvent::Alive));
    connection.say(&qsd(&session, "NYSE:A", &json!({"lp": 2}))).await;
    connection.say(&completed(&session, "NYSE:A")).await;
    assert_eq!(feed.update("NYSE:A").await.1, UpdateKind::Snapshot);
    feed.complete("NYSE:A").await;
    // Removed and added again, it begins anew.
    feed.remove("NYSE:A").await;
    feed.add("NYSE:B").await;
    feed.add("NYSE:A").await;
    let mut again = Vec::new();
    while again.len() < 2 {
        let (method, params) = connection.command().await;
        if method == "quote_add_symbols" {
            again.extend(names_in(&params, &session));
        } else {
            assert_eq!(method, "quote_remove_symbols");
            assert_eq!(names_in(&params, &session), ["NYSE:A"]);
        }
    }
    connection.say(&qsd(&session, "NYSE:A", &json!({"lp": 3}))).await;
    assert_eq!(feed.update("NYSE:A").await.1, UpdateKind::Snapshot);
}

#[tokio::test]
async fn many_symbols_are_added_fifty_at_a_time_each_once() {
    let server = Server::start().await;
    let names: Vec<String> = (100..220).map(|number| format!("NYSE:S{number}")).collect();
    let mut feed = Feed::of(hasty(&server), &[]).await;
    feed.is_idle().await;
    for name in names.iter().chain(&names) {
        feed.add(name).await;
    }
    feed.remove("NYSE:S100").await;
    let mut connection = server.greet().await;
    let session = opened(&mut connection).await;
    let mut added = Vec::new();
    let mut sizes = Vec::new();
    while added.len() < 119 {
        let chunk = names_in(&connection.expect("quote_add_symbols").await, &session);
        sizes.push(chunk.len());
        added.extend(chunk);
    }
    assert!(sizes.iter().all(|size| *size <= 50), "{sizes:?}");
    added.sort();
    assert_eq!(added, names[1..]);
}

#[tokio::test]
async fn heartbeats_are_echoed_byte_for_byte_and_show_that_it_lives() {
    let server = Server::start().await;
    let (mut feed, mut connection, session) = Feed::connected(&server, &["NYSE:IBM"]).await;
    let quote = frame(&qsd(&session, "NYSE:IBM", &json!({"lp": 1})));
    connection.raw(format!("{quote}~m~5~m~~h~19{quote}~m~6~m~~h~100")).await;
    assert_eq!(connection.text().await.unwrap(), "~m~5~m~~h~19");
    assert_eq!(connection.text().await.unwrap(), "~m~6~m~~h~100");
    feed.update("NYSE:IBM").await;
    feed.update("NYSE:IBM").await;
    connection.raw("~m~6~m~~h~101".to_owned()).await;
    assert!(matches!(feed.next().await, FeedEvent::Alive));
}

#[tokio::test]
async fn messages_of_another_shape_are_passed_over() {
    let server = Server::start().await;
    let (mut feed, mut connection, session) = Feed::connected(&server, &["NYSE:IBM"]).await;
    for odd in [
        json!({"m": "qsd", "p": [session]}),
        json!({"m": "qsd", "p": {}}),
        json!({"m": "qsd", "p": [session, {"n": 5}]}),
        json!({"m": "qsd"}),
        json!({"m": "quote_completed", "p": []}),
        json!({"m": "surprise", "p": [1]}),
        json!([1, 2]),
    ] {
        connection.say(&odd.to_string()).await;
        assert!(matches!(feed.next().await, FeedEvent::Alive), "{odd}");
    }
    let odd = json!({"lp": "1", "volume": [3], "bid": {"a": 1}, "ask": 2, "lp_time": 1e300});
    connection.say(&qsd(&session, "NYSE:IBM", &odd)).await;
    let expected = QuoteUpdate {
        last_price: Field::Unset,
        last_time: Field::Unset,
        volume: Field::Unset,
        bid: Field::Unset,
        ask: Field::Set(2.0),
        ..QuoteUpdate::default()
    };
    assert_eq!(feed.update("NYSE:IBM").await.0, expected);
}

#[tokio::test]
async fn a_slow_consumer_slows_the_reading_and_loses_nothing() {
    const MESSAGES: u32 = 20_000;
    let server = Server::start().await;
    let (mut feed, mut connection, session) = Feed::connected(&server, &["NYSE:IBM"]).await;
    connection.say(&completed(&session, "NYSE:IBM")).await;
    feed.complete("NYSE:IBM").await;
    let sent = AtomicU32::new(0);
    let padding = "x".repeat(2_000);
    let sending = async {
        for number in 1..=MESSAGES {
            let values = json!({"volume": number, "padding": padding});
            connection.say(&qsd(&session, "NYSE:IBM", &values)).await;
            sent.store(number, Ordering::Relaxed);
        }
        connection
    };
    let taking = async {
        // Until the server gets rid of nothing more.
        let mut before = 0;
        loop {
            tokio::time::sleep(SHORT).await;
            let now = sent.load(Ordering::Relaxed);
            if now == before {
                break;
            }
            before = now;
        }
        assert!((1..MESSAGES).contains(&before), "{before} were taken without a reader");
        // It can be told something all the same, more than waits in the queue of commands.
        for number in 0..200 {
            feed.add(&format!("NYSE:S{number}")).await;
        }
        for number in 1..=MESSAGES {
            let expected =
                QuoteUpdate { volume: Field::Set(f64::from(number)), ..QuoteUpdate::default() };
            assert_eq!(feed.update("NYSE:IBM").await.0, expected);
        }
        feed
    };
    let (mut connection, feed) = Box::pin(within(join(sending, taking))).await;
    connection.expect("quote_add_symbols").await;
    drop(feed.events);
    connection.closed().await;
}

#[tokio::test]
async fn what_one_message_says_is_there_at_once() {
    let server = Server::start().await;
    let (feed, mut connection, session) = Feed::connected(&server, &["NYSE:IBM"]).await;
    let text: String =
        (0..300).map(|lp| frame(&qsd(&session, "NYSE:IBM", &json!({"lp": lp})))).collect();
    connection.raw(text).await;
    let batch = within(feed.events.ready_chunks(1_000).next()).await.unwrap();
    assert_eq!(batch.len(), 300);
}
