//! Bars: storing and removing them.
//!
//! New bars are inserted, unordered and sorted by key; changed ones are updated by `_id`, guarded
//! by the state and revision they had when read. Who loses a race reads again and lets
//! [`StoredBar::replaces`] decide.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::raw::cstr;
use mongodb::bson::{
    Bson, DateTime, Document, RawArrayBuf, RawBsonRef, RawDocument, RawDocumentBuf, doc, rawdoc,
};
use mongodb::error::{Error, ErrorKind};

use super::super::bars::BarOrder;
use super::super::{millisecond_before, stored_number};
use super::ohlcv::{COLLECTION, Ohlcv, find_options, series_filter, whole};
use super::{
    DEADLINE, DatabaseError, ENGINE, PROVIDER, code, database_error, decode, is_transient_code,
};
use crate::domain::ohlcv::StoredBar;
use crate::domain::shared::Series;
use crate::domain::sync::SyncDiff;

/// Bars in an insert command.
const INSERTS: usize = 5_000;

/// Bars in an update command, and keys in a query.
const UPDATES: usize = 1_000;

/// How often a bar is tried again that others keep writing.
const ROUNDS: usize = 8;

/// The server's code for a key that exists.
const DUPLICATE_KEY: i32 = 11_000;

/// What decides whether a stored bar gives way, as it was read.
pub(super) struct Found {
    pub(super) open_time: i64,
    id: Bson,
    state: Option<Bson>,
    revision: Option<Bson>,
    number: u32,
    finality_unknown: bool,
}

/// One write under way.
#[derive(Clone)]
pub(super) struct Write {
    ohlcv: Ohlcv,
    series: Arc<Series>,
    at: DateTime,
}

impl Ohlcv {
    pub(in super::super) async fn write(
        &self,
        series: &Series,
        diff: &SyncDiff,
        at: Timestamp,
    ) -> Result<(), DatabaseError> {
        let write = Write::new(self, series, DateTime::from_millis(millisecond_before(at)));
        let (mut inserted, updated) = (diff.inserted.clone(), diff.updated.clone());
        inserted.sort_by_key(|bar| bar.open_time);
        self.engine
            .finish(async move {
                let mut unsettled = Vec::new();
                for chunk in inserted.chunks(INSERTS) {
                    unsettled.extend(write.insert(chunk).await?);
                }
                unsettled.extend(updated);
                write.settle(unsettled).await
            })
            .await
    }

    pub(in super::super) async fn delete(
        &self,
        series: &Series,
        open_times: &[Timestamp],
    ) -> Result<u64, DatabaseError> {
        let (this, series, times) = (self.clone(), series.clone(), open_times.to_vec());
        let delete = async move {
            let mut deleted = 0;
            for times in times.chunks(UPDATES) {
                let mut filter = series_filter(&series);
                filter.insert("datetime", doc! { "$in": dates(times.iter().copied()) });
                let collection = this.engine.documents(COLLECTION);
                let command = async move {
                    let done = collection.delete_many(filter).await;
                    done.map(|done| done.deleted_count).map_err(|error| database_error(&error))
                };
                deleted += this.engine.run(DEADLINE, command).await?;
            }
            Ok(deleted)
        };
        self.engine.finish(delete).await
    }
}

impl Write {
    pub(super) fn new(ohlcv: &Ohlcv, series: &Series, at: DateTime) -> Self {
        Self { ohlcv: ohlcv.clone(), series: Arc::new(series.clone()), at }
    }

    /// Inserts `bars` and answers those whose key exists.
    async fn insert(&self, bars: &[StoredBar]) -> Result<Vec<StoredBar>, DatabaseError> {
        let documents: Vec<RawDocumentBuf> =
            bars.iter().map(|bar| document(&self.series, bar, self.at)).collect();
        let collection = self.ohlcv.engine.raw(COLLECTION);
        let insert = async move {
            let done = collection.insert_many(documents).ordered(false).await;
            done.map_or_else(|error| duplicates(&error), |_| Ok(Vec::new()))
        };
        let exist = self.ohlcv.engine.run(DEADLINE, insert).await?;
        Ok(exist.into_iter().filter_map(|index| bars.get(index).copied()).collect())
    }

    /// Stores bars whose keys exist, or may: reads what is there and replaces what gives way.
    pub(super) async fn settle(&self, mut bars: Vec<StoredBar>) -> Result<(), DatabaseError> {
        one_of_each_key(&mut bars);
        for _ in 0..ROUNDS {
            let mut left = Vec::new();
            for chunk in bars.chunks(UPDATES) {
                left.extend(self.settle_chunk(chunk).await?);
            }
            if left.is_empty() {
                return Ok(());
            }
            bars = left;
        }
        let detail = format!("{} bars of {} keep being changed by others", bars.len(), self.series);
        Err(DatabaseError::unavailable(ENGINE, detail))
    }

