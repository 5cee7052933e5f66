//! Indexes and validators: ensured at start, as often as that is.
//!
//! An existing database has the unique indexes already, perhaps by other names; they are taken as
//! they are. Validators hold new documents; old ones stay readable, and writable, as they are.

use std::time::Duration;

use futures::stream::TryStreamExt as _;
use mongodb::IndexModel;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::Error;
use mongodb::options::IndexOptions;

use super::ohlcv::COLLECTION as OHLCV;
use super::{DEADLINE, DatabaseError, LONG_DEADLINE, MongoDb, code, database_error};
use super::{bar_log, coverage, idempotency, job_runs, subscriptions, symbols, sync_status, syncs};

/// `NamespaceExists`: another process was faster.
const EXISTS: i32 = 48;

/// Unauthorized.
const UNAUTHORIZED: i32 = 13;

/// `DuplicateKey`.
const DUPLICATE_KEY: i32 = 11_000;

/// `IndexOptionsConflict` and `IndexKeySpecsConflict`.
const CONFLICTS: [i32; 2] = [85, 86];

/// What a collection has.
struct Layout {
    name: &'static str,
    indexes: Vec<Index>,
    validator: Document,
}

struct Index {
    name: &'static str,
    keys: Document,
    unique: bool,
    /// Only the documents that this matches.
    partial: Option<Document>,
    /// Documents go once the time in the indexed field has come.
    expires: bool,
}

/// The key of a bar.
pub(super) fn bar_key() -> Document {
    doc! { "symbol": 1, "exchange": 1, "interval": 1, "datetime": -1 }
}

/// The index of forming bars alone, which makes counting final ones cheap.
pub(super) fn forming_key() -> Document {
    doc! { "state": 1, "symbol": 1, "exchange": 1, "interval": 1 }
}

/// The order of the bar log.
pub(super) fn log_sequence() -> Document {
    doc! { "shard": 1, "sequence": 1 }
}

/// Makes what is missing.
pub(super) async fn ensure(engine: &MongoDb) -> Result<(), DatabaseError> {
    for layout in layouts() {
        ensure_collection(engine, &layout).await?;
        for index in layout.indexes {
            ensure_index(engine, layout.name, index).await?;
        }
    }
    Ok(())
}

fn layouts() -> [Layout; 10] {
    let unique = |name, keys| Index { name, keys, unique: true, partial: None, expires: false };
    [
        Layout {
            name: OHLCV,
            indexes: vec![
                unique("idx_ohlcv_unique", bar_key()),
                Index {
                    name: "idx_ohlcv_forming",
                    keys: forming_key(),
                    unique: false,
                    partial: Some(doc! { "state": "FORMING" }),
                    expires: false,
                },
            ],
            validator: bar_schema(),
        },
        Layout {
            name: symbols::COLLECTION,
            indexes: vec![unique("idx_symbols_unique", doc! { "symbol": 1, "exchange": 1 })],
            validator: symbol_schema(),
        },
        Layout {
            name: sync_status::COLLECTION,
            indexes: vec![unique(
                "idx_sync_status_unique",
                doc! { "symbol": 1, "exchange": 1, "interval": 1 },
            )],
            validator: status_schema(),
        },
        log_layout(),
        Layout {
            name: bar_log::HEAD,
            indexes: vec![unique("idx_bar_log_head_unique", doc! { "shard": 1 })],
            validator: schema(&["shard"], doc! {}),
        },
        Layout {
            name: subscriptions::COLLECTION,
            indexes: vec![unique("idx_subscriptions_unique", doc! { "exchange": 1, "symbol": 1 })],
            validator: subscription_schema(),
        },
        Layout {
            name: syncs::COLLECTION,
            indexes: vec![Index {
                name: "idx_syncs_ended",
                keys: doc! { "ended_at": 1, "leased_until": 1 },
                unique: false,
                partial: None,
                expires: false,
            }],
            validator: sync_schema(),
        },
        idempotency_layout(),
        coverage_layout(),
        job_layout(),
    ]
}

