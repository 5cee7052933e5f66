//! Tells whoever listens what has happened, in order, without waiting for them.
//!
//! It knows no event type: the domain's is put in where the bus is made. A listener that falls
//! behind is told how many events it missed; nothing is ever dropped silently.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;
use tokio::sync::broadcast;

use super::constants::{EVENT_HISTORY, EVENT_QUEUE};

/// A bus of events: FIFO for every subscriber, and a history of the newest. Cheap to clone.
pub struct EventBus<E> {
    shared: Arc<Shared<E>>,
}

struct Shared<E> {
    sender: broadcast::Sender<Arc<E>>,
    /// Newest last. Its lock also orders publishers, so that history and queues agree.
    history: Mutex<VecDeque<Arc<E>>>,
    remembered: usize,
}

/// One listener's place in the order of events.
#[derive(Debug)]
pub struct Subscription<E> {
    receiver: broadcast::Receiver<Arc<E>>,
}

/// Why there is no next event.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SubscriptionError {
    /// The listener was too slow and missed events; the next call goes on after them.
    #[error("missed {missed} events")]
    Lagged {
        /// How many.
        missed: u64,
    },
    /// The bus is gone and everything was delivered.
    #[error("the event bus is closed")]
    Closed,
}

impl<E> EventBus<E> {
    /// A bus that remembers the newest 50 events.
    pub fn new() -> Self {
        Self::with_history(EVENT_HISTORY, EVENT_QUEUE)
    }

    /// A bus that remembers the newest `remembered` events and lets `queued` (at least one) wait
    /// for a subscriber.
    pub fn with_history(remembered: usize, queued: usize) -> Self {
        let (sender, _) = broadcast::channel(queued.max(1));
        let history = Mutex::new(VecDeque::with_capacity(remembered));
        Self { shared: Arc::new(Shared { sender, history, remembered }) }
    }

    /// Delivers `event` to everyone who is subscribed now; never waits.
    pub fn publish(&self, event: E) {
        let event = Arc::new(event);
        let mut history = self.shared.history.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shared.remembered > 0 {
            while history.len() >= self.shared.remembered {
                history.pop_front();
            }
            history.push_back(Arc::clone(&event));
        }
        // An error says that nobody is subscribed, which is fine.
        drop(self.shared.sender.send(event));
    }

    /// Listens from the next event on.
    pub fn subscribe(&self) -> Subscription<E> {
        Subscription { receiver: self.shared.sender.subscribe() }
    }

    /// The newest events, at most `limit`, the newest first.
    pub fn history(&self, limit: usize) -> Vec<Arc<E>> {
        let history = self.shared.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.iter().rev().take(limit).cloned().collect()
    }
}

impl<E> Subscription<E> {
    /// The next event, in the order of publication.
    pub async fn next(&mut self) -> Result<Arc<E>, SubscriptionError> {
        self.receiver.recv().await.map_err(|error| match error {
            broadcast::error::RecvError::Lagged(missed) => SubscriptionError::Lagged { missed },
            broadcast::error::RecvError::Closed => SubscriptionError::Closed,
        })
    }
}

impl<E> Default for EventBus<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> Clone for EventBus<E> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<E> fmt::Debug for EventBus<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventBus")
            .field("subscribers", &self.shared.sender.receiver_count())
            .field("remembered", &self.shared.remembered)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_subscriber_sees_every_event_in_order() {
        let bus = EventBus::new();
        let mut subscribers = [bus.subscribe(), bus.subscribe()];
        for event in 0..100 {
            bus.publish(event);
        }
        for subscriber in &mut subscribers {
            for event in 0..100 {
                assert_eq!(subscriber.next().await.as_deref(), Ok(&event));
            }
        }
    }

    #[tokio::test]
    async fn a_slow_subscriber_is_told_what_it_missed_and_goes_on() {
        let bus = EventBus::with_history(0, 4);
        let mut subscriber = bus.subscribe();
        for event in 0..10 {
            bus.publish(event);
        }
        assert_eq!(subscriber.next().await, Err(SubscriptionError::Lagged { missed: 6 }));
        assert_eq!(subscriber.next().await.as_deref(), Ok(&6));
        assert!(bus.history(10).is_empty());
    }

    #[tokio::test]
    async fn what_was_published_is_delivered_after_the_bus_is_gone() {
        let bus = EventBus::new();
        let mut subscriber = bus.subscribe();
        bus.publish("last");
        drop(bus);
        assert_eq!(subscriber.next().await.as_deref(), Ok(&"last"));
        assert_eq!(subscriber.next().await, Err(SubscriptionError::Closed));
    }

    #[test]
    fn the_newest_fifty_are_remembered_newest_first() {
        let bus = EventBus::new();
        for event in 0..120 {
            bus.publish(event);
        }
        assert_eq!(bus.history(usize::MAX).len(), 50);
        let newest: Vec<i32> = bus.history(3).iter().map(|event| **event).collect();
        assert_eq!(newest, [119, 118, 117]);
    }
}
