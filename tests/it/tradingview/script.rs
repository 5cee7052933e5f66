//! A WebSocket server on loopback that a test plays by hand, with its own framing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join;
use futures::{SinkExt as _, StreamExt as _};
use pocketquant::domain::shared::{Interval, Series, Symbol};
use pocketquant::infrastructure::interfaces::{
    HistoryDepth, HistoryPage, HistoryProvider as _, HistoryRequest, HistoryStream, ProviderError,
};
use pocketquant::infrastructure::tradingview::{TradingView, TradingViewConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_mins(2);

pub const HELLO: &str = r#"{"session_id":"0.4607.904_dal-charts-free-4-tvbs-c2fn6-2","timestamp":1742933763,"timestampMs":1742933763175,"release":"release_208-49","studies_metadata_hash":"e2f4","auth_scheme_vsn":2,"protocol":"json","via":"209.58.146.82:443","javastudies":["3.66"]}"#;

/// Listens; each connection is accepted when the test says so.
pub struct Server {
    pub listener: TcpListener,
}

/// A connection, from the server's side.
pub struct Connection<S = TcpStream> {
    socket: WebSocketStream<S>,
    commands: VecDeque<Value>,
    /// The headers of the opening request, in lower case.
    pub headers: String,
}

/// A client under test and what its tasks run on.
pub struct Client {
    pub provider: TradingView,
    pub tasks: TaskTracker,
    pub stopping: CancellationToken,
}

/// Does both at once, and fails where that takes too long.
pub async fn both<A, B>(
    client: impl Future<Output = A>,
    server: impl Future<Output = B>,
) -> (A, B) {
    within(join(client, server)).await
}

/// Fails where it takes too long.
pub async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.unwrap()
}

pub fn frame(payload: &str) -> String {
    format!("~m~{}~m~{payload}", payload.encode_utf16().count())
}

/// `count` daily bars from `first` (seconds) on.
pub fn rows(first: i64, count: i64) -> Value {
    let row = |i: i64| json!({"i": i, "v": [first + i * 86_400, 1.5, 2.5, 0.5, 2.0, 10.25]});
    (0..count).map(row).collect()
}

impl Server {
    pub async fn start() -> Self {
        Self { listener: TcpListener::bind(("127.0.0.1", 0)).await.unwrap() }
    }

    pub fn config(&self) -> TradingViewConfig {
        let address = self.listener.local_addr().unwrap();
        TradingViewConfig {
            ws_url: format!("ws://{address}/socket.io/websocket?from=chart%2F&type=chart"),
            // Nobody there: a test that looks symbols up says where.
            search_url: "http://127.0.0.1:9".to_owned(),
            ..TradingViewConfig::default()
        }
    }

    pub fn client(&self) -> Client {
        Client::new(self.config())
    }

    /// The next connection, opened but not greeted.
    pub async fn accept(&self) -> Connection {
        let (stream, _) = within(self.listener.accept()).await.unwrap();
        Connection::open(stream).await
    }

    /// The next connection, greeted, after it said who it is.
    pub async fn greet(&self) -> Connection {
        let mut connection = self.accept().await;
        connection.greet().await;
        connection
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub async fn open(stream: S) -> Self {
        let headers = Arc::new(Mutex::new(String::new()));
        let seen = Arc::clone(&headers);
        #[expect(clippy::result_large_err, reason = "the library's signature")]
        let look =
            move |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
                *seen.lock().unwrap() = format!("{} {:?}", request.uri(), request.headers());
                Ok(response)
            };
        let socket = within(accept_hdr_async(stream, look)).await.unwrap();
        let headers = headers.lock().unwrap().clone();
        Self { socket, commands: VecDeque::new(), headers }
    }

    pub async fn greet(&mut self) {
        self.say(HELLO).await;
        assert_eq!(self.expect("set_auth_token").await, json!(["unauthorized_user_token"]));
        self.expect("set_locale").await;
    }

    /// Sends one frame.
    pub async fn say(&mut self, json: &str) {
        self.raw(frame(json)).await;
    }

    /// Sends a text as it is.
    /// Says something that the client need not listen to until its end.
    pub async fn raw_in_vain(&mut self, text: String) {
        drop(self.socket.send(Message::text(text)).await);
    }

