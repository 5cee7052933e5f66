//! A place in a replay's list of changes.

use std::sync::Arc;

use tokio::time::Instant;

use super::Replay;
use super::feed::{Entry, Reading};
use super::quote::{Cause, Change};

/// A reader of a replay's changes; it leaves when it is dropped.
#[derive(Debug)]
pub(in crate::simulator) struct Reader {
    replay: Arc<Replay>,
    number: u64,
}

impl Reader {
    /// Who joined the feed of `replay` as `number`.
    pub(super) fn new(replay: Arc<Replay>, number: u64) -> Self {
        Self { replay, number }
    }

    /// Whether [`read`](Self::read) has anything to say.
    pub(in crate::simulator) fn has_news(&self) -> bool {
        self.replay.lock().feed.has_news(self.number)
    }

    /// Up to `most` of what happened since the last time.
    pub(in crate::simulator) fn read(&self, most: usize, now: Instant) -> Reading {
        let mut state = self.replay.lock();
        let reading = state.feed.read(self.number, most, now);
        let reading = match reading {
            Reading::Conflated => {
                self.replay.pulse.conflations.add(1);
                let change = Change { cause: Cause::Several, quote: state.market.quote() };
                Reading::Entries(vec![Entry::Change(change)], false)
            }
            Reading::Entries(..) | Reading::Lost => reading,
        };
        let low = state.run.waits_for_readers() && state.feed.is_low();
        drop(state);
        if low {
            self.replay.pulse.wanted.notify_one();
        }
        reading
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.replay.lock().feed.leave(self.number);
        self.replay.pulse.wanted.notify_one();
    }
}
