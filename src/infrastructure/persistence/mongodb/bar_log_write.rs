//! The bar log: appending to it, ahead of the bars.
//!
//! A batch is three steps: entries into `bar_log`, bars into `ohlcv`, the head moved on. Entries
//! are inserted in order, each one after the newest that is there, so the log never has a hole.
//! Whatever ends a batch between the steps, even a command that the server runs long after its
//! writer is gone, the next one finds entries beyond the head and stores their bars first.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::raw::cstr;
use mongodb::bson::{DateTime, Document, RawDocumentBuf, doc};
use mongodb::options::FindOptions;
use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;

use super::super::bar_log::{LogBar, SHARD};
use super::super::millisecond_before;
use super::bar_log::{BarLog, COLLECTION, number, range, read_entry, series_of};
use super::ohlcv::{COLLECTION as OHLCV, Ohlcv, series_filter};
use super::ohlcv_write::{Found, Write, append_values, dates, document, duplicates};
use super::{DEADLINE, DatabaseError, ENGINE, database_error, decode, is_duplicate_key};
use crate::domain::ohlcv::StoredBar;
use crate::domain::shared::Series;

/// Entries in a command.
const BATCH: usize = 1_000;

/// How long a writer waits for those before it.
const TURN_DEADLINE: Duration = Duration::from_secs(30);

/// How often a batch is tried again that others are faster than.
const ROUNDS: usize = 8;

/// Series that are corrected at the same time.
const PARALLEL: usize = 8;

/// A bar's key in `ohlcv`: its series and when it opens, in milliseconds.
type BarKey = (Series, i64);

/// A bar's key in the log: with its revision.
type LogKey = (Series, i64, u32);

/// The sequence that comes next, where it is known: all before it is stored. One writer at a
/// time holds it.
pub(super) type Turn = Option<u64>;

/// What of a batch has to be written.
#[derive(Default)]
struct Plan {
    /// Entries, in order.
    new: Vec<LogBar>,
    /// Bars that are in the log and not in `ohlcv`.
    removed: Vec<LogBar>,
    /// Indexes in the batch and their places in `new`.
    places: Vec<(usize, usize)>,
    /// Sequences that the log has already, with their indexes in the batch.
    known: Vec<(u64, usize)>,
}

impl BarLog {
    pub(in super::super) async fn append(
        &self,
        bars: Vec<LogBar>,
        at: Timestamp,
    ) -> Result<Vec<(u64, usize)>, DatabaseError> {
        let this = self.clone();
        let at = DateTime::from_millis(millisecond_before(at));
        let append = async move {
            let mut turn = this.turn().await?;
            let mut logged = Vec::with_capacity(bars.len());
            for (batch, begin) in bars.chunks(BATCH).zip((0..).step_by(BATCH)) {
                let sequences = this.append_batch(batch, at, &mut turn).await?;
                logged.extend(sequences.into_iter().map(|(at, index)| (at, begin + index)));
            }
            logged.sort_unstable();
            Ok(logged)
        };
        self.0.finish(append).await
    }

    pub(in super::super) async fn recover(&self) -> Result<Vec<(u64, LogBar)>, DatabaseError> {
        let this = self.clone();
        let recover = async move {
            let mut turn = this.turn().await?;
            *turn = None;
            let (next, pending) = this.settle().await?;
            *turn = Some(next);
            Ok(pending)
        };
        self.0.finish(recover).await
    }

    /// Waits until nobody else appends.
    async fn turn(&self) -> Result<OwnedMutexGuard<Turn>, DatabaseError> {
        let turn = Arc::clone(&self.0.log_turn).lock_owned();
        timeout(TURN_DEADLINE, turn).await.map_err(|_| {
            DatabaseError::unavailable(ENGINE, "others have been writing to the bar log too long")
        })
    }

    async fn append_batch(
        &self,
        bars: &[LogBar],
        at: DateTime,
        turn: &mut Turn,
    ) -> Result<Vec<(u64, usize)>, DatabaseError> {
        for round in 0..ROUNDS {
            // Not known any more until all steps are done.
            let next = match turn.take() {
                Some(next) => next,
                None => self.settle().await?.0,
            };
            let plan = self.plan(bars, round > 0).await?;
            if !self.insert(&plan.new, next, at).await? {
                continue;
            }
            self.store(&plan.new, at).await?;
            self.store(&plan.removed, at).await?;
            let after = next + plan.new.len() as u64;
            if after > next {
                self.applied(after - 1).await?;
            }
            *turn = Some(after);
            let new = plan.places.into_iter().map(|(index, place)| (next + place as u64, index));
            return Ok(plan.known.into_iter().chain(new).collect());
        }
        Err(DatabaseError::unavailable(ENGINE, "the bar log keeps being written by others"))
    }