    pub async fn raw(&mut self, text: String) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// The next message as it came; none where the client closed.
    pub async fn text(&mut self) -> Option<String> {
        loop {
            match within(self.socket.next()).await {
                Some(Ok(Message::Text(text))) => return Some(text.to_string()),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(other)) => unreachable!("{other:?}"),
            }
        }
    }

    /// The next command: its name and parameters.
    pub async fn command(&mut self) -> (String, Value) {
        while self.commands.is_empty() {
            let text = self.text().await.unwrap();
            let mut rest = text.as_str();
            while let Some(after) = rest.strip_prefix("~m~") {
                let (length, after) = after.split_once("~m~").unwrap();
                let (payload, after) = after.split_at(length.parse().unwrap());
                self.commands.push_back(serde_json::from_str(payload).unwrap());
                rest = after;
            }
            assert_eq!(rest, "");
        }
        let command = self.commands.pop_front().unwrap();
        (command["m"].as_str().unwrap().to_owned(), command["p"].clone())
    }

    /// The parameters of the next command, which must be `method`.
    pub async fn expect(&mut self, method: &str) -> Value {
        let (found, params) = self.command().await;
        assert_eq!(found, method, "{params}");
        params
    }

    /// Takes a whole request for bars; answers its chart session, symbol and count.
    pub async fn request(&mut self) -> (String, String, i64) {
        let created = self.expect("chart_create_session").await;
        self.expect("switch_timezone").await;
        let resolve = self.expect("resolve_symbol").await;
        let series = self.expect("create_series").await;
        let spec: Value =
            serde_json::from_str(resolve[2].as_str().unwrap().strip_prefix('=').unwrap()).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&created[0]), text(&spec["symbol"]), series[5].as_i64().unwrap())
    }

    /// Takes the end of a request; answers its chart session.
    pub async fn farewell(&mut self) -> String {
        let removed = self.expect("remove_series").await;
        let deleted = self.expect("chart_delete_session").await;
        assert_eq!((removed[0].clone(), removed[1].as_str()), (deleted[0].clone(), Some("sds_1")));
        deleted[0].as_str().unwrap().to_owned()
    }

    /// Tells a chart session that a symbol of this name is known.
    pub async fn resolved(&mut self, session: &str, name: &str) {
        let symbol = json!({"name": name, "description": name, "timezone": "America/New_York",
            "session": "0930-1600", "pricescale": 100, "type": "stock", "currency_code": "USD"});
        let message = json!({"m": "symbol_resolved", "p": [session, "sds_sym_1", symbol]});
        self.say(&message.to_string()).await;
    }

    /// Answers with bars, complete.
    pub async fn bars(&mut self, session: &str, rows: &Value, info: &Value) {
        self.say(&loading(session)).await;
        self.say(&update(session, rows)).await;
        self.say(&completed(session, info)).await;
    }

    /// Answers a whole request with `count` bars.
    pub async fn serve(&mut self, count: i64) -> String {
        self.serve_from(1_600_000_000, count).await
    }

    /// Answers a whole request with `count` bars from `first` (seconds) on.
    pub async fn serve_from(&mut self, first: i64, count: i64) -> String {
        let (session, symbol, _) = self.request().await;
        self.resolved(&session, &symbol).await;
        self.bars(&session, &rows(first, count), &json!({})).await;
        session
    }

    /// Waits for the client to go away.
    pub async fn closed(&mut self) {
        while self.text().await.is_some() {}
    }
}

pub fn loading(session: &str) -> String {
    let params = [session, "sds_1", "s1"];
    json!({"m": "series_loading", "p": params, "t": 1_742_933_770}).to_string()
}

pub fn update(session: &str, rows: &Value) -> String {
    let series =
        json!({"sds_1": {"node": "n", "s": rows, "ns": {"d": "", "indexes": []}, "t": "s1"}});
    let scale = json!({"index": 0, "zoffset": 0, "changes": [], "marks": [], "index_diff": []});
    json!({"m": "timescale_update", "p": [session, series, scale],
        "t": 1_742_933_770, "t_ms": 1_742_933_770_100_i64})
    .to_string()
}

pub fn completed(session: &str, info: &Value) -> String {
    json!({"m": "series_completed", "p": [session, "sds_1", "streaming", "s1", info],
        "t": 1_742_933_770, "t_ms": 1_742_933_770_200_i64})
    .to_string()
}

impl Client {
    pub fn new(config: TradingViewConfig) -> Self {
        let (tasks, stopping) = (TaskTracker::new(), CancellationToken::new());
        let provider = TradingView::new(config, tasks.clone(), stopping.clone()).unwrap();
        Self { provider, tasks, stopping }
    }

    pub fn history(&self, symbol: &str, depth: HistoryDepth) -> HistoryStream {
        let series = Series::new(Symbol::parse(symbol).unwrap(), Interval::D1);
        self.provider.history(HistoryRequest { series, depth })
    }

    /// The first page of the newest ten bars.
    pub async fn page(&self, symbol: &str) -> Result<HistoryPage, ProviderError> {
        self.history(symbol, HistoryDepth::Newest(10)).next().await.unwrap()
    }
}
