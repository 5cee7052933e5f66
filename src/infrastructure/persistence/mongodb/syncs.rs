//! Which syncs were asked for. A document is named by its sync's id.

use bytes::Bytes;
use futures::stream::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Document, doc};
use mongodb::options::{ReturnDocument, UpdateModifications};
use uuid::Uuid;

use super::super::millisecond_before;
use super::super::syncs::{Lease, SyncCounts, SyncRecord, bar_count, depth};
use super::{DEADLINE, DatabaseError, MongoDb, database_error, leases};
use crate::domain::shared::{Series, Symbol};

/// The collection's name.
pub(super) const COLLECTION: &str = "syncs";

/// The collection `syncs`.
#[derive(Clone, Debug)]
pub(in super::super) struct Syncs(MongoDb);

impl Syncs {
    pub(in super::super) fn new(engine: &MongoDb) -> Self {
        Self(engine.clone())
    }

    pub(in super::super) async fn insert(
        &self,
        sync: &SyncRecord,
        lease: Lease,
    ) -> Result<(), DatabaseError> {
        let collection = self.0.documents(COLLECTION);
        let symbol = &sync.series.symbol;
        let id = sync.sync_id.to_string();
        let mut document = doc! {
            "_id": &id,
            "symbol": symbol.code(), "exchange": symbol.exchange(),
            "interval": sync.series.interval.as_str(),
            "started_at": date(sync.started_at),
            "owner": lease.owner.to_string(),
        };
        if let Some(bars) = bar_count(sync.depth) {
            document.insert("bar_count", i64::from(bars));
        }
        document.extend(progress(sync));
        let insert = async move {
            let new = leases::inserted(document, lease);
            let done = collection.update_one(doc! { "_id": id }, new).upsert(true).await;
            done.map(|_| ()).map_err(|error| database_error(&error))
        };
        self.0.run(DEADLINE, insert).await
    }

    pub(in super::super) async fn update(
        &self,
        sync: &SyncRecord,
        lease: Lease,
    ) -> Result<bool, DatabaseError> {
        let filter = doc! { "_id": sync.sync_id.to_string(), "owner": lease.owner.to_string() };
        self.change(filter, leases::renewed(progress(sync), lease)).await
    }

    pub(in super::super) async fn get(
        &self,
        sync_id: Uuid,
    ) -> Result<Option<SyncRecord>, DatabaseError> {
        let collection = self.0.documents(COLLECTION);
        let get = async move {
            let found = collection.find_one(doc! { "_id": sync_id.to_string() });
            let found = found.max_time(DEADLINE).await.map_err(|error| database_error(&error))?;
            found.as_ref().map(read).transpose()
        };
        self.0.run(DEADLINE, get).await
    }

    pub(in super::super) async fn ask_to_cancel(
        &self,
        sync_id: Uuid,
    ) -> Result<bool, DatabaseError> {
        let filter = doc! { "_id": sync_id.to_string(), "ended_at": Bson::Null };
        self.change(filter, doc! { "$set": { "cancelled": true } }).await
    }

    pub(in super::super) async fn renew(&self, lease: Lease) -> Result<Vec<Uuid>, DatabaseError> {
        let own = doc! { "owner": lease.owner.to_string(), "ended_at": Bson::Null };
        let mut cancelled = own.clone();
        cancelled.insert("cancelled", true);
        let change = leases::renewed(doc! {}, lease);
        let collection = self.0.documents(COLLECTION);
        let renew = async move {
            collection.update_many(own, change).await.map_err(|error| database_error(&error))?;
            let found = collection.find(cancelled).max_time(DEADLINE).await;
            let mut cursor = found.map_err(|error| database_error(&error))?;
            let mut ids = Vec::new();
            while let Some(document) =
                cursor.try_next().await.map_err(|error| database_error(&error))?
            {
                ids.push(read_id(&document)?);
            }
            Ok(ids)
        };
        self.0.run(DEADLINE, renew).await
    }

    pub(in super::super) async fn take_over(
        &self,
        lease: Lease,
        limit: u32,
    ) -> Result<Vec<SyncRecord>, DatabaseError> {
        let mut lapsed = leases::has_lapsed();
        lapsed.insert("ended_at", Bson::Null);
        let change = leases::renewed(doc! { "owner": lease.owner.to_string() }, lease);
        let mut taken = Vec::new();
        // One by one, so that two processes never take the same.
        for _ in 0..limit {
            let collection = self.0.documents(COLLECTION);
            let (lapsed, change) = (lapsed.clone(), change.clone());
            let take = async move {
                let found = collection
                    .find_one_and_update(lapsed, change)
                    .sort(doc! { "started_at": 1, "_id": 1 })
                    .return_document(ReturnDocument::After)
                    .await
                    .map_err(|error| database_error(&error))?;
                found.as_ref().map(read).transpose()
            };
            let Some(sync) = self.0.run(DEADLINE, take).await? else { break };
            taken.push(sync);
        }
        Ok(taken)
    }

