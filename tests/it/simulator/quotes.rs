//! Quote sessions of a world that stands still.

use serde_json::{Map, Value, json};

use super::client::Client;
use super::{Folder, Running};

/// What a quote's messages come to, merged, with how many there were and its state.
async fn quote(client: &mut Client, name: &str) -> (Map<String, Value>, usize, String) {
    let (mut fields, mut parts, mut state) = (Map::new(), 0, String::new());
    loop {
        let message = client.json().await;
        assert!(message.get("t").is_none(), "{message}");
        match message["m"].as_str().unwrap() {
            "qsd" => {
                assert_eq!(message["p"][1]["n"], name);
                message["p"][1]["s"].as_str().unwrap().clone_into(&mut state);
                fields.extend(message["p"][1]["v"].as_object().unwrap().clone());
                parts += 1;
            }
            "quote_completed" => {
                assert_eq!(message["p"], json!(["qs_1", name]));
                return (fields, parts, state);
            }
            other => panic!("{other}"),
        }
    }
}

async fn session(simulator: &Running, fields: &[&str]) -> Client {
    let mut client = Client::greeted(&simulator.ws_url).await;
    client.say("quote_create_session", json!(["qs_1"])).await;
    if !fields.is_empty() {
        let mut parameters = vec!["qs_1"];
        parameters.extend(fields);
        client.say("quote_set_fields", json!(parameters)).await;
    }
    client
}

#[tokio::test]
async fn a_quote_is_a_snapshot_in_parts() {
    let simulator = Running::start(Folder::small().config()).await;
    let mut client = session(&simulator, &[]).await;
    client.say("quote_add_symbols", json!(["qs_1", "NYSE:IBM"])).await;
    let (fields, parts, state) = quote(&mut client, "NYSE:IBM").await;
    assert!(parts > 1);
    assert_eq!(state, "ok");
    for (key, value) in [
        ("lp", json!(12.25)),
        // The last second of Monday's session.
        ("lp_time", json!(1_353_963_599)),
        ("volume", json!(500.0)),
        ("open_price", json!(12.0)),
        ("prev_close_price", json!(12.0)),
        ("ch", json!(0.25)),
        ("chp", json!(2.08)),
        ("bid", Value::Null),
        ("current_session", json!("out_of_session")),
        ("description", json!("IBM (国際商業機械) 🍏")),
    ] {
        assert_eq!(fields[key], value, "{key}");
    }
}

#[tokio::test]
async fn only_the_fields_asked_for_come_under_the_name_sent() {
    let simulator = Running::start(Folder::small().config()).await;
    let mut client = session(&simulator, &["lp", "volume"]).await;
    let name = "={ \"session\": \"regular\", \"symbol\": \"TVC:VIX\" }";
    client.say("quote_add_symbols", json!(["qs_1", name])).await;
    let (fields, ..) = quote(&mut client, name).await;
    // 1e+100 says that there is no volume.
    assert_eq!(Value::Object(fields), json!({"lp": 15.5, "volume": 1e100}));
}

#[tokio::test]
async fn an_unknown_symbol_is_an_error_of_its_quote() {
    let simulator = Running::start(Folder::small().config()).await;
    let mut client = session(&simulator, &["lp"]).await;
    client.say("quote_add_symbols", json!(["qs_1", "NASDAQ:NOPE", "NYSE:IBM"])).await;
    assert_eq!(quote(&mut client, "NASDAQ:NOPE").await, (Map::new(), 1, "error".to_owned()));
    assert_eq!(quote(&mut client, "NYSE:IBM").await.2, "ok");
}

#[tokio::test]
async fn force_permission_ends_its_session_only() {
    let simulator = Running::start(Folder::small().config()).await;
    let mut client = session(&simulator, &["lp"]).await;
    let flags = json!({"flags": ["force_permission"]});
    client.say("quote_add_symbols", json!(["qs_1", "NYSE:IBM", flags])).await;
    client.say("quote_fast_symbols", json!(["qs_1", "NYSE:IBM"])).await;
    assert_eq!(
        client.expect("critical_error").await,
        json!(["qs_1", "invalid_parameters", "quote_add_symbols"])
    );
    client.open_chart("NYSE:IBM").await;
    client.expect("symbol_resolved").await;
}
