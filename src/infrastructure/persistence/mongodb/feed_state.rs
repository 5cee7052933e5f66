//! What the feed remembers. A document is named `EXCHANGE:CODE`, so that it needs no index.

use bytes::Bytes;
use futures::stream::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::bson::raw::cstr;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{
    DateTime, RawArrayBuf, RawBinaryRef, RawDocument, RawDocumentBuf, doc, rawdoc,
};

use super::super::millisecond_before;
use super::ohlcv_write::check_reply;
use super::{DEADLINE, DatabaseError, MongoDb, database_error};
use crate::domain::shared::Symbol;

/// The collection's name.
const COLLECTION: &str = "feed_state";

/// Values in a command, and keys in a query.
const BATCH: usize = 500;

/// The collection `feed_state`.
#[derive(Clone, Debug)]
pub(in super::super) struct FeedState(MongoDb);

impl FeedState {
    pub(in super::super) fn new(engine: &MongoDb) -> Self {
        Self(engine.clone())
    }

    pub(in super::super) async fn save(
        &self,
        states: &[(Symbol, Bytes)],
        at: Timestamp,
    ) -> Result<(), DatabaseError> {
        let (this, states) = (self.0.clone(), states.to_vec());
        let at = DateTime::from_millis(millisecond_before(at));
        let save = async move {
            for batch in states.chunks(BATCH) {
                let (database, command) = (this.database.clone(), command(batch, at));
                let update = async move {
                    let reply = database.run_raw_command(command).await;
                    check_reply(&reply.map_err(|error| database_error(&error))?)
                };
                this.run(DEADLINE, update).await?;
            }
            Ok(())
        };
        self.0.finish(save).await
    }

    pub(in super::super) async fn get(
        &self,
        symbol: &Symbol,
    ) -> Result<Option<Bytes>, DatabaseError> {
        let collection = self.0.raw(COLLECTION);
        let filter = doc! { "_id": symbol.as_str() };
        let find = async move {
            let found = collection.find_one(filter).max_time(DEADLINE).await;
            let found = found.map_err(|error| database_error(&error))?;
            found.map(|document| Ok(read_state(&document)?.1)).transpose()
        };
        self.0.run(DEADLINE, find).await
    }

    pub(in super::super) async fn load_all(&self) -> Result<Vec<(Symbol, Bytes)>, DatabaseError> {
        let collection = self.0.raw(COLLECTION);
        let load = async move {
            let found = collection.find(doc! {}).max_time(DEADLINE).await;
            let mut cursor = found.map_err(|error| database_error(&error))?;
            let mut states = Vec::new();
            while let Some(document) =
                cursor.try_next().await.map_err(|error| database_error(&error))?
            {
                states.push(read_state(&document)?);
            }
            Ok(states)
        };
        self.0.run(DEADLINE, load).await
    }

    pub(in super::super) async fn delete(&self, symbols: &[Symbol]) -> Result<(), DatabaseError> {
        let (this, symbols) = (self.0.clone(), symbols.to_vec());
        let delete = async move {
            for batch in symbols.chunks(BATCH) {
                let names: Vec<&str> = batch.iter().map(Symbol::as_str).collect();
                let filter = doc! { "_id": { "$in": names } };
                let collection = this.documents(COLLECTION);
                let command = async move {
                    let done = collection.delete_many(filter).await;
                    done.map(|_| ()).map_err(|error| database_error(&error))
                };
                this.run(DEADLINE, command).await?;
            }
            Ok(())
        };
        self.0.finish(delete).await
    }
}

/// Puts each state in the place of the one before. The feed alone writes them, one batch at a
/// time, so no upsert races with another.
fn command(states: &[(Symbol, Bytes)], at: DateTime) -> RawDocumentBuf {
    let mut updates = RawArrayBuf::new();
    for (symbol, state) in states {
        let state = RawBinaryRef { subtype: BinarySubtype::Generic, bytes: state };
        let mut document = RawDocumentBuf::new();
        document.append(cstr!("exchange"), symbol.exchange());
        document.append(cstr!("symbol"), symbol.code());
        document.append(cstr!("state"), state);
        document.append(cstr!("updated_at"), at);
        updates.push(rawdoc! { "q": { "_id": symbol.as_str() }, "u": document, "upsert": true });
    }
    let milliseconds = i64::try_from(DEADLINE.as_millis()).unwrap_or(i64::MAX);
    rawdoc! {
        "update": COLLECTION,
        "updates": updates,
        "ordered": false,
        "maxTimeMS": milliseconds,
        "writeConcern": { "w": "majority", "wtimeout": milliseconds },
    }
}

fn read_state(document: &RawDocument) -> Result<(Symbol, Bytes), DatabaseError> {
    let name = document.get_str("_id").unwrap_or_default();
    let corrupt = |detail: String| DatabaseError::corrupt(COLLECTION, name, detail);
    let symbol = Symbol::parse(name).map_err(|error| corrupt(error.to_string()))?;
    let state = document.get_binary("state").map_err(|error| corrupt(error.to_string()))?;
    Ok((symbol, Bytes::copy_from_slice(state.bytes)))
}
