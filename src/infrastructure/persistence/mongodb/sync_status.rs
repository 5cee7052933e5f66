//! How syncs went.

use futures::stream::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::bson::{Bson, DateTime, Document, RawBsonRef, RawDocument, doc};

use super::super::millisecond_before;
use super::super::sync_statuses::SyncStatusFilter;
use super::ohlcv::series_filter;
use super::{DEADLINE, DatabaseError, MongoDb, PROVIDER, database_error, decode};
use crate::domain::shared::{Series, Symbol};
use crate::domain::sync::SyncStatus;

/// The collection's name.
pub(super) const COLLECTION: &str = "sync_status";

/// The collection `sync_status`.
#[derive(Clone, Debug)]
pub(in super::super) struct SyncStatuses(MongoDb);

impl SyncStatuses {
    pub(in super::super) fn new(engine: &MongoDb) -> Self {
        Self(engine.clone())
    }

    pub(in super::super) async fn get(
        &self,
        series: &Series,
    ) -> Result<Option<SyncStatus>, DatabaseError> {
        let (collection, filter) = (self.0.raw(COLLECTION), series_filter(series));
        let get = async move {
            let found = collection.find_one(filter).max_time(DEADLINE).await;
            match found.map_err(|error| database_error(&error))? {
                Some(document) => Ok(read_status(&document)),
                None => Ok(None),
            }
        };
        self.0.run(DEADLINE, get).await
    }

    pub(in super::super) async fn put(
        &self,
        status: &SyncStatus,
        at: Timestamp,
    ) -> Result<(), DatabaseError> {
        let (collection, filter) = (self.0.documents(COLLECTION), series_filter(&status.series));
        let at = DateTime::from_millis(millisecond_before(at));
        let date = |time: Option<Timestamp>| {
            time.map_or(Bson::Null, |time| {
                Bson::DateTime(DateTime::from_millis(millisecond_before(time)))
            })
        };
        let change = doc! {
            "$set": {
                "status": status.state.as_str(),
                "bar_count": i64::try_from(status.bar_count).unwrap_or(i64::MAX),
                "last_sync_at": date(status.last_sync_at),
                "last_bar_at": date(status.last_bar_at),
                "error_message": status.error_message.clone().map_or(Bson::Null, Bson::String),
                "provider": PROVIDER,
                "updated_at": at,
            },
            "$setOnInsert": { "created_at": at },
        };
        let put = async move {
            // Of two upserts of a new key one may lose, and then finds it (server SERVER-14322).
            let mut done = collection.update_one(filter.clone(), change.clone()).upsert(true).await;
            if done.as_ref().is_err_and(super::is_duplicate_key) {
                done = collection.update_one(filter, change).upsert(true).await;
            }
            done.map(|_| ()).map_err(|error| database_error(&error))
        };
        self.0.run(DEADLINE, put).await
    }

    pub(in super::super) async fn delete(&self, symbol: &Symbol) -> Result<u64, DatabaseError> {
        let collection = self.0.documents(COLLECTION);
        let filter = doc! { "symbol": symbol.code(), "exchange": symbol.exchange() };
        let delete = async move {
            let done = collection.delete_many(filter).await;
            done.map(|done| done.deleted_count).map_err(|error| database_error(&error))
        };
        self.0.run(DEADLINE, delete).await
    }

    pub(in super::super) async fn list(
        &self,
        filter: &SyncStatusFilter,
        after: Option<&Series>,
        limit: u32,
    ) -> Result<Vec<SyncStatus>, DatabaseError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let query = list_filter(filter, after);
        let collection = self.0.raw(COLLECTION);
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let list = async move {
            let found = collection
                .find(query)
                .sort(doc! { "exchange": 1, "symbol": 1, "interval": 1 })
                .batch_size(limit)
                .max_time(DEADLINE)
                .await;
            let mut cursor = found.map_err(|error| database_error(&error))?;
            let mut all = Vec::new();
            while let Some(document) =
                cursor.try_next().await.map_err(|error| database_error(&error))?
            {
                all.extend(read_status(&document));
                // Counted here: what is left alone must not end the list early.
                if all.len() >= wanted {
                    break;
                }
            }
            Ok(all)
        };
        self.0.run(DEADLINE, list).await
    }
}

fn list_filter(filter: &SyncStatusFilter, after: Option<&Series>) -> Document {
    let mut query = Document::new();
    if let Some(exchange) = &filter.exchange {
        query.insert("exchange", exchange);
    }
    if let Some(state) = filter.state {
        query.insert("status", state.as_str());
    }
    if let Some(after) = after {
        let (exchange, code) = (after.symbol.exchange(), after.symbol.code());
        let interval = after.interval.as_str();
        query.insert(
            "$or",
            [
                doc! { "exchange": { "$gt": exchange } },
                doc! { "exchange": exchange, "symbol": { "$gt": code } },
                doc! { "exchange": exchange, "symbol": code, "interval": { "$gt": interval } },
            ]
            .to_vec(),
        );
    }
    query
}

/// None where it cannot be read, which is logged: one such document must not hide the others, and
/// the next sync of the series writes it anew.
fn read_status(document: &RawDocument) -> Option<SyncStatus> {
    let part = |name| document.get_str(name).unwrap_or_default();
    let (exchange, symbol, interval) = (part("exchange"), part("symbol"), part("interval"));
    let series = Symbol::new(exchange, symbol).ok().zip(interval.parse().ok());
    let read = series
        .ok_or_else(|| "its name cannot be one of ours".to_owned())
        .and_then(|(symbol, interval)| read_fields(document, Series::new(symbol, interval)));
    read.map_err(|error| {
        tracing::warn!(
            exchange,
            symbol,
            interval,
            error,
            "an unreadable sync status is left alone"
        );
    })
    .ok()
}

fn read_fields(document: &RawDocument, series: Series) -> Result<SyncStatus, String> {
    let field = |name: &str| -> Result<RawBsonRef<'_>, String> {
        let value = document.get(name).map_err(|error| error.to_string())?;
        Ok(value.unwrap_or(RawBsonRef::Null))
    };
    let state = decode::text("status", field("status")?)?.unwrap_or_default();
    let message = decode::text("error_message", field("error_message")?)?;
    Ok(SyncStatus {
        series,
        state: state.parse().map_err(|error| format!("{error}"))?,
        bar_count: decode::whole("bar_count", field("bar_count")?)?.unwrap_or_default(),
        last_sync_at: decode::time("last_sync_at", field("last_sync_at")?)?,
        last_bar_at: decode::time("last_bar_at", field("last_bar_at")?)?,
        error_message: message.map(str::to_owned),
    })
}
