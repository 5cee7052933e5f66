//! The bar log: reading and trimming it. `bar_log_write` appends to it.
//!
//! Readers see what the head says is applied: entries beyond it may not be stored in `ohlcv` yet,
//! nor be on a majority of servers.

use std::collections::HashMap;

use futures::stream::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::bson::{DateTime, Document, RawDocument, RawDocumentBuf, doc};
use mongodb::options::{FindOptions, Hint};
use uuid::Uuid;

use super::super::bar_log::{LogBar, LogHead, LogPage, SCAN, SHARD, Wanted};
use super::super::millisecond_from;
use super::ohlcv::whole;
use super::{DEADLINE, DatabaseError, MongoDb, database_error, decode, is_duplicate_key, schema};
use crate::domain::shared::{Series, Symbol};

/// The collection's name.
pub(super) const COLLECTION: &str = "bar_log";

/// The collection with one document a shard.
pub(super) const HEAD: &str = "bar_log_head";

/// Entries removed by one command.
const TRIM_BATCH: u64 = 10_000;

/// The collections `bar_log` and `bar_log_head`.
#[derive(Clone, Debug)]
pub(in super::super) struct BarLog(pub(super) MongoDb);

/// The document of `bar_log_head`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// The oldest sequence that is kept. Moved on before entries are removed.
    pub(super) first: u64,
    /// The sequence after `applied`.
    pub(super) next: u64,
    /// All up to here is stored in `ohlcv`, on a majority of servers.
    pub(super) applied: u64,
}

impl BarLog {
    pub(in super::super) fn new(engine: &MongoDb) -> Self {
        Self(engine.clone())
    }

    pub(in super::super) async fn read(
        &self,
        after: u64,
        wanted: Wanted,
        limit: u32,
    ) -> Result<LogPage, DatabaseError> {
        let head = self.kept_head().await?;
        let begin = after.max(head.first.saturating_sub(1));
        let end = head.applied.min(begin.saturating_add(SCAN));
        let mut page = LogPage { entries: Vec::new(), examined: after, first: head.first };
        if begin >= end || limit == 0 {
            return Ok(page);
        }
        let mut filter = range(begin, end);
        if !wanted.symbols.is_empty() {
            filter.insert("$or", any_of(&wanted));
        }
        if !wanted.intervals.is_empty() {
            let names: Vec<&str> = wanted.intervals.iter().map(|each| each.as_str()).collect();
            filter.insert("interval", doc! { "$in": names });
        }
        page.entries = self.entries(filter, limit).await?;
        let is_full = page.entries.len() as u64 == u64::from(limit);
        page.examined = page.entries.last().filter(|_| is_full).map_or(end, |(last, _)| *last);
        // What was trimmed meanwhile may be missing from the middle: now it is known to be.
        page.first = self.kept_head().await?.first;
        page.entries.retain(|(at, _)| *at >= page.first);
        Ok(page)
    }

    pub(in super::super) async fn head(&self) -> Result<LogHead, DatabaseError> {
        let head = self.kept_head().await?;
        Ok(LogHead { first: head.first, next: head.applied + 1 })
    }

    pub(in super::super) async fn id(&self) -> Result<String, DatabaseError> {
        // Makes the head where there is none.
        self.advance(doc! { "applied": 0_i64 }).await?;
        let collection = self.0.documents(HEAD);
        let id = async move {
            let nameless = doc! { "shard": SHARD, "log_id": { "$exists": false } };
            let named = doc! { "$set": { "log_id": Uuid::now_v7().to_string() } };
            collection.update_one(nameless, named).await?;
            collection.find_one(doc! { "shard": SHARD }).max_time(DEADLINE).await
        };
        let id = async move { id.await.map_err(|error| database_error(&error)) };
        let head = self.0.run(DEADLINE, id).await?.unwrap_or_default();
        let id = head.get_str("log_id").map(str::to_owned);
        id.map_err(|error| DatabaseError::corrupt(HEAD, "the head", error.to_string()))
    }

    pub(in super::super) async fn trim(&self, before: Timestamp) -> Result<u64, DatabaseError> {
        let this = self.clone();
        let before = DateTime::from_millis(millisecond_from(before));
        let trim = async move {
            let mut removed = 0;
            loop {
                let (batch, is_last) = this.trim_batch(before).await?;
                removed += batch;
                if is_last {
                    return Ok(removed);
                }
            }
        };
        self.0.finish(trim).await
    }

    /// Answers how many there were, and whether there are no more.
    async fn trim_batch(&self, before: DateTime) -> Result<(u64, bool), DatabaseError> {
        let head = self.kept_head().await?;
        let end = (head.applied + 1).min(head.first.saturating_add(TRIM_BATCH));
        // By the first that stays, and not by time alone: a clock may have been set back.
        let mut filter = range(head.first - 1, end - 1);
        filter.insert("written_at", doc! { "$gte": before });
        let stays = self.sequences(filter).await?;
        let first = stays.unwrap_or(end);
        self.advance(doc! { "first": number(first) }).await?;
        let collection = self.0.documents(COLLECTION);
        let delete = async move {
            let gone = doc! { "shard": SHARD, "sequence": { "$lt": number(first) } };
            let done = collection.delete_many(gone).await;
            done.map(|done| done.deleted_count).map_err(|error| database_error(&error))
        };
        let removed = self.0.run(DEADLINE, delete).await?;
        Ok((removed, stays.is_some() || end == head.applied + 1))
    }

