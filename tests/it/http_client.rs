//! The HTTP client against real sockets that fail in every way.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use pocketquant::common::tracing::CorrelationId;
use pocketquant::infrastructure::http_client::dns::{Addrs, Name, Resolve, Resolving};
use pocketquant::infrastructure::http_client::{
    AddressFilter, BreakerRules, HttpClient, HttpClientConfig, HttpError, HttpRequest, RetryRules,
};
use pocketquant::infrastructure::tls::{client_config, install_crypto_provider};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::Instant;
use url::Url;
use wiremock::matchers::{header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::servers::free_port;

fn config() -> HttpClientConfig {
    install_crypto_provider();
    HttpClientConfig {
        retry: RetryRules { first: Duration::from_millis(1), ..RetryRules::default() },
        ..HttpClientConfig::new("test", client_config(None).unwrap())
    }
}

fn client() -> HttpClient {
    HttpClient::new(config()).unwrap()
}

fn page(site: &MockServer, page: &str) -> Url {
    Url::parse(&site.uri()).unwrap().join(page).unwrap()
}

/// A server that answers each connection with `answer`, and then leaves it open.
async fn raw(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            // Some of the question is enough.
            socket.read_u8().await.unwrap();
            socket.write_all(answer).await.unwrap();
            open.push(socket);
        }
    }));
    address
}

fn at(address: SocketAddr) -> Url {
    Url::parse(&format!("http://{address}/")).unwrap()
}

async fn count(site: &MockServer) -> usize {
    site.received_requests().await.unwrap().len()
}

#[tokio::test]
async fn a_failure_that_passes_is_tried_again() {
    let site = MockServer::start().await;
    Mock::given(path("/"))
        .respond_with(ResponseTemplate::new(503))
        .up_to_n_times(2)
        .mount(&site)
        .await;
    Mock::given(path("/")).respond_with(ResponseTemplate::new(200)).mount(&site).await;
    let answer = client().send(HttpRequest::get(page(&site, "/"))).await.unwrap();
    assert_eq!((answer.status, count(&site).await), (StatusCode::OK, 3));
}

#[tokio::test]
async fn tries_end_and_the_last_answer_is_told() {
    let site = MockServer::start().await;
    Mock::given(path("/")).respond_with(ResponseTemplate::new(503)).mount(&site).await;
    let answer = client().send(HttpRequest::get(page(&site, "/"))).await.unwrap();
    let error = answer.successful().unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(count(&site).await, 3);
}

#[tokio::test]
async fn tries_end_with_the_time_for_all_of_them() {
    let site = MockServer::start().await;
    Mock::given(path("/")).respond_with(ResponseTemplate::new(503)).mount(&site).await;
    let client = HttpClient::new(HttpClientConfig {
        total_timeout: Duration::from_millis(300),
        retry: RetryRules { times: usize::MAX, ..config().retry },
        breaker: BreakerRules { failures: u32::MAX, ..BreakerRules::default() },
        ..config()
    });
    match client.unwrap().send(HttpRequest::get(page(&site, "/"))).await {
        Ok(answer) => assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE),
        // The time was over in the midst of a try.
        Err(error) => assert!(matches!(error, HttpError::Timeout { .. }), "{error:?}"),
    }
}

#[tokio::test]
async fn what_changes_things_is_sent_once() {
    let site = MockServer::start().await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(503)).mount(&site).await;
    let post = HttpRequest::post(page(&site, "/")).form(&[("a", "b c")]);
    assert!(client().send(post.clone()).await.unwrap().successful().is_err());
    assert_eq!(count(&site).await, 1);
    assert_eq!(site.received_requests().await.unwrap()[0].body, b"a=b+c");
    drop(client().send(post.repeatable()).await);
    assert_eq!(count(&site).await, 4);
}

#[tokio::test]
async fn a_host_that_asks_for_too_much_time_is_not_asked_again() {
    let site = MockServer::start().await;
    let slow = |after: &str| ResponseTemplate::new(429).insert_header("retry-after", after);
    Mock::given(path("/long")).respond_with(slow("3600")).mount(&site).await;
    Mock::given(path("/short")).respond_with(slow("0")).up_to_n_times(1).mount(&site).await;
    Mock::given(path("/short")).respond_with(ResponseTemplate::new(200)).mount(&site).await;
    let answer = client().send(HttpRequest::get(page(&site, "/long"))).await.unwrap();
    assert_eq!(answer.retry_after(), Some(Duration::from_hours(1)));
    assert_eq!(count(&site).await, 1);
    let answer = client().send(HttpRequest::get(page(&site, "/short"))).await.unwrap();
    assert_eq!((answer.status, count(&site).await), (StatusCode::OK, 3));
}