    /// Answers the bars that have to be tried again.
    async fn settle_chunk(&self, bars: &[StoredBar]) -> Result<Vec<StoredBar>, DatabaseError> {
        let found = self.read(bars).await?;
        let (mut new, mut changed) = (Vec::new(), Vec::new());
        for bar in bars {
            match found.get(&bar.open_time.as_millisecond()) {
                None => new.push(*bar),
                Some(found) if bar.replaces(&found.as_stored(bar)) => changed.push((bar, found)),
                Some(_) => {}
            }
        }
        let mut left = if new.is_empty() { new } else { self.insert(&new).await? };
        if !changed.is_empty() && self.update(&changed).await? < changed.len() as u64 {
            left.extend(changed.iter().map(|(bar, _)| **bar));
        }
        Ok(left)
    }

    /// What is stored under the keys of `bars`, by open time.
    async fn read(&self, bars: &[StoredBar]) -> Result<HashMap<i64, Found>, DatabaseError> {
        let mut filter = series_filter(&self.series);
        filter.insert("datetime", doc! { "$in": dates(bars.iter().map(|bar| bar.open_time)) });
        let projection = doc! { "datetime": 1, "state": 1, "revision": 1 };
        let limit = u32::try_from(bars.len()).unwrap_or(u32::MAX);
        let options = find_options(projection, BarOrder::OldestFirst, limit);
        let series = Arc::clone(&self.series);
        let all = HashMap::with_capacity(bars.len());
        let found = self.ohlcv.fold(filter, options, all, move |all, document| {
            let found = Found::read(document)
                .map_err(|detail| DatabaseError::corrupt(COLLECTION, series.to_string(), detail))?;
            all.insert(found.open_time, found);
            Ok(())
        });
        found.await
    }

    /// Updates what is still as it was found; answers how many were.
    async fn update(&self, changed: &[(&StoredBar, &Found)]) -> Result<u64, DatabaseError> {
        let mut updates = RawArrayBuf::new();
        for (bar, found) in changed {
            updates.push(update(bar, found, self.at)?);
        }
        let milliseconds = i64::try_from(DEADLINE.as_millis()).unwrap_or(i64::MAX);
        let command = rawdoc! {
            "update": COLLECTION,
            "updates": updates,
            "ordered": false,
            "maxTimeMS": milliseconds,
            "writeConcern": { "w": "majority", "wtimeout": milliseconds },
        };
        let database = self.ohlcv.engine.database.clone();
        let update = async move {
            let reply = database.run_raw_command(command).await;
            let reply = reply.map_err(|error| database_error(&error))?;
            check_reply(&reply)?;
            Ok(whole(&reply, "n"))
        };
        self.ohlcv.engine.run(DEADLINE, update).await
    }
}

impl Found {
    pub(super) fn read(document: &RawDocument) -> Result<Self, String> {
        let document = Document::try_from(document).map_err(|error| error.to_string())?;
        let state = document.get("state").cloned();
        let revision = document.get("revision").cloned();
        let number = match &revision {
            Some(Bson::Int32(number)) => u32::try_from(*number).ok(),
            Some(Bson::Int64(number)) => u32::try_from(*number).ok(),
            _ => None,
        };
        let word = state.as_ref().and_then(Bson::as_str);
        let (number, finality_unknown) = decode::revision(word, number)?;
        let open_time = document.get_datetime("datetime").map_err(|error| error.to_string())?;
        let id = document.get("_id").cloned().ok_or("`_id` is missing")?;
        let open_time = open_time.timestamp_millis();
        Ok(Self { open_time, id, state, revision, number, finality_unknown })
    }

    /// The stored bar, as far as what may replace it is concerned.
    pub(super) const fn as_stored(&self, by: &StoredBar) -> StoredBar {
        let mut stored = StoredBar::with_revision(by.open_time, by.values, self.number, by.source);
        stored.finality_unknown = self.finality_unknown;
        stored
    }
}

/// Leaves what would be stored of bars with one key, written one after the other. Two of them in one
/// command would race, and two that give way to each other for ever.
fn one_of_each_key(bars: &mut Vec<StoredBar>) {
    // Stable: the later of two stays the later.
    bars.sort_by_key(|bar| bar.open_time);
    bars.dedup_by(|later, kept| {
        let is_same = later.open_time == kept.open_time;
        if is_same && later.replaces(kept) {
            *kept = *later;
        }
        is_same
    });
}

