//! Streams that are open, by principal.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::common::identity::Principal;

/// Counts the open streams of each principal. Cheap to clone.
///
/// Only principals with open streams are remembered, so it is as large as the open streams are.
#[derive(Clone, Debug)]
pub(super) struct StreamPlaces {
    most: u32,
    open: Arc<Mutex<HashMap<Principal, u32>>>,
}

/// A place that a stream occupies until it is dropped.
#[derive(Debug)]
pub(super) struct StreamPlace {
    places: StreamPlaces,
    principal: Principal,
}

impl StreamPlaces {
    pub(super) fn new(most: u32) -> Self {
        Self { most, open: Arc::default() }
    }

    pub(super) const fn most(&self) -> u32 {
        self.most
    }

    /// A place for one more stream of `principal`, if there is one.
    pub(super) fn take(&self, principal: &Principal) -> Option<StreamPlace> {
        let mut open = self.lock();
        let count = open.get(principal).copied().unwrap_or(0);
        if count >= self.most {
            return None;
        }
        open.insert(principal.clone(), count + 1);
        drop(open);
        Some(StreamPlace { places: self.clone(), principal: principal.clone() })
    }

    /// A panic while it was held left every number as it should be.
    fn lock(&self) -> MutexGuard<'_, HashMap<Principal, u32>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let mut open = self.places.lock();
        match open.get_mut(&self.principal) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => drop(open.remove(&self.principal)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_stream_is_gone() {
        let places = StreamPlaces::new(2);
        let (alice, bob) = (Principal::ApiKey("alice".into()), Principal::ApiKey("bob".into()));
        let first = places.take(&alice).unwrap();
        let _second = places.take(&alice).unwrap();
        assert!(places.take(&alice).is_none());
        drop(places.take(&bob).unwrap());
        drop(first);
        assert!(places.take(&alice).is_some());
        assert_eq!(places.lock().len(), 1);
    }
}
