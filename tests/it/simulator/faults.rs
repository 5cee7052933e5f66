//! Everything that can be made to go wrong.

use std::time::Duration;

use pocketquant::simulator::FaultSpec;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Error;

use super::client::{Client, Heard};
use super::{Folder, Running};

async fn faulty(fault: &str) -> Running {
    let folder = Folder::small();
    let mut config = folder.config();
    config.faults = vec![fault.parse().unwrap()];
    Running::start(config).await
}

/// A client that has asked for the five days of IBM.
async fn asking(simulator: &Running) -> Client {
    let mut client = Client::greeted(&simulator.ws_url).await;
    client.open_chart("NYSE:IBM").await;
    client.say("create_series", json!(["cs_1", "s1", "t1", "sym_1", "1D", 5, ""])).await;
    client
}

/// The first of `method`; what comes before is of no interest.
async fn first(client: &mut Client, method: &str) -> Value {
    loop {
        let mut message = client.json().await;
        if message["m"] == method {
            return message["p"].take();
        }
    }
}

#[tokio::test]
async fn handshakes_are_refused() {
    for (fault, status) in [("handshake-403", 403), ("handshake-429", 429)] {
        let simulator = faulty(fault).await;
        let refused = tokio_tungstenite::connect_async(&simulator.ws_url).await;
        let Err(Error::Http(response)) = refused else { panic!("{refused:?}") };
        assert_eq!(response.status(), status);
        assert_eq!(simulator.control.stats().refused_handshakes, 1);
    }
}

#[tokio::test]
async fn a_bad_token_ends_the_connection() {
    let simulator = faulty("bad-token=stolen").await;
    let mut client = Client::greeted(&simulator.ws_url).await;
    client.say("set_auth_token", json!(["unauthorized_user_token"])).await;
    client.say("set_auth_token", json!(["stolen"])).await;
    assert_eq!(
        client.hear().await,
        Heard::Json(json!({"m": "protocol_error", "p": ["bad auth token"]}), 1)
    );
    assert_eq!(client.hear().await, Heard::End);
    let stats = simulator.control.stats();
    assert_eq!((stats.tokens, stats.distinct_tokens), (2, 1));
}

#[tokio::test]
async fn silence_has_heartbeats_and_nothing_else() {
    let folder = Folder::small();
    let mut config = folder.config();
    config.heartbeat = Duration::from_millis(250);
    config.faults = vec!["silence@NYSE:IBM".parse().unwrap()];
    let simulator = Running::start(config).await;
    let mut client = asking(&simulator).await;
    for number in 1..=3 {
        assert_eq!(client.hear().await, Heard::Heartbeat(number));
    }
    client.say("resolve_symbol", json!(["cs_1", "sym_2", "BINANCE:BTCUSDT"])).await;
    first(&mut client, "symbol_resolved").await;
}

#[tokio::test]
async fn the_dead_do_not_even_beat() {
    let folder = Folder::small();
    let mut config = folder.config();
    config.heartbeat = Duration::from_millis(10);
    config.faults = vec!["dead".parse().unwrap()];
    let simulator = Running::start(config).await;
    let mut client = Client::connect(&simulator.ws_url).await;
    client.open_chart("NYSE:IBM").await;
    let heard = tokio::time::timeout(Duration::from_millis(300), client.hear()).await;
    assert!(heard.is_err(), "{heard:?}");
    simulator.stop().await;
}

#[tokio::test]
async fn a_cut_ends_it_at_the_request() {
    let simulator = faulty("cut").await;
    let mut client = asking(&simulator).await;
    assert_eq!(client.hear().await, Heard::End);
}

#[tokio::test]
async fn a_cut_that_is_switched_on_ends_open_connections() {
    let simulator = Running::start(Folder::small().config()).await;
    let mut client = Client::greeted(&simulator.ws_url).await;
    simulator.control.switch_on("cut".parse().unwrap());
    assert_eq!(client.hear().await, Heard::End);
}

