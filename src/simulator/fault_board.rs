//! The faults that are switched on now.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use tokio::sync::watch;

use super::{FaultKind, FaultSpec};
use crate::domain::shared::Symbol;

/// Faults on at a time.
const MAX_FAULTS: usize = 1_000;

/// Read at every request, changed over HTTP while it runs.
#[derive(Debug)]
pub(super) struct FaultBoard {
    faults: RwLock<Vec<FaultSpec>>,
    changes: watch::Sender<u64>,
    cuts: AtomicU64,
}

impl FaultBoard {
    pub(super) fn new(faults: Vec<FaultSpec>) -> Self {
        Self {
            faults: RwLock::new(faults),
            changes: watch::Sender::new(0),
            cuts: AtomicU64::new(0),
        }
    }

    /// The fault of `kind` that concerns `symbol`; one made for the symbol before a general one.
    pub(super) fn find(&self, kind: FaultKind, symbol: Option<&Symbol>) -> Option<FaultSpec> {
        let faults = self.faults.read().unwrap_or_else(PoisonError::into_inner);
        let of_kind = || faults.iter().filter(|fault| fault.kind() == kind);
        let own = symbol.and_then(|symbol| of_kind().find(|fault| fault.symbol() == Some(symbol)));
        own.or_else(|| of_kind().find(|fault| fault.symbol().is_none())).cloned()
    }

    /// Whether such a fault concerns `symbol`.
    pub(super) fn is_on(&self, kind: FaultKind, symbol: Option<&Symbol>) -> bool {
        self.find(kind, symbol).is_some()
    }

    /// Switches `fault` on, in place of one of the same kind and symbol; false where there are too
    /// many.
    pub(super) fn switch_on(&self, fault: FaultSpec) -> bool {
        let mut faults = self.faults.write().unwrap_or_else(PoisonError::into_inner);
        faults.retain(|old| !same_switch(old, &fault));
        if faults.len() >= MAX_FAULTS {
            return false;
        }
        if fault.kind() == FaultKind::Cut && fault.symbol().is_none() {
            self.cuts.fetch_add(1, Ordering::Relaxed);
        }
        faults.push(fault);
        drop(faults);
        self.changes.send_modify(|version| *version += 1);
        true
    }

    /// Switches the fault of the same kind and symbol off.
    pub(super) fn switch_off(&self, fault: &FaultSpec) {
        let mut faults = self.faults.write().unwrap_or_else(PoisonError::into_inner);
        faults.retain(|old| !same_switch(old, fault));
        drop(faults);
        self.changes.send_modify(|version| *version += 1);
    }

    /// What is on, as it would be written on the command line.
    pub(super) fn list(&self) -> Vec<String> {
        let faults = self.faults.read().unwrap_or_else(PoisonError::into_inner);
        faults.iter().map(ToString::to_string).collect()
    }

    /// How often all connections were told to end. It counts, as a switch that is on for a moment
    /// only may be off again before a conversation looks.
    pub(super) fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Relaxed)
    }

    /// Tells when anything is switched.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

fn same_switch(a: &FaultSpec, b: &FaultSpec) -> bool {
    a.kind() == b.kind() && a.symbol() == b.symbol()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_symbols_own_fault_comes_first_and_switches_off_alone() {
        let board = FaultBoard::new(vec!["slow=1".parse().unwrap()]);
        let own: FaultSpec = "slow=2@A:B".parse().unwrap();
        assert!(board.switch_on(own.clone()));
        let (mine, other) = (Symbol::parse("A:B").unwrap(), Symbol::parse("A:C").unwrap());
        let delay = |symbol| board.find(FaultKind::Slow, Some(symbol)).unwrap().number();
        assert_eq!((delay(&mine), delay(&other)), (Some(2), Some(1)));
        board.switch_off(&own);
        assert_eq!((delay(&mine), board.list()), (Some(1), vec!["slow=1".to_owned()]));
    }
}
