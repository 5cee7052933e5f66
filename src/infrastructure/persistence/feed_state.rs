//! What the feed remembers of each symbol over a crash, whichever engine keeps it.
//!
//! It does not know what is in it: one opaque value a symbol, with its own version inside.

use bytes::Bytes;
use jiff::Timestamp;

use super::database::Engine;
use super::{DatabaseError, mongodb, sqlite};
use crate::domain::shared::Symbol;

/// The feed's memory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FeedState(StateEngine);

#[derive(Clone, Debug)]
enum StateEngine {
    MongoDb(mongodb::FeedState),
    Sqlite(sqlite::FeedState),
}

impl FeedState {
    pub(super) fn new(engine: &Engine) -> Self {
        Self(match engine {
            Engine::MongoDb(engine) => StateEngine::MongoDb(mongodb::FeedState::new(engine)),
            Engine::Sqlite(engine) => StateEngine::Sqlite(sqlite::FeedState::new(engine)),
        })
    }

    /// Keeps each value in place of the symbol's last one, as of `at`. Each is whole or not
    /// changed; on SQLite all are changed or none.
    pub async fn save(
        &self,
        states: &[(Symbol, Bytes)],
        at: Timestamp,
    ) -> Result<(), DatabaseError> {
        if states.is_empty() {
            return Ok(());
        }
        match &self.0 {
            StateEngine::MongoDb(engine) => engine.save(states, at).await,
            StateEngine::Sqlite(engine) => engine.save(states, at).await,
        }
    }

    /// What is kept of `symbol`.
    pub async fn get(&self, symbol: &Symbol) -> Result<Option<Bytes>, DatabaseError> {
        match &self.0 {
            StateEngine::MongoDb(engine) => engine.get(symbol).await,
            StateEngine::Sqlite(engine) => engine.get(symbol).await,
        }
    }

    /// All that is kept, by exchange and code.
    pub async fn load_all(&self) -> Result<Vec<(Symbol, Bytes)>, DatabaseError> {
        let mut states = match &self.0 {
            StateEngine::MongoDb(engine) => engine.load_all().await?,
            StateEngine::Sqlite(engine) => engine.load_all().await?,
        };
        states.sort_unstable_by(|(one, _), (other, _)| {
            (one.exchange(), one.code()).cmp(&(other.exchange(), other.code()))
        });
        Ok(states)
    }

    /// Forgets what is kept of `symbols`.
    pub async fn delete(&self, symbols: &[Symbol]) -> Result<(), DatabaseError> {
        if symbols.is_empty() {
            return Ok(());
        }
        match &self.0 {
            StateEngine::MongoDb(engine) => engine.delete(symbols).await,
            StateEngine::Sqlite(engine) => engine.delete(symbols).await,
        }
    }
}