/// One run under way a job, and one an instant and attempt.
fn job_layout() -> Layout {
    let index = |name, keys, partial: Option<Document>| Index {
        name,
        keys,
        unique: partial.is_some(),
        partial,
        expires: false,
    };
    Layout {
        name: job_runs::COLLECTION,
        indexes: vec![
            index("idx_job_runs_running", doc! { "job_id": 1 }, Some(doc! { "running": true })),
            index(
                "idx_job_runs_instant",
                doc! { "job_id": 1, "instant": -1, "attempt": -1 },
                Some(doc! { "instant": { "$exists": true } }),
            ),
            index("idx_job_runs_started", doc! { "job_id": 1, "started_at": -1 }, None),
        ],
        validator: job_schema(),
    }
}

fn idempotency_layout() -> Layout {
    Layout {
        name: idempotency::COLLECTION,
        indexes: vec![
            Index {
                name: "idx_idempotency_unique",
                keys: doc! { "principal": 1, "method": 1, "key": 1 },
                unique: true,
                partial: None,
                expires: false,
            },
            Index {
                name: "idx_idempotency_expiry",
                keys: doc! { "expires_at": 1 },
                unique: false,
                partial: None,
                expires: true,
            },
        ],
        validator: idempotency_schema(),
    }
}

fn coverage_layout() -> Layout {
    Layout {
        name: coverage::COLLECTION,
        indexes: vec![
            Index {
                name: "idx_coverage_unique",
                keys: doc! { "symbol": 1, "exchange": 1, "interval": 1 },
                unique: true,
                partial: None,
                expires: false,
            },
            Index {
                name: "idx_coverage_followed",
                keys: doc! { "followed": 1 },
                unique: false,
                partial: Some(doc! { "followed": true }),
                expires: false,
            },
        ],
        validator: coverage_schema(),
    }
}

fn log_layout() -> Layout {
    let unique = |name, keys| Index { name, keys, unique: true, partial: None, expires: false };
    Layout {
        name: bar_log::COLLECTION,
        indexes: vec![
            unique("idx_bar_log_sequence", log_sequence()),
            unique(
                "idx_bar_log_bar",
                doc! {
                    "symbol": 1, "exchange": 1, "interval": 1, "datetime": 1, "revision": 1,
                },
            ),
        ],
        validator: log_schema(),
    }
}

fn schema(required: &[&str], properties: Document) -> Document {
    let required: Vec<Bson> = required.iter().map(|name| Bson::from(*name)).collect();
    doc! { "$jsonSchema": { "bsonType": "object", "required": required, "properties": properties } }
}

fn text() -> Document {
    doc! { "bsonType": "string" }
}

fn optional(kind: &str) -> Document {
    doc! { "bsonType": [kind, "null"] }
}

fn bar_schema() -> Document {
    let price = doc! { "bsonType": ["double", "int", "long", "decimal"] };
    let volume = doc! { "bsonType": ["double", "int", "long", "decimal", "null"], "minimum": 0 };
    let count = doc! { "bsonType": ["int", "long", "double"], "minimum": 0 };
    let required = ["symbol", "exchange", "interval", "datetime", "open", "high", "low", "close"];
    schema(
        &required,
        doc! {
            "symbol": text(), "exchange": text(), "interval": text(),
            "datetime": { "bsonType": "date" },
            "open": &price, "high": &price, "low": &price, "close": &price, "volume": volume,
            "state": { "enum": ["FORMING", "CLOSED", "REVISED"] },
            "source": { "enum": ["PROVIDER", "TICKS", "REPAIR"] },
            "revision": &count, "tick_count": &count, "provider": text(),
        },
    )
}

fn symbol_schema() -> Document {
    schema(
        &["symbol", "exchange"],
        doc! {
            "symbol": text(), "exchange": text(), "is_active": optional("bool"),
            "name": optional("string"), "session": optional("string"),
        },
    )
}

