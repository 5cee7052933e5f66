//! Which runs this process carries out, or is about to claim.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

/// The runs. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct UnderWay(Arc<Mutex<HashSet<Uuid>>>);

/// One of them, until this is dropped.
#[derive(Debug)]
pub(super) struct RunUnderWay {
    run_id: Uuid,
    all: UnderWay,
}

impl UnderWay {
    /// Counts the run in before it is claimed: whoever looks for runs that nobody carries out must
    /// not find it.
    pub(super) fn enter(&self, run_id: Uuid) -> RunUnderWay {
        self.lock().insert(run_id);
        RunUnderWay { run_id, all: self.clone() }
    }

    pub(super) fn ids(&self) -> Vec<Uuid> {
        self.lock().iter().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Uuid>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RunUnderWay {
    fn drop(&mut self) {
        self.all.lock().remove(&self.run_id);
    }
}
