//! The faults that are switched on now.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{FaultKind, FaultSpec};
use crate::domain::shared::Symbol;

/// Faults on at a time.
const MAX_FAULTS: usize = 1_000;

/// Read at every request, changed over HTTP while it runs.
#[derive(Debug)]
pub(super) struct FaultBoard {
    faults: RwLock<Vec<FaultSpec>>,
    /// Nobody gets in, and nobody stays, until then; what it was switched on by.
    outage: RwLock<Option<(Instant, FaultSpec)>>,
    changes: watch::Sender<u64>,
    cuts: AtomicU64,
}

impl FaultBoard {
    pub(super) fn new(faults: Vec<FaultSpec>) -> Self {
        Self {
            faults: RwLock::new(faults),
            outage: RwLock::new(None),
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
        if let Some(length) = fault.number().filter(|_| is_outage(&fault)) {
            let until = Instant::now() + Duration::from_millis(length.into());
            *self.outage.write().unwrap_or_else(PoisonError::into_inner) = Some((until, fault));
            self.changes.send_modify(|version| *version += 1);
            return true;
        }
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
        if fault.kind() == FaultKind::Cut && fault.symbol().is_none() {
            *self.outage.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
        let mut faults = self.faults.write().unwrap_or_else(PoisonError::into_inner);
        faults.retain(|old| !same_switch(old, fault));
        drop(faults);
        self.changes.send_modify(|version| *version += 1);
    }

    /// What is on, as it would be written on the command line.
    pub(super) fn list(&self) -> Vec<String> {
        let faults = self.faults.read().unwrap_or_else(PoisonError::into_inner);
        let outage = self.outage.read().unwrap_or_else(PoisonError::into_inner);
        let outage = outage.as_ref().filter(|(until, _)| Instant::now() < *until);
        faults.iter().chain(outage.map(|(_, fault)| fault)).map(ToString::to_string).collect()
    }

    /// Whether the world is out of reach at `now`.
    pub(super) fn is_out(&self, now: Instant) -> bool {
        let outage = self.outage.read().unwrap_or_else(PoisonError::into_inner);
        outage.as_ref().is_some_and(|(until, _)| now < *until)
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

/// Switched on at run time, `cut=MS` is an outage for everybody that ends by itself.
fn is_outage(fault: &FaultSpec) -> bool {
    fault.kind() == FaultKind::Cut && fault.symbol().is_none()
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

    #[tokio::test(start_paused = true)]
    async fn an_outage_ends_by_itself_or_when_it_is_switched_off() {
        let board = FaultBoard::new(Vec::new());
        let cut: FaultSpec = "cut=3000".parse().unwrap();
        assert!(board.switch_on(cut.clone()));
        assert_eq!((board.is_out(Instant::now()), board.list()), (true, vec![cut.to_string()]));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!((board.is_out(Instant::now()), board.list()), (false, Vec::new()));
        assert!(board.switch_on(cut.clone()));
        board.switch_off(&cut);
        assert!(!board.is_out(Instant::now()));
    }
}