fn status_schema() -> Document {
    schema(
        &["symbol", "exchange", "interval", "status"],
        doc! {
            "symbol": text(), "exchange": text(), "interval": text(),
            "status": { "enum": ["pending", "syncing", "completed", "error"] },
            "last_sync_at": optional("date"), "last_bar_at": optional("date"),
            "error_message": optional("string"),
        },
    )
}

fn log_schema() -> Document {
    let price = doc! { "bsonType": "double" };
    let required = [
        "shard",
        "sequence",
        "symbol",
        "exchange",
        "interval",
        "datetime",
        "open",
        "high",
        "low",
        "close",
        "state",
        "revision",
        "source",
        "written_at",
    ];
    schema(
        &required,
        doc! {
            "shard": { "bsonType": "int" }, "sequence": { "bsonType": "long", "minimum": 1 },
            "symbol": text(), "exchange": text(), "interval": text(),
            "datetime": { "bsonType": "date" }, "written_at": { "bsonType": "date" },
            "open": &price, "high": &price, "low": &price, "close": &price,
            "volume": { "bsonType": "double", "minimum": 0 },
            "state": { "enum": ["CLOSED", "REVISED"] },
            "source": { "enum": ["PROVIDER", "TICKS", "REPAIR"] },
            "revision": { "bsonType": ["int", "long"], "minimum": 1 },
        },
    )
}

fn subscription_schema() -> Document {
    schema(
        &["symbol", "exchange"],
        doc! {
            "symbol": text(), "exchange": text(), "created_at": optional("date"),
            "logged_from": optional("date"),
        },
    )
}

fn idempotency_schema() -> Document {
    let date = doc! { "bsonType": "date" };
    schema(
        &["principal", "method", "key", "fingerprint", "token", "lease_until", "expires_at"],
        doc! {
            "principal": text(), "method": text(), "key": text(), "fingerprint": text(),
            "token": text(), "lease_until": &date, "expires_at": &date,
            "answer": { "bsonType": "binData" },
        },
    )
}

fn coverage_schema() -> Document {
    let stretches = doc! {
        "bsonType": "array",
        "items": {
            "bsonType": "object",
            "required": ["start", "end"],
            "properties": { "start": { "bsonType": "date" }, "end": { "bsonType": "date" } },
        },
    };
    schema(
        &["symbol", "exchange", "interval"],
        doc! {
            "symbol": text(), "exchange": text(), "interval": text(),
            "followed": { "bsonType": "bool" }, "heard": optional("date"),
            "asked": &stretches, "connected": &stretches, "down": &stretches,
        },
    )
}

fn sync_schema() -> Document {
    schema(
        &["symbol", "exchange", "interval", "state", "started_at", "owner", "leased_until"],
        doc! {
            "symbol": text(), "exchange": text(), "interval": text(),
            "state": { "enum": ["pending", "syncing", "completed", "error"] },
            "started_at": { "bsonType": "date" }, "leased_until": { "bsonType": "date" },
            "ended_at": optional("date"),
        },
    )
}

fn job_schema() -> Document {
    let date = doc! { "bsonType": "date" };
    schema(
        &["job_id", "attempt", "started_at", "owner", "leased_until"],
        doc! {
            "job_id": text(), "instant": &date, "attempt": { "bsonType": ["int", "long"] },
            "started_at": &date, "owner": text(), "leased_until": &date, "ended_at": &date,
            "outcome": { "enum": ["succeeded", "partial", "failed", "timed_out", "interrupted"] },
            "message": text(),
        },
    )
}

