//! Which symbols the feed follows, whichever engine keeps them.

use jiff::Timestamp;

use super::calls::Calls;
use super::database::Engine;
use super::{DatabaseError, mongodb, sqlite};
use crate::domain::shared::Symbol;

/// A symbol that the feed follows until it is told otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribed {
    /// Which symbol.
    pub symbol: Symbol,
    /// Since when; kept to the millisecond.
    pub created_at: Timestamp,
    /// Open time of the first bar that the feed ever tracked: closed bars from here on are logged.
    pub logged_from: Option<Timestamp>,
}

/// The subscriptions. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Subscriptions {
    engine: SubscriptionEngine,
    calls: Calls,
}

#[derive(Clone, Debug)]
enum SubscriptionEngine {
    MongoDb(mongodb::Subscriptions),
    Sqlite(sqlite::Subscriptions),
}

impl Subscriptions {
    pub(super) fn new(engine: &Engine) -> Self {
        let calls = Calls::new(engine.name(), "subscriptions");
        let engine = match engine {
            Engine::MongoDb(engine) => {
                SubscriptionEngine::MongoDb(mongodb::Subscriptions::new(engine))
            }
            Engine::Sqlite(engine) => {
                SubscriptionEngine::Sqlite(sqlite::Subscriptions::new(engine))
            }
        };
        Self { engine, calls }
    }

    /// Stores `subscribed` in place of what was known of its symbol.
    pub async fn put(&self, subscribed: &Subscribed) -> Result<(), DatabaseError> {
        let work = async {
            match &self.engine {
                SubscriptionEngine::MongoDb(engine) => engine.put(subscribed).await,
                SubscriptionEngine::Sqlite(engine) => engine.put(subscribed).await,
            }
        };
        self.calls.observe("put", Box::pin(work)).await
    }

    /// The subscription of `symbol`.
    pub async fn get(&self, symbol: &Symbol) -> Result<Option<Subscribed>, DatabaseError> {
        let work = async {
            match &self.engine {
                SubscriptionEngine::MongoDb(engine) => engine.get(symbol).await,
                SubscriptionEngine::Sqlite(engine) => engine.get(symbol).await,
            }
        };
        self.calls.observe("get", Box::pin(work)).await
    }

    /// Removes the subscription of `symbol`; answers whether there was one.
    pub async fn delete(&self, symbol: &Symbol) -> Result<bool, DatabaseError> {
        let work = async {
            match &self.engine {
                SubscriptionEngine::MongoDb(engine) => engine.delete(symbol).await,
                SubscriptionEngine::Sqlite(engine) => engine.delete(symbol).await,
            }
        };
        self.calls.observe("delete", Box::pin(work)).await
    }

    /// At most `limit` subscriptions after `after`, by exchange and code.
    pub async fn list(
        &self,
        after: Option<&Symbol>,
        limit: u32,
    ) -> Result<Vec<Subscribed>, DatabaseError> {
        let work = async {
            match &self.engine {
                SubscriptionEngine::MongoDb(engine) => engine.list(after, limit).await,
                SubscriptionEngine::Sqlite(engine) => engine.list(after, limit).await,
            }
        };
        self.calls.observe("list", Box::pin(work)).await
    }
}
