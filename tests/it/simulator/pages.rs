//! Tokens, sign-in, search, counters; and all of it with TLS.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tokio_tungstenite::Connector;

use super::client::Client;
use super::faults::reqwest_client;
use super::{Folder, Running};

async fn get(url: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let mut request = reqwest_client().get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn good_cookies_give_a_token_that_the_socket_takes() {
    let simulator = Running::start(Folder::small().config()).await;
    let cookie = [("Cookie", "sessionid=abc; sessionid_sign=v3:x")];
    let (status, token) = get(&format!("{}/quote_token/", simulator.http_url), &cookie).await;
    assert_eq!(status, 200);
    let token: String = serde_json::from_str(&token).unwrap();
    assert_eq!(token.split('.').count(), 3);
    let mut client = Client::greeted(&simulator.ws_url).await;
    client.say("set_auth_token", json!([token])).await;
    client.open_chart("NYSE:IBM").await;
    client.expect("symbol_resolved").await;
    let (status, page) = get(&format!("{}/", simulator.http_url), &cookie).await;
    assert_eq!(status, 200);
    assert!(page.contains(r#""auth_token":"eyJ"#), "{page}");
}

#[tokio::test]
async fn an_expired_token_is_bad() {
    let simulator = Running::start(Folder::small().config()).await;
    let mut client = Client::greeted(&simulator.ws_url).await;
    // {"exp":1000000000}: September 2001.
    client.say("set_auth_token", json!(["e30.eyJleHAiOjEwMDAwMDAwMDB9.c2ln"])).await;
    assert_eq!(client.expect("protocol_error").await, json!(["bad auth token"]));
}

#[tokio::test]
async fn a_handshake_may_need_an_origin() {
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    let folder = Folder::small();
    let mut config = folder.config();
    config.require_origin = true;
    let simulator = Running::start(config).await;
    assert!(tokio_tungstenite::connect_async(&simulator.ws_url).await.is_err());
    let mut request = (&simulator.ws_url).into_client_request().unwrap();
    request.headers_mut().insert("Origin", "https://www.tradingview.com".parse().unwrap());
    assert!(tokio_tungstenite::connect_async(request).await.is_ok());
}

#[tokio::test]
async fn who_is_logged_out_gets_no_token() {
    let simulator = Running::start(Folder::small().config()).await;
    for headers in [
        &[][..],
        &[("Cookie", "sessionid=expired1")],
        &[("Cookie", "sessionid=a; sessionid_sign=expired")],
    ] {
        assert_eq!(get(&format!("{}/quote_token/", simulator.http_url), headers).await.0, 403);
        let (status, page) = get(&simulator.http_url, headers).await;
        assert_eq!(status, 200);
        assert!(!page.contains("auth_token"), "{page}");
    }
    let (status, _) = get(&simulator.http_url, &[("Cookie", "sessionid=regional1")]).await;
    assert_eq!(status, 302);
}

#[tokio::test]
async fn every_refusal_of_a_sign_in_can_be_had() {
    let simulator = Running::start(Folder::small().config()).await;
    let url = format!("{}/accounts/signin/", simulator.http_url);
    let sign_in = async |username: &str, password: &str| {
        let form = [("username", username), ("password", password), ("remember", "on")];
        let answer = reqwest_client().post(&url).form(&form).send().await.unwrap();
        let cookies = answer.headers().get_all("set-cookie").iter().count();
        let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        (body, cookies)
    };
    let (body, cookies) = sign_in("ann", "right").await;
    assert_eq!((&body["error"], cookies), (&json!(""), 3));
    assert!(body["user"]["auth_token"].as_str().unwrap().starts_with("eyJ"));
    for (username, password, key, value) in [
        ("ann", "wrong", "code", "invalid_credentials"),
        ("captcha@example.com", "x", "code", "recaptcha_required"),
        ("ratelimit", "x", "code", "rate_limit"),
        ("2fa", "x", "error", "2FA_required"),
    ] {
        let (body, _) = sign_in(username, password).await;
        assert_eq!(body[key], value);
        assert!(body.get("user").is_none());
    }
    let totp = format!("{}/accounts/two-factor/signin/totp/", simulator.http_url);
    let code = reqwest_client().post(&totp).form(&[("code", "123456")]).send().await.unwrap();
    assert_eq!(code.status(), 200);
    assert_eq!(simulator.control.stats().sign_ins, 5);
}

#[tokio::test]
async fn the_search_wants_an_origin_and_pages() {
    let folder = Folder::small();
    for number in 0..60 {
        let name = format!("BULK_B{number:02}_1d.csv");
        folder.put(&name, "time,open,high,low,close,volume\n2020-01-02,1,1,1,1,1\n");
    }
    let simulator = Running::start(folder.config()).await;
    let base = format!("{}/symbol_search/", simulator.http_url);
    let origin = [("Origin", "https://www.tradingview.com")];
    assert_eq!(get(&format!("{base}v3/?text=IBM"), &[]).await.0, 403);
    assert_eq!(get(&format!("{base}?text=IBM"), &[("Origin", "https://evil.org")]).await.0, 403);
    let page = async |query: &str| -> Value {
        let (status, body) = get(&format!("{base}{query}"), &origin).await;
        assert_eq!(status, 200);
        serde_json::from_str(&body).unwrap()
    };
    let found = page("v3/?text=ibm&hl=0&search_type=undefined&start=0").await;
    assert_eq!(found["symbols_remaining"], 0);
    assert_eq!(found["symbols"][0]["symbol"], "IBM");
    let found = page("v3/?text=&exchange=BULK&start=0").await;
    assert_eq!(
        (found["symbols"].as_array().unwrap().len(), &found["symbols_remaining"]),
        (50, &json!(10))
    );
    let found = page("v3/?text=&exchange=BULK&start=50").await;
    assert_eq!(
        (found["symbols"].as_array().unwrap().len(), &found["symbols_remaining"]),
        (10, &json!(0))
    );
    let found = page("?text=IBM&hl=1&exchange=NYSE&lang=en&type=").await;
    assert_eq!(found[0]["symbol"], "<em>IBM</em>");
    assert_eq!(get(&format!("{}/symbols/NYSE:IBM", simulator.http_url), &[]).await.0, 200);
    assert_eq!(get(&format!("{}/symbols/NYSE:NOPE", simulator.http_url), &[]).await.0, 404);
}

#[tokio::test]
async fn what_it_has_seen_is_counted() {
    let simulator = Running::start(Folder::small().config()).await;
    let mut client = Client::greeted(&simulator.ws_url).await;
    assert_eq!(client.bars("NYSE:IBM", "1D").await.len(), 5);
    let (_, stats) = get(&format!("{}/_sim/stats", simulator.http_url), &[]).await;
    let stats: Value = serde_json::from_str(&stats).unwrap();
    for (name, count) in [
        ("connections", 1),
        ("open_connections", 1),
        ("chart_sessions", 1),
        ("series_requests", 1),
        ("bars_sent", 5),
        ("tokens", 1),
        ("distinct_tokens", 0),
    ] {
        assert_eq!(stats[name], count, "{name}");
    }
}

#[tokio::test]
async fn the_same_port_speaks_tls_to_who_trusts_its_file() {
    let folder = Folder::small();
    let mut config = folder.config();
    config.tls = true;
    let simulator = Running::start(config).await;
    assert!(simulator.ws_url.starts_with("wss://127.0.0.1:"));
    let pem = std::fs::read_to_string(simulator.ca_file.as_ref().unwrap()).unwrap();
    let certificate = reqwest::Certificate::from_pem(pem.as_bytes()).unwrap();
    drop(rustls::crypto::ring::default_provider().install_default());
    let trusting = reqwest::Client::builder().tls_certs_only([certificate]).build().unwrap();
    for host in ["127.0.0.1", "localhost"] {
        let url = simulator.http_url.replace("127.0.0.1", host) + "/_sim/stats";
        assert_eq!(trusting.get(&url).send().await.unwrap().status(), 200);
    }
    assert!(tokio_tungstenite::connect_async(&simulator.ws_url).await.is_err());

    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let tls = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = Connector::Rustls(Arc::new(tls));
    let connecting = tokio_tungstenite::connect_async_tls_with_config(
        &simulator.ws_url,
        None,
        true,
        Some(connector),
    );
    let (socket, response) = connecting.await.unwrap();
    assert_eq!(response.status(), 101);
    drop(socket);
    let file = simulator.ca_file.clone().unwrap();
    simulator.stop().await;
    assert!(!file.exists());
}