    /// The head as it is stored; where none is, that of an empty log.
    pub(super) async fn kept_head(&self) -> Result<Head, DatabaseError> {
        let collection = self.0.documents(HEAD);
        let get = async move {
            let found = collection.find_one(doc! { "shard": SHARD }).max_time(DEADLINE).await;
            found.map_err(|error| database_error(&error))
        };
        let found = self.0.run(DEADLINE, get).await?.unwrap_or_default();
        let (first, applied) = (whole(&found, "first").max(1), whole(&found, "applied"));
        Ok(Head { first, next: whole(&found, "next").max(applied + 1), applied })
    }

    /// Moves fields of the head on; never back.
    pub(super) async fn advance(&self, fields: Document) -> Result<(), DatabaseError> {
        let collection = self.0.documents(HEAD);
        let advance = async move {
            let (filter, change) = (doc! { "shard": SHARD }, doc! { "$max": fields });
            // Of two upserts of a new key one may lose, and then finds it (server SERVER-14322).
            let mut done = collection.update_one(filter.clone(), change.clone()).upsert(true).await;
            if done.as_ref().is_err_and(is_duplicate_key) {
                done = collection.update_one(filter, change).upsert(true).await;
            }
            done.map(|_| ()).map_err(|error| database_error(&error))
        };
        self.0.run(DEADLINE, advance).await
    }

    /// Entries in order of their sequence.
    pub(super) async fn entries(
        &self,
        filter: Document,
        limit: u32,
    ) -> Result<Vec<(u64, LogBar)>, DatabaseError> {
        let options = options(limit);
        self.collect(filter, options, read_entry).await
    }

    /// The first sequence that passes.
    async fn sequences(&self, filter: Document) -> Result<Option<u64>, DatabaseError> {
        let mut options = options(1);
        options.projection = Some(doc! { "sequence": 1 });
        let mut found = self.collect(filter, options, read_sequence).await?;
        Ok(found.pop())
    }

    pub(super) async fn collect<T: Send + 'static>(
        &self,
        filter: Document,
        options: FindOptions,
        read: impl Fn(&RawDocument) -> Result<T, DatabaseError> + Send + 'static,
    ) -> Result<Vec<T>, DatabaseError> {
        let collection = self.0.raw(COLLECTION);
        let collect = async move {
            let found = collection.find(filter).with_options(options).await;
            let mut cursor = found.map_err(|error| database_error(&error))?;
            let mut all = Vec::new();
            while let Some(document) =
                cursor.try_next().await.map_err(|error| database_error(&error))?
            {
                let document: RawDocumentBuf = document;
                all.push(read(&document)?);
            }
            Ok(all)
        };
        self.0.run(DEADLINE, collect).await
    }
}

/// Entries after `begin`, up to and with `end`.
pub(super) fn range(begin: u64, end: u64) -> Document {
    doc! { "shard": SHARD, "sequence": { "$gt": number(begin), "$lte": number(end) } }
}

/// The wanted symbols, by exchange.
fn any_of(wanted: &Wanted) -> Vec<Document> {
    let mut codes: HashMap<&str, Vec<&str>> = HashMap::new();
    for symbol in &wanted.symbols {
        codes.entry(symbol.exchange()).or_default().push(symbol.code());
    }
    let clause = |(exchange, codes)| doc! { "exchange": exchange, "symbol": { "$in": codes } };
    codes.into_iter().map(clause).collect()
}

fn options(limit: u32) -> FindOptions {
    FindOptions::builder()
        .sort(doc! { "shard": 1, "sequence": 1 })
        .limit(i64::from(limit))
        .batch_size(limit.min(u32::try_from(SCAN).unwrap_or(u32::MAX)))
        .max_time(DEADLINE)
        .hint(Hint::Keys(schema::log_sequence()))
        .build()
}

/// A sequence as it is stored.
pub(super) fn number(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}

fn read_sequence(document: &RawDocument) -> Result<u64, DatabaseError> {
    let value = document.get("sequence").ok().flatten();
    let read = value.map(|value| decode::whole("sequence", value));
    match read {
        Some(Ok(Some(sequence))) => Ok(sequence),
        Some(Err(detail)) => Err(DatabaseError::corrupt(COLLECTION, "an entry", detail)),
        Some(Ok(None)) | None => {
            Err(DatabaseError::corrupt(COLLECTION, "an entry", "`sequence` is missing"))
        }
    }
}

pub(super) fn read_entry(document: &RawDocument) -> Result<(u64, LogBar), DatabaseError> {
    let sequence = read_sequence(document)?;
    let corrupt = |detail: String| {
        DatabaseError::corrupt(COLLECTION, format!("the entry {sequence}"), detail)
    };
    let series = series_of(document).map_err(corrupt)?;
    let bar = decode::bar_fields(document).map_err(corrupt)?;
    Ok((sequence, LogBar { series, bar }))
}

/// The series that a document names.
pub(super) fn series_of(document: &RawDocument) -> Result<Series, String> {
    let part = |name| document.get_str(name).map_err(|error| error.to_string());
    let symbol = Symbol::new(part("exchange")?, part("symbol")?);
    let symbol = symbol.map_err(|error| error.to_string())?;
    let interval = part("interval")?.parse().map_err(|error| format!("{error}"))?;
    Ok(Series::new(symbol, interval))
}
