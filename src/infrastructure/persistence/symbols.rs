//! The registry of instruments, whichever engine keeps it.

use super::calls::Calls;
use super::database::Engine;
use super::{DatabaseError, mongodb, sqlite};
use crate::common::constants::COLLECTION_SYMBOLS;
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
pub struct Symbols {
    engine: SymbolEngine,
    calls: Calls,
}

#[derive(Clone, Debug)]
enum SymbolEngine {
    MongoDb(mongodb::Symbols),
    Sqlite(sqlite::Symbols),
}

impl Symbols {
    pub(super) fn new(engine: &Engine) -> Self {
        let calls = Calls::new(engine.name(), COLLECTION_SYMBOLS);
        let engine = match engine {
            Engine::MongoDb(engine) => SymbolEngine::MongoDb(mongodb::Symbols::new(engine)),
            Engine::Sqlite(engine) => SymbolEngine::Sqlite(sqlite::Symbols::new(engine)),
        };
        Self { engine, calls }
    }

    /// What is known about `symbol`.
    pub async fn get(&self, symbol: &Symbol) -> Result<Option<SymbolInfo>, DatabaseError> {
        let work = async {
            match &self.engine {
                SymbolEngine::MongoDb(engine) => engine.get(symbol).await,
                SymbolEngine::Sqlite(engine) => engine.get(symbol).await,
            }
        };
        self.calls.observe("get", Box::pin(work)).await
    }

    /// Stores `info` in place of what was known. Times are kept to the millisecond.
    pub async fn put(&self, info: &SymbolInfo) -> Result<(), DatabaseError> {
        let work = async {
            match &self.engine {
                SymbolEngine::MongoDb(engine) => engine.put(info).await,
                SymbolEngine::Sqlite(engine) => engine.put(info).await,
            }
        };
        self.calls.observe("put", Box::pin(work)).await
    }

    /// At most `limit` instruments after `after`, by exchange and code.
    pub async fn list(
        &self,
        filter: &SymbolFilter,
        after: Option<&Symbol>,
        limit: u32,
    ) -> Result<Vec<SymbolInfo>, DatabaseError> {
        let work = async {
            match &self.engine {
                SymbolEngine::MongoDb(engine) => engine.list(filter, after, limit).await,
                SymbolEngine::Sqlite(engine) => engine.list(filter, after, limit).await,
            }
        };
        self.calls.observe("list", Box::pin(work)).await
    }
}
