//! What happened and is not yet read by everybody: one list, and a place in it for each reader.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::Instant;

use super::quote::Change;

/// Entries that wait for the slowest reader. One that is further behind gets the newest quote in
/// place of them all, as the provider conflates; at full speed nobody gets that far behind.
const MOST_WAITING: usize = 131_072;

/// How far a market at full speed goes ahead of its slowest reader.
pub(super) const WINDOW: u64 = 4_096;

/// How long a market at full speed waits for a reader.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// One message to everybody.
#[derive(Clone, Debug)]
pub(in crate::simulator) enum Entry {
    /// The quote changed.
    Change(Change),
    /// Fields that somebody made up.
    Fields(Arc<Map<String, Value>>),
}

/// The list.
#[derive(Debug, Default)]
pub(super) struct Feed {
    waiting: VecDeque<Entry>,
    /// The number of the first that waits.
    first: u64,
    readers: BTreeMap<u64, Place>,
    next_reader: u64,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    next: u64,
    read_at: Instant,
}

/// What a reader gets.
#[derive(Debug)]
pub(in crate::simulator) enum Reading {
    /// What happened since, and whether there is more.
    Entries(Vec<Entry>, bool),
    /// It was too far behind: only what is now.
    Conflated,
    /// It read nothing for too long, and is no reader any more.
    Lost,
}

impl Feed {
    /// A reader of all that comes.
    pub(super) fn join(&mut self, now: Instant) -> u64 {
        self.next_reader += 1;
        let place = Place { next: self.end(), read_at: now };
        self.readers.insert(self.next_reader, place);
        self.next_reader
    }

    pub(super) fn leave(&mut self, reader: u64) {
        self.readers.remove(&reader);
        self.forget_read();
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.waiting.push_back(entry);
        if self.readers.is_empty() || self.waiting.len() > MOST_WAITING {
            self.waiting.pop_front();
            self.first += 1;
        }
    }

    /// Whether there is anything for `reader`, be it that it is none any more.
    pub(super) fn has_news(&self, reader: u64) -> bool {
        self.readers.get(&reader).is_none_or(|place| place.next < self.end())
    }

    /// Up to `most` entries for `reader`.
    pub(super) fn read(&mut self, reader: u64, most: usize, now: Instant) -> Reading {
        let (first, end) = (self.first, self.end());
        let Some(place) = self.readers.get_mut(&reader) else { return Reading::Lost };
        place.read_at = now;
        if place.next < first {
            place.next = end;
            self.forget_read();
            return Reading::Conflated;
        }
        let start = usize::try_from(place.next - first).unwrap_or(usize::MAX);
        let entries: Vec<Entry> = self.waiting.iter().skip(start).take(most).cloned().collect();
        place.next += entries.len() as u64;
        let more = place.next < end;
        if !entries.is_empty() {
            self.forget_read();
        }
        Reading::Entries(entries, more)
    }

    /// How many entries may be added for the slowest reader to stay within the window, and when
    /// it is given up; none where nobody reads.
    pub(super) fn room(&self) -> Option<(u64, Instant)> {
        let slowest = self.readers.values().min_by_key(|place| place.next)?;
        let room = (slowest.next + WINDOW).saturating_sub(self.end());
        Some((room, slowest.read_at + PATIENCE))
    }

    /// Whether the market has nearly come as far ahead as it may.
    pub(super) fn is_low(&self) -> bool {
        self.room().is_none_or(|(room, _)| room >= WINDOW / 2)
    }

    /// Gives up the readers that hold everybody up and have not read since `PATIENCE` before
    /// `now`; how many those are.
    pub(super) fn drop_dead(&mut self, now: Instant) -> usize {
        let (end, before) = (self.end(), self.readers.len());
        let dead = |place: &Place| place.next < end && place.read_at + PATIENCE <= now;
        self.readers.retain(|_, place| !dead(place));
        self.forget_read();
        before - self.readers.len()
    }

    fn end(&self) -> u64 {
        self.first + self.waiting.len() as u64
    }

    fn forget_read(&mut self) {
        let end = self.end();
        let slowest = self.readers.values().map(|place| place.next).min().unwrap_or(end);
        let read = slowest.saturating_sub(self.first);
        let read = usize::try_from(read).unwrap_or(usize::MAX).min(self.waiting.len());
        self.waiting.drain(..read);
        self.first += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::super::quote::{Cause, Quote};
    use super::*;

    fn change(volume: f64) -> Entry {
        let quote = Quote { volume: Some(volume), ..Quote::default() };
        Entry::Change(Change { cause: Cause::Trade, quote })
    }

    fn volumes(reading: Reading) -> (Vec<f64>, bool) {
        let Reading::Entries(entries, more) = reading else { panic!("{reading:?}") };
        let volume = |entry| match entry {
            Entry::Change(change) => change.quote.volume.unwrap(),
            Entry::Fields(_) => panic!("nobody made anything up"),
        };
        (entries.into_iter().map(volume).collect(), more)
    }

    #[tokio::test(start_paused = true)]
    async fn each_reads_all_since_it_joined_and_what_all_have_read_is_gone() {
        let (mut feed, now) = (Feed::default(), Instant::now());
        feed.push(change(1.0));
        let early = feed.join(now);
        feed.push(change(2.0));
        let late = feed.join(now);
        feed.push(change(3.0));
        assert_eq!(volumes(feed.read(early, 1, now)), (vec![2.0], true));
        assert_eq!(volumes(feed.read(late, 9, now)), (vec![3.0], false));
        assert_eq!(feed.waiting.len(), 1);
        assert_eq!(volumes(feed.read(early, 9, now)), (vec![3.0], false));
        assert_eq!(feed.waiting.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_too_slow_gets_the_newest_only() {
        let (mut feed, now) = (Feed::default(), Instant::now());
        let reader = feed.join(now);
        for _ in 0..=MOST_WAITING {
            feed.push(change(1.0));
        }
        assert_eq!(feed.waiting.len(), MOST_WAITING);
        assert!(matches!(feed.read(reader, 9, now), Reading::Conflated));
        assert!(feed.waiting.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_dead_hold_nobody_up_for_ever() {
        let (mut feed, now) = (Feed::default(), Instant::now());
        let (dead, alive) = (feed.join(now), feed.join(now));
        for _ in 0..WINDOW {
            feed.push(change(1.0));
        }
        assert_eq!(feed.room(), Some((0, now + PATIENCE)));
        let later = now + PATIENCE;
        feed.read(alive, 10, later);
        assert_eq!(feed.drop_dead(later), 1);
        assert_eq!(feed.room().unwrap().0, 10);
        assert!(matches!(feed.read(dead, 1, later), Reading::Lost));
    }
}
