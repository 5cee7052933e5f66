//! The trading session of each symbol, kept in memory for a while.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;

use crate::domain::shared::Symbol;
use crate::domain::symbol::TradingSession;
use crate::infrastructure::persistence::{Database, DatabaseError};

/// How long another process may not notice that a session changed.
const KEPT_FOR: Duration = Duration::from_mins(1);
/// Sessions kept at most; the largest holds some thousand dates.
const KEPT: u64 = 10_000;

/// Answers when a symbol trades. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sessions {
    database: Database,
    known: Cache<Symbol, Arc<TradingSession>>,
}

impl Sessions {
    /// Reads from `database` what it does not remember.
    pub fn new(database: Database) -> Self {
        let known = Cache::builder().max_capacity(KEPT).time_to_live(KEPT_FOR).build();
        Self { database, known }
    }

    /// The session of `symbol`; around the clock where it is not known.
    pub async fn of(&self, symbol: &Symbol) -> Result<Arc<TradingSession>, DatabaseError> {
        if let Some(session) = self.known.get(symbol).await {
            return Ok(session);
        }
        let info = self.database.symbols().last_known(symbol).await?;
        let session = match info {
            Some(info) => info.trading_session().0,
            None => Arc::new(TradingSession::around_the_clock()),
        };
        self.known.insert(symbol.clone(), Arc::clone(&session)).await;
        Ok(session)
    }

    /// Forgets the session of `symbol`, as it was just stored anew.
    pub async fn forget(&self, symbol: &Symbol) {
        self.known.invalidate(symbol).await;
    }
}
