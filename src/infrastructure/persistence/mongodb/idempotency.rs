//! What became of idempotency keys: a document a key, decided on the server's clock. A TTL index
//! removes those whose time is over.

use std::time::Duration;

use bytes::Bytes;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Document, RawDocumentBuf, doc};
use mongodb::error::Error;
use mongodb::options::ReturnDocument;

use super::leases::from_now;
use super::{DEADLINE, DatabaseError, MongoDb, database_error, is_duplicate_key};
use crate::common::idempotency::{Claim, KeyedCall, Scope, Token};

/// The collection's name.
pub(super) const COLLECTION: &str = "idempotency";

/// Tries of an upsert that others make too: of two of a new key one may lose, and then finds it
/// (server SERVER-14322).
const TRIES: usize = 3;

/// The collection `idempotency`.
#[derive(Clone, Debug)]
pub(in super::super) struct Idempotency(MongoDb);

impl Idempotency {
    pub(in super::super) fn new(engine: &MongoDb) -> Self {
        Self(engine.clone())
    }

    pub(in super::super) async fn claim(
        &self,
        call: &KeyedCall,
        token: Token,
        lease: Duration,
        ttl: Duration,
    ) -> Result<Claim, DatabaseError> {
        let (collection, key) = (self.0.raw(COLLECTION), key(&call.scope));
        let change = claim(call, token, lease, ttl);
        let claimed = async move {
            let mut tries = 0;
            loop {
                tries += 1;
                let claimed = collection
                    .find_one_and_update(key.clone(), vec![change.clone()])
                    .upsert(true)
                    .return_document(ReturnDocument::After)
                    .await;
                match claimed {
                    Err(error) if is_duplicate_key(&error) && tries < TRIES => {}
                    claimed => return claimed.map_err(|error| database_error(&error)),
                }
            }
        };
        let found = self.0.run(DEADLINE, claimed).await?;
        let found = found.ok_or_else(|| unreadable("nothing"))?;
        read_claim(&found, call, token)
    }

    pub(in super::super) async fn renew(
        &self,
        scope: &Scope,
        token: Token,
        lease: Duration,
    ) -> Result<bool, DatabaseError> {
        let (collection, held) = (self.0.documents(COLLECTION), held(scope, token));
        let change = doc! { "$set": { "lease_until": from_now(lease) } };
        let renew = async move {
            let done = collection.update_one(held, vec![change]).await;
            done.map(|done| done.matched_count > 0).map_err(|error| database_error(&error))
        };
        self.0.run(DEADLINE, renew).await
    }

    pub(in super::super) async fn finish(
        &self,
        call: &KeyedCall,
        token: Token,
        answer: Bytes,
        ttl: Duration,
    ) -> Result<bool, DatabaseError> {
        // Where another one holds the key, the upsert meets the unique index.
        let (collection, held) = (self.0.documents(COLLECTION), held(&call.scope, token));
        let bytes = Binary { subtype: BinarySubtype::Generic, bytes: answer.into() };
        let change = doc! { "$set": {
            "fingerprint": call.fingerprint.as_str(), "lease_until": "$$NOW", "answer": bytes,
            "expires_at": from_now(ttl),
        } };
        let finish = async move {
            match collection.update_one(held, vec![change]).upsert(true).await {
                Ok(_) => Ok(true),
                Err(error) if is_duplicate_key(&error) => Ok(false),
                Err(error) => Err(database_error(&error)),
            }
        };
        self.0.run(DEADLINE, finish).await
    }

    pub(in super::super) async fn release(
        &self,
        scope: &Scope,
        token: Token,
    ) -> Result<(), DatabaseError> {
        let (collection, mut held) = (self.0.documents(COLLECTION), held(scope, token));
        held.insert("answer", doc! { "$exists": false });
        let release = async move {
            let done: Result<_, Error> = collection.delete_one(held).await;
            done.map(|_| ()).map_err(|error| database_error(&error))
        };
        self.0.run(DEADLINE, release).await
    }
}

fn key(scope: &Scope) -> Document {
    let Scope { principal, method, key } = scope;
    doc! { "principal": principal.to_string(), "method": *method, "key": key.as_str() }
}

fn held(scope: &Scope, token: Token) -> Document {
    let mut held = key(scope);
    held.insert("token", token.to_string());
    held
}

/// Replaces the document where the key is free, and leaves it as it is where not.
fn claim(call: &KeyedCall, token: Token, lease: Duration, ttl: Duration) -> Document {
    let (fingerprint, token) = (call.fingerprint.as_str(), token.to_string());
    let is_missing = |field: &str| doc! { "$eq": [{ "$type": field }, "missing"] };
    let is_over = doc! { "$lte": ["$expires_at", "$$NOW"] };
    let is_lapsed = doc! { "$and": [
        { "$eq": ["$fingerprint", fingerprint] },
        is_missing("$answer"),
        { "$or": [{ "$eq": ["$token", &token] }, { "$lte": ["$lease_until", "$$NOW"] }] },
    ] };
    // What the caller wrote comes from the document: in an expression it could be one itself.
    let claimed = doc! {
        "_id": "$_id", "principal": "$principal", "method": "$method", "key": "$key",
        "fingerprint": fingerprint, "token": token,
        "lease_until": from_now(lease), "expires_at": from_now(ttl),
    };
    let is_free = doc! { "$or": [is_missing("$fingerprint"), is_over, is_lapsed] };
    doc! { "$replaceWith": { "$cond": [is_free, claimed, "$$ROOT"] } }
}

/// What the document says after the claim.
fn read_claim(
    found: &RawDocumentBuf,
    call: &KeyedCall,
    token: Token,
) -> Result<Claim, DatabaseError> {
    let text = |name| found.get_str(name).map_err(|error| unreadable(error.to_string()));
    if text("fingerprint")? != call.fingerprint.as_str() {
        return Ok(Claim::OtherRequest);
    }
    if let Ok(answer) = found.get_binary("answer") {
        return Ok(Claim::Finished(Bytes::copy_from_slice(answer.bytes)));
    }
    let is_ours = text("token")? == token.to_string();
    Ok(if is_ours { Claim::Ours } else { Claim::Running })
}

fn unreadable(detail: impl Into<String>) -> DatabaseError {
    DatabaseError::corrupt(COLLECTION, "a key", detail)
}
