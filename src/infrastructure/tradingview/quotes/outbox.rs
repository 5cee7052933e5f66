//! What the consumer is told, through a bounded queue.

use tokio::sync::mpsc;

use super::inbox::{Inbox, Stopped};
use crate::infrastructure::interfaces::{FeedEvent, FeedState};

/// Events that wait for the consumer. Where it is slow, nothing is left out or merged: the socket
/// is read no further until there is room, as a price that is skipped may be a bar's high.
const CAPACITY: usize = 8_192;

/// Events that the consumer takes at once.
const BATCH: usize = 1_024;

/// The way to the consumer.
#[derive(Debug)]
pub(super) struct Outbox {
    events: mpsc::Sender<FeedEvent>,
    /// What one message of the server says: told together.
    pub(super) pending: Vec<FeedEvent>,
    told: Option<Standing>,
}

/// The states that can hold for long, to tell when one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Idle,
    Connected,
}

/// The two ends of the queue.
pub(super) fn channel() -> (Outbox, mpsc::Receiver<FeedEvent>) {
    let (events, received) = mpsc::channel(CAPACITY);
    (Outbox { events, pending: Vec::new(), told: None }, received)
}

/// Takes what waits, [`BATCH`] at most; none at the end.
pub(super) async fn take(received: &mut mpsc::Receiver<FeedEvent>) -> Option<Vec<FeedEvent>> {
    let mut batch = Vec::new();
    (received.recv_many(&mut batch, BATCH).await > 0).then_some(batch)
}

impl Outbox {
    /// Tells a state.
    pub(super) fn state(&mut self, state: FeedState) {
        self.told = match &state {
            FeedState::Idle => Some(Standing::Idle),
            FeedState::Connected => Some(Standing::Connected),
            FeedState::Connecting | FeedState::Reconnecting { .. } | FeedState::Terminal { .. } => {
                None
            }
        };
        self.pending.push(FeedEvent::State(state));
    }

    /// Tells a standing state where it is new.
    pub(super) fn stands(&mut self, standing: Standing) {
        if self.told != Some(standing) {
            self.state(match standing {
                Standing::Idle => FeedState::Idle,
                Standing::Connected => FeedState::Connected,
            });
        }
    }

    /// Hands over what is pending, waiting for room.
    pub(super) async fn deliver(&mut self, inbox: &mut Inbox) -> Result<(), Stopped> {
        let mut pending = self.pending.drain(..);
        while pending.len() > 0 {
            let count = pending.len().min(CAPACITY);
            let room = inbox.attend(self.events.reserve_many(count)).await?;
            // The consumer is gone.
            let room = room.map_err(|_| Stopped)?;
            room.zip(&mut pending).for_each(|(room, event)| room.send(event));
        }
        Ok(())
    }
}
