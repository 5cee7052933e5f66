//! A client that hears of one symbol, and a market for it.

use pocketquant::simulator::{Pace, ReplayConfig, SimulatorConfig};
use serde_json::{Map, Value, json};

use super::client::Client;
use super::{Folder, Running};

/// Six trades in two minutes, three of which look alike.
pub const TRADES: &str = "time,price,size\n\
    2013-09-03T14:00:00.083Z,1640.25,8\n\
    2013-09-03T14:00:00.083Z,1640.25,8\n\
    2013-09-03T14:00:00.900Z,1640.25,8\n\
    2013-09-03T14:00:59.999Z,1639.5,1\n\
    2013-09-03T14:01:00.000Z,1641,2\n\
    2013-09-03T14:01:44.578Z,1640,3\n";

/// 2013-09-03T14:00:00Z.
pub const START: i64 = 1_378_216_800;

/// A folder with trades of CME:ES alone, and its calendar.
pub fn folder(trades: &str) -> Folder {
    let folder = Folder::small();
    folder.put_trades("CME_ES_trades.csv.gz", trades);
    folder
}

pub fn moving(folder: &Folder, pace: Pace) -> SimulatorConfig {
    let replay = Some(ReplayConfig { pace, ..ReplayConfig::default() });
    SimulatorConfig { replay, ..folder.config() }
}

/// A market so slow that nothing happens after what is due at once.
pub const STILL: Pace = Pace::Speed(1e-6);

/// `count` trades, one every 250 ms, of changing price and size.
pub fn many(count: u32) -> (String, Vec<f64>) {
    use std::fmt::Write as _;
    let mut text = "time,price,size\n".to_owned();
    let (mut volume, mut volumes) = (0.0, Vec::new());
    for number in 0..count {
        let time =
            jiff::Timestamp::from_millisecond(START * 1_000 + i64::from(number) * 250).unwrap();
        writeln!(text, "{time},{},{}", 1_600 + number % 7, 1 + number % 3).unwrap();
        volume += f64::from(1 + number % 3);
        volumes.push(volume);
    }
    (text, volumes)
}

/// A client that hears of one symbol.
pub struct Watcher {
    pub client: Client,
    pub merged: Map<String, Value>,
}

impl Watcher {
    pub async fn of(simulator: &Running, symbol: &str, fields: &[&str]) -> Self {
        let mut client = Client::greeted(&simulator.ws_url).await;
        client.say("quote_create_session", json!(["qs_1"])).await;
        if !fields.is_empty() {
            let mut parameters = vec!["qs_1"];
            parameters.extend(fields);
            client.say("quote_set_fields", json!(parameters)).await;
        }
        client.say("quote_add_symbols", json!(["qs_1", symbol])).await;
        let mut watcher = Self { client, merged: Map::new() };
        loop {
            let message = watcher.client.json().await;
            if message["m"] == "quote_completed" {
                return watcher;
            }
            watcher.merge(&message);
        }
    }

    pub fn merge(&mut self, message: &Value) -> Value {
        assert_eq!(message["m"], "qsd", "{message}");
        let values = message["p"][1]["v"].clone();
        self.merged.extend(values.as_object().unwrap().clone());
        values
    }

    /// The next update, as it came.
    pub async fn update(&mut self) -> Value {
        let message = self.client.json().await;
        self.merge(&message)
    }

    /// The updates up to the one that says that the session is over, without it.
    pub async fn until_the_end(&mut self) -> Vec<Value> {
        let mut updates = Vec::new();
        loop {
            let update = self.update().await;
            if update["current_session"] == "out_of_session" {
                return updates;
            }
            updates.push(update);
        }
    }

    pub fn get(&self, field: &str) -> Value {
        self.merged.get(field).cloned().unwrap_or_default()
    }
}
