//! Connections: frames, heartbeats, bounds, the end.

use serde_json::json;

use super::client::{Client, Heard};
use super::{Folder, Running};

#[tokio::test]
async fn several_frames_and_a_heartbeat_share_a_message() {
    let simulator = Running::start(Folder::small().config()).await;
    let mut client = Client::greeted(&simulator.ws_url).await;
    client.open_chart("NYSE:IBM").await;
    client.expect("symbol_resolved").await;
    client.say("create_series", json!(["cs_1", "s1", "t1", "sym_1", "1D", 1, ""])).await;
    client.page().await;
    let mut beats = Vec::new();
    let mut shared = 0;
    for _ in 0..4 {
        client.say("request_more_data", json!(["cs_1", "s1", 1])).await;
        let mut update = None;
        loop {
            match client.hear().await {
                Heard::Heartbeat(number) => beats.push(number),
                Heard::Json(json, message) if json["m"] == "timescale_update" => {
                    update = Some(message);
                }
                Heard::Json(json, message) if json["m"] == "series_completed" => {
                    shared += usize::from(update == Some(message));
                    break;
                }
                Heard::Json(..) => {}
                other @ (Heard::Rubbish(_) | Heard::End) => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(shared, 4);
    assert_eq!(beats, [1]);
}

#[tokio::test]
async fn a_heartbeat_without_its_echo_ends_the_connection() {
    let folder = Folder::small();
    let mut config = folder.config();
    config.heartbeat = std::time::Duration::from_millis(250);
    let simulator = Running::start(config).await;
    let mut client = Client::greeted(&simulator.ws_url).await;
    for number in 1..=3 {
        assert_eq!(client.hear().await, Heard::Heartbeat(number));
    }
    client.echoes = false;
    client.expect_end().await;
}

#[tokio::test]
async fn what_is_no_frame_ends_the_connection_with_a_word() {
    let simulator = Running::start(Folder::small().config()).await;
    for wrong in ["hello", "~m~99~m~{}", "~m~2~m~[]", "~m~3~m~{\"}"] {
        let mut client = Client::greeted(&simulator.ws_url).await;
        client.raw(wrong).await;
        client.expect("protocol_error").await;
        assert_eq!(client.hear().await, Heard::End);
    }
}

#[tokio::test]
async fn a_message_too_large_ends_the_connection() {
    let simulator = Running::start(Folder::small().config()).await;
    let mut client = Client::greeted(&simulator.ws_url).await;
    client.raw(&format!("~m~{}~m~{}", 2_000_000, "x".repeat(2_000_000))).await;
    client.expect_end().await;
}

#[tokio::test]
async fn thousands_of_requests_at_once_are_all_answered_in_order() {
    let simulator = Running::start(Folder::small().config()).await;
    let mut client = Client::greeted(&simulator.ws_url).await;
    client.open_chart("NYSE:IBM").await;
    client.expect("symbol_resolved").await;
    let frames = (0..4_000).map(|number| {
        let payload = json!({"m": "switch_timezone", "p": ["cs_1", format!("No/{number:04}")]});
        let payload = payload.to_string();
        format!("~m~{}~m~{payload}", payload.len())
    });
    client.raw(&frames.collect::<String>()).await;
    for number in 0..4_000 {
        let error = client.expect("critical_error").await;
        let args = format!("method: switch_timezone. args: \"[No/{number:04}]\"");
        assert_eq!(error, json!(["cs_1", "invalid timezone", args]));
    }
}

#[tokio::test]
async fn it_says_goodbye_when_it_stops() {
    let simulator = Running::start(Folder::small().config()).await;
    let mut client = Client::greeted(&simulator.ws_url).await;
    let control = simulator.control.clone();
    let (ended, ()) = tokio::join!(client.hear(), simulator.stop());
    assert_eq!(ended, Heard::End);
    assert_eq!(control.stats().open_connections, 0);
}
