//! Where events are sent to, whichever engine keeps it.

use jiff::Timestamp;
use secrecy::SecretString;
use uuid::Uuid;

use super::calls::Calls;
use super::database::Engine;
use super::{DatabaseError, mongodb, sqlite};
use crate::domain::shared::{EventType, Interval, Symbol};

/// An endpoint. `Debug` does not show its secret. Times are kept to the millisecond.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Which.
    pub id: Uuid,
    /// Where events are sent to.
    pub url: String,
    /// What it is for, in its owner's words.
    pub description: String,
    /// Only events of these types; all where there are none.
    pub event_types: Vec<EventType>,
    /// Only events about these symbols, where they are about one; all where there are none.
    pub symbols: Vec<Symbol>,
    /// Only events about these intervals, where they are about one; all where there are none.
    pub intervals: Vec<Interval>,
    /// What its messages are signed with, as its owner knows it.
    pub secret: SecretString,
    /// Since when.
    pub created_at: Timestamp,
    /// Since when nothing is sent, and why.
    pub disabled: Option<(Timestamp, String)>,
    /// The last entry of the bar log that was put into its outbox, or passed over.
    pub cursor: u64,
    /// Events that were lost to it, as it did not take them for too long.
    pub dropped: u64,
}

/// The endpoints. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Webhooks {
    engine: WebhookEngine,
    calls: Calls,
}

#[derive(Clone, Debug)]
enum WebhookEngine {
    MongoDb(mongodb::Webhooks),
    Sqlite(sqlite::Webhooks),
}

impl Webhooks {
    pub(super) fn new(engine: &Engine) -> Self {
        let calls = Calls::new(engine.name(), "webhooks");
        let engine = match engine {
            Engine::MongoDb(engine) => WebhookEngine::MongoDb(mongodb::Webhooks::new(engine)),
            Engine::Sqlite(engine) => WebhookEngine::Sqlite(sqlite::Webhooks::new(engine)),
        };
        Self { engine, calls }
    }

    /// Keeps a new endpoint.
    pub async fn insert(&self, webhook: &Webhook) -> Result<(), DatabaseError> {
        let work = async {
            match &self.engine {
                WebhookEngine::MongoDb(engine) => engine.insert(webhook).await,
                WebhookEngine::Sqlite(engine) => engine.insert(webhook).await,
            }
        };
        self.calls.observe("insert", Box::pin(work)).await
    }

    /// All endpoints, the oldest first.
    pub async fn list(&self) -> Result<Vec<Webhook>, DatabaseError> {
        let work = async {
            match &self.engine {
                WebhookEngine::MongoDb(engine) => engine.list().await,
                WebhookEngine::Sqlite(engine) => engine.list().await,
            }
        };
        self.calls.observe("list", Box::pin(work)).await
    }

    /// Forgets an endpoint and all that waits for it. Answers whether there was one.
    pub async fn delete(&self, id: Uuid) -> Result<bool, DatabaseError> {
        let work = async {
            match &self.engine {
                WebhookEngine::MongoDb(engine) => engine.delete(id).await,
                WebhookEngine::Sqlite(engine) => engine.delete(id).await,
            }
        };
        self.calls.observe("delete", Box::pin(work)).await
    }

    /// Sends nothing more to an endpoint, as of `at`. Answers whether it was not disabled before.
    pub async fn disable(&self, id: Uuid, at: Timestamp, why: &str) -> Result<bool, DatabaseError> {
        let work = async {
            match &self.engine {
                WebhookEngine::MongoDb(engine) => engine.disable(id, at, why).await,
                WebhookEngine::Sqlite(engine) => engine.disable(id, at, why).await,
            }
        };
        self.calls.observe("disable", Box::pin(work)).await
    }

    /// Sends to a disabled endpoint again: what waits for it, and bars that are logged after
    /// `cursor`. Leaves one that is not disabled as it is. Answers the endpoint.
    pub async fn enable(&self, id: Uuid, cursor: u64) -> Result<Option<Webhook>, DatabaseError> {
        let work = async {
            match &self.engine {
                WebhookEngine::MongoDb(engine) => engine.enable(id, cursor).await,
                WebhookEngine::Sqlite(engine) => engine.enable(id, cursor).await,
            }
        };
        self.calls.observe("enable", Box::pin(work)).await
    }
}

/// A list of names as it is stored: with commas between them.
pub(super) fn joined(names: impl IntoIterator<Item = impl ToString>) -> String {
    names.into_iter().map(|name| name.to_string()).collect::<Vec<_>>().join(",")
}

/// The names in a stored list.
pub(super) fn split<T: std::str::FromStr<Err: ToString>>(list: &str) -> Result<Vec<T>, String> {
    let names = list.split(',').filter(|name| !name.is_empty());
    names.map(|name| name.parse().map_err(|error: T::Err| error.to_string())).collect()
}
