//! A client of the protocol: literal frames out, a strict reader in.

use std::collections::VecDeque;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Longer than anything should take; a test that reaches it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// What arrived.
#[derive(Debug, PartialEq)]
pub enum Heard {
    /// A JSON payload, and in which websocket message it came.
    Json(Value, usize),
    Heartbeat(u64),
    /// Text that is no frame.
    Rubbish(String),
    /// The connection's end.
    End,
}

pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    waiting: VecDeque<Heard>,
    messages: usize,
    /// Whether heartbeats are echoed.
    pub echoes: bool,
}

impl Client {
    pub async fn connect(url: &str) -> Self {
        let (socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        Self { socket, waiting: VecDeque::new(), messages: 0, echoes: true }
    }

    /// Connects and takes the greeting.
    pub async fn greeted(url: &str) -> Self {
        let mut client = Self::connect(url).await;
        let hello = client.json().await;
        assert!(hello.get("m").is_none() && hello["session_id"].is_string(), "{hello}");
        client
    }

    /// Sends `text` as it is.
    pub async fn raw(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    pub async fn say(&mut self, method: &str, parameters: Value) {
        let payload = json!({"m": method, "p": parameters}).to_string();
        let length = payload.encode_utf16().count();
        self.raw(&format!("~m~{length}~m~{payload}")).await;
    }

    /// The next thing, heartbeats included.
    pub async fn hear(&mut self) -> Heard {
        loop {
            if let Some(heard) = self.waiting.pop_front() {
                if let (Heard::Heartbeat(number), true) = (&heard, self.echoes) {
                    let beat = format!("~h~{number}");
                    self.raw(&format!("~m~{}~m~{beat}", beat.len())).await;
                }
                return heard;
            }
            let message = tokio::time::timeout(PATIENCE, self.socket.next()).await;
            match message.expect("nothing came for too long") {
                Some(Ok(Message::Text(text))) => self.take(&text),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Heard::End,
                Some(Ok(_)) => {}
            }
        }
    }

    /// Reads frames by UTF-16 code units, as JavaScript does.
    fn take(&mut self, text: &str) {
        let units: Vec<u16> = text.encode_utf16().collect();
        let mut at = 0;
        while at < units.len() {
            let start_of_it = String::from_utf16_lossy(&units[at..units.len().min(at + 16)]);
            let header = start_of_it.strip_prefix("~m~").and_then(|rest| rest.split_once("~m~"));
            let length = header.and_then(|(length, _)| length.parse::<usize>().ok());
            let Some(length) = length else {
                self.waiting.push_back(Heard::Rubbish(String::from_utf16_lossy(&units[at..])));
                return;
            };
            let start = at + 6 + length.to_string().len();
            if start + length > units.len() {
                self.waiting.push_back(Heard::Rubbish(String::from_utf16_lossy(&units[at..])));
                return;
            }
            let payload = String::from_utf16(&units[start..start + length]).unwrap();
            at = start + length;
            let heard = match payload.strip_prefix("~h~") {
                Some(number) => Heard::Heartbeat(number.parse().unwrap()),
                None => match serde_json::from_str(&payload) {
                    Ok(json) => Heard::Json(json, self.messages),
                    Err(_) => Heard::Rubbish(payload),
                },
            };
            self.waiting.push_back(heard);
        }
        self.messages += 1;
    }

    /// The next JSON, heartbeats left out.
    pub async fn json(&mut self) -> Value {
        loop {
            match self.hear().await {
                Heard::Json(json, _) => return json,
                Heard::Heartbeat(_) => {}
                other @ (Heard::Rubbish(_) | Heard::End) => {
                    panic!("expected JSON, heard {other:?}")
                }
            }
        }
    }

    /// The parameters of the next message, which must be `method`.
    pub async fn expect(&mut self, method: &str) -> Value {
        let mut json = self.json().await;
        assert_eq!(json["m"], method, "{json}");
        json["p"].take()
    }

    /// That the connection ends, whatever comes before.
    pub async fn expect_end(&mut self) {
        while self.hear().await != Heard::End {}
    }

    /// Opens a chart session `cs_1` and resolves `symbol` as `sym_1`.
    pub async fn open_chart(&mut self, symbol: &str) {
        self.say("set_auth_token", json!(["unauthorized_user_token"])).await;
        self.say("chart_create_session", json!(["cs_1", ""])).await;
        let spec = format!("={}", json!({"adjustment": "splits", "symbol": symbol}));
        self.say("resolve_symbol", json!(["cs_1", "sym_1", spec])).await;
    }

    /// The bars of one page: what stands in `timescale_update`, and the info of
    /// `series_completed`.
    pub async fn page(&mut self) -> (Vec<Value>, Value) {
        let mut bars = Vec::new();
        loop {
            let message = self.json().await;
            match message["m"].as_str().unwrap() {
                "timescale_update" => {
                    let series = message["p"][1].as_object().unwrap().values().next().unwrap();
                    let values = series["s"].as_array().unwrap().iter().map(|bar| bar["v"].clone());
                    bars.extend(values);
                }
                "series_completed" => return (bars, message["p"][4].clone()),
                "series_loading" | "symbol_resolved" | "series_timeframe" => {}
                other => panic!("`{other}` in place of a page: {message}"),
            }
        }
    }

    /// All bars of `symbol` at `resolution`, up to 10,000.
    pub async fn bars(&mut self, symbol: &str, resolution: &str) -> Vec<Value> {
        self.open_chart(symbol).await;
        self.say("create_series", json!(["cs_1", "s1", "t1", "sym_1", resolution, 10_000, ""]))
            .await;
        self.page().await.0
    }
}
