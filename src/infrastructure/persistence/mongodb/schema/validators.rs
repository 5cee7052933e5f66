//! What documents are to look like.

use mongodb::bson::{Bson, Document, doc};

pub(super) fn schema(required: &[&str], properties: Document) -> Document {
    let required: Vec<Bson> = required.iter().map(|name| Bson::from(*name)).collect();
    doc! { "$jsonSchema": { "bsonType": "object", "required": required, "properties": properties } }
}

fn text() -> Document {
    doc! { "bsonType": "string" }
}

fn optional(kind: &str) -> Document {
    doc! { "bsonType": [kind, "null"] }
}

pub(super) fn bar_schema() -> Document {
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

pub(super) fn symbol_schema() -> Document {
    schema(
        &["symbol", "exchange"],
        doc! {
            "symbol": text(), "exchange": text(), "is_active": optional("bool"),
            "name": optional("string"), "session": optional("string"),
            "custom_name": optional("string"), "custom_description": optional("string"),
            "custom_asset_type": optional("string"), "deleted_at": optional("date"),
        },
    )
}

pub(super) fn status_schema() -> Document {
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

pub(super) fn log_schema() -> Document {
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

pub(super) fn subscription_schema() -> Document {
    schema(
        &["symbol", "exchange"],
        doc! {
            "symbol": text(), "exchange": text(), "created_at": optional("date"),
            "logged_from": optional("date"),
        },
    )
}

pub(super) fn idempotency_schema() -> Document {
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

pub(super) fn coverage_schema() -> Document {
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
            "vouched": optional("date"),
            "asked": &stretches, "connected": &stretches, "down": &stretches,
        },
    )
}

pub(super) fn sync_schema() -> Document {
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

pub(super) fn webhook_schema() -> Document {
    schema(
        &["url", "secret", "created_at", "cursor"],
        doc! {
            "url": text(), "secret": text(), "description": text(), "event_types": text(),
            "symbols": text(), "intervals": text(), "created_at": { "bsonType": "date" },
            "disabled_at": optional("date"), "cursor": { "bsonType": "long", "minimum": 0 },
        },
    )
}

pub(super) fn outbox_schema() -> Document {
    let date = doc! { "bsonType": "date" };
    schema(
        &["webhook_id", "event_id", "event_type", "body", "state", "next_attempt_at", "created_at"],
        doc! {
            "webhook_id": text(), "event_id": text(), "event_type": text(),
            "body": { "bsonType": "binData" },
            "state": { "enum": ["pending", "delivered", "failed"] },
            "next_attempt_at": &date, "created_at": &date,
            "leased_until": optional("date"), "ended_at": optional("date"),
        },
    )
}

pub(super) fn job_schema() -> Document {
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
