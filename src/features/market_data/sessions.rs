//! The trading session of each symbol, kept in memory for a while.

use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use tokio::sync::Mutex;

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
    /// How often any was forgotten.
    forgotten: Arc<Mutex<u64>>,
}

impl Sessions {
    /// Reads from `database` what it does not remember.
    pub fn new(database: Database) -> Self {
        let known = Cache::builder().max_capacity(KEPT).time_to_live(KEPT_FOR).build();
        Self { database, known, forgotten: Arc::default() }
    }

    /// The session of `symbol`; around the clock where it is not known.
    pub async fn of(&self, symbol: &Symbol) -> Result<Arc<TradingSession>, DatabaseError> {
        if let Some(session) = self.known.get(symbol).await {
            return Ok(session);
        }
        let before = *self.forgotten.lock().await;
        let session = self.read(symbol).await?;
        self.keep(symbol, &session, before).await;
        Ok(session)
    }

    /// Forgets the session of `symbol`, as it was just stored anew.
    pub async fn forget(&self, symbol: &Symbol) {
        let mut forgotten = self.forgotten.lock().await;
        *forgotten += 1;
        self.known.invalidate(symbol).await;
    }

    async fn read(&self, symbol: &Symbol) -> Result<Arc<TradingSession>, DatabaseError> {
        let info = self.database.symbols().last_known(symbol).await?;
        Ok(match info {
            Some(info) => info.trading_session().0,
            None => Arc::new(TradingSession::around_the_clock()),
        })
    }

    /// Keeps what was read after so many were forgotten, unless more were since: it may be old.
    async fn keep(&self, symbol: &Symbol, session: &Arc<TradingSession>, before: u64) {
        let forgotten = self.forgotten.lock().await;
        if *forgotten == before {
            self.known.insert(symbol.clone(), Arc::clone(session)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::market_data::quote::test_bench::{Bench, symbol};

    #[tokio::test]
    async fn what_was_read_before_a_change_is_not_kept_after_it() {
        let bench = Bench::start().await;
        let sessions = &bench.parts.sessions;
        let read_at = *sessions.forgotten.lock().await;
        let old = sessions.read(&symbol()).await.unwrap();
        sessions.forget(&symbol()).await;
        sessions.keep(&symbol(), &old, read_at).await;
        let new = sessions.of(&symbol()).await.unwrap();
        assert!(!Arc::ptr_eq(&old, &new), "the database is asked again");
        let kept = sessions.of(&symbol()).await.unwrap();
        assert!(Arc::ptr_eq(&new, &kept), "and what it said is kept");
    }
}
