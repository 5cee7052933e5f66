//! What can be made to go wrong with updates, and what can be made up.

use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Error;

use super::client::Heard;
use super::faults::reqwest_client;
use super::watcher::{START, STILL, TRADES, Watcher, folder, moving};
use super::{Folder, Running};

/// A market in which nothing happens but what a test makes happen, from 16 contracts on.
struct Market {
    simulator: Running,
    _folder: Folder,
}

impl Market {
    async fn start() -> Self {
        let folder = folder(TRADES);
        Self { simulator: Running::start(moving(&folder, STILL)).await, _folder: folder }
    }

    /// Who has heard the two trades that are due at once.
    async fn watched(&self) -> Watcher {
        let fields = ["lp", "lp_time", "volume", "current_session"];
        let mut es = Watcher::of(&self.simulator, "CME:ES", &fields).await;
        es.update().await;
        assert_eq!(es.update().await, json!({"volume": 16.0}));
        es
    }

    fn on(&self, fault: &str) {
        self.simulator.control.switch_on(fault.parse().unwrap());
    }

    fn off(&self, fault: &str) {
        self.simulator.control.switch_off(&fault.parse().unwrap());
    }

    fn tick(&self, seconds: i64, price: f64) {
        let time = jiff::Timestamp::from_second(START + seconds).unwrap();
        self.simulator.control.tick("CME:ES", Some(time), price, Some(1.0)).unwrap();
    }

    async fn post(&self, page: &str, body: Value) -> (u16, Value) {
        let url = format!("{}/_sim/{page}", self.simulator.http_url);
        let answer = reqwest_client().post(url).body(body.to_string()).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap())
    }
}

#[tokio::test]
async fn an_update_is_repeated() {
    let market = Market::start().await;
    let mut es = market.watched().await;
    market.on("duplicates@CME:ES");
    market.tick(1, 1641.0);
    let update = json!({"lp": 1641.0, "lp_time": START + 1, "volume": 17.0});
    assert_eq!((es.update().await, es.update().await), (update.clone(), update));
}

#[tokio::test]
async fn of_two_updates_the_second_comes_first() {
    let market = Market::start().await;
    let mut es = market.watched().await;
    market.on("reorder");
    market.tick(1, 1641.0);
    market.tick(2, 1642.0);
    let second = json!({"lp": 1642.0, "lp_time": START + 2, "volume": 18.0});
    assert_eq!(es.update().await, second);
    assert_eq!(es.update().await, json!({"lp": 1641.0, "lp_time": START + 1, "volume": 17.0}));
    // One that waits for a second comes when the fault is over.
    market.tick(2, 1642.0);
    market.off("reorder");
    assert_eq!(es.update().await, json!({"lp": 1642.0, "lp_time": START + 2, "volume": 19.0}));
}

#[tokio::test]
async fn every_tenth_update_is_late() {
    let market = Market::start().await;
    let mut es = market.watched().await;
    market.on("late=90");
    for second in 100..121 {
        market.tick(second, 1641.0);
    }
    for second in 100..121 {
        let late = if second % 10 == 0 { 90 } else { 0 };
        assert_eq!(es.update().await["lp_time"], START + second - late);
    }
}

#[tokio::test]
async fn the_days_volume_starts_over() {
    let market = Market::start().await;
    let mut es = market.watched().await;
    market.on("session-reset=3");
    for expected in [17.0, 18.0, 1.0, 2.0] {
        market.tick(1, 1641.0);
        assert_eq!(es.update().await["volume"], expected);
    }
    market.off("session-reset");
    market.tick(1, 1641.0);
    assert_eq!(es.update().await["volume"], 21.0);
}

#[tokio::test]
async fn updates_are_garbage_or_half_a_frame() {
    for fault in ["garbage", "truncated-frame"] {
        let market = Market::start().await;
        let mut es = market.watched().await;
        market.on(fault);
        market.tick(1, 1641.0);
        let heard = es.client.hear().await;
        assert!(matches!(heard, Heard::Rubbish(_)), "{fault}: {heard:?}");
    }
}

#[tokio::test]
async fn while_it_is_silent_the_market_goes_on() {
    let market = Market::start().await;
    let mut es = market.watched().await;
    market.on("silence@CME:ES");
    market.tick(1, 1641.0);
    // Once this is answered, nothing of the tick waits any more.
    es.client.say("chart_create_session", json!(["cs_1", ""])).await;
    es.client.say("resolve_symbol", json!(["cs_1", "sym_1", "NYSE:IBM"])).await;
    es.client.expect("symbol_resolved").await;
    market.off("silence@CME:ES");
    market.tick(2, 1641.0);
    assert_eq!(es.update().await, json!({"lp": 1641.0, "lp_time": START + 2, "volume": 18.0}));
}

#[tokio::test]
async fn who_subscribes_in_silence_hears_it_all_later() {
    let market = Market::start().await;
    market.on("silence@CME:ES");
    let mut client = super::client::Client::greeted(&market.simulator.ws_url).await;
    client.say("quote_create_session", json!(["qs_1"])).await;
    client.say("quote_set_fields", json!(["qs_1", "lp", "volume"])).await;
    client.say("quote_add_symbols", json!(["qs_1", "CME:ES", "NASDAQ:NOPE"])).await;
    assert_eq!(client.expect("qsd").await[1]["n"], "NASDAQ:NOPE");
    client.expect("quote_completed").await;
    market.off("silence@CME:ES");
    market.tick(1, 1641.0);
    let told = client.expect("qsd").await[1]["v"].clone();
    assert_eq!(told, json!({"lp": 1641.0, "volume": 17.0}));
}

