//! Which symbols the feed follows, whichever engine keeps them.

use jiff::Timestamp;

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
pub struct Subscriptions(SubscriptionEngine);

#[derive(Clone, Debug)]
enum SubscriptionEngine {
    MongoDb(mongodb::Subscriptions),
    Sqlite(sqlite::Subscriptions),
}

impl Subscriptions {
    pub(super) fn new(engine: &Engine) -> Self {
        Self(match engine {
            Engine::MongoDb(engine) => {
                SubscriptionEngine::MongoDb(mongodb::Subscriptions::new(engine))
            }
            Engine::Sqlite(engine) => {
                SubscriptionEngine::Sqlite(sqlite::Subscriptions::new(engine))
            }
        })
    }

    /// Stores `subscribed` in place of what was known of its symbol.
    pub async fn put(&self, subscribed: &Subscribed) -> Result<(), DatabaseError> {
        match &self.0 {
            SubscriptionEngine::MongoDb(engine) => engine.put(subscribed).await,
            SubscriptionEngine::Sqlite(engine) => engine.put(subscribed).await,
        }
    }

    /// The subscription of `symbol`.
    pub async fn get(&self, symbol: &Symbol) -> Result<Option<Subscribed>, DatabaseError> {
        match &self.0 {
            SubscriptionEngine::MongoDb(engine) => engine.get(symbol).await,
            SubscriptionEngine::Sqlite(engine) => engine.get(symbol).await,
        }
    }

    /// Removes the subscription of `symbol`; answers whether there was one.
    pub async fn delete(&self, symbol: &Symbol) -> Result<bool, DatabaseError> {
        match &self.0 {
            SubscriptionEngine::MongoDb(engine) => engine.delete(symbol).await,
            SubscriptionEngine::Sqlite(engine) => engine.delete(symbol).await,
        }
    }

    /// At most `limit` subscriptions after `after`, by exchange and code.
    pub async fn list(
        &self,
        after: Option<&Symbol>,
        limit: u32,
    ) -> Result<Vec<Subscribed>, DatabaseError> {
        match &self.0 {
            SubscriptionEngine::MongoDb(engine) => engine.list(after, limit).await,
            SubscriptionEngine::Sqlite(engine) => engine.list(after, limit).await,
        }
    }
}
