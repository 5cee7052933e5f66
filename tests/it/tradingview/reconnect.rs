//! How the feed stays up, and when it ends.

use std::time::Duration;

use pocketquant::infrastructure::interfaces::{
    FeedEvent, FeedState, Phase, ProviderError, UpdateKind,
};
use pocketquant::infrastructure::tradingview::{Credentials, FeedConfig, TradingViewConfig};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};
use wiremock::matchers::path;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::quote_script::{Feed, SHORT, completed, hasty, names_in, opened, qsd};
use super::script::{HELLO, Server, frame, within};

/// Answers the opening request with `response` instead of a WebSocket.
async fn refuse(server: &Server, response: &str) {
    let (mut stream, _) = within(server.listener.accept()).await.unwrap();
    let mut request = [0; 4_096];
    assert!(stream.read(&mut request).await.unwrap() > 0);
    stream.write_all(response.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn after_a_cut_everything_is_followed_again_from_new_snapshots() {
    let server = Server::start().await;
    let names = ["NYSE:A", "NYSE:B", "NYSE:C"];
    let (mut feed, mut connection, first) = Feed::connected(&server, &names).await;
    connection.say(&completed(&first, "NYSE:A")).await;
    feed.complete("NYSE:A").await;
    connection.say(&qsd(&first, "NYSE:A", &json!({"lp": 1}))).await;
    drop(connection);
    assert_eq!(feed.update("NYSE:A").await.1, UpdateKind::Change, "what came before is told");
    let (error, attempt, retry_in) = feed.reconnecting().await;
    assert!(matches!(error, ProviderError::Unavailable { phase: Phase::Quotes, .. }), "{error:?}");
    assert_eq!(attempt, 1);
    assert!(retry_in <= Duration::from_millis(20), "{retry_in:?}");
    // What changes meanwhile counts, too.
    feed.remove("NYSE:B").await;
    feed.add("NYSE:D").await;

    let mut connection = server.greet().await;
    let second = opened(&mut connection).await;
    assert_ne!(second, first, "nothing survives on the server");
    let mut followed = Vec::new();
    loop {
        let (method, params) = connection.command().await;
        let names = names_in(&params, &second);
        match method.as_str() {
            "quote_add_symbols" => followed.extend(names),
            _ => followed.retain(|name| !names.contains(name)),
        }
        if followed == ["NYSE:A", "NYSE:C", "NYSE:D"] {
            break;
        }
    }
    connection.say(&qsd(&second, "NYSE:A", &json!({"lp": 2}))).await;
    feed.is_connected().await;
    assert_eq!(feed.update("NYSE:A").await.1, UpdateKind::Snapshot);
    connection.say(&completed(&second, "NYSE:A")).await;
    feed.complete("NYSE:A").await;
}

#[tokio::test]
async fn a_refused_token_ends_the_feed_and_nothing_is_tried_again() {
    let server = Server::start().await;
    let credentials = Credentials::Token("secret-of-mine".into());
    let mut feed =
        Feed::of(TradingViewConfig { credentials, ..hasty(&server) }, &["NYSE:IBM"]).await;
    feed.connecting().await;
    let mut connection = server.accept().await;
    connection.say(HELLO).await;
    assert_eq!(connection.expect("set_auth_token").await, json!(["secret-of-mine"]));
    connection.raw(r#"~m~45~m~{"m":"protocol_error","p":["bad auth token"]}"#.to_owned()).await;
    connection.closed().await;
    // It was never connected, as far as we know.
    let state = feed.state().await;
    assert!(!format!("{state:?}").contains("secret-of-mine"));
    let FeedState::Terminal { error: ProviderError::AuthRequired { remedy, .. } } = state else {
        panic!("{state:?}")
    };
    assert!(remedy.contains("TRADINGVIEW_AUTH_TOKEN"), "{remedy}");
    feed.ended().await;
    let again = timeout(SHORT, server.listener.accept()).await;
    assert!(again.is_err(), "it connected again");
}

#[tokio::test]
async fn a_403_is_tried_again_with_growing_pauses() {
    let server = Server::start().await;
    let config = hasty(&server);
    let quick = FeedConfig { stable_after: Duration::ZERO, ..config.feed.clone() };
    let mut feed = Feed::of(TradingViewConfig { feed: quick, ..config }, &["NYSE:IBM"]).await;
    feed.connecting().await;
    for (number, longest) in [(1, 20), (2, 40), (3, 80), (4, 80)] {
        refuse(&server, "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await;
        let (error, attempt, retry_in) = feed.reconnecting().await;
        let handshake = matches!(error, ProviderError::Unavailable { phase: Phase::Handshake, .. });
        assert!(handshake && error.to_string().contains("403"), "{error:?}");
        assert_eq!(attempt, number);
        let longest = Duration::from_millis(longest);
        assert!(retry_in > longest / 2 && retry_in <= longest, "{retry_in:?}");
    }
    let mut connection = server.greet().await;
    let session = opened(&mut connection).await;
    connection.expect("quote_add_symbols").await;
    connection.say(&completed(&session, "NYSE:IBM")).await;
    feed.is_connected().await;
    feed.complete("NYSE:IBM").await;
    drop(connection);
    assert_eq!(feed.reconnecting().await.1, 1, "it held, so the pauses begin anew");
}

#[tokio::test]
async fn a_connection_that_does_not_hold_is_no_reason_to_hurry() {
    let server = Server::start().await;
    let mut feed = Feed::of(hasty(&server), &["NYSE:IBM"]).await;
    feed.connecting().await;
    for number in 1..4 {
        let mut connection = server.greet().await;
        let session = opened(&mut connection).await;
        connection.say(&completed("qs_other", &session)).await;
        feed.is_connected().await;
        assert!(matches!(feed.next().await, FeedEvent::Alive));
        drop(connection);
        assert_eq!(feed.reconnecting().await.1, number);
    }
}

#[tokio::test]
async fn a_429_is_waited_out_as_long_as_asked() {
    let server = Server::start().await;
    let mut feed = Feed::of(hasty(&server), &["NYSE:IBM"]).await;
    feed.connecting().await;
    let slow_down = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";
    refuse(&server, slow_down).await;
    let refused_at = Instant::now();
    let (error, _, retry_in) = feed.reconnecting().await;
    assert!(matches!(error, ProviderError::RateLimited { .. }), "{error:?}");
    assert!(retry_in >= Duration::from_millis(900), "{retry_in:?}");
    drop(server.accept().await);
    assert!(refused_at.elapsed() >= Duration::from_millis(900));

    // A minute, where nothing is said.
    let server = Server::start().await;
    let mut feed = Feed::of(hasty(&server), &["NYSE:IBM"]).await;
    feed.connecting().await;
    refuse(&server, "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n").await;
    let (_, _, retry_in) = feed.reconnecting().await;
    assert!(retry_in >= Duration::from_secs(59), "{retry_in:?}");
}

#[tokio::test]
async fn too_many_sessions_are_waited_out_like_a_429() {
    let server = Server::start().await;
    let (mut feed, mut connection, session) = Feed::connected(&server, &["NYSE:IBM"]).await;
    let error = json!({"m": "critical_error", "p": [session, "max sessions rate reached", ""]});
    connection.say(&error.to_string()).await;
    let (error, _, retry_in) = feed.reconnecting().await;
    assert!(matches!(error, ProviderError::RateLimited { .. }), "{error:?}");
    assert!(retry_in >= Duration::from_secs(59), "{retry_in:?}");
}

#[tokio::test]
async fn silence_is_a_dead_link_and_heartbeats_are_none() {
    let server = Server::start().await;
    let config = TradingViewConfig { dead_after: SHORT, ..hasty(&server) };
    let mut feed = Feed::of(config, &["NYSE:IBM"]).await;
    feed.connecting().await;
    let mut connection = server.greet().await;
    let began_at = Instant::now();
    let mut beats = 0;
    while began_at.elapsed() < SHORT * 3 {
        beats += 1;
        connection.raw(format!("~m~4~m~~h~{}", beats % 10)).await;
        tokio::time::sleep(SHORT / 10).await;
    }
    feed.is_connected().await;
    for _ in 0..beats {
        assert!(matches!(feed.next().await, FeedEvent::Alive));
    }
    let (error, ..) = feed.reconnecting().await;
    assert!(matches!(error, ProviderError::Timeout { phase: Phase::Quotes, .. }), "{error:?}");
    connection.closed().await;
    server.greet().await;
}

#[tokio::test]
async fn garbage_and_a_dead_session_are_reasons_to_connect_again() {
    let dead = |session: &str| {
        let said = [session, "invalid_parameters", "quote_add_symbols"];
        frame(&json!({"m": "critical_error", "p": said}).to_string())
    };
    let garbage: [&dyn Fn(&str) -> String; 4] = [
        &|_| "garbage".to_owned(),
        &|_| "~m~2~m~{]".to_owned(),
        &|_| r#"~m~99~m~{"m":"qsd"#.to_owned(),
        &dead,
    ];
    for garbage in garbage {
        let server = Server::start().await;
        let (mut feed, mut connection, session) = Feed::connected(&server, &["NYSE:IBM"]).await;
        let quote = frame(&qsd(&session, "NYSE:IBM", &json!({"lp": 1})));
        connection.raw(quote + &garbage(&session)).await;
        feed.update("NYSE:IBM").await;
        let (error, ..) = feed.reconnecting().await;
        let lost = matches!(error, ProviderError::Unavailable { phase: Phase::Quotes, .. });
        assert!(lost, "{error:?}");
        connection.closed().await;
        server.greet().await;
    }
}

#[tokio::test]
async fn without_symbols_there_is_no_connection_for_long() {
    let server = Server::start().await;
    let config = TradingViewConfig { idle_after: SHORT / 2, ..hasty(&server) };
    let mut feed = Feed::of(config, &[]).await;
    feed.is_idle().await;
    assert!(timeout(SHORT, server.listener.accept()).await.is_err());
    for _ in 0..2 {
        feed.add("NYSE:IBM").await;
        feed.connecting().await;
        let mut connection = server.greet().await;
        let session = opened(&mut connection).await;
        connection.expect("quote_add_symbols").await;
        connection.say(&completed(&session, "NYSE:IBM")).await;
        feed.is_connected().await;
        feed.complete("NYSE:IBM").await;
        feed.remove("NYSE:IBM").await;
        feed.is_idle().await;
        connection.expect("quote_remove_symbols").await;
        // Somebody comes in time: the connection is used again.
        feed.add("NYSE:A").await;
        feed.is_connected().await;
        connection.expect("quote_add_symbols").await;
        feed.remove("NYSE:A").await;
        feed.is_idle().await;
        connection.expect("quote_remove_symbols").await;
        connection.closed().await;
    }
}

#[tokio::test]
async fn it_ends_at_once_when_the_service_stops() {
    // Connected.
    let server = Server::start().await;
    let (feed, mut connection, _) = Feed::connected(&server, &["NYSE:IBM"]).await;
    feed.client.stopping.cancel();
    connection.closed().await;
    feed.ended().await;
    // In a pause of a minute.
    let mut feed = Feed::of(server.config(), &["NYSE:IBM"]).await;
    feed.connecting().await;
    refuse(&server, "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n").await;
    feed.reconnecting().await;
    feed.client.stopping.cancel();
    feed.ended().await;
    // While it connects.
    let mut feed = Feed::of(server.config(), &["NYSE:IBM"]).await;
    feed.connecting().await;
    let (_silent, _) = within(server.listener.accept()).await.unwrap();
    feed.client.stopping.cancel();
    feed.ended().await;
    // With nothing to do.
    let mut feed = Feed::of(server.config(), &[]).await;
    feed.is_idle().await;
    feed.client.stopping.cancel();
    feed.ended().await;
}

#[tokio::test]
async fn it_ends_when_nobody_commands_or_listens_any_more() {
    let server = Server::start().await;
    let (feed, mut connection, session) = Feed::connected(&server, &["NYSE:IBM"]).await;
    let Feed { commands, mut events, client } = feed;
    connection.say(&completed(&session, "NYSE:IBM")).await;
    assert!(matches!(
        within(futures::StreamExt::next(&mut events)).await,
        Some(FeedEvent::SnapshotComplete { .. })
    ));
    drop(commands);
    connection.closed().await;
    let (nobody, _) = tokio::sync::mpsc::channel(1);
    Feed { commands: nobody, events, client }.ended().await;

    let (feed, mut connection, _) = Feed::connected(&server, &["NYSE:IBM"]).await;
    drop(feed.events);
    connection.closed().await;
    feed.client.tasks.close();
    within(feed.client.tasks.wait()).await;
    assert!(feed.commands.is_closed());
}

#[tokio::test]
async fn a_token_that_grew_old_is_renewed_once_before_the_feed_gives_up() {
    let (server, site) = (Server::start().await, MockServer::start().await);
    for token in ["old", "new"] {
        Mock::given(path("/quote_token/"))
            .respond_with(ResponseTemplate::new(200).set_body_json(token))
            .up_to_n_times(1)
            .expect(1)
            .mount(&site)
            .await;
    }
    let credentials = Credentials::Cookies { sessionid: "cookie".into(), sign: None };
    let config = TradingViewConfig { credentials, http_url: site.uri(), ..hasty(&server) };
    let mut feed = Feed::of(config, &["NYSE:IBM"]).await;
    let introduced = async |expected: &str| {
        let mut connection = server.accept().await;
        connection.say(HELLO).await;
        assert_eq!(connection.expect("set_auth_token").await, json!([expected]));
        connection
    };
    let bad_token = r#"{"m":"protocol_error","p":["bad auth token"]}"#;
    feed.connecting().await;
    let mut connection = introduced("old").await;
    connection.expect("set_locale").await;
    let session = opened(&mut connection).await;
    connection.expect("quote_add_symbols").await;
    connection.say(&completed(&session, "NYSE:IBM")).await;
    feed.is_connected().await;
    feed.complete("NYSE:IBM").await;
    // A token is used for a while before it is fetched again, whatever happens.
    tokio::time::pause();
    tokio::time::advance(Duration::from_mins(11)).await;
    tokio::time::resume();
    feed.reconnecting().await;
    introduced("old").await.say(bad_token).await;
    let (error, ..) = feed.reconnecting().await;
    assert!(matches!(error, ProviderError::AuthRequired { .. }), "{error:?}");
    introduced("new").await.say(bad_token).await;
    let state = feed.state().await;
    assert!(matches!(state, FeedState::Terminal { .. }), "{state:?}");
    feed.ended().await;
}
