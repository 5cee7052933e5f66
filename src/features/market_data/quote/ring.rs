//! The newest bar events, in order, for readers that are nearly up to date.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use jiff::Timestamp;

use crate::domain::ohlcv::StoredBar;
use crate::domain::shared::{Series, Symbol};

/// Events that are kept.
const KEPT: usize = 65_536;

/// Gaps that are kept, also when the events around them are not.
const KEPT_GAPS: usize = 1_024;

/// Something that happened to bars.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum LiveChange {
    /// A bar closed or was corrected, and is stored.
    Stored(Series, StoredBar),
    /// The time of a bar is over.
    IntervalClosed(Series, Timestamp),
    /// The feed was away from one time to another.
    Gap(Symbol, Timestamp, Timestamp),
}

/// A [`LiveChange`] in its place.
#[derive(Debug)]
pub(super) struct RingEntry {
    /// Rises by one with each entry.
    pub(super) position: u64,
    /// The newest entry of the bar log that is not behind this one.
    pub(super) sequence: u64,
    /// What happened.
    pub(super) change: LiveChange,
    /// As it is sent, to all the same: encoded by the first who sends it.
    pub(super) event: OnceLock<Bytes>,
}

/// What is between a reader and the newest bar event.
#[derive(Debug)]
pub(super) enum Ahead {
    /// The next entries, perhaps none.
    Entries(Vec<Arc<RingEntry>>),
    /// They are no longer kept: the bar log has them.
    Gone,
}

/// The newest bar events.
#[derive(Debug, Default)]
pub(super) struct Ring {
    entries: VecDeque<Arc<RingEntry>>,
    /// The bar log does not know them.
    gaps: VecDeque<Arc<RingEntry>>,
    next_position: u64,
    sequence: u64,
}

impl Ring {
    /// Nothing has happened since the entry `sequence` of the bar log.
    pub(super) fn after(sequence: u64) -> Self {
        Self { sequence, ..Self::default() }
    }

    /// The place behind all that has happened: position, and sequence in the bar log.
    pub(super) const fn newest(&self) -> (u64, u64) {
        (self.next_position, self.sequence)
    }

    /// Adds what happened; an entry of the bar log comes with its place in it.
    pub(super) fn push(&mut self, sequence: Option<u64>, change: LiveChange) {
        self.sequence = sequence.unwrap_or(self.sequence).max(self.sequence);
        let (position, sequence) = (self.next_position, self.sequence);
        let entry = Arc::new(RingEntry { position, sequence, change, event: OnceLock::new() });
        if matches!(entry.change, LiveChange::Gap(..)) {
            self.gaps.push_back(Arc::clone(&entry));
            if self.gaps.len() > KEPT_GAPS {
                self.gaps.pop_front();
            }
        }
        self.entries.push_back(entry);
        self.next_position += 1;
        if self.entries.len() > KEPT {
            self.entries.pop_front();
        }
    }

    /// The gaps at `positions`, of those that followed the entry `sequence` of the bar log.
    pub(super) fn gaps(&self, positions: &Range<u64>, sequence: u64) -> Vec<Arc<RingEntry>> {
        let is_asked_for =
            |gap: &&Arc<RingEntry>| positions.contains(&gap.position) && gap.sequence >= sequence;
        self.gaps.iter().filter(is_asked_for).map(Arc::clone).collect()
    }

    /// At most `limit` entries from `position` on.
    pub(super) fn from(&self, position: u64, limit: usize) -> Ahead {
        let first = self.next_position - u64::try_from(self.entries.len()).unwrap_or_default();
        match position.checked_sub(first).map(usize::try_from) {
            Some(Ok(skipped)) => {
                let ahead = self.entries.iter().skip(skipped).take(limit);
                Ahead::Entries(ahead.map(Arc::clone).collect())
            }
            Some(Err(_)) | None => Ahead::Gone,
        }
    }

    /// The position right behind the entry `sequence` of the bar log, if all that follows it in
    /// the log is still kept. What was only told live after that entry lies behind it.
    pub(super) fn position_after(&self, sequence: u64) -> Option<u64> {
        let index = self.entries.partition_point(|entry| entry.sequence < sequence);
        let Some(next) = self.entries.get(index) else {
            return (sequence >= self.sequence).then_some(self.next_position);
        };
        let is_logged = matches!(next.change, LiveChange::Stored(..));
        if next.sequence == sequence {
            return Some(next.position + u64::from(is_logged));
        }
        // Where the entry before is gone too, some between the two may be; what was only told live
        // says nothing of the log.
        let complete = index > 0 || (is_logged && next.sequence == sequence + 1);
        complete.then_some(next.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ohlcv::{BarSource, Ohlcv};
    use crate::domain::shared::Interval;

    fn stored() -> LiveChange {
        let series = Series::new(Symbol::parse("CME:ES").unwrap(), Interval::M1);
        let values = Ohlcv::new(1.0, 1.0, 1.0, 1.0, None).unwrap();
        let open_time = Timestamp::UNIX_EPOCH;
        LiveChange::Stored(series, StoredBar::closed(open_time, values, BarSource::Ticks))
    }

    fn gap() -> LiveChange {
        let time = Timestamp::UNIX_EPOCH;
        LiveChange::Gap(Symbol::parse("CME:ES").unwrap(), time, time)
    }

    fn positions(ring: &Ring, from: u64) -> Vec<(u64, u64)> {
        match ring.from(from, 10) {
            Ahead::Entries(entries) => {
                entries.iter().map(|entry| (entry.position, entry.sequence)).collect()
            }
            Ahead::Gone => panic!("gone"),
        }
    }

    #[test]
    fn what_was_only_told_live_lies_behind_the_bar_that_it_followed() {
        let mut ring = Ring::after(7);
        assert_eq!(ring.position_after(7), Some(0), "nothing happened yet");
        ring.push(None, gap());
        assert_eq!(ring.position_after(7), Some(0), "the gap follows what was logged before");
        ring.push(Some(8), stored());
        ring.push(None, gap());
        ring.push(Some(9), stored());
        assert_eq!(ring.position_after(8), Some(2));
        assert_eq!(positions(&ring, 2), [(2, 8), (3, 9)]);
        assert_eq!((ring.position_after(9), ring.newest()), (Some(4), (4, 9)));
        assert_eq!(ring.position_after(6), None, "the log's entry 7 is not kept here");
    }

    #[test]
    fn gaps_are_kept_for_those_who_read_the_log() {
        let mut ring = Ring::after(7);
        ring.push(None, gap());
        ring.push(Some(8), stored());
        ring.push(None, gap());
        let positions = |positions, sequence| -> Vec<u64> {
            ring.gaps(&positions, sequence).iter().map(|gap| gap.position).collect()
        };
        assert_eq!((positions(0..3, 7), positions(0..3, 8)), (vec![0, 2], vec![2]));
        assert_eq!((positions(0..2, 0), positions(1..3, 0)), (vec![0], vec![2]));
        for _ in 0..KEPT_GAPS {
            ring.push(None, gap());
        }
        assert_eq!(ring.gaps(&(0..3), 0).len(), 0);
    }

    #[test]
    fn whoever_falls_out_of_the_ring_is_told_so() {
        let mut ring = Ring::after(0);
        for sequence in 1..=u64::try_from(KEPT).unwrap() + 2 {
            ring.push(Some(sequence), stored());
        }
        assert!(matches!(ring.from(1, 1), Ahead::Gone));
        assert_eq!(positions(&ring, 2)[0], (2, 3));
        assert_eq!((ring.position_after(1), ring.position_after(2)), (None, Some(2)));
    }
}
