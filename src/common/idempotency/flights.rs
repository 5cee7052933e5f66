//! The calls under way in this process: equal ones join, and the store is asked once for all.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::{Answer, IdempotencyError, KeyedCall};

/// How a flight ended.
pub(super) type Outcome = Result<Landed, IdempotencyError>;

/// The answer of a flight.
#[derive(Clone, Debug)]
pub(super) struct Landed {
    pub(super) answer: Answer,
    /// Whether it was made for an earlier call.
    pub(super) replayed: bool,
    /// Whether later calls get it too.
    pub(super) kept: bool,
}

type Open = HashMap<KeyedCall, watch::Receiver<Option<Outcome>>>;

/// The open flights, as many as there are calls that run under a key. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Flights(Arc<Mutex<Open>>);

/// A place on a flight.
pub(super) enum Seat {
    /// This call is the first: it is to fly.
    First(Flight),
    /// Another one flies.
    Joined(watch::Receiver<Option<Outcome>>),
}

/// A flight that is open until it is dropped.
#[derive(Debug)]
pub(super) struct Flight {
    flights: Flights,
    call: KeyedCall,
    outcome: watch::Sender<Option<Outcome>>,
}

impl Flights {
    /// A place on the flight of `call`.
    pub(super) fn join(&self, call: KeyedCall) -> Seat {
        match self.open().entry(call) {
            Entry::Occupied(flight) => Seat::Joined(flight.get().clone()),
            Entry::Vacant(vacant) => {
                let (outcome, joined) = watch::channel(None);
                let call = vacant.key().clone();
                vacant.insert(joined);
                Seat::First(Flight { flights: self.clone(), call, outcome })
            }
        }
    }

    /// No panic can leave the map half-changed.
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight {
    /// What is being carried out.
    pub(super) const fn call(&self) -> &KeyedCall {
        &self.call
    }

    /// Where its outcome will be seen.
    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Outcome>> {
        self.outcome.subscribe()
    }

    /// Tells everybody on board; the flight stays open, so that later calls get this outcome too.
    pub(super) fn tell(&self, outcome: Outcome) {
        self.outcome.send_replace(Some(outcome));
    }

    /// Tells everybody on board. Whoever calls once they know starts anew.
    pub(super) fn land(self, outcome: Outcome) {
        self.flights.open().remove(&self.call);
        self.tell(outcome);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut open = self.flights.open();
        // Another one may have been opened since this one landed.
        if open.get(&self.call).is_some_and(|joined| joined.same_channel(&self.subscribe())) {
            open.remove(&self.call);
        }
    }
}