#[tokio::test]
async fn a_host_that_fails_is_left_alone_until_it_is_back() {
    let site = MockServer::start().await;
    Mock::given(path("/"))
        .respond_with(ResponseTemplate::new(500))
        .up_to_n_times(3)
        .mount(&site)
        .await;
    Mock::given(path("/")).respond_with(ResponseTemplate::new(200)).mount(&site).await;
    let breaker = BreakerRules { failures: 3, pause: Duration::from_millis(300) };
    let client = HttpClient::new(HttpClientConfig { breaker, ..config() }).unwrap();
    let post = || client.send(HttpRequest::post(page(&site, "/")));
    for _ in 0..3 {
        assert_eq!(post().await.unwrap().status, StatusCode::INTERNAL_SERVER_ERROR);
    }
    let error = post().await.unwrap_err();
    let HttpError::BreakerOpen { retry_after, .. } = error else { panic!("{error:?}") };
    assert_eq!(count(&site).await, 3);
    tokio::time::sleep(retry_after).await;
    assert_eq!(post().await.unwrap().status, StatusCode::OK);
    assert_eq!(post().await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn refusals_of_a_host_that_is_there_do_not_close_the_way() {
    let site = MockServer::start().await;
    let client = client();
    for _ in 0..10 {
        let answer = client.send(HttpRequest::post(page(&site, "/nowhere"))).await.unwrap();
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_host_that_says_nothing_is_not_waited_for() {
    let silent = raw(b"").await;
    let quick = Duration::from_millis(100);
    for config in [
        HttpClientConfig { attempt_timeout: quick, ..config() },
        HttpClientConfig { read_timeout: quick, ..config() },
        HttpClientConfig { total_timeout: quick, ..config() },
    ] {
        let client = HttpClient::new(config).unwrap();
        let error = client.send(HttpRequest::post(at(silent))).await.unwrap_err();
        assert!(matches!(error, HttpError::Timeout { connecting: false, .. }), "{error:?}");
    }
}

#[tokio::test]
async fn an_answer_that_never_ends_is_not_waited_for() {
    let stuck = raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
    let read_timeout = Duration::from_millis(100);
    let client = HttpClient::new(HttpClientConfig { read_timeout, ..config() }).unwrap();
    let error = client.send(HttpRequest::post(at(stuck))).await.unwrap_err();
    assert!(matches!(error, HttpError::Timeout { connecting: false, .. }), "{error:?}");
}

#[tokio::test]
async fn a_body_that_does_not_matter_is_not_waited_for() {
    let stuck = raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
    let (read_timeout, attempt_timeout) = (Duration::from_mins(1), Duration::from_secs(5));
    let config = HttpClientConfig { read_timeout, attempt_timeout, ..config() };
    let request = HttpRequest::post(at(stuck)).ignoring_the_answers_body();
    let answer = HttpClient::new(config).unwrap().send(request).await;
    assert_eq!(answer.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn long_answers_are_not_read() {
    let said = raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n").await;
    let unsaid = raw(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n8\r\n12345678\r\n8\r\n12345678\r\n",
    )
    .await;
    let client = HttpClient::new(HttpClientConfig { max_body_bytes: 10, ..config() }).unwrap();
    for address in [said, unsaid] {
        let error = client.send(HttpRequest::get(at(address))).await.unwrap_err();
        assert!(matches!(error, HttpError::TooLarge { limit: 10, .. }), "{error:?}");
    }
}

#[tokio::test]
async fn redirects_are_followed_where_asked_and_to_the_same_host_only() {
    let site = MockServer::start().await;
    let redirect = |to: &str| ResponseTemplate::new(302).insert_header("location", to);
    Mock::given(path("/here")).respond_with(redirect("/there")).mount(&site).await;
    Mock::given(path("/there")).respond_with(ResponseTemplate::new(200)).mount(&site).await;
    Mock::given(path("/loop")).respond_with(redirect("/loop")).mount(&site).await;
    let other = MockServer::start().await;
    Mock::given(path("/away")).respond_with(redirect(&other.uri())).mount(&site).await;

    let client = client();
    let answer = client.send(HttpRequest::get(page(&site, "/here"))).await.unwrap();
    assert_eq!(answer.status, StatusCode::FOUND);
    let answer = client.send(HttpRequest::get(page(&site, "/here")).following(1)).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    let posted = client.send(HttpRequest::post(page(&site, "/here")).following(1)).await.unwrap();
    assert_eq!(posted.status, StatusCode::FOUND);
    for (page_path, reason) in [("/loop", "too often"), ("/away", "to another host")] {
        let request = HttpRequest::get(page(&site, page_path)).following(3);
        let error = client.send(request).await.unwrap_err();
        assert!(matches!(error, HttpError::Redirect { to, .. } if to == reason), "{error:?}");
    }
    assert_eq!(count(&other).await, 0);
}

#[tokio::test]
async fn the_callers_correlation_id_goes_along() {
    let site = MockServer::start().await;
    Mock::given(header("x-correlation-id", "call-1"))
        .and(header("user-agent", concat!("pocketquant/", env!("CARGO_PKG_VERSION"))))
        .respond_with(ResponseTemplate::new(200))
        .mount(&site)
        .await;
    let id = CorrelationId::parse(b"call-1").unwrap();
    let request = HttpRequest::get(page(&site, "/")).header(
        header::HeaderName::from_static("x-correlation-id"),
        HeaderValue::from_static("of somebody else"),
    );
    let answer = id.scope(client().send(request)).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
}

/// Says that every name is `0`.
struct Always(IpAddr);

impl Resolve for Always {
    fn resolve(&self, _name: Name) -> Resolving {
        let addresses = vec![SocketAddr::new(self.0, 0)];
        Box::pin(async move { Ok(Box::new(addresses.into_iter()) as Addrs) })
    }
}

#[tokio::test]
async fn names_lead_nowhere_but_to_allowed_addresses() {
    let site = MockServer::start().await;
    Mock::given(path("/")).respond_with(ResponseTemplate::new(200)).mount(&site).await;
    let port = site.address().port();
    let named = Url::parse(&format!("http://public.example:{port}/")).unwrap();
    let guarded = |allowed: bool| {
        let loopback = site.address().ip();
        let addresses = AddressFilter::new(move |address| allowed || address != loopback);
        HttpClient::new(HttpClientConfig {
            addresses: Some(addresses),
            resolver: Some(Arc::new(Always(loopback))),
            ..config()
        })
        .unwrap()
    };
    for url in [named.clone(), page(&site, "/")] {
        let error = guarded(false).send(HttpRequest::get(url)).await.unwrap_err();
        assert!(matches!(error, HttpError::AddressRefused { .. }), "{error:?}");
        assert!(!error.is_transient());
    }
    assert_eq!(count(&site).await, 0);
    let answer = guarded(true).send(HttpRequest::get(named)).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn a_try_that_the_end_of_the_time_cut_off_hides_nothing() {
    let site = MockServer::start().await;
    let failing = ResponseTemplate::new(503);
    Mock::given(path("/")).respond_with(failing).up_to_n_times(1).mount(&site).await;
    let hanging = ResponseTemplate::new(200).set_delay(Duration::from_mins(5));
    Mock::given(path("/")).respond_with(hanging).mount(&site).await;
    let soon = || Instant::now() + Duration::from_secs(2);
    let client = client();
    let answer = client.send(HttpRequest::get(page(&site, "/")).by(soon())).await.unwrap();
    assert_eq!((answer.status, count(&site).await), (StatusCode::SERVICE_UNAVAILABLE, 2));
    let error = client.send(HttpRequest::get(page(&site, "/")).by(soon())).await.unwrap_err();
    assert_eq!(error.kind(), "timeout", "{error:?}");
}

#[tokio::test]
async fn failures_are_told_apart_and_tell_no_secret() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let plain = raw(b"this is no TLS").await;
    let secret = |scheme: &str, host: &str| {
        Url::parse(&format!("{scheme}://user:secret@{host}/secret?secret=secret#secret")).unwrap()
    };
    let cut = raw(b"HTTP/1.1 nonsense\r\n\r\n").await;
    for (url, kind) in [
        (secret("http", &nobody.to_string()), "connect"),
        (secret("https", &plain.to_string()), "tls"),
        (secret("http", &cut.to_string()), "broken"),
        (secret("ftp", "host.example"), "request"),
    ] {
        let request = HttpRequest::post(url).with_private_path();
        let shown = format!("{request:?}");
        let error = client().send(request).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        let shown = format!("{shown} {error} {error:?}");
        assert!(!shown.contains("secret"), "{shown}");
    }
}
