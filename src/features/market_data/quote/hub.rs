//! Where the feed puts what is new, and where streams look.
//!
//! Nothing is queued for a reader. A quote's newest value waits in a cell of its symbol; closed
//! bars wait in a ring of the newest ones, and whoever falls out of it reads the bar log. So a
//! reader that is slow, or gone, costs nothing and delays nobody. Readers are woken in batches.
//! What many of them send is encoded once, by the first that sends it.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use bytes::Bytes;
use tokio::sync::watch;

use super::feed_state::{FeedState, FeedWord};
use super::ring::{Ahead, LiveChange, Ring, RingEntry};
use super::stream_quotes::SequencedQuote;
use super::wire;
use crate::domain::ohlcv::Bar;
use crate::domain::quote::Quote;
use crate::domain::shared::{Series, Symbol};
use crate::infrastructure::interfaces::ProviderError;

/// The newest quote of a symbol.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LatestQuote {
    /// What is known.
    pub(super) quote: Quote,
    /// Rises by one with each update.
    pub(super) sequence: u64,
}

/// The feed's side and the streams' side of everything live. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Hub {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    epoch: i64,
    quotes: RwLock<HashMap<Symbol, QuoteCell>>,
    quotes_changed: watch::Sender<u64>,
    ring: Mutex<Ring>,
    bars_changed: watch::Sender<u64>,
    forming: RwLock<HashMap<Series, FormingCell>>,
    forming_versions: AtomicU64,
    feed: watch::Sender<FeedState>,
    feed_word: watch::Sender<FeedWord>,
    refused: RwLock<HashMap<Symbol, ProviderError>>,
}

/// The newest quote of a symbol, and the event that tells it.
#[derive(Debug)]
struct QuoteCell {
    latest: LatestQuote,
    event: OnceLock<Bytes>,
}

/// The forming bar of a series, which of all versions it is, and the event that tells it.
#[derive(Debug)]
struct FormingCell {
    bar: Bar,
    version: u64,
    event: OnceLock<Bytes>,
}

