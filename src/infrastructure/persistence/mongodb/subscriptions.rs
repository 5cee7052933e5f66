//! Which symbols the feed follows.

use futures::stream::TryStreamExt as _;
use mongodb::bson::{Bson, DateTime, Document, RawBsonRef, RawDocument, doc};

use super::super::millisecond_before;
use super::super::subscriptions::Subscribed;
use super::{DEADLINE, DatabaseError, MongoDb, database_error, decode};
use crate::domain::shared::Symbol;

/// The collection's name.
pub(super) const COLLECTION: &str = "subscriptions";

/// The collection `subscriptions`.
#[derive(Clone, Debug)]
pub(in super::super) struct Subscriptions(MongoDb);

impl Subscriptions {
    pub(in super::super) fn new(engine: &MongoDb) -> Self {
        Self(engine.clone())
    }

    pub(in super::super) async fn put(&self, subscribed: &Subscribed) -> Result<(), DatabaseError> {
        let (collection, filter) = (self.0.documents(COLLECTION), key(&subscribed.symbol));
        let logged_from = subscribed.logged_from.map_or(Bson::Null, |from| {
            Bson::DateTime(DateTime::from_millis(millisecond_before(from)))
        });
        let created_at = DateTime::from_millis(millisecond_before(subscribed.created_at));
        let change = doc! { "$set": { "created_at": created_at, "logged_from": logged_from } };
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

    pub(in super::super) async fn get(
        &self,
        symbol: &Symbol,
    ) -> Result<Option<Subscribed>, DatabaseError> {
        let (collection, filter) = (self.0.raw(COLLECTION), key(symbol));
        let get = async move {
            let found = collection.find_one(filter).max_time(DEADLINE).await;
            let found = found.map_err(|error| database_error(&error))?;
            found.map(|document| read_subscribed(&document)).transpose()
        };
        self.0.run(DEADLINE, get).await
    }

    pub(in super::super) async fn delete(&self, symbol: &Symbol) -> Result<bool, DatabaseError> {
        let (collection, filter) = (self.0.documents(COLLECTION), key(symbol));
        let delete = async move {
            let done = collection.delete_one(filter).await;
            done.map(|done| done.deleted_count > 0).map_err(|error| database_error(&error))
        };
        self.0.run(DEADLINE, delete).await
    }

    pub(in super::super) async fn list(
        &self,
        after: Option<&Symbol>,
        limit: u32,
    ) -> Result<Vec<Subscribed>, DatabaseError> {
        // To the server, no limit is zero.
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut query = Document::new();
        if let Some(after) = after {
            let (exchange, code) = (after.exchange(), after.code());
            let later = vec![
                doc! { "exchange": { "$gt": exchange } },
                doc! { "exchange": exchange, "symbol": { "$gt": code } },
            ];
            query.insert("$or", later);
        }
        let collection = self.0.raw(COLLECTION);
        let list = async move {
            let found = collection
                .find(query)
                .sort(doc! { "exchange": 1, "symbol": 1 })
                .limit(i64::from(limit))
                .max_time(DEADLINE)
                .await;
            let mut cursor = found.map_err(|error| database_error(&error))?;
            let mut all = Vec::new();
            while let Some(document) =
                cursor.try_next().await.map_err(|error| database_error(&error))?
            {
                all.push(read_subscribed(&document)?);
            }
            Ok(all)
        };
        self.0.run(DEADLINE, list).await
    }
}

fn key(symbol: &Symbol) -> Document {
    doc! { "exchange": symbol.exchange(), "symbol": symbol.code() }
}

fn read_subscribed(document: &RawDocument) -> Result<Subscribed, DatabaseError> {
    let part = |name| document.get_str(name).unwrap_or_default();
    let (exchange, code) = (part("exchange"), part("symbol"));
    let corrupt =
        |detail: String| DatabaseError::corrupt(COLLECTION, format!("{exchange}:{code}"), detail);
    let symbol = Symbol::new(exchange, code).map_err(|error| corrupt(error.to_string()))?;
    let time = |name: &str| {
        let value = document.get(name).map_err(|error| corrupt(error.to_string()))?;
        decode::time(name, value.unwrap_or(RawBsonRef::Null)).map_err(corrupt)
    };
    let made_at = decode::made_at(document.get_object_id("_id").ok());
    Ok(Subscribed {
        symbol,
        created_at: time("created_at")?.unwrap_or(made_at),
        logged_from: time("logged_from")?,
    })
}