    pub(in super::super) async fn unfinished(&self) -> Result<Vec<Series>, DatabaseError> {
        let collection = self.0.documents(COLLECTION);
        let list = async move {
            let found = collection.find(doc! { "ended_at": Bson::Null }).max_time(DEADLINE).await;
            let mut cursor = found.map_err(|error| database_error(&error))?;
            let mut all = Vec::new();
            while let Some(document) =
                cursor.try_next().await.map_err(|error| database_error(&error))?
            {
                let series = read_series(&document)?;
                if !all.contains(&series) {
                    all.push(series);
                }
            }
            Ok(all)
        };
        self.0.run(DEADLINE, list).await
    }

    pub(in super::super) async fn prune(&self, before: Timestamp) -> Result<(), DatabaseError> {
        let collection = self.0.documents(COLLECTION);
        let old = doc! { "ended_at": { "$lt": date(before) } };
        let prune = async move {
            let done = collection.delete_many(old).await;
            done.map(|_| ()).map_err(|error| database_error(&error))
        };
        self.0.run(DEADLINE, prune).await
    }

    /// Whether `change` found a document.
    async fn change(
        &self,
        filter: Document,
        change: impl Into<UpdateModifications>,
    ) -> Result<bool, DatabaseError> {
        let (collection, change) = (self.0.documents(COLLECTION), change.into());
        let update = async move {
            let done = collection.update_one(filter, change).await;
            done.map(|done| done.matched_count > 0).map_err(|error| database_error(&error))
        };
        self.0.run(DEADLINE, update).await
    }
}

fn date(time: Timestamp) -> DateTime {
    DateTime::from_millis(millisecond_before(time))
}

/// What changes as a sync goes on.
fn progress(sync: &SyncRecord) -> Document {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let counts = &sync.counts;
    let mut document = doc! {
        "state": sync.state.as_str(),
        "pages": i64::from(counts.pages),
        "fetched": number(counts.fetched),
        "inserted": number(counts.inserted),
        "updated": number(counts.updated),
        "unchanged": number(counts.unchanged),
        "rejected": number(counts.rejected),
    };
    if let Some((oldest, newest)) = sync.reached {
        document.insert("oldest", date(oldest));
        document.insert("newest", date(newest));
    }
    if let Some((at, outcome)) = &sync.ended {
        let outcome = Binary { subtype: BinarySubtype::Generic, bytes: outcome.to_vec() };
        document.insert("ended_at", date(*at));
        document.insert("outcome", outcome);
    }
    document
}

fn read(document: &Document) -> Result<SyncRecord, DatabaseError> {
    let sync_id = read_id(document)?;
    let corrupt = |error: String| DatabaseError::corrupt(COLLECTION, sync_id.to_string(), error);
    let number = |name| u64::try_from(document.get_i64(name).unwrap_or_default()).unwrap_or(0);
    let time = |name| {
        let at = document.get_datetime(name).ok();
        let time = at.map(|at| Timestamp::from_millisecond(at.timestamp_millis())).transpose();
        time.map_err(|error| corrupt(error.to_string()))
    };
    let state = document.get_str("state").unwrap_or_default();
    let bars = document.get_i64("bar_count").ok().and_then(|bars| u32::try_from(bars).ok());
    let outcome = document.get_binary_generic("outcome").ok().cloned();
    Ok(SyncRecord {
        sync_id,
        series: read_series(document)?,
        depth: depth(bars),
        state: state.parse().map_err(|error| corrupt(format!("{error}")))?,
        counts: SyncCounts {
            pages: u32::try_from(number("pages")).unwrap_or(u32::MAX),
            fetched: number("fetched"),
            inserted: number("inserted"),
            updated: number("updated"),
            unchanged: number("unchanged"),
            rejected: number("rejected"),
        },
        reached: time("oldest")?.zip(time("newest")?),
        started_at: time("started_at")?.unwrap_or(Timestamp::UNIX_EPOCH),
        ended: time("ended_at")?.zip(outcome.map(Bytes::from)),
    })
}

fn read_id(document: &Document) -> Result<Uuid, DatabaseError> {
    let id = document.get_str("_id").unwrap_or_default();
    let corrupt = |error: uuid::Error| DatabaseError::corrupt(COLLECTION, id, error.to_string());
    id.parse().map_err(corrupt)
}

fn read_series(document: &Document) -> Result<Series, DatabaseError> {
    let part = |name| document.get_str(name).unwrap_or_default();
    let (exchange, code, interval) = (part("exchange"), part("symbol"), part("interval"));
    let key = format!("{exchange}:{code} {interval}");
    let corrupt = |error: String| DatabaseError::corrupt(COLLECTION, key.clone(), error);
    let symbol = Symbol::new(exchange, code).map_err(|error| corrupt(error.to_string()))?;
    let interval = interval.parse().map_err(|error| corrupt(format!("{error}")))?;
    Ok(Series::new(symbol, interval))
}