#[tokio::test]
async fn a_cut_that_is_on_for_a_moment_ends_open_connections_too() {
    let simulator = Running::start(Folder::small().config()).await;
    let mut client = Client::greeted(&simulator.ws_url).await;
    simulator.control.switch_on("cut".parse().unwrap());
    simulator.control.switch_off(&"cut".parse().unwrap());
    assert_eq!(client.hear().await, Heard::End);
    let mut later = asking(&simulator).await;
    first(&mut later, "series_completed").await;
}

#[tokio::test]
async fn a_cut_mid_history_comes_after_the_bars_it_counts() {
    for (fault, bars) in [("cut-mid-history", 2), ("cut-mid-history=3@NYSE:IBM", 3)] {
        let simulator = faulty(fault).await;
        let mut client = asking(&simulator).await;
        let update = first(&mut client, "timescale_update").await;
        assert_eq!(update[1]["s1"]["s"].as_array().unwrap().len(), bars);
        assert_eq!(client.hear().await, Heard::End);
    }
}

#[tokio::test]
async fn completion_can_stay_away() {
    let simulator = faulty("no-completed").await;
    let mut client = asking(&simulator).await;
    first(&mut client, "series_timeframe").await;
    client.say("remove_series", json!(["cs_1", "s1"])).await;
    client.expect("series_deleted").await;
}

#[tokio::test]
async fn garbage_and_half_frames_are_no_frames() {
    for fault in ["garbage", "truncated-frame"] {
        let simulator = faulty(fault).await;
        let mut client = asking(&simulator).await;
        let rubbish = loop {
            match client.hear().await {
                Heard::Rubbish(text) => break text,
                Heard::Json(..) | Heard::Heartbeat(_) => {}
                Heard::End => panic!("it ended"),
            }
        };
        assert!(!rubbish.is_empty());
    }
}

#[tokio::test]
async fn bars_are_spoilt_as_asked() {
    type Check = fn(&[Value]) -> bool;
    let expected: [(&str, Check); 6] = [
        ("duplicates", |bars| bars.len() == 10 && bars[0] == bars[1]),
        ("reorder", |bars| bars[0][0].as_f64() > bars[1][0].as_f64()),
        ("no-volume", |bars| bars.iter().all(|bar| bar.as_array().unwrap().len() == 5)),
        ("null-volume", |bars| bars.iter().all(|bar| bar[5].is_null())),
        ("invalid-bars=2", |bars| {
            let broken = |bar: &&Value| bar[2].as_f64() < bar[3].as_f64();
            bars.iter().filter(broken).count() == 2
        }),
        ("revise", |bars| bars[4][4] == 12.26 && bars[3][4] == 12.0),
    ];
    for (fault, holds) in expected {
        let simulator = faulty(fault).await;
        let mut client = asking(&simulator).await;
        let (bars, _) = client.page().await;
        assert!(holds(&bars), "{fault}: {bars:?}");
    }
}

#[tokio::test]
async fn requests_are_refused_with_the_providers_words() {
    let denied = json!(["cs_1", "sym_1", "permission denied", "group", "economics_paid"]);
    for (fault, method, at, word) in [
        ("permission-denied", "symbol_error", 2, denied[2].clone()),
        ("invalid-symbol", "symbol_error", 2, json!("invalid symbol")),
        ("duplicate-id", "critical_error", 1, json!("duplicate id")),
        ("max-sessions", "critical_error", 1, json!("max sessions rate reached")),
        ("exceed-series", "critical_error", 1, json!("exceed limit of series in the session")),
        ("series-error=study_not_auth:X@y", "series_error", 3, json!("study_not_auth:X@y")),
    ] {
        // The last has an `@` of its own, which only a fault made of its parts can have.
        let folder = Folder::small();
        let mut config = folder.config();
        let (kind, arg) = fault.split_once('=').map_or((fault, None), |(k, a)| (k, Some(a)));
        config.faults = vec![FaultSpec::new(kind, arg, None).unwrap()];
        let simulator = Running::start(config).await;
        let mut client = asking(&simulator).await;
        assert_eq!(first(&mut client, method).await[at], word, "{fault}");
    }
}

