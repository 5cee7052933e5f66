//! What is to be sent to webhooks. A document is named by its endpoint and its event.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::stream::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::Collection;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};
use mongodb::error::{Error, ErrorKind};
use uuid::Uuid;

use super::super::Lease;
use super::super::webhook_outbox::{
    Delivery, DeliveryPlace, DeliveryState, NewDelivery, OutboxSize, Settled,
};
use super::webhooks::{date, number, time};
use super::{DEADLINE, DatabaseError, MongoDb, database_error, leases, webhooks};

/// The collection's name.
pub(super) const COLLECTION: &str = "webhook_outbox";

/// `DuplicateKey`.
const DUPLICATE_KEY: i32 = 11_000;

/// The collection `webhook_outbox`.
#[derive(Clone, Debug)]
pub(in super::super) struct WebhookOutbox(MongoDb);

impl WebhookOutbox {
    pub(in super::super) fn new(engine: &MongoDb) -> Self {
        Self(engine.clone())
    }

    pub(in super::super) async fn put(
        &self,
        deliveries: Vec<NewDelivery>,
        at: Timestamp,
    ) -> Result<(), DatabaseError> {
        self.0.run(DEADLINE, insert(self.0.clone(), deliveries, at)).await
    }

    pub(in super::super) async fn put_logged(
        &self,
        webhook_id: Uuid,
        deliveries: Vec<NewDelivery>,
        cursor: u64,
        dropped: u64,
        at: Timestamp,
    ) -> Result<(), DatabaseError> {
        let (engine, webhooks) = (self.0.clone(), self.0.documents(webhooks::COLLECTION));
        let put = async move {
            insert(engine, deliveries, at).await?;
            let moved = doc! {
                "$max": { "cursor": number(cursor) }, "$inc": { "dropped": number(dropped) },
            };
            let done = webhooks.update_one(doc! { "_id": webhook_id.to_string() }, moved).await;
            done.map(|_| ()).map_err(|error| database_error(&error))
        };
        self.0.run(DEADLINE, put).await
    }