/// The statement that replaces what was `found`, if it still is as it was.
fn update(bar: &StoredBar, found: &Found, at: DateTime) -> Result<RawDocumentBuf, DatabaseError> {
    let broken = |error| DatabaseError::refused(ENGINE, format!("a key was not written: {error}"));
    // To a query, null is absent too.
    let guard = doc! {
        "_id": &found.id,
        "state": found.state.clone().unwrap_or(Bson::Null),
        "revision": found.revision.clone().unwrap_or(Bson::Null),
    };
    let guard = RawDocumentBuf::try_from(&guard).map_err(broken)?;
    let (mut set, mut unset) = (RawDocumentBuf::new(), RawDocumentBuf::new());
    append_values(&mut set, bar);
    set.append(cstr!("updated_at"), at);
    if bar.values.volume().is_none() {
        unset.append(cstr!("volume"), "");
    }
    if bar.finality_unknown {
        unset.append(cstr!("state"), "");
    }
    if bar.tick_count.is_none() {
        unset.append(cstr!("tick_count"), "");
    }
    let mut change = rawdoc! { "$set": set };
    if !unset.is_empty() {
        change.append(cstr!("$unset"), unset);
    }
    Ok(rawdoc! { "q": guard, "u": change })
}

/// The document of a new bar.
pub(super) fn document(series: &Series, bar: &StoredBar, at: DateTime) -> RawDocumentBuf {
    let mut document = RawDocumentBuf::new();
    document.append(cstr!("_id"), ObjectId::new());
    document.append(cstr!("symbol"), series.symbol.code());
    document.append(cstr!("exchange"), series.symbol.exchange());
    document.append(cstr!("interval"), series.interval.as_str());
    document.append(cstr!("datetime"), DateTime::from_millis(bar.open_time.as_millisecond()));
    append_values(&mut document, bar);
    document.append(cstr!("created_at"), at);
    document.append(cstr!("updated_at"), at);
    document
}

/// All of a bar but its key. What it does not have is not written.
pub(super) fn append_values(document: &mut RawDocumentBuf, bar: &StoredBar) {
    let values = &bar.values;
    document.append(cstr!("open"), stored_number(values.open()));
    document.append(cstr!("high"), stored_number(values.high()));
    document.append(cstr!("low"), stored_number(values.low()));
    document.append(cstr!("close"), stored_number(values.close()));
    if let Some(volume) = values.volume() {
        document.append(cstr!("volume"), stored_number(volume));
    }
    if !bar.finality_unknown {
        document.append(cstr!("state"), bar.state().as_str());
    }
    document.append(cstr!("revision"), count(bar.revision()));
    document.append(cstr!("source"), bar.source.as_str());
    if let Some(ticks) = bar.tick_count {
        document.append(cstr!("tick_count"), count(ticks));
    }
    document.append(cstr!("provider"), PROVIDER);
}

/// The smallest integer that holds it, as the shell would write it.
fn count(number: u32) -> RawBsonRef<'static> {
    i32::try_from(number).map_or(RawBsonRef::Int64(i64::from(number)), RawBsonRef::Int32)
}

pub(super) fn dates(times: impl Iterator<Item = Timestamp>) -> Vec<Bson> {
    times.map(|time| Bson::DateTime(DateTime::from_millis(time.as_millisecond()))).collect()
}

/// The indexes of bars whose key exists; an error where anything else went wrong too.
pub(super) fn duplicates(error: &Error) -> Result<Vec<usize>, DatabaseError> {
    let ErrorKind::InsertMany(failed) = &*error.kind else { return Err(database_error(error)) };
    let writes = failed.write_errors.as_deref().unwrap_or_default();
    let all_duplicates = writes.iter().all(|write| write.code == DUPLICATE_KEY);
    if failed.write_concern_error.is_some() || !all_duplicates || writes.is_empty() {
        let other = writes.iter().find(|write| write.code != DUPLICATE_KEY);
        return Err(match other {
            Some(write) if code(error) == Some(DUPLICATE_KEY) => {
                DatabaseError::refused(ENGINE, format!("{}: {}", write.code, write.message))
            }
            Some(_) | None => database_error(error),
        });
    }
    Ok(writes.iter().map(|write| write.index).collect())
}

/// A reply may be Ok and say inside that it is not.
pub(super) fn check_reply(reply: &Document) -> Result<(), DatabaseError> {
    let writes = reply.get_array("writeErrors").ok().and_then(|errors| errors.first());
    let failed = writes.or_else(|| reply.get("writeConcernError")).and_then(Bson::as_document);
    let Some(failed) = failed else { return Ok(()) };
    let number = failed.get_i32("code").unwrap_or_default();
    let detail = format!("{number}: {}", failed.get_str("errmsg").unwrap_or_default());
    Err(if is_transient_code(number) {
        DatabaseError::unavailable(ENGINE, detail)
    } else {
        DatabaseError::refused(ENGINE, detail)
    })
}