#[tokio::test]
async fn a_connection_can_stay_without_greeting_or_be_banned() {
    let simulator = faulty("no-hello").await;
    let mut client = Client::connect(&simulator.ws_url).await;
    client.open_chart("NYSE:IBM").await;
    client.expect("symbol_resolved").await;
    let simulator = faulty("protocol-error=you are banned").await;
    let mut client = Client::greeted(&simulator.ws_url).await;
    client.say("set_auth_token", json!(["unauthorized_user_token"])).await;
    assert_eq!(client.expect("protocol_error").await, json!(["you are banned"]));
    assert_eq!(client.hear().await, Heard::End);
}

#[tokio::test]
async fn quotes_are_spoilt_too() {
    for (fault, state) in
        [("permission-denied=nse", "permission_denied"), ("invalid-symbol", "error")]
    {
        let simulator = faulty(fault).await;
        let mut client = Client::greeted(&simulator.ws_url).await;
        client.say("quote_create_session", json!(["qs_1"])).await;
        client.say("quote_add_symbols", json!(["qs_1", "NYSE:IBM"])).await;
        assert_eq!(client.expect("qsd").await[1]["s"], state);
        client.expect("quote_completed").await;
    }
}

#[tokio::test]
async fn pages_answer_any_status_but_the_switch_still_works() {
    let simulator = faulty("http-status=503").await;
    let http = reqwest_client();
    let status = async |path: &str| {
        http.get(format!("{}{path}", simulator.http_url)).send().await.unwrap().status().as_u16()
    };
    assert_eq!((status("/quote_token/").await, status("/_sim/stats").await), (503, 200));
}

#[tokio::test]
async fn answers_are_slow_by_as_much_as_asked() {
    let simulator = faulty("slow=300").await;
    let start = Instant::now();
    let mut client = asking(&simulator).await;
    client.page().await;
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn a_page_can_be_huge() {
    let simulator = faulty("huge").await;
    let mut client = asking(&simulator).await;
    loop {
        let message = client.json().await;
        if message["m"] == "timescale_update" {
            assert!(message.to_string().len() >= 2_000_000);
            return;
        }
    }
}

#[tokio::test]
async fn faults_are_switched_while_it_runs() {
    let simulator = Running::start(Folder::small().config()).await;
    let http = reqwest_client();
    let url = format!("{}/_sim/faults", simulator.http_url);
    let post = async |body: Value| {
        let answer = http.post(&url).body(body.to_string()).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_str::<Value>(&answer.text().await.unwrap()).unwrap())
    };
    let on = post(json!({"kind": "invalid-symbol", "symbol": "NYSE:IBM", "on": true})).await;
    assert_eq!(on, (200, json!({"faults": ["invalid-symbol@NYSE:IBM"]})));
    let mut client = asking(&simulator).await;
    first(&mut client, "symbol_error").await;
    let off = post(json!({"kind": "invalid-symbol", "symbol": "NYSE:IBM", "on": false})).await;
    assert_eq!(off, (200, json!({"faults": []})));
    assert_eq!(post(json!({"kind": "slow", "arg": 5})).await.1, json!({"faults": ["slow=5"]}));
    for wrong in [json!({"kind": "slo"}), json!({"kind": "slow", "arg": "x"}), json!([]), json!({})]
    {
        let (status, answer) = post(wrong).await;
        assert_eq!(status, 400);
        assert!(answer["error"].is_string());
    }
    let mut client = asking(&simulator).await;
    assert_eq!(client.page().await.0.len(), 5);
}

pub fn reqwest_client() -> reqwest::Client {
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}