    pub(in super::super) async fn claim(
        &self,
        webhook_id: Uuid,
        lease: Lease,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Delivery>, DatabaseError> {
        let collection = self.0.documents(COLLECTION);
        let mut free = leases::has_lapsed();
        free.extend(doc! {
            "webhook_id": webhook_id.to_string(), "state": "pending",
            "next_attempt_at": { "$lte": date(now) },
        });
        let claim = async move {
            let due = collection.find(free.clone()).sort(doc! { "next_attempt_at": 1 });
            let due = due.projection(doc! { "_id": 1 }).limit(i64::from(limit));
            let due: Vec<Document> = due.max_time(DEADLINE).await?.try_collect().await?;
            if due.is_empty() {
                return Ok(Vec::new());
            }
            // Whoever is faster takes them: another process may have found the same.
            let ids: Vec<Bson> = due.iter().filter_map(|each| each.get("_id").cloned()).collect();
            let claim = Uuid::now_v7().to_string();
            let mut chosen = free;
            chosen.insert("_id", doc! { "$in": ids });
            let taken = doc! { "owner": lease.owner.to_string(), "claim": &claim };
            collection.update_many(chosen, leases::renewed(taken, lease)).await?;
            let claimed =
                collection.find(doc! { "webhook_id": webhook_id.to_string(), "claim": claim });
            claimed.max_time(DEADLINE).await?.try_collect().await
        };
        let claim = async move { claim.await.map_err(|error| database_error(&error)) };
        let claimed: Vec<Document> = self.0.run(DEADLINE, claim).await?;
        claimed.iter().map(read).collect()
    }

    pub(in super::super) async fn settle(
        &self,
        settled: Vec<Settled>,
    ) -> Result<(), DatabaseError> {
        let collection = self.0.documents(COLLECTION);
        let settle = async move {
            for each in settled {
                let mut pending =
                    doc! { "_id": key(each.webhook_id, each.event_id), "state": "pending" };
                let ended = each.state != DeliveryState::Pending;
                if !ended {
                    pending.insert("attempts", doc! { "$lt": i64::from(each.attempt) });
                }
                let change = doc! {
                    "$set": {
                        "state": each.state.as_str(),
                        "next_attempt_at": date(each.next_attempt_at),
                        "ended_at": if ended { Bson::from(date(each.at)) } else { Bson::Null },
                        "status": each.status.map_or(Bson::Null, |status| i32::from(status).into()),
                        "error": each.error,
                    },
                    "$inc": { "attempts": 1 },
                    "$unset": { "owner": "", "leased_until": "", "claim": "" },
                };
                let done = collection.update_one(pending, change).await;
                done.map_err(|error| database_error(&error))?;
            }
            Ok(())
        };
        self.0.run(DEADLINE, settle).await
    }

    pub(in super::super) async fn size(
        &self,
        webhook_id: Uuid,
        now: Timestamp,
    ) -> Result<OutboxSize, DatabaseError> {
        let collection = self.0.documents(COLLECTION);
        let lease_left = doc! { "$subtract": ["$leased_until", "$$NOW"] };
        let free = doc! { "$max": ["$next_attempt_at", { "$add": [date(now), lease_left] }] };
        let pipeline = [
            doc! { "$match": { "webhook_id": webhook_id.to_string(), "state": "pending" } },
            doc! { "$group": {
                "_id": Bson::Null, "pending": { "$sum": 1_i64 },
                "oldest": { "$min": "$created_at" }, "due": { "$min": free },
            } },
        ];
        let size = async move {
            let found = collection.aggregate(pipeline).max_time(DEADLINE).await;
            let mut found = found.map_err(|error| database_error(&error))?;
            found.try_next().await.map_err(|error| database_error(&error))
        };
        let Some(found) = self.0.run(DEADLINE, size).await? else {
            return Ok(OutboxSize::default());
        };
        let corrupt = |error: String| DatabaseError::corrupt(COLLECTION, "a time", error);
        Ok(OutboxSize {
            pending: u64::try_from(found.get_i64("pending").unwrap_or_default()).unwrap_or(0),
            oldest: time(&found, "oldest").map_err(corrupt)?,
            due: time(&found, "due").map_err(corrupt)?,
        })
    }

    pub(in super::super) async fn trim(
        &self,
        webhook_id: Uuid,
        ended: u32,
        pending: u32,
    ) -> Result<u64, DatabaseError> {
        let collection = self.0.documents(COLLECTION);
        let webhooks = self.0.documents(webhooks::COLLECTION);
        let trim = async move {
            let id = webhook_id.to_string();
            let of = |mut which: Document| {
                which.insert("webhook_id", &id);
                which
            };
            remove(&collection, of(has_ended()), ended).await?;
            let dropped = remove(&collection, of(doc! { "state": "pending" }), pending).await?;
            if dropped > 0 {
                let counted = doc! { "$inc": { "dropped": number(dropped) } };
                webhooks.update_one(doc! { "_id": &id }, counted).await?;
            }
            Ok(dropped)
        };
        let trim = async move { trim.await.map_err(|error: Error| database_error(&error)) };
        self.0.run(DEADLINE, trim).await
    }

    pub(in super::super) async fn prune(
        &self,
        webhook_id: Uuid,
        before: Timestamp,
    ) -> Result<(), DatabaseError> {
        let collection = self.0.documents(COLLECTION);
        // What ended before was put before: so the index finds it.
        let old = doc! { "$lt": date(before) };
        let old = doc! { "webhook_id": webhook_id.to_string(), "created_at": old.clone(), "ended_at": old };
        let prune = async move {
            let done = collection.delete_many(old).await;
            done.map(|_| ()).map_err(|error| database_error(&error))
        };
        self.0.run(DEADLINE, prune).await
    }

    pub(in super::super) async fn list(
        &self,
        webhook_id: Uuid,
        after: Option<DeliveryPlace>,
        limit: u32,
    ) -> Result<Vec<Delivery>, DatabaseError> {
        let collection = self.0.documents(COLLECTION);
        let mut filter = doc! { "webhook_id": webhook_id.to_string() };
        if let Some(DeliveryPlace { created_at, event_id }) = after {
            filter.extend(before(date(created_at).into(), event_id.to_string().into(), "$lt"));
        }
        let list = async move {
            let found = collection.find(filter).sort(doc! { "created_at": -1, "event_id": -1 });
            let found = found.limit(i64::from(limit)).max_time(DEADLINE).await;
            let found = found.map_err(|error| database_error(&error))?;
            found.try_collect().await.map_err(|error| database_error(&error))
        };
        let found: Vec<Document> = self.0.run(DEADLINE, list).await?;
        found.iter().map(read).collect()
    }

    pub(in super::super) async fn ended(
        &self,
        webhook_id: Uuid,
        limit: u32,
    ) -> Result<Vec<DeliveryState>, DatabaseError> {
        let collection = self.0.documents(COLLECTION);
        let mut ended = has_ended();
        ended.insert("webhook_id", webhook_id.to_string());
        let list = async move {
            let found = collection.find(ended).sort(doc! { "created_at": -1, "event_id": -1 });
            let found = found.projection(doc! { "state": 1 }).limit(i64::from(limit));
            let found = found.max_time(DEADLINE).await.map_err(|error| database_error(&error))?;
            found.try_collect().await.map_err(|error| database_error(&error))
        };
        let found: Vec<Document> = self.0.run(DEADLINE, list).await?;
        let corrupt = |error| DatabaseError::corrupt(COLLECTION, webhook_id.to_string(), error);
        let state = |each: &Document| each.get_str("state").unwrap_or_default().parse();
        found.iter().map(|each| state(each).map_err(corrupt)).collect()
    }
}

/// The deliveries that are not pending, in the words of the index of these.
pub(super) fn has_ended() -> Document {
    doc! { "ended_at": { "$type": "date" } }
}

/// Inserts what is not there yet.
async fn insert(
    engine: MongoDb,
    deliveries: Vec<NewDelivery>,
    at: Timestamp,
) -> Result<(), DatabaseError> {
    if deliveries.is_empty() {
        return Ok(());
    }
    let document = |each: &NewDelivery| {
        let body = Binary { subtype: BinarySubtype::Generic, bytes: each.body.to_vec() };
        doc! {
            "_id": key(each.webhook_id, each.event_id),
            "webhook_id": each.webhook_id.to_string(), "event_id": each.event_id.to_string(),
            "event_type": each.event_type.as_str(), "body": body, "state": "pending",
            "attempts": 0, "next_attempt_at": date(at), "created_at": date(at), "error": "",
        }
    };
    let documents: Vec<Document> = deliveries.iter().map(document).collect();
    match engine.documents(COLLECTION).insert_many(documents).ordered(false).await {
        Err(error) if !are_there_already(&error) => return Err(database_error(&error)),
        Ok(_) | Err(_) => {}
    }
    let to: BTreeSet<String> = deliveries.iter().map(|each| each.webhook_id.to_string()).collect();
    forget_deleted(&engine, to).await.map_err(|error| database_error(&error))
}

/// Removes what was put for endpoints that are no more. Whoever deletes one removes first it and
/// then what waits for it: so what was put later finds it gone.
async fn forget_deleted(engine: &MongoDb, mut ids: BTreeSet<String>) -> Result<(), Error> {
    let named = doc! { "_id": { "$in": ids.iter().collect::<Vec<_>>() } };
    let webhooks = engine.documents(webhooks::COLLECTION);
    let found = webhooks.find(named).projection(doc! { "_id": 1 }).max_time(DEADLINE).await?;
    let found: Vec<Document> = found.try_collect().await?;
    for webhook in &found {
        ids.remove(webhook.get_str("_id").unwrap_or_default());
    }
    if !ids.is_empty() {
        let deleted = doc! { "webhook_id": { "$in": ids.into_iter().collect::<Vec<_>>() } };
        engine.documents(COLLECTION).delete_many(deleted).await?;
    }
    Ok(())
}

/// Whether all that was not inserted is there already.
#[expect(clippy::wildcard_enum_match_arm, reason = "nothing else says so")]
fn are_there_already(error: &Error) -> bool {
    match &*error.kind {
        ErrorKind::InsertMany(error) => {
            let writes = error.write_errors.as_ref();
            error.write_concern_error.is_none()
                && writes.is_some_and(|all| all.iter().all(|each| each.code == DUPLICATE_KEY))
        }
        _ => false,
    }
}

/// Removes all but the `keep` newest that pass `filter`; answers how many there were.
async fn remove(
    collection: &Collection<Document>,
    mut filter: Document,
    keep: u32,
) -> Result<u64, Error> {
    let newest = collection.find_one(filter.clone()).skip(u64::from(keep));
    let newest = newest.sort(doc! { "created_at": -1, "event_id": -1 }).max_time(DEADLINE);
    let Some(first) = newest.await? else { return Ok(0) };
    let field = |name| first.get(name).cloned().unwrap_or(Bson::Null);
    filter.extend(before(field("created_at"), field("event_id"), "$lte"));
    Ok(collection.delete_many(filter).await?.deleted_count)
}

/// What was put before a place; with `$lte`, or there.
fn before(created_at: Bson, event_id: Bson, comparison: &str) -> Document {
    doc! { "$or": [
        { "created_at": { "$lt": created_at.clone() } },
        { "created_at": created_at, "event_id": { comparison: event_id } },
    ] }
}

fn key(webhook_id: Uuid, event_id: Uuid) -> String {
    format!("{webhook_id}:{event_id}")
}

fn read(document: &Document) -> Result<Delivery, DatabaseError> {
    let text = |name| document.get_str(name).unwrap_or_default();
    let corrupt = |error: String| DatabaseError::corrupt(COLLECTION, text("_id"), error);
    let id = |name| text(name).parse().map_err(|error: uuid::Error| corrupt(error.to_string()));
    let at = |name| time(document, name).map_err(corrupt);
    let body = document.get_binary_generic("body").cloned().unwrap_or_default();
    let attempts = document.get_i32("attempts").unwrap_or_default();
    Ok(Delivery {
        webhook_id: id("webhook_id")?,
        event_id: id("event_id")?,
        event_type: text("event_type").parse().map_err(|error| corrupt(format!("{error}")))?,
        body: Bytes::from(body),
        state: text("state").parse().map_err(corrupt)?,
        attempts: u32::try_from(attempts).unwrap_or_default(),
        next_attempt_at: at("next_attempt_at")?.unwrap_or(Timestamp::UNIX_EPOCH),
        created_at: at("created_at")?.unwrap_or(Timestamp::UNIX_EPOCH),
        ended_at: at("ended_at")?,
        status: document.get_i32("status").ok().and_then(|status| u16::try_from(status).ok()),
        error: text("error").to_owned(),
    })
}
