//! Where the feed puts what is new, and where streams look.
//!
//! Nothing is queued for a reader. A quote's newest value waits in a cell of its symbol; closed
//! bars wait in a ring of the newest ones, and whoever falls out of it reads the bar log. So a
//! reader that is slow, or gone, costs nothing and delays nobody. Readers are woken in batches.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use jiff::Timestamp;
use tokio::sync::watch;

use super::feed_state::FeedState;
use crate::domain::ohlcv::{Bar, StoredBar};
use crate::domain::quote::Quote;
use crate::domain::shared::{Series, Symbol};
use crate::infrastructure::interfaces::ProviderError;

/// Bar events that are kept for readers that are nearly up to date.
const RING: usize = 65_536;

/// The newest quote of a symbol.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LatestQuote {
    /// What is known.
    pub(super) quote: Quote,
    /// Rises by one with each update.
    pub(super) sequence: u64,
}

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
#[derive(Clone, Debug)]
pub(super) struct RingEntry {
    /// Rises by one with each entry.
    pub(super) position: u64,
    /// The newest entry of the bar log that is not behind this one.
    pub(super) sequence: u64,
    /// What happened.
    pub(super) change: LiveChange,
}

/// What is between a reader and the newest bar event.
pub(super) enum Ahead {
    /// The next entries, perhaps none.
    Entries(Vec<RingEntry>),
    /// They are no longer kept: the bar log has them.
    Gone,
}

/// The feed's side and the streams' side of everything live. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Hub {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    epoch: i64,
    quotes: RwLock<HashMap<Symbol, LatestQuote>>,
    quotes_changed: watch::Sender<u64>,
    ring: Mutex<Ring>,
    bars_changed: watch::Sender<u64>,
    forming: RwLock<HashMap<Series, (u64, Bar)>>,
    feed: watch::Sender<FeedState>,
    refused: RwLock<HashMap<Symbol, ProviderError>>,
}

#[derive(Debug, Default)]
struct Ring {
    entries: VecDeque<RingEntry>,
    next_position: u64,
    sequence: u64,
}

impl Hub {
    /// Nothing has happened. `epoch` tells this start of the server from others; `sequence` is the
    /// newest entry of the bar log.
    pub(super) fn new(epoch: i64, sequence: u64) -> Self {
        let ring = Ring { sequence, ..Ring::default() };
        Self {
            shared: Arc::new(Shared {
                epoch,
                quotes: RwLock::default(),
                quotes_changed: watch::Sender::new(0),
                ring: Mutex::new(ring),
                bars_changed: watch::Sender::new(0),
                forming: RwLock::default(),
                feed: watch::Sender::new(FeedState::default()),
                refused: RwLock::default(),
            }),
        }
    }

    /// What tells this start of the server from others.
    pub(super) fn epoch(&self) -> i64 {
        self.shared.epoch
    }

    // The feed's side.

    /// Takes in the newest quotes and wakes readers once.
    pub(super) fn put_quotes(&self, quotes: &[(Symbol, LatestQuote)]) {
        if quotes.is_empty() {
            return;
        }
        let mut cells = write(&self.shared.quotes);
        for (symbol, latest) in quotes {
            match cells.get_mut(symbol) {
                Some(cell) => *cell = *latest,
                None => drop(cells.insert(symbol.clone(), *latest)),
            }
        }
        drop(cells);
        self.shared.quotes_changed.send_modify(|version| *version += 1);
    }

    /// Nobody follows `symbol` any more.
    pub(super) fn forget(&self, symbol: &Symbol) {
        write(&self.shared.quotes).remove(symbol);
        write(&self.shared.refused).remove(symbol);
        write(&self.shared.forming).retain(|series, _| series.symbol != *symbol);
    }

    /// Takes in what happened to bars, in order, and wakes readers once. Entries of the bar log
    /// come with their place in it.
    pub(super) fn put_bars(&self, changes: impl IntoIterator<Item = (Option<u64>, LiveChange)>) {
        let mut ring = self.ring();
        let before = ring.next_position;
        for (sequence, change) in changes {
            ring.push(sequence, change);
        }
        let is_new = ring.next_position != before;
        drop(ring);
        if is_new {
            self.shared.bars_changed.send_modify(|version| *version += 1);
        }
    }

    /// Takes in the forming bars that changed and wakes readers once.
    pub(super) fn put_forming(&self, bars: Vec<(Series, Bar)>) {
        if bars.is_empty() {
            return;
        }
        let mut forming = write(&self.shared.forming);
        for (series, bar) in bars {
            let cell = forming.entry(series).or_insert((0, bar));
            *cell = (cell.0 + 1, bar);
        }
        drop(forming);
        self.shared.bars_changed.send_modify(|version| *version += 1);
    }