impl Hub {
    /// Nothing has happened. `epoch` tells this start of the server from others; `sequence` is the
    /// newest entry of the bar log.
    pub(super) fn new(epoch: i64, sequence: u64) -> Self {
        Self {
            shared: Arc::new(Shared {
                epoch,
                quotes: RwLock::default(),
                quotes_changed: watch::Sender::new(0),
                ring: Mutex::new(Ring::after(sequence)),
                bars_changed: watch::Sender::new(0),
                forming: RwLock::default(),
                forming_versions: AtomicU64::new(1),
                feed: watch::Sender::new(FeedState::default()),
                feed_word: watch::Sender::new(FeedWord::default()),
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
            let cell = QuoteCell { latest: *latest, event: OnceLock::new() };
            match cells.get_mut(symbol) {
                Some(known) => *known = cell,
                None => drop(cells.insert(symbol.clone(), cell)),
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
    /// come with their place in it. A bar that is final is not told as forming any more.
    pub(super) fn put_bars(&self, changes: impl IntoIterator<Item = (Option<u64>, LiveChange)>) {
        let changes: Vec<_> = changes.into_iter().collect();
        if changes.is_empty() {
            return;
        }
        self.finish_forming(&changes);
        let mut ring = self.ring();
        for (sequence, change) in changes {
            ring.push(sequence, change);
        }
        drop(ring);
        self.shared.bars_changed.send_modify(|version| *version += 1);
    }

    fn finish_forming(&self, changes: &[(Option<u64>, LiveChange)]) {
        let mut forming = write(&self.shared.forming);
        for (_, change) in changes {
            if let LiveChange::Stored(series, bar) = change
                && forming.get(series).is_some_and(|cell| cell.bar.range.open() <= bar.open_time)
            {
                forming.remove(series);
            }
        }
    }

    /// Takes in the forming bars that changed and wakes readers once.
    pub(super) fn put_forming(&self, bars: Vec<(Series, Bar)>) {
        if bars.is_empty() {
            return;
        }
        let mut forming = write(&self.shared.forming);
        for (series, bar) in bars {
            let version = self.shared.forming_versions.fetch_add(1, Ordering::Relaxed);
            forming.insert(series, FormingCell { bar, version, event: OnceLock::new() });
        }
        drop(forming);
        self.shared.bars_changed.send_modify(|version| *version += 1);
    }

    /// The feed is like this now. Streams are woken where they have something to say of it.
    pub(super) fn put_feed(&self, change: impl FnOnce(&mut FeedState)) {
        self.shared.feed.send_modify(change);
        let feed = self.shared.feed.borrow();
        self.shared.feed_word.send_if_modified(|word| {
            let is_new = word.connection != feed.connection || word.error != feed.last_error;
            if is_new {
                (word.connection, word.error) = (feed.connection, feed.last_error.clone());
            }
            is_new
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
        read(&self.shared.quotes).get(symbol).map(|cell| cell.latest)
    }

    /// Which of `symbols` have a price with a higher sequence than the one beside them.
    pub(super) fn newer_quotes(&self, symbols: &[(Symbol, u64)]) -> Vec<usize> {
        let cells = read(&self.shared.quotes);
        let is_newer = |(_, (symbol, seen)): &(usize, &(Symbol, u64))| {
            cells.get(symbol).is_some_and(|cell| cell.is_news_after(*seen))
        };
        symbols.iter().enumerate().filter(is_newer).map(|(index, _)| index).collect()
    }

    /// The event of the newest quote of `symbol`, if its sequence is higher than `seen`.
    pub(super) fn newer_quote(&self, symbol: &Symbol, seen: u64) -> Option<(u64, Bytes)> {
        let cells = read(&self.shared.quotes);
        let cell = cells.get(symbol).filter(|cell| cell.is_news_after(seen))?;
        let LatestQuote { quote, sequence } = cell.latest;
        let known = SequencedQuote { quote, sequence, epoch: self.shared.epoch };
        let event = cell.event.get_or_init(|| wire::encode_quote_event(symbol, &known));
        Some((sequence, event.clone()))
    }

    /// Changes whenever there are new quotes or refusals.
    pub(super) fn quotes_changed(&self) -> watch::Receiver<u64> {
        self.shared.quotes_changed.subscribe()
    }

    /// Changes whenever there are new bar events, forming bars or refusals.
    pub(super) fn bars_changed(&self) -> watch::Receiver<u64> {
        self.shared.bars_changed.subscribe()
    }

    /// How the feed is.
    pub(super) fn feed(&self) -> FeedState {
        self.shared.feed.borrow().clone()
    }

    /// What streams say of the feed, and each change.
    pub(super) fn feed_word(&self) -> watch::Receiver<FeedWord> {
        self.shared.feed_word.subscribe()
    }

    /// Which of `symbols` the provider refused, and why.
    pub(super) fn refusals(&self, symbols: &[Symbol]) -> Vec<(Symbol, ProviderError)> {
        let refused = read(&self.shared.refused);
        if refused.is_empty() {
            return Vec::new();
        }
        let refusal = |symbol| refused.get_key_value(symbol);
        symbols
            .iter()
            .filter_map(refusal)
            .map(|(symbol, error)| (symbol.clone(), error.clone()))
            .collect()
    }

    /// Which of `series` have a forming bar of a higher version than the one beside them.
    pub(super) fn newer_forming(&self, series: &[(Series, u64)]) -> Vec<usize> {
        let cells = read(&self.shared.forming);
        let is_newer = |(_, (series, seen)): &(usize, &(Series, u64))| {
            cells.get(series).is_some_and(|cell| cell.version > *seen)
        };
        series.iter().enumerate().filter(is_newer).map(|(index, _)| index).collect()
    }

    /// The event, without a cursor, of the forming bar of `series`, if its version is higher than
    /// `seen`.
    pub(super) fn newer_forming_bar(&self, series: &Series, seen: u64) -> Option<(u64, Bytes)> {
        let cells = read(&self.shared.forming);
        let cell = cells.get(series).filter(|cell| cell.version > seen)?;
        let event = cell.event.get_or_init(|| wire::encode_forming_event(series, &cell.bar));
        Some((cell.version, event.clone()))
    }

    /// The place behind all that has happened: position, and sequence in the bar log.
    pub(super) fn newest(&self) -> (u64, u64) {
        self.ring().newest()
    }

    /// At most `limit` entries from `position` on.
    pub(super) fn entries(&self, position: u64, limit: usize) -> Ahead {
        self.ring().from(position, limit)
    }

    /// The gaps at `positions`, of those that followed the log entry `sequence`.
    pub(super) fn gaps(&self, positions: &Range<u64>, sequence: u64) -> Vec<Arc<RingEntry>> {
        self.ring().gaps(positions, sequence)
    }

    /// The position behind the log entry `sequence`, if what follows it is still kept.
    pub(super) fn position_after(&self, sequence: u64) -> Option<u64> {
        self.ring().position_after(sequence)
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.shared.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl QuoteCell {
    fn is_news_after(&self, seen: u64) -> bool {
        self.latest.sequence > seen && self.latest.quote.last_price.is_some()
    }
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ohlcv::BarSource;
    use crate::features::market_data::quote::test_bench::{bar, hour};

    #[test]
    fn a_bar_that_is_final_is_not_told_as_forming_any_more() {
        let hub = Hub::new(1, 0);
        let forming = bar(1.0, 0, BarSource::Ticks);
        hub.put_forming(vec![(hour(), forming)]);
        assert_eq!(hub.newer_forming(&[(hour(), 0)]), [0]);
        let closed = bar(1.0, 1, BarSource::Ticks).stored;
        hub.put_bars([(Some(1), LiveChange::Stored(hour(), closed))]);
        assert!(hub.newer_forming(&[(hour(), 0)]).is_empty());
    }
}
