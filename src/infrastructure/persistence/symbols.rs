//! The registry of instruments, whichever engine keeps it.

use super::database::Engine;
use super::{DatabaseError, mongodb, sqlite};
use crate::domain::shared::Symbol;
use crate::domain::symbol::SymbolInfo;

/// Which instruments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SymbolFilter {
    /// Only those of this exchange.
    pub exchange: Option<String>,
    /// Only those that are, or are not, followed.
    pub active: Option<bool>,
}

/// The registry of instruments. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Symbols(SymbolEngine);

#[derive(Clone, Debug)]
enum SymbolEngine {
    MongoDb(mongodb::Symbols),
    Sqlite(sqlite::Symbols),
}

impl Symbols {
    pub(super) fn new(engine: &Engine) -> Self {
        Self(match engine {
            Engine::MongoDb(engine) => SymbolEngine::MongoDb(mongodb::Symbols::new(engine)),
            Engine::Sqlite(engine) => SymbolEngine::Sqlite(sqlite::Symbols::new(engine)),
        })
    }

    /// What is known about `symbol`.
    pub async fn get(&self, symbol: &Symbol) -> Result<Option<SymbolInfo>, DatabaseError> {
        match &self.0 {
            SymbolEngine::MongoDb(engine) => engine.get(symbol).await,
            SymbolEngine::Sqlite(engine) => engine.get(symbol).await,
        }
    }

    /// Stores `info` in place of what was known. Times are kept to the millisecond.
    pub async fn put(&self, info: &SymbolInfo) -> Result<(), DatabaseError> {
        match &self.0 {
            SymbolEngine::MongoDb(engine) => engine.put(info).await,
            SymbolEngine::Sqlite(engine) => engine.put(info).await,
        }
    }

    /// At most `limit` instruments after `after`, by exchange and code.
    pub async fn list(
        &self,
        filter: &SymbolFilter,
        after: Option<&Symbol>,
        limit: u32,
    ) -> Result<Vec<SymbolInfo>, DatabaseError> {
        match &self.0 {
            SymbolEngine::MongoDb(engine) => engine.list(filter, after, limit).await,
            SymbolEngine::Sqlite(engine) => engine.list(filter, after, limit).await,
        }
    }
}
