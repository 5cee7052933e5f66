//! Where events are sent to. A document is named by its endpoint's id.

use futures::stream::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::bson::{Bson, DateTime, Document, doc};
use mongodb::options::ReturnDocument;
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use super::super::millisecond_before;
use super::super::webhooks::{Webhook, joined, split};
use super::{DEADLINE, DatabaseError, MongoDb, database_error, webhook_outbox};

/// The collection's name.
pub(super) const COLLECTION: &str = "webhooks";

/// The collection `webhooks`.
#[derive(Clone, Debug)]
pub(in super::super) struct Webhooks(MongoDb);

impl Webhooks {
    pub(in super::super) fn new(engine: &MongoDb) -> Self {
        Self(engine.clone())
    }

    pub(in super::super) async fn insert(&self, webhook: &Webhook) -> Result<(), DatabaseError> {
        let collection = self.0.documents(COLLECTION);
        let mut document = doc! {
            "_id": webhook.id.to_string(),
            "url": &webhook.url,
            "description": &webhook.description,
            "event_types": joined(&webhook.event_types),
            "symbols": joined(&webhook.symbols),
            "intervals": joined(&webhook.intervals),
            "secret": webhook.secret.expose_secret(),
            "created_at": date(webhook.created_at),
            "cursor": number(webhook.cursor),
            "dropped": number(webhook.dropped),
        };
        if let Some((at, why)) = &webhook.disabled {
            document.extend(doc! { "disabled_at": date(*at), "disabled_why": why });
        }
        let insert = async move {
            let done = collection.insert_one(document).await;
            done.map(|_| ()).map_err(|error| database_error(&error))
        };
        self.0.run(DEADLINE, insert).await
    }

    pub(in super::super) async fn list(&self) -> Result<Vec<Webhook>, DatabaseError> {
        let collection = self.0.documents(COLLECTION);
        let list = async move {
            let sorted = collection.find(doc! {}).sort(doc! { "created_at": 1, "_id": 1 });
            let found = sorted.max_time(DEADLINE).await.map_err(|error| database_error(&error))?;
            let found: Vec<Document> =
                found.try_collect().await.map_err(|error| database_error(&error))?;
            found.iter().map(read).collect()
        };
        self.0.run(DEADLINE, list).await
    }

    pub(in super::super) async fn delete(&self, id: Uuid) -> Result<bool, DatabaseError> {
        let webhooks = self.0.documents(COLLECTION);
        let outbox = self.0.documents(webhook_outbox::COLLECTION);
        // Once begun both are removed, whatever becomes of the caller.
        let delete = async move {
            let id = id.to_string();
            let deleted = webhooks.delete_one(doc! { "_id": &id }).await;
            let deleted = deleted.map_err(|error| database_error(&error))?;
            let waiting = outbox.delete_many(doc! { "webhook_id": &id }).await;
            waiting.map_err(|error| database_error(&error))?;
            Ok(deleted.deleted_count > 0)
        };
        self.0.run(DEADLINE, delete).await
    }

    pub(in super::super) async fn disable(
        &self,
        id: Uuid,
        at: Timestamp,
        why: &str,
    ) -> Result<bool, DatabaseError> {
        let collection = self.0.documents(COLLECTION);
        let change = doc! { "$set": { "disabled_at": date(at), "disabled_why": why } };
        let disable = async move {
            let enabled = doc! { "_id": id.to_string(), "disabled_at": Bson::Null };
            let done = collection.update_one(enabled, change).await;
            done.map(|done| done.matched_count > 0).map_err(|error| database_error(&error))
        };
        self.0.run(DEADLINE, disable).await
    }

    pub(in super::super) async fn enable(
        &self,
        id: Uuid,
        cursor: u64,
    ) -> Result<Option<Webhook>, DatabaseError> {
        let collection = self.0.documents(COLLECTION);
        let enable = async move {
            let id = doc! { "_id": id.to_string() };
            let mut disabled = id.clone();
            disabled.insert("disabled_at", doc! { "$ne": Bson::Null });
            let change = doc! {
                "$set": { "cursor": number(cursor) },
                "$unset": { "disabled_at": "", "disabled_why": "" },
            };
            let enabled = collection.find_one_and_update(disabled, change);
            let enabled = enabled.return_document(ReturnDocument::After).await;
            let found = match enabled.map_err(|error| database_error(&error))? {
                Some(found) => Some(found),
                None => collection.find_one(id).await.map_err(|error| database_error(&error))?,
            };
            found.as_ref().map(read).transpose()
        };
        self.0.run(DEADLINE, enable).await
    }
}

fn read(document: &Document) -> Result<Webhook, DatabaseError> {
    let text = |name| document.get_str(name).unwrap_or_default();
    let id = text("_id");
    let corrupt = |error: String| DatabaseError::corrupt(COLLECTION, id, error);
    let count = |name| u64::try_from(document.get_i64(name).unwrap_or_default()).unwrap_or(0);
    let disabled = time(document, "disabled_at").map_err(corrupt)?;
    Ok(Webhook {
        id: id.parse().map_err(|error: uuid::Error| corrupt(error.to_string()))?,
        url: text("url").to_owned(),
        description: text("description").to_owned(),
        event_types: split(text("event_types")).map_err(corrupt)?,
        symbols: split(text("symbols")).map_err(corrupt)?,
        intervals: split(text("intervals")).map_err(corrupt)?,
        secret: SecretString::from(text("secret")),
        created_at: time(document, "created_at").map_err(corrupt)?.unwrap_or(Timestamp::UNIX_EPOCH),
        disabled: disabled.map(|at| (at, text("disabled_why").to_owned())),
        cursor: count("cursor"),
        dropped: count("dropped"),
    })
}

/// A time that may be absent.
pub(super) fn time(document: &Document, name: &str) -> Result<Option<Timestamp>, String> {
    let at = document.get_datetime(name).ok();
    let time = at.map(|at| Timestamp::from_millisecond(at.timestamp_millis())).transpose();
    time.map_err(|error| error.to_string())
}

pub(super) fn date(time: Timestamp) -> DateTime {
    DateTime::from_millis(millisecond_before(time))
}

/// A count as it is stored.
pub(super) fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