/// Makes the collection, or gives the one there is its validator.
async fn ensure_collection(engine: &MongoDb, layout: &Layout) -> Result<(), DatabaseError> {
    let (database, name) = (engine.database.clone(), layout.name);
    let validator = layout.validator.clone();
    let ensure = async move {
        let filter = doc! { "name": name };
        let listed = database.list_collections().filter(filter).await?;
        let found = listed.try_collect::<Vec<_>>().await?.pop();
        let options = |command: &str| {
            doc! {
                command: name, "validator": &validator, "validationLevel": "moderate",
                "validationAction": "error",
            }
        };
        match found {
            Some(found) if found.options.validator.as_ref() == Some(&validator) => Ok(()),
            Some(_) => database.run_command(options("collMod")).await.map(|_| ()),
            None => match database.run_command(options("create")).await {
                Err(error) if code(&error) != Some(EXISTS) => Err(error),
                Ok(_) | Err(_) => Ok(()),
            },
        }
    };
    let tolerant = async move { Ok(ensure.await) };
    match engine.run(DEADLINE, tolerant).await? {
        Ok(()) => Ok(()),
        Err(error) if code(&error) == Some(UNAUTHORIZED) => {
            tracing::warn!(%error, "the validator of `{name}` was not set: the user may not");
            Ok(())
        }
        Err(error) => Err(database_error(&error)),
    }
}

/// Makes `index`, unless one with its keys is there.
async fn ensure_index(
    engine: &MongoDb,
    collection: &'static str,
    index: Index,
) -> Result<(), DatabaseError> {
    let documents = engine.documents(collection);
    let (name, unique, keys) = (index.name, index.unique, index.keys.clone());
    let keys_text = index.keys.to_string();
    let ensure = async move {
        let listed = documents.list_indexes().await?.try_collect::<Vec<IndexModel>>().await?;
        let is_unique = |model: &IndexModel| {
            model.options.as_ref().is_some_and(|options| options.unique == Some(true))
        };
        if listed.iter().any(|model| same_keys(&model.keys, &keys) && is_unique(model) == unique) {
            return Ok(());
        }
        let mut options = IndexOptions::default();
        options.name = Some(name.to_owned());
        options.unique = unique.then_some(true);
        options.partial_filter_expression = index.partial;
        options.expire_after = index.expires.then_some(Duration::ZERO);
        let model = IndexModel::builder().keys(index.keys).options(options).build();
        documents.create_index(model).await.map(|_| ())
    };
    let tolerant = async move { Ok(ensure.await) };
    let made = engine.run(LONG_DEADLINE, tolerant).await?;
    made.map_err(|error| index_error(collection, name, &keys_text, &error))
}

fn index_error(collection: &str, name: &str, keys: &str, error: &Error) -> DatabaseError {
    let message = format!("the index `{name}` of `{collection}` cannot be made");
    match code(error) {
        Some(DUPLICATE_KEY) => DatabaseError::config(
            format!("{message}: two documents have the same {keys}"),
            "remove one of each such pair, then start again",
        ),
        Some(number) if CONFLICTS.contains(&number) => DatabaseError::config(
            format!("{message}: another index is in its place"),
            format!("drop the index of `{collection}` on {keys} or by that name, then start again"),
        ),
        Some(UNAUTHORIZED) => DatabaseError::config(
            format!("{message}: the user may not"),
            "grant the user of MONGODB_URL the role `readWrite` on the database",
        ),
        _ => database_error(error),
    }
}

/// Some clients write an index's directions as doubles.
#[expect(clippy::wildcard_enum_match_arm, reason = "a direction is a number")]
fn same_keys(a: &Document, b: &Document) -> bool {
    let direction = |value: &Bson| match value {
        Bson::Int32(value) => f64::from(*value),
        Bson::Double(value) => *value,
        #[expect(clippy::cast_precision_loss, reason = "1 or -1")]
        Bson::Int64(value) => *value as f64,
        _ => f64::NAN,
    };
    a.len() == b.len()
        && a.iter().zip(b).all(|((name, way), (other, other_way))| {
            name == other && (direction(way) - direction(other_way)).abs() < f64::EPSILON
        })
}
