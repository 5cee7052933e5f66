//! The registry of instruments, whichever engine keeps it.

use jiff::Timestamp;

use super::calls::Calls;
use super::database::Engine;
use super::{DatabaseError, mongodb, sqlite};
use crate::common::constants::COLLECTION_SYMBOLS;
use crate::domain::shared::Symbol;
use crate::domain::symbol::{SymbolChange, SymbolInfo};

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

    /// What is known about `symbol`; nothing where it was deleted.
    pub async fn get(&self, symbol: &Symbol) -> Result<Option<SymbolInfo>, DatabaseError> {
        let work = async {
            match &self.engine {
                SymbolEngine::MongoDb(engine) => engine.get(symbol).await,
                SymbolEngine::Sqlite(engine) => engine.get(symbol).await,
            }
        };
        self.calls.observe("get", Box::pin(work)).await
    }

    /// What was last known about `symbol`, also where it was deleted and its bars stayed: they are
    /// still cut by its session.
    pub async fn last_known(&self, symbol: &Symbol) -> Result<Option<SymbolInfo>, DatabaseError> {
        let work = async {
            match &self.engine {
                SymbolEngine::MongoDb(engine) => engine.last_known(symbol).await,
                SymbolEngine::Sqlite(engine) => engine.last_known(symbol).await,
            }
        };
        self.calls.observe("last_known", Box::pin(work)).await
    }

    /// Stores what the provider says in `info` in place of what it said before. Of a symbol that
    /// is known, what a person set, whether it is active and since when it is known stay as they
    /// are stored. Times are kept to the millisecond.
    pub async fn put(&self, info: &SymbolInfo) -> Result<(), DatabaseError> {
        let work = async {
            match &self.engine {
                SymbolEngine::MongoDb(engine) => engine.put(info).await,
                SymbolEngine::Sqlite(engine) => engine.put(info).await,
            }
        };
        self.calls.observe("put", Box::pin(work)).await
    }

    /// Makes the `change` of a person as of `at`, at once and nothing besides; answers the symbol as
    /// it is then, nothing where it is not known.
    pub async fn customise(
        &self,
        symbol: &Symbol,
        change: &SymbolChange,
        at: Timestamp,
    ) -> Result<Option<SymbolInfo>, DatabaseError> {
        let work = async {
            match &self.engine {
                SymbolEngine::MongoDb(engine) => engine.customise(symbol, change, at).await,
                SymbolEngine::Sqlite(engine) => engine.customise(symbol, change, at).await,
            }
        };
        self.calls.observe("customise", Box::pin(work)).await
    }

    /// Deletes `symbol`, and what a person set with it, as of `at`. What the provider said stays
    /// for its bars. Answers whether it was known.
    pub async fn delete(&self, symbol: &Symbol, at: Timestamp) -> Result<bool, DatabaseError> {
        let work = async {
            match &self.engine {
                SymbolEngine::MongoDb(engine) => engine.delete(symbol, at).await,
                SymbolEngine::Sqlite(engine) => engine.delete(symbol, at).await,
            }
        };
        self.calls.observe("delete", Box::pin(work)).await
    }

    /// Forgets all about `symbol`, deleted or not.
    pub async fn forget(&self, symbol: &Symbol) -> Result<(), DatabaseError> {
        let work = async {
            match &self.engine {
                SymbolEngine::MongoDb(engine) => engine.forget(symbol).await,
                SymbolEngine::Sqlite(engine) => engine.forget(symbol).await,
            }
        };
        self.calls.observe("forget", Box::pin(work)).await
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
