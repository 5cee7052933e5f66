//! What is to be sent, and when.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::simulator::wire::append_frame;

/// What waits is bounded: above this nothing more is read from the client.
const MAX_BYTES: usize = 8 * 1024 * 1024;
/// Likewise, in entries.
const MAX_ENTRIES: usize = 20_000;
/// Below this much, updates are added.
const NEARLY_EMPTY: usize = 256 * 1024;
/// Frames are put together up to this size; a larger frame goes alone.
const BATCH_BYTES: usize = 1024 * 1024;

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::simulator) enum Due {
    /// A message of one or more frames.
    Message(String),
    /// The connection ends without a word.
    Cut,
    /// Nothing is ever sent again.
    Death,
}

#[derive(Debug)]
enum Entry {
    Payload(String),
    Raw(String),
    Cut,
    Death,
}

/// A queue in order of time, then of arrival.
#[derive(Debug, Default)]
pub(in crate::simulator) struct Outbox {
    entries: BTreeMap<(Instant, u64), Entry>,
    next: u64,
    bytes: usize,
}

impl Outbox {
    /// Sends `payload` in a frame at `due`.
    pub(super) fn send(&mut self, due: Instant, payload: String) {
        self.push(due, Entry::Payload(payload));
    }

    /// Sends `text` as it is at `due`.
    pub(super) fn send_raw(&mut self, due: Instant, text: String) {
        self.push(due, Entry::Raw(text));
    }

    /// Ends the connection at `due`.
    pub(super) fn cut(&mut self, due: Instant) {
        self.push(due, Entry::Cut);
    }

    /// Goes silent for ever, at once.
    pub(super) fn die(&mut self, now: Instant) {
        self.entries.clear();
        self.bytes = 0;
        self.push(now, Entry::Death);
    }

    fn push(&mut self, due: Instant, entry: Entry) {
        self.bytes += entry.bytes();
        self.entries.insert((due, self.next), entry);
        self.next += 1;
    }

    /// Whether more may be asked for.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < MAX_BYTES && self.entries.len() < MAX_ENTRIES
    }

    /// Whether so little waits that what markets tell may be added.
    pub(super) fn is_nearly_empty(&self) -> bool {
        self.bytes < NEARLY_EMPTY && self.entries.len() < MAX_ENTRIES / 2
    }

    /// When the next is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.entries.keys().next().map(|(due, _)| *due)
    }

    /// Takes what is due at `now`: frames that are due together go in one message.
    pub(super) fn take(&mut self, now: Instant) -> Option<Due> {
        let mut message = String::new();
        while let Some(entry) = self.entries.first_entry().filter(|entry| entry.key().0 <= now) {
            let joins = match entry.get() {
                Entry::Payload(payload) => message.len() + payload.len() <= BATCH_BYTES,
                Entry::Raw(_) | Entry::Cut | Entry::Death => false,
            };
            if !joins && !message.is_empty() {
                break;
            }
            let entry = entry.remove();
            self.bytes = self.bytes.saturating_sub(entry.bytes());
            match entry {
                Entry::Payload(payload) => append_frame(&mut message, &payload),
                Entry::Raw(text) => return Some(Due::Message(text)),
                Entry::Cut => return Some(Due::Cut),
                Entry::Death => return Some(Due::Death),
            }
        }
        (!message.is_empty()).then_some(Due::Message(message))
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        match self {
            Self::Payload(text) | Self::Raw(text) => text.len(),
            Self::Cut | Self::Death => 0,
        }
    }
}

/// `milliseconds` as a length of time.
pub(super) fn millis(milliseconds: u32) -> Duration {
    Duration::from_millis(milliseconds.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_due_together_goes_together_and_the_rest_waits() {
        let (mut outbox, now) = (Outbox::default(), Instant::now());
        outbox.send(now + millis(5), "{3}".to_owned());
        outbox.send(now, "{1}".to_owned());
        outbox.send(now, "{2}".to_owned());
        outbox.send_raw(now, "rubbish".to_owned());
        assert_eq!(outbox.take(now), Some(Due::Message("~m~3~m~{1}~m~3~m~{2}".to_owned())));
        assert_eq!(outbox.take(now), Some(Due::Message("rubbish".to_owned())));
        assert_eq!(outbox.take(now), None);
        assert_eq!(outbox.next_due(), Some(now + millis(5)));
        outbox.die(now);
        assert_eq!(outbox.take(now), Some(Due::Death));
        assert_eq!(outbox.take(now + millis(9)), None);
    }
}
