//! What goes wrong, and how it is told.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{join, join_all};
use pocketquant::infrastructure::interfaces::{HistoryDepth, HistoryPage, Phase, ProviderError};
use pocketquant::infrastructure::tls::install_crypto_provider;
use pocketquant::infrastructure::tradingview::TradingViewConfig;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::script::{Client, Connection, Server, both, frame, loading, rows, update, within};

const SHORT: Duration = Duration::from_millis(500);
/// In seconds.
const DAY: i64 = 86_400;

fn impatient(server: &Server) -> Client {
    Client::new(TradingViewConfig { history_timeout: SHORT, ..server.config() })
}

#[track_caller]
fn unavailable(error: &ProviderError, expected: Phase) {
    let matches = matches!(error, ProviderError::Unavailable { phase, .. } if *phase == expected);
    assert!(matches, "{error:?}");
}

#[track_caller]
fn timed_out(error: &ProviderError, expected: Phase) {
    let matches = matches!(error, ProviderError::Timeout { phase, .. } if *phase == expected);
    assert!(matches, "{error:?}");
}

/// Answers the opening request with `response` instead of a WebSocket.
async fn refuse(server: &Server, response: &str) {
    let (mut stream, _) = server.listener.accept().await.unwrap();
    let mut request = [0; 4_096];
    let read = stream.read(&mut request).await.unwrap();
    assert!(read > 0);
    stream.write_all(response.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn an_unknown_symbol_fails_at_once() {
    let server = Server::start().await;
    let client = server.client();
    let asked_at = Instant::now();
    let (page, ()) = both(client.page("NASDAQ:NOPE"), async {
        let mut connection = server.greet().await;
        let (session, ..) = connection.request().await;
        let error = json!({"m": "symbol_error", "p": [session, "sds_sym_1", "invalid symbol"]});
        connection.say(&error.to_string()).await;
        let after =
            json!({"m": "series_error", "p": [session, "sds_1", "s1", "resolve error", "n@n"]});
        connection.say(&after.to_string()).await;
        connection.farewell().await;
        let (page, _) = join(client.page("NASDAQ:AAPL"), connection.serve(10)).await;
        assert!(page.is_ok(), "others go on");
    })
    .await;
    assert!(matches!(page, Err(ProviderError::SymbolNotFound { .. })), "{page:?}");
    assert!(asked_at.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn heartbeats_alone_are_silence() {
    let server = Server::start().await;
    let client = impatient(&server);
    let mut request = Box::pin(client.page("NYSE:IBM"));
    let error = within(async {
        let (mut connection, _) = server_greeted(&server, &mut request).await;
        for beat in 1.. {
            connection.raw(frame(&format!("~h~{beat}"))).await;
            let pause = tokio::time::sleep(SHORT / 10);
            tokio::select! {
                page = &mut request => return page.unwrap_err(),
                () = pause => {}
            }
        }
        unreachable!("heartbeats go on")
    })
    .await;
    timed_out(&error, Phase::History);
}

/// Serves the request up to its commands.
async fn server_greeted(
    server: &Server,
    request: &mut (impl Future<Output = impl std::fmt::Debug> + Unpin),
) -> (Connection, String) {
    let script = async {
        let mut connection = server.greet().await;
        let (session, ..) = connection.request().await;
        (connection, session)
    };
    tokio::select! {
        page = request => unreachable!("{page:?}"),
        connection = script => connection,
    }
}

#[tokio::test]
async fn an_answer_that_never_ends_is_a_timeout_and_the_next_request_has_a_new_connection() {
    let server = Server::start().await;
    let client = impatient(&server);
    let (page, connection) = both(client.page("NYSE:IBM"), async {
        let mut connection = server.greet().await;
        let (session, ..) = connection.request().await;
        connection.say(&loading(&session)).await;
        connection.say(&update(&session, &rows(0, 10))).await;
        connection
    })
    .await;
    timed_out(&page.unwrap_err(), Phase::History);
    let (page, ()) = both(client.page("NYSE:IBM"), async {
        server.greet().await.serve(10).await;
    })
    .await;
    assert!(page.is_ok());
    drop(connection);
}

#[tokio::test]
async fn an_answer_that_trickles_in_for_ever_is_a_timeout_too() {
    let server = Server::start().await;
    let history_timeout = SHORT / 2;
    let client = Client::new(TradingViewConfig { history_timeout, ..server.config() });
    let mut request = Box::pin(client.page("NYSE:IBM"));
    let error = within(async {
        let (mut connection, session) = server_greeted(&server, &mut request).await;
        for day in 0.. {
            connection.say(&update(&session, &rows(day * 86_400, 1))).await;
            tokio::select! {
                page = &mut request => return page.unwrap_err(),
                () = tokio::time::sleep(SHORT / 20) => {}
            }
        }
        unreachable!("bars go on")
    })
    .await;
    timed_out(&error, Phase::History);
}

#[tokio::test]
async fn a_dead_link_is_noticed() {
    let server = Server::start().await;
    let client = Client::new(TradingViewConfig { dead_after: SHORT, ..server.config() });
    let (page, mut connection) = both(client.page("NYSE:IBM"), async {
        let mut connection = server.greet().await;
        connection.request().await;
        connection
    })
    .await;
    timed_out(&page.unwrap_err(), Phase::History);
    connection.closed().await;
}

#[tokio::test]
async fn a_page_that_is_cut_off_is_paged_back_to_once_and_the_next_request_reconnects() {
    let server = Server::start().await;
    let client = server.client();
    let mut pages = client.history("NYSE:IBM", HistoryDepth::Full);
    let (first, mut connection) = both(pages.next(), async {
        let mut connection = server.greet().await;
        connection.serve(10).await;
        connection
    })
    .await;
    assert!(first.unwrap().is_ok());
    let (second, mut connection) = both(pages.next(), async {
        connection.expect("request_more_data").await;
        drop(connection);
        let mut connection = server.greet().await;
        // One bar newer than the page before, then that and one older one at a time.
        let session = connection.serve_from(1_600_000_000 + 5 * DAY, 6).await;
        connection.expect("request_more_data").await;
        connection.bars(&session, &rows(1_600_000_000, 11), &json!({})).await;
        connection.expect("request_more_data").await;
        connection.bars(&session, &rows(1_600_000_000 - 3 * DAY, 14), &json!({})).await;
        connection
    })
    .await;
    let opened = |page: HistoryPage| -> Vec<i64> {
        page.bars.iter().map(|bar| (bar.open_time.as_second() - 1_600_000_000) / DAY).collect()
    };
    assert_eq!(opened(second.unwrap().unwrap()), [-3, -2, -1], "no bar twice");
    let (third, ()) = both(pages.next(), async {
        connection.expect("request_more_data").await;
        drop(connection);
        let mut connection = server.greet().await;
        connection.request().await;
        drop(connection);
    })
    .await;
    unavailable(&third.unwrap().unwrap_err(), Phase::History);
    assert!(pages.next().await.is_none(), "an error ends the stream");
    let (page, _) =
        both(client.page("NYSE:IBM"), async { server.greet().await.serve(10).await }).await;
    assert!(page.is_ok());
}

#[tokio::test]
async fn garbage_drops_the_connection_and_twice_fails_all_that_is_under_way() {
    for garbage in ["garbage", "~m~2~m~{]", r#"~m~99~m~{"m":"timesc"#, "~m~99999999999~m~{}"] {
        let server = Server::start().await;
        let client = server.client();
        let requests = join_all(["NYSE:A", "NYSE:B"].map(|symbol| client.page(symbol)));
        let (pages, ()) = both(requests, async {
            // The second time each is alone.
            for requests in [2, 1, 1] {
                let mut connection = server.greet().await;
                for _ in 0..requests {
                    connection.request().await;
                }
                connection.raw(garbage.to_owned()).await;
                connection.closed().await;
            }
        })
        .await;
        for page in pages {
            unavailable(&page.unwrap_err(), Phase::History);
        }
    }
}

#[tokio::test]
async fn a_message_of_100_mb_ends_the_connection_and_all_on_it_have_one_of_their_own() {
    let server = Server::start().await;
    let client = server.client();
    let requests = join_all(["NYSE:A", "NYSE:B"].map(|symbol| client.page(symbol)));
    let large = frame(&"x".repeat(100 << 20));
    let (pages, ()) = both(requests, async {
        let mut connection = server.greet().await;
        connection.request().await;
        connection.request().await;
        connection.raw_in_vain(large).await;
        drop(connection);
        for _ in 0..2 {
            let mut connection = server.greet().await;
            connection.serve(10).await;
            connection.closed().await;
        }
    })
    .await;
    assert!(pages.iter().all(Result::is_ok), "{pages:?}");
}

#[tokio::test]
async fn a_refused_handshake_names_its_phase() {
    let server = Server::start().await;
    let client = server.client();
    let forbidden = "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n";
    let (page, ()) = both(client.page("NYSE:IBM"), refuse(&server, forbidden)).await;
    let error = page.unwrap_err();
    unavailable(&error, Phase::Handshake);
    assert!(error.to_string().contains("403"), "{error}");
    let (page, _) =
        both(client.page("NYSE:IBM"), async { server.greet().await.serve(10).await }).await;
    assert!(page.is_ok());
}

#[tokio::test]
async fn a_429_is_a_rate_limit_that_is_waited_out() {
    let server = Server::start().await;
    let client = impatient(&server);
    let slow_down = "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n";
    let (page, ()) = both(client.page("NYSE:IBM"), refuse(&server, slow_down)).await;
    let ProviderError::RateLimited { retry_after, .. } = page.unwrap_err() else { panic!() };
    assert!(retry_after > SHORT && retry_after <= Duration::from_secs(1), "{retry_after:?}");
    // More patience than this caller has: it hears so at once, and the server nothing.
    let again = within(client.page("NYSE:IBM")).await;
    assert!(matches!(again, Err(ProviderError::RateLimited { .. })), "{again:?}");
    tokio::time::sleep(retry_after).await;
    let (page, _) =
        both(client.page("NYSE:IBM"), async { server.greet().await.serve(10).await }).await;
    assert!(page.is_ok());
}

#[tokio::test]
async fn a_bad_token_asks_for_a_better_one() {
    let server = Server::start().await;
    let token = "secret-of-mine".into();
    let credentials = pocketquant::infrastructure::tradingview::Credentials::Token(token);
    let client = Client::new(TradingViewConfig { credentials, ..server.config() });
    let (page, ()) = both(client.page("NYSE:IBM"), async {
        let mut connection = server.accept().await;
        connection.say(super::script::HELLO).await;
        assert_eq!(connection.expect("set_auth_token").await, json!(["secret-of-mine"]));
        connection.raw(r#"~m~45~m~{"m":"protocol_error","p":["bad auth token"]}"#.to_owned()).await;
        connection.closed().await;
    })
    .await;
    let error = page.unwrap_err();
    assert!(matches!(error, ProviderError::AuthRequired { .. }), "{error:?}");
    assert!(!format!("{error:?} {error} {:?}", client.provider).contains("secret-of-mine"));
}

#[tokio::test]
async fn too_many_sessions_are_a_rate_limit_and_end_the_use_of_the_connection() {
    let server = Server::start().await;
    let client = server.client();
    let (page, mut old) = both(client.page("NYSE:IBM"), async {
        let mut connection = server.greet().await;
        let (session, ..) = connection.request().await;
        let error = json!({"m": "critical_error", "p": [session, "max sessions rate reached", ""]});
        connection.say(&error.to_string()).await;
        connection
    })
    .await;
    assert!(matches!(page, Err(ProviderError::RateLimited { .. })), "{page:?}");
    old.farewell().await;
    old.closed().await;
    let (page, _) =
        both(client.page("NYSE:IBM"), async { server.greet().await.serve(10).await }).await;
    assert!(page.is_ok());
}

#[tokio::test]
async fn each_phase_has_its_own_deadline() {
    let server = Server::start().await;
    let client = impatient(&server);
    // Accepted by the kernel, but nobody answers.
    let error = within(client.page("NYSE:IBM")).await.unwrap_err();
    timed_out(&error, Phase::Handshake);

    let server = Server::start().await;
    let client = impatient(&server);
    let (page, connection) = both(client.page("NYSE:IBM"), server.accept()).await;
    timed_out(&page.unwrap_err(), Phase::Hello);
    drop(connection);

    let server = Server::start().await;
    let client = server.client();
    let (page, ()) = both(client.page("NYSE:IBM"), async { drop(server.accept().await) }).await;
    unavailable(&page.unwrap_err(), Phase::Hello);

    let client = server.client();
    drop(server);
    unavailable(&within(client.page("NYSE:IBM")).await.unwrap_err(), Phase::Connect);
}

#[tokio::test]
async fn a_certificate_of_nobody_we_trust_is_phase_tls() {
    install_crypto_provider();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = made.signing_key.serialize_der().try_into().unwrap();
    let tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let server = Server::start().await;
    let ws_url = server.config().ws_url.replace("ws://", "wss://");

    let stranger = Client::new(TradingViewConfig { ws_url: ws_url.clone(), ..server.config() });
    let (page, accepted) = both(stranger.page("NYSE:IBM"), async {
        acceptor.accept(server.listener.accept().await.unwrap().0).await
    })
    .await;
    unavailable(&page.unwrap_err(), Phase::Tls);
    assert!(accepted.is_err());

    let mut ca_file = tempfile::NamedTempFile::new().unwrap();
    ca_file.write_all(made.cert.pem().as_bytes()).unwrap();
    let extra_roots = Some(ca_file.path().to_owned());
    let friend = Client::new(TradingViewConfig { ws_url, extra_roots, ..server.config() });
    let (page, ()) = both(friend.page("NYSE:IBM"), async {
        let (stream, _) = server.listener.accept().await.unwrap();
        let mut connection =
            Box::pin(Connection::open(acceptor.accept(stream).await.unwrap())).await;
        connection.greet().await;
        connection.serve(10).await;
    })
    .await;
    assert_eq!(page.unwrap().bars.len(), 10);
}
