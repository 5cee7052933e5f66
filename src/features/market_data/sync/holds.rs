//! Keeps syncs of a symbol away while it is deleted: many syncs hold a symbol together, a deletion
//! holds it alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::domain::shared::Symbol;

/// Symbols that are kept before those that nobody holds are cleared away.
const TIDY_AT: usize = 1_024;

/// A symbol that no sync of this process writes until this is dropped.
#[derive(Debug)]
pub struct HeldSymbol {
    _alone: OwnedRwLockWriteGuard<()>,
}

/// Who holds which symbol.
#[derive(Debug, Default)]
pub(super) struct Holds {
    symbols: Mutex<HashMap<Symbol, Weak<RwLock<()>>>>,
}

impl Holds {
    /// Holds `symbol` for a sync, together with others; waits while it is held alone.
    pub(super) async fn share(&self, symbol: &Symbol) -> OwnedRwLockReadGuard<()> {
        self.lock_of(symbol).read_owned().await
    }

    /// Holds `symbol` alone, unless somebody holds it.
    pub(super) fn take(&self, symbol: &Symbol) -> Option<HeldSymbol> {
        let alone = self.lock_of(symbol).try_write_owned().ok()?;
        Some(HeldSymbol { _alone: alone })
    }

    fn lock_of(&self, symbol: &Symbol) -> Arc<RwLock<()>> {
        let mut symbols = self.symbols.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = symbols.get(symbol).and_then(Weak::upgrade) {
            return lock;
        }
        if symbols.len() >= TIDY_AT {
            symbols.retain(|_, lock| lock.strong_count() > 0);
        }
        let lock = Arc::new(RwLock::new(()));
        symbols.insert(symbol.clone(), Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_symbol_is_held_by_many_syncs_or_by_one_deletion() {
        let holds = Holds::default();
        let symbol = |text| Symbol::parse(text).unwrap();
        let (one, other) = (symbol("A:B"), symbol("A:C"));
        let (first, second) = (holds.share(&one).await, holds.share(&one).await);
        assert!(holds.take(&one).is_none() && holds.take(&other).is_some());
        drop((first, second));
        let alone = holds.take(&one).unwrap();
        assert!(holds.share(&one).now_or_never().is_none() && holds.take(&one).is_none());
        drop(alone);
        assert!(holds.share(&one).now_or_never().is_some());
    }

    #[tokio::test]
    async fn what_nobody_holds_is_cleared_away() {
        let holds = Holds::default();
        let held = holds.take(&Symbol::parse("A:HELD").unwrap());
        for number in 0..3 * TIDY_AT {
            drop(holds.share(&Symbol::new("A", &number.to_string()).unwrap()).await);
        }
        assert!(holds.symbols.lock().unwrap().len() <= TIDY_AT);
        assert!(held.is_some() && holds.take(&Symbol::parse("A:HELD").unwrap()).is_none());
    }
}