    /// Stores what is in the log beyond the head, moves the head on, and answers the sequence
    /// that comes next and what was beyond. That is one batch at most, but for other processes.
    async fn settle(&self) -> Result<(u64, Vec<(u64, LogBar)>), DatabaseError> {
        let head = self.kept_head().await?;
        let (mut next, mut pending) = (head.next, Vec::new());
        loop {
            let limit = u32::try_from(BATCH).unwrap_or(u32::MAX);
            let found = self.entries(range(next - 1, u64::MAX), limit).await?;
            let Some((last, _)) = found.last() else { return Ok((next, pending)) };
            let last = *last;
            let bars: Vec<LogBar> = found.iter().map(|(_, entry)| entry.clone()).collect();
            self.store(&bars, DateTime::now()).await?;
            self.applied(last).await?;
            next = last + 1;
            pending.extend(found);
        }
    }

    async fn applied(&self, sequence: u64) -> Result<(), DatabaseError> {
        self.advance(doc! { "next": number(sequence + 1), "applied": number(sequence) }).await
    }

    /// Decides what is new: what replaces what is stored, and what is stored in its place and was
    /// never logged. `is_contested` where the log may have what `ohlcv` has not.
    async fn plan(&self, bars: &[LogBar], is_contested: bool) -> Result<Plan, DatabaseError> {
        let mut stored = self.stored(bars).await?;
        let mut kept = Vec::with_capacity(bars.len());
        for entry in bars {
            let known = stored.get(&bar_key(entry)).copied();
            let stays = known.filter(|known| !entry.bar.replaces(known));
            if stays.is_none() {
                stored.insert(bar_key(entry), entry.bar);
            }
            kept.push(stays);
        }
        let unsure = bars.iter().zip(&kept).filter(|(_, kept)| is_contested || kept.is_some());
        let logged = self.logged(unsure.map(|(entry, _)| entry)).await?;
        let mut plan = Plan::default();
        let mut places: HashMap<LogKey, (usize, StoredBar)> = HashMap::new();
        for (index, (entry, kept)) in bars.iter().zip(kept).enumerate() {
            let key = log_key(entry);
            if let Some((sequence, bar)) = logged.get(&key) {
                plan.known.extend((*bar == entry.bar).then_some((*sequence, index)));
                plan.removed.extend(kept.is_none().then(|| entry.clone()));
            } else if let Some((place, bar)) = places.get(&key) {
                plan.places.extend((*bar == entry.bar).then_some((index, *place)));
            } else if let Some(bar) = to_log(entry, kept) {
                let place = plan.new.len();
                places.insert(key, (place, bar));
                plan.places.extend((bar == entry.bar).then_some((index, place)));
                plan.new.push(LogBar { series: entry.series.clone(), bar });
            }
        }
        Ok(plan)
    }

    /// What `ohlcv` has under the keys of `bars`.
    async fn stored(&self, bars: &[LogBar]) -> Result<HashMap<BarKey, StoredBar>, DatabaseError> {
        let mut by_series: HashMap<&Series, Vec<Timestamp>> = HashMap::new();
        let mut named = HashMap::with_capacity(bars.len());
        for entry in bars {
            by_series.entry(&entry.series).or_default().push(entry.bar.open_time);
            named.insert(bar_key(entry), entry.bar);
        }
        let keys = by_series.into_iter().map(|(series, times)| {
            let mut key = series_filter(series);
            key.insert("datetime", doc! { "$in": dates(times.into_iter()) });
            key
        });
        let options = FindOptions::builder().max_time(DEADLINE).build();
        let filter = doc! { "$or": keys.collect::<Vec<_>>() };
        let read = move |stored: &mut HashMap<_, _>, document: &_| {
            let corrupt = |detail| DatabaseError::corrupt(OHLCV, "a bar", detail);
            let found = Found::read(document).map_err(corrupt)?;
            let key = (series_of(document).map_err(corrupt)?, found.open_time);
            if let Some(bar) = named.get(&key) {
                // Of one that is no bar the revision counts.
                let read = decode::bar_fields(document).unwrap_or_else(|_| found.as_stored(bar));
                stored.insert(key, read);
            }
            Ok(())
        };
        Ohlcv::new(&self.0).fold(filter, options, HashMap::new(), read).await
    }

