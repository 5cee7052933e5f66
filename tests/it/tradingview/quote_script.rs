//! A quote session played by hand, and the feed that listens to it.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::BoxStream;
use pocketquant::domain::quote::QuoteUpdate;
use pocketquant::domain::shared::Symbol;
use pocketquant::infrastructure::interfaces::{
    FeedCommand, FeedEvent, FeedState, ProviderError, QuoteProvider as _, UpdateKind,
};
use pocketquant::infrastructure::tradingview::{FeedConfig, TradingViewConfig};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::script::{Client, Connection, Server, within};

/// Patience for pauses that a test waits for.
pub const SHORT: Duration = Duration::from_millis(300);

/// A feed under test.
pub struct Feed {
    pub commands: mpsc::Sender<FeedCommand>,
    pub events: BoxStream<'static, FeedEvent>,
    pub client: Client,
}

pub fn symbol(name: &str) -> Symbol {
    Symbol::parse(name).unwrap()
}

/// A feed's settings with pauses that a test can wait for.
pub fn hasty(server: &Server) -> TradingViewConfig {
    let feed = FeedConfig {
        retry_first: Duration::from_millis(20),
        retry_longest: Duration::from_millis(80),
        chunk_pause: Duration::from_millis(1),
        ..FeedConfig::default()
    };
    TradingViewConfig { feed, ..server.config() }
}

impl Feed {
    /// A feed that is asked for `names`; it runs from when its first event is taken.
    pub async fn of(config: TradingViewConfig, names: &[&str]) -> Self {
        let client = Client::new(config);
        let (commands, received) = mpsc::channel(64);
        let events = client.provider.feed(received);
        let feed = Self { commands, events, client };
        for name in names {
            feed.add(name).await;
        }
        feed
    }

    /// A feed of `names` that is connected, and the server's side of it.
    pub async fn connected(server: &Server, names: &[&str]) -> (Self, Connection, String) {
        let mut feed = Self::of(hasty(server), names).await;
        feed.connecting().await;
        let mut connection = server.greet().await;
        let session = opened(&mut connection).await;
        let mut added = Vec::new();
        while added.len() < names.len() {
            added.extend(names_in(&connection.expect("quote_add_symbols").await, &session));
        }
        connection.raw("~m~4~m~~h~1".to_owned()).await;
        assert_eq!(connection.text().await.unwrap(), "~m~4~m~~h~1");
        feed.is_connected().await;
        assert!(matches!(feed.next().await, FeedEvent::Alive));
        (feed, connection, session)
    }

    pub async fn add(&self, name: &str) {
        within(self.commands.send(FeedCommand::Add(symbol(name)))).await.unwrap();
    }

    pub async fn remove(&self, name: &str) {
        within(self.commands.send(FeedCommand::Remove(symbol(name)))).await.unwrap();
    }

    pub async fn next(&mut self) -> FeedEvent {
        within(self.events.next()).await.unwrap()
    }

    pub async fn state(&mut self) -> FeedState {
        let event = self.next().await;
        let FeedEvent::State(state) = event else { panic!("{event:?}") };
        state
    }

    pub async fn connecting(&mut self) {
        let state = self.state().await;
        assert!(matches!(state, FeedState::Connecting), "{state:?}");
    }

    pub async fn is_connected(&mut self) {
        let state = self.state().await;
        assert!(matches!(state, FeedState::Connected), "{state:?}");
    }

    pub async fn is_idle(&mut self) {
        let state = self.state().await;
        assert!(matches!(state, FeedState::Idle), "{state:?}");
    }

    /// The next state, which must be a pause: why, before which try, how long.
    pub async fn reconnecting(&mut self) -> (ProviderError, u32, Duration) {
        let state = self.state().await;
        let FeedState::Reconnecting { error, attempt, retry_in } = state else {
            panic!("{state:?}")
        };
        (error, attempt, retry_in)
    }

    pub async fn update(&mut self, name: &str) -> (QuoteUpdate, UpdateKind) {
        let event = self.next().await;
        let FeedEvent::Update { symbol: of, update, kind } = event else { panic!("{event:?}") };
        assert_eq!(of, symbol(name));
        (update, kind)
    }

    pub async fn complete(&mut self, name: &str) {
        let event = self.next().await;
        let FeedEvent::SnapshotComplete { symbol: of } = event else { panic!("{event:?}") };
        assert_eq!(of, symbol(name));
    }

    pub async fn refused(&mut self, name: &str) -> ProviderError {
        let event = self.next().await;
        let FeedEvent::SymbolError { symbol: of, error } = event else { panic!("{event:?}") };
        assert_eq!(of, symbol(name));
        error
    }

    /// Nothing more comes, and no task is left that could connect.
    pub async fn ended(mut self) {
        let event = within(self.events.next()).await;
        assert!(event.is_none(), "{event:?}");
        self.client.tasks.close();
        within(self.client.tasks.wait()).await;
    }
}

/// Takes the opening of a quote session; answers its name.
pub async fn opened(connection: &mut Connection) -> String {
    let created = connection.expect("quote_create_session").await;
    let session = created[0].as_str().unwrap().to_owned();
    assert!(session.starts_with("qs_") && session.len() == 15, "{session}");
    assert_eq!(created, json!([session]));
    let fields = names_in(&connection.expect("quote_set_fields").await, &session);
    for field in ["lp", "lp_time", "volume", "bid", "ask", "current_session", "update_mode"] {
        assert!(fields.iter().any(|asked| asked == field), "{field}: {fields:?}");
    }
    session
}

/// What follows the session in a command's parameters: names and nothing else.
pub fn names_in(params: &Value, session: &str) -> Vec<String> {
    let names: Vec<_> = params.as_array().unwrap().iter().map(Value::as_str).collect();
    assert_eq!(names[0], Some(session));
    names[1..].iter().map(|name| name.unwrap().to_owned()).collect()
}

pub fn qsd(session: &str, name: &str, values: &Value) -> String {
    json!({"m": "qsd", "p": [session, {"n": name, "s": "ok", "v": values}]}).to_string()
}

pub fn refusal(session: &str, name: &str, status: &str, errmsg: &str, values: &Value) -> String {
    let quote = json!({"n": name, "s": status, "errmsg": errmsg, "v": values});
    json!({"m": "qsd", "p": [session, quote]}).to_string()
}

pub fn completed(session: &str, name: &str) -> String {
    json!({"m": "quote_completed", "p": [session, name]}).to_string()
}
