//! Logging in. The web site is a mock, the socket a script.

use std::time::Duration;

use pocketquant::infrastructure::interfaces::{Phase, ProviderError};
use pocketquant::infrastructure::tradingview::{Credentials, TradingViewConfig};
use serde_json::{Value, json};
use wiremock::matchers::{body_string, header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::script::{Client, HELLO, Server, both, within};

const TOKEN: &str = "eyJhbGciOiJSUzUxMiJ9.eyJleHAiOjE2MDAwMTQ0MDAsImlhdCI6MTYwMDAwMDAwMH0.sig";

fn cookies() -> Credentials {
    Credentials::Cookies { sessionid: "cookie-one".into(), sign: Some("cookie-two".into()) }
}

fn password() -> Credentials {
    Credentials::Password { username: "somebody".to_owned(), password: "pass word".into() }
}

fn client(server: &Server, site: &MockServer, credentials: Credentials) -> Client {
    let http_url = site.uri();
    Client::new(TradingViewConfig { http_url, credentials, ..server.config() })
}

/// Serves a request and answers the token that the connection began with.
async fn token_of(server: &Server, client: &Client) -> String {
    let (page, token) = both(client.page("NYSE:IBM"), async {
        let mut connection = server.accept().await;
        connection.say(HELLO).await;
        let token = connection.expect("set_auth_token").await;
        connection.expect("set_locale").await;
        connection.serve(10).await;
        token[0].as_str().unwrap().to_owned()
    })
    .await;
    assert!(page.is_ok(), "{page:?}");
    token
}

async fn sign_in_answers(site: &MockServer, answer: ResponseTemplate) {
    Mock::given(method("POST"))
        .and(path("/accounts/signin/"))
        .and(header("referer", "https://www.tradingview.com"))
        .and(header("content-type", "application/x-www-form-urlencoded"))
        .and(body_string("username=somebody&password=pass+word&remember=on"))
        .respond_with(answer)
        .expect(1)
        .mount(site)
        .await;
}

#[tokio::test]
async fn cookies_are_exchanged_for_a_token_once() {
    let (server, site) = (Server::start().await, MockServer::start().await);
    Mock::given(method("GET"))
        .and(path("/quote_token/"))
        .and(header("cookie", "sessionid=cookie-one; sessionid_sign=cookie-two"))
        .respond_with(ResponseTemplate::new(200).set_body_json(TOKEN))
        .expect(1)
        .mount(&site)
        .await;
    let client = client(&server, &site, cookies());
    assert_eq!(token_of(&server, &client).await, TOKEN);
    // The socket was cut; the token lives on.
    assert_eq!(token_of(&server, &client).await, TOKEN);
}

#[tokio::test]
async fn the_start_page_is_read_through_regional_redirects() {
    let (server, site) = (Server::start().await, MockServer::start().await);
    let page = format!(r#"<script>var user = {{"id":1,"auth_token":"{TOKEN}"}};</script>"#);
    Mock::given(path("/")).respond_with(redirect("/de/")).mount(&site).await;
    Mock::given(path("/de/"))
        .and(header("cookie", "sessionid=cookie-one; sessionid_sign=cookie-two"))
        .respond_with(ResponseTemplate::new(200).set_body_string(page))
        .mount(&site)
        .await;
    let client = client(&server, &site, cookies());
    assert_eq!(token_of(&server, &client).await, TOKEN);
}

#[tokio::test]
async fn redirects_end_and_do_not_leave_the_site() {
    for target in ["/", "http://localhost:9/"] {
        let (server, site) = (Server::start().await, MockServer::start().await);
        Mock::given(path("/")).respond_with(redirect(target)).mount(&site).await;
        let client = client(&server, &site, cookies());
        let error = within(client.page("NYSE:IBM")).await.unwrap_err();
        let ProviderError::Unavailable { phase: Phase::Login, detail, .. } = &error else {
            panic!("{error:?}")
        };
        assert!(detail.contains("redirected"), "{detail}");
    }
}

#[tokio::test]
async fn cookies_of_nobody_are_refused_and_not_tried_again() {
    let (server, site) = (Server::start().await, MockServer::start().await);
    let page = r#"<script>var user = {"auth_token":"unauthorized_user_token"};</script>"#;
    Mock::given(path("/"))
        .respond_with(ResponseTemplate::new(200).set_body_string(page))
        .expect(1)
        .mount(&site)
        .await;
    let client = client(&server, &site, cookies());
    for _ in 0..2 {
        let error = within(client.page("NYSE:IBM")).await.unwrap_err();
        assert!(matches!(error, ProviderError::AuthRequired { .. }), "{error:?}");
        let shown = format!("{error} {error:?} {:?}", client.provider);
        assert!(!shown.contains("cookie-"), "{shown}");
    }
}

#[tokio::test]
async fn a_password_is_exchanged_for_a_token() {
    let (server, site) = (Server::start().await, MockServer::start().await);
    let body = json!({"error": "", "user": {"id": 1, "username": "somebody", "auth_token": TOKEN}});
    sign_in_answers(&site, ResponseTemplate::new(200).set_body_json(body)).await;
    let client = client(&server, &site, password());
    assert_eq!(token_of(&server, &client).await, TOKEN);
    assert_eq!(token_of(&server, &client).await, TOKEN);
}

#[tokio::test]
async fn a_log_in_that_gives_cookies_alone_goes_on_with_them() {
    let (server, site) = (Server::start().await, MockServer::start().await);
    let answer = ResponseTemplate::new(200)
        .set_body_json(json!({"error": "", "user": {"id": 1}}))
        .append_header("set-cookie", "sessionid=cookie-one; path=/; HttpOnly")
        .append_header("set-cookie", "sessionid_sign=cookie-two; path=/");
    sign_in_answers(&site, answer).await;
    Mock::given(path("/quote_token/"))
        .and(header("cookie", "sessionid=cookie-one; sessionid_sign=cookie-two"))
        .respond_with(ResponseTemplate::new(200).set_body_json(TOKEN))
        .mount(&site)
        .await;
    let client = client(&server, &site, password());
    assert_eq!(token_of(&server, &client).await, TOKEN);
}

#[tokio::test]
async fn refused_log_ins_say_why_and_are_tried_once() {
    let refusals: [(u16, Value, &str); 4] = [
        (
            200,
            json!({"error": "Please confirm that you are not a robot by clicking the captcha box.", "code": "recaptcha_required"}),
            "captcha",
        ),
        (200, json!({"error": "2FA_required", "code": "2FA_required"}), "second factor"),
        (
            400,
            json!({"error": "Incorrect username or password", "code": "invalid_credentials"}),
            "Incorrect username",
        ),
        (403, json!("forbidden"), "403"),
    ];
    for (status, body, reason) in refusals {
        let (server, site) = (Server::start().await, MockServer::start().await);
        sign_in_answers(&site, ResponseTemplate::new(status).set_body_json(body)).await;
        let client = client(&server, &site, password());
        for _ in 0..3 {
            let error = within(client.page("NYSE:IBM")).await.unwrap_err();
            let ProviderError::AuthRequired { detail, .. } = &error else { panic!("{error:?}") };
            assert!(detail.contains(reason), "{detail}");
            let shown = format!("{error} {error:?} {:?}", client.provider);
            assert!(!shown.contains("pass word"), "{shown}");
        }
        site.verify().await;
    }
}

#[tokio::test]
async fn log_ins_that_are_too_many_are_remembered_for_a_while() {
    let body = json!({"error": "Too many attempts", "code": "rate_limit"});
    for answer in [
        ResponseTemplate::new(200).set_body_json(body),
        ResponseTemplate::new(429).insert_header("retry-after", "60"),
    ] {
        let (server, site) = (Server::start().await, MockServer::start().await);
        sign_in_answers(&site, answer).await;
        let client = client(&server, &site, password());
        for _ in 0..2 {
            let error = within(client.page("NYSE:IBM")).await.unwrap_err();
            let ProviderError::RateLimited { retry_after, .. } = error else { panic!("{error:?}") };
            assert!(retry_after > Duration::from_secs(30), "{retry_after:?}");
        }
        site.verify().await;
    }
}

#[tokio::test]
async fn trouble_of_the_web_site_is_no_refusal() {
    let (server, site) = (Server::start().await, MockServer::start().await);
    let broken = ResponseTemplate::new(502);
    Mock::given(path("/quote_token/")).respond_with(broken).up_to_n_times(3).mount(&site).await;
    Mock::given(path("/quote_token/"))
        .respond_with(ResponseTemplate::new(200).set_body_json(TOKEN))
        .mount(&site)
        .await;
    let client = client(&server, &site, cookies());
    let error = within(client.page("NYSE:IBM")).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unavailable { phase: Phase::Login, .. }), "{error:?}");
    assert_eq!(token_of(&server, &client).await, TOKEN);
}

#[tokio::test]
async fn a_web_site_that_is_away_is_told_by_its_phase() {
    let server = Server::start().await;
    let free = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let http_url = format!("http://{}", free.local_addr().unwrap());
    let silent = TradingViewConfig {
        http_url: http_url.clone(),
        http_timeout: Duration::from_millis(200),
        credentials: cookies(),
        ..server.config()
    };
    let error = within(Client::new(silent.clone()).page("NYSE:IBM")).await.unwrap_err();
    assert!(matches!(error, ProviderError::Timeout { phase: Phase::Login, .. }), "{error:?}");
    drop(free);
    let error = within(Client::new(silent).page("NYSE:IBM")).await.unwrap_err();
    assert!(matches!(error, ProviderError::Unavailable { phase: Phase::Connect, .. }), "{error:?}");
}

fn redirect(target: &str) -> ResponseTemplate {
    ResponseTemplate::new(302).insert_header("location", target)
}
