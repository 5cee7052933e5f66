//! What was asked of the provider, and when the feed was there: a document a series, and one a
//! symbol for the feed, with `feed` in the place of its interval.

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use mongodb::bson::{Array, Bson, DateTime, Document, doc};

use super::super::coverage::{CoverageRecord, StoredParts, scope};
use super::super::millisecond_before;
use super::{DEADLINE, DatabaseError, LONG_DEADLINE, MongoDb, database_error};
use crate::domain::coverage::{RangeSet, TimeRange};
use crate::domain::shared::{Interval, Symbol};

/// The collection's name.
pub(super) const COLLECTION: &str = "coverage";

/// Documents that are written at the same time.
const AT_ONCE: usize = 8;

/// The collection `coverage`.
#[derive(Clone, Debug)]
pub(in super::super) struct Coverage(MongoDb);

impl Coverage {
    pub(in super::super) fn new(engine: &MongoDb) -> Self {
        Self(engine.clone())
    }

    pub(in super::super) async fn put(
        &self,
        records: &[CoverageRecord],
    ) -> Result<(), DatabaseError> {
        let (this, records) = (self.0.clone(), records.to_vec());
        let put = async move {
            let puts = records.into_iter().map(|record| put_one(this.clone(), record));
            stream::iter(puts).buffer_unordered(AT_ONCE).try_collect().await
        };
        self.0.finish(put).await
    }

    pub(in super::super) async fn get(
        &self,
        symbol: &Symbol,
        interval: Option<Interval>,
    ) -> Result<Option<CoverageRecord>, DatabaseError> {
        let collection = self.0.documents(COLLECTION);
        let filter = key(symbol, scope(interval));
        let find = async move {
            let found = collection.find_one(filter).max_time(DEADLINE).await;
            let found = found.map_err(|error| database_error(&error))?;
            found.map(|document| read(&document)).transpose()
        };
        self.0.run(DEADLINE, find).await
    }

    pub(in super::super) async fn followed(&self) -> Result<Vec<CoverageRecord>, DatabaseError> {
        let collection = self.0.documents(COLLECTION);
        let find = async move {
            let found = collection.find(doc! { "followed": true }).max_time(LONG_DEADLINE).await;
            let mut cursor = found.map_err(|error| database_error(&error))?;
            let mut records = Vec::new();
            while let Some(document) =
                cursor.try_next().await.map_err(|error| database_error(&error))?
            {
                records.push(read(&document)?);
            }
            Ok(records)
        };
        self.0.run(LONG_DEADLINE, find).await
    }

    pub(in super::super) async fn delete(&self, symbol: &Symbol) -> Result<(), DatabaseError> {
        let collection = self.0.documents(COLLECTION);
        let filter = doc! { "symbol": symbol.code(), "exchange": symbol.exchange() };
        let delete = async move {
            let done = collection.delete_many(filter).await;
            done.map(|_| ()).map_err(|error| database_error(&error))
        };
        self.0.run(DEADLINE, delete).await
    }
}

async fn put_one(engine: MongoDb, record: CoverageRecord) -> Result<(), DatabaseError> {
    let filter = key(record.symbol(), record.scope());
    let (collection, document) = (engine.documents(COLLECTION), document(&record));
    let replace = async move {
        // Of two upserts of a new key one may lose, and then finds it (server SERVER-14322).
        let replace = || collection.replace_one(filter.clone(), document.clone()).upsert(true);
        let mut done = replace().await;
        if done.as_ref().is_err_and(super::is_duplicate_key) {
            done = replace().await;
        }
        done.map(|_| ()).map_err(|error| database_error(&error))
    };
    engine.run(DEADLINE, replace).await
}

fn key(symbol: &Symbol, scope: &str) -> Document {
    doc! { "symbol": symbol.code(), "exchange": symbol.exchange(), "interval": scope }
}

fn document(record: &CoverageRecord) -> Document {
    let mut document = key(record.symbol(), record.scope());
    let parts = record.parts();
    if let CoverageRecord::Feed { .. } = record {
        document.insert("followed", parts.followed);
        let date = |time| DateTime::from_millis(millisecond_before(time));
        document.insert("heard", parts.heard.map(date));
        document.insert("vouched", parts.vouched.map(date));
        document.insert("connected", list(&parts.connected));
        document.insert("down", list(&parts.down));
    } else {
        document.insert("asked", list(&parts.asked));
    }
    document
}

fn list(ranges: &RangeSet) -> Array {
    let time = |time| DateTime::from_millis(millisecond_before(time));
    let stretch = |range: &TimeRange| {
        Bson::Document(doc! { "start": time(range.open()), "end": time(range.close()) })
    };
    ranges.ranges().iter().map(stretch).collect()
}

fn read(document: &Document) -> Result<CoverageRecord, DatabaseError> {
    let part = |name| document.get_str(name).unwrap_or_default();
    let (exchange, code, scope) = (part("exchange"), part("symbol"), part("interval"));
    let corrupt = |detail: &str| {
        DatabaseError::corrupt(COLLECTION, format!("{exchange}:{code} {scope}"), detail)
    };
    let symbol = Symbol::new(exchange, code).map_err(|error| corrupt(&error.to_string()))?;
    let ranges =
        |name| read_list(document, name).ok_or_else(|| corrupt("its stretches cannot be read"));
    let time = |name| {
        let time = document.get_datetime(name).ok()?;
        Timestamp::from_millisecond(time.timestamp_millis()).ok()
    };
    let parts = StoredParts {
        heard: time("heard"),
        vouched: time("vouched"),
        followed: document.get_bool("followed").unwrap_or_default(),
        asked: ranges("asked")?,
        connected: ranges("connected")?,
        down: ranges("down")?,
    };
    CoverageRecord::read(symbol, scope, parts).ok_or_else(|| corrupt("it is of no interval"))
}

/// The stretches in a field; none of them where there is no such field.
fn read_list(document: &Document, name: &str) -> Option<RangeSet> {
    let Ok(list) = document.get_array(name) else {
        return (!document.contains_key(name)).then(RangeSet::default);
    };
    let stretch = |each: &Bson| {
        let stretch = each.as_document()?;
        let time = |name| {
            let time = stretch.get_datetime(name).ok()?;
            Timestamp::from_millisecond(time.timestamp_millis()).ok()
        };
        Some(TimeRange::new(time("start")?, time("end")?))
    };
    let all = list.iter().map(stretch).collect::<Option<Vec<_>>>()?;
    Some(all.into_iter().flatten().collect())
}