    /// What the log has under the keys of `bars`.
    async fn logged(
        &self,
        bars: impl Iterator<Item = &LogBar>,
    ) -> Result<HashMap<LogKey, (u64, StoredBar)>, DatabaseError> {
        let key = |LogBar { series, bar }: &LogBar| {
            let mut key = series_filter(series);
            key.insert("datetime", DateTime::from_millis(bar.open_time.as_millisecond()));
            key.insert("revision", i64::from(bar.revision()));
            key
        };
        let keys: Vec<Document> = bars.map(key).collect();
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let options = FindOptions::builder().max_time(DEADLINE).build();
        let found = self.collect(doc! { "$or": keys }, options, read_entry).await?;
        let named = |(at, entry): (u64, LogBar)| (log_key(&entry), (at, entry.bar));
        Ok(found.into_iter().map(named).collect())
    }

    /// Appends `bars` from the sequence `next` on. Answers false where somebody else was faster:
    /// then a first part of them may be there.
    async fn insert(
        &self,
        bars: &[LogBar],
        next: u64,
        at: DateTime,
    ) -> Result<bool, DatabaseError> {
        if bars.is_empty() {
            return Ok(true);
        }
        let documents: Vec<RawDocumentBuf> =
            (next..).zip(bars).map(|(sequence, entry)| log_entry(sequence, entry, at)).collect();
        let collection = self.0.raw(COLLECTION);
        let insert = async move {
            match collection.insert_many(documents).ordered(true).await {
                Ok(_) => Ok(true),
                Err(error) if is_duplicate_key(&error) => Ok(false),
                Err(error) => Err(database_error(&error)),
            }
        };
        self.0.run(DEADLINE, insert).await
    }

    /// Stores the last of each bar in `ohlcv`, where it may.
    async fn store(&self, bars: &[LogBar], at: DateTime) -> Result<(), DatabaseError> {
        let newest: HashMap<BarKey, &LogBar> =
            bars.iter().map(|entry| (bar_key(entry), entry)).collect();
        let (first, corrections): (Vec<_>, Vec<_>) =
            newest.into_values().partition(|entry| entry.bar.revision() == 1);
        let exist = self.insert_bars(first, at).await?;
        let mut by_series: HashMap<Series, Vec<StoredBar>> = HashMap::new();
        for LogBar { series, bar } in exist.into_iter().chain(corrections.into_iter().cloned()) {
            by_series.entry(series).or_default().push(bar);
        }
        let ohlcv = Ohlcv::new(&self.0);
        let writes = stream::iter(by_series).map(|(series, bars)| {
            let write = Write::new(&ohlcv, &series, at);
            async move { write.settle(bars).await }
        });
        writes.buffer_unordered(PARALLEL).try_collect().await
    }

    /// Inserts bars of many series by one command; answers those whose key exists.
    async fn insert_bars(
        &self,
        mut bars: Vec<&LogBar>,
        at: DateTime,
    ) -> Result<Vec<LogBar>, DatabaseError> {
        if bars.is_empty() {
            return Ok(Vec::new());
        }
        bars.sort_by_key(|entry| bar_key(entry));
        let documents: Vec<RawDocumentBuf> =
            bars.iter().map(|entry| document(&entry.series, &entry.bar, at)).collect();
        let collection = self.0.raw(OHLCV);
        let insert = async move {
            let done = collection.insert_many(documents).ordered(false).await;
            done.map_or_else(|error| duplicates(&error), |_| Ok(Vec::new()))
        };
        let exist = self.0.run(DEADLINE, insert).await?;
        Ok(exist.into_iter().filter_map(|index| bars.get(index).copied().cloned()).collect())
    }
}

/// What the log is to have of `entry`: itself, or what is `kept` in its place, where that has its
/// revision. A higher one was logged when it was written.
fn to_log(entry: &LogBar, kept: Option<StoredBar>) -> Option<StoredBar> {
    kept.map_or(Some(entry.bar), |kept| (kept.revision() == entry.bar.revision()).then_some(kept))
}

fn bar_key(entry: &LogBar) -> BarKey {
    (entry.series.clone(), entry.bar.open_time.as_millisecond())
}

fn log_key(entry: &LogBar) -> LogKey {
    (entry.series.clone(), entry.bar.open_time.as_millisecond(), entry.bar.revision())
}

/// The document of an entry.
fn log_entry(sequence: u64, entry: &LogBar, at: DateTime) -> RawDocumentBuf {
    let LogBar { series, bar } = entry;
    let mut document = RawDocumentBuf::new();
    document.append(cstr!("_id"), ObjectId::new());
    document.append(cstr!("shard"), SHARD);
    document.append(cstr!("sequence"), number(sequence));
    document.append(cstr!("symbol"), series.symbol.code());
    document.append(cstr!("exchange"), series.symbol.exchange());
    document.append(cstr!("interval"), series.interval.as_str());
    document.append(cstr!("datetime"), DateTime::from_millis(bar.open_time.as_millisecond()));
    append_values(&mut document, bar);
    document.append(cstr!("written_at"), at);
    document
}