    /// The feed is like this now.
    pub(super) fn put_feed(&self, change: impl FnOnce(&mut FeedState)) {
        self.shared.feed.send_if_modified(|feed| {
            let before = feed.clone();
            change(feed);
            // Streams tell this much. All else is for those who ask, and changes with each message.
            let told = |feed: &FeedState| (feed.connection, feed.refused, feed.last_error.clone());
            told(feed) != told(&before)
        });
    }

    /// The provider refused `symbol`.
    pub(super) fn refuse(&self, symbol: &Symbol, error: ProviderError) {
        write(&self.shared.refused).insert(symbol.clone(), error);
        self.shared.quotes_changed.send_modify(|version| *version += 1);
        self.shared.bars_changed.send_modify(|version| *version += 1);
    }

    /// The provider took `symbol` after all.
    pub(super) fn accept(&self, symbol: &Symbol) {
        write(&self.shared.refused).remove(symbol);
    }

    // The streams' side.

    /// The newest quote of `symbol`.
    pub(super) fn quote(&self, symbol: &Symbol) -> Option<LatestQuote> {
        read(&self.shared.quotes).get(symbol).copied()
    }

    /// The newest quotes of `symbols` that have a higher sequence than the one beside them.
    pub(super) fn newer_quotes(&self, symbols: &[(Symbol, u64)]) -> Vec<(usize, LatestQuote)> {
        let cells = read(&self.shared.quotes);
        let newer = |(index, (symbol, seen)): (usize, &(Symbol, u64))| {
            let latest = cells.get(symbol).filter(|latest| latest.sequence > *seen)?;
            Some((index, *latest))
        };
        symbols.iter().enumerate().filter_map(newer).collect()
    }

    /// Changes whenever there are new quotes or refusals.
    pub(super) fn quotes_changed(&self) -> watch::Receiver<u64> {
        self.shared.quotes_changed.subscribe()
    }

    /// Changes whenever there are new bar events, forming bars or refusals.
    pub(super) fn bars_changed(&self) -> watch::Receiver<u64> {
        self.shared.bars_changed.subscribe()
    }

    /// How the feed is, and each change.
    pub(super) fn feed(&self) -> watch::Receiver<FeedState> {
        self.shared.feed.subscribe()
    }

    /// Why the provider refused `symbol`, if it did.
    pub(super) fn refusal(&self, symbol: &Symbol) -> Option<ProviderError> {
        read(&self.shared.refused).get(symbol).cloned()
    }

    /// The forming bar of `series`, and how often it changed.
    pub(super) fn forming(&self, series: &Series) -> Option<(u64, Bar)> {
        read(&self.shared.forming).get(series).copied()
    }

    /// The place behind all that has happened: position, and sequence in the bar log.
    pub(super) fn newest(&self) -> (u64, u64) {
        let ring = self.ring();
        (ring.next_position, ring.sequence)
    }

    /// At most `limit` entries from `position` on.
    pub(super) fn entries(&self, position: u64, limit: usize) -> Ahead {
        let ring = self.ring();
        let first = ring.next_position - u64::try_from(ring.entries.len()).unwrap_or_default();
        match position.checked_sub(first).map(usize::try_from) {
            Some(Ok(skipped)) => {
                Ahead::Entries(ring.entries.iter().skip(skipped).take(limit).cloned().collect())
            }
            Some(Err(_)) | None => Ahead::Gone,
        }
    }

    /// The position behind the log entry `sequence`, if what follows it is still kept.
    pub(super) fn position_after(&self, sequence: u64) -> Option<u64> {
        let ring = self.ring();
        if sequence >= ring.sequence {
            return Some(ring.next_position);
        }
        let index = ring.entries.partition_point(|entry| entry.sequence <= sequence);
        let follows = ring.entries.get(index)?;
        // Where the entry before is gone too, some between the two may be.
        let complete = index > 0 || follows.sequence == sequence + 1;
        complete.then_some(follows.position)
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.shared.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn push(&mut self, sequence: Option<u64>, change: LiveChange) {
        self.sequence = sequence.unwrap_or(self.sequence).max(self.sequence);
        let (position, sequence) = (self.next_position, self.sequence);
        self.entries.push_back(RingEntry { position, sequence, change });
        self.next_position += 1;
        if self.entries.len() > RING {
            self.entries.pop_front();
        }
    }
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