#[tokio::test]
async fn an_update_can_be_the_end() {
    let market = Market::start().await;
    let mut es = market.watched().await;
    market.on("cut@CME:ES");
    market.tick(1, 1641.0);
    assert_eq!(es.client.hear().await, Heard::End);
    let folder = folder(TRADES);
    let mut beating = moving(&folder, STILL);
    // Echoes may take twice as long, on a busy machine too.
    beating.heartbeat = std::time::Duration::from_millis(300);
    let simulator = Running::start(beating).await;
    let mut es = Watcher::of(&simulator, "CME:ES", &["volume"]).await;
    simulator.control.switch_on("dead@CME:ES".parse().unwrap());
    simulator.control.tick("CME:ES", None, 1.0, None).unwrap();
    // Not even heartbeats come; those that were on their way do.
    let quiet = std::time::Duration::from_secs(1);
    while let Ok(heard) = tokio::time::timeout(quiet, es.client.hear()).await {
        assert_ne!(heard, Heard::End);
    }
}

#[tokio::test]
async fn updates_are_slow_and_stay_in_order() {
    let market = Market::start().await;
    let mut es = market.watched().await;
    market.on("slow=200");
    let start = Instant::now();
    market.tick(1, 1641.0);
    assert_eq!(es.update().await["volume"], 17.0);
    assert!(start.elapsed().as_millis() >= 200);
    market.tick(2, 1641.0);
    market.off("slow");
    market.tick(3, 1641.0);
    assert_eq!(es.update().await["volume"], 18.0);
    assert_eq!(es.update().await["volume"], 19.0);
}

#[tokio::test]
async fn an_outage_ends_all_connections_and_lets_nobody_in_until_it_is_over() {
    let market = Market::start().await;
    let mut es = market.watched().await;
    let cut = json!({"kind": "cut", "arg": 1_500});
    assert_eq!(market.post("faults", cut).await, (200, json!({"faults": ["cut=1500"]})));
    assert_eq!(es.client.hear().await, Heard::End);
    let refused = tokio_tungstenite::connect_async(&market.simulator.ws_url).await;
    let Err(Error::Http(response)) = refused else { panic!("{refused:?}") };
    assert_eq!(response.status(), 503);
    market.tick(1, 1641.0);
    while tokio_tungstenite::connect_async(&market.simulator.ws_url).await.is_err() {}
    assert_eq!(
        market.post("faults", json!({"kind": "slow", "on": false})).await.1["faults"],
        json!([])
    );
    let es = Watcher::of(&market.simulator, "CME:ES", &["lp", "volume"]).await;
    assert_eq!(Value::Object(es.merged), json!({"lp": 1641.0, "volume": 17.0}));
}

#[tokio::test]
async fn a_late_tick_over_http_changes_its_minute() {
    let market = Market::start().await;
    let mut es = market.watched().await;
    market.tick(70, 1642.0);
    es.update().await;
    let time = jiff::Timestamp::from_second(START + 30).unwrap().to_string();
    let tick = json!({"symbol": "cme:es", "time": time, "price": 1700.5, "size": 2});
    let answer = json!({"symbol": "cme:es", "time": time, "volume": 19.0});
    assert_eq!(market.post("tick", tick).await, (200, answer));
    assert_eq!(es.update().await, json!({"lp": 1700.5, "lp_time": START + 30, "volume": 19.0}));
    let bars =
        super::client::Client::greeted(&market.simulator.ws_url).await.bars("CME:ES", "1").await;
    assert_eq!(bars[0].as_array().unwrap()[1..], [1640.25, 1700.5, 1640.25, 1700.5, 18.0]);
    assert_eq!(bars[1].as_array().unwrap()[1..], [1642.0, 1642.0, 1642.0, 1642.0, 1.0]);
}

#[tokio::test]
async fn fields_can_be_made_up_and_are_no_trade() {
    let market = Market::start().await;
    let mut es = market.watched().await;
    let values = json!({"bid": 1.5, "rtc": null});
    let made_up = json!({"symbol": "CME:ES", "values": values});
    assert_eq!(market.post("quote", made_up).await, (200, json!({"symbol": "CME:ES"})));
    assert_eq!(es.update().await, values);
    market.tick(1, 1640.25);
    assert_eq!(es.update().await, json!({"lp_time": START + 1, "volume": 17.0}));
}

#[tokio::test]
async fn what_cannot_be_traded_is_said() {
    let market = Market::start().await;
    for (tick, reason) in [
        (json!({"symbol": "A:B", "price": 1}), "there is no such symbol"),
        (json!({"symbol": "NYSE:IBM", "price": 1}), "not replayed"),
        (json!({"symbol": "CME:ES", "price": 1}), "has not started"),
        (json!({"symbol": "CME:ES", "price": 1, "size": -1}), "not below 0"),
        (json!({"symbol": "CME:ES", "price": 1, "time": "now"}), "`now` is no RFC 3339"),
        (json!({"symbol": "CME:ES"}), "missing field `price`"),
    ] {
        let (status, answer) = market.post("tick", tick).await;
        assert_eq!(status, 400);
        assert!(answer["error"].as_str().unwrap().contains(reason), "{answer}");
    }
}
