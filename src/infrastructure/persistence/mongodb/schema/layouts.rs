//! The collections and their indexes.

use mongodb::bson::{Document, doc};

use super::super::ohlcv::COLLECTION as OHLCV;
use super::super::{
    bar_log, coverage, idempotency, job_runs, subscriptions, symbols, sync_status, syncs,
    webhook_outbox, webhooks,
};
use super::validators as v;

/// What a collection has.
pub(super) struct Layout {
    pub(super) name: &'static str,
    pub(super) indexes: Vec<Index>,
    pub(super) validator: Document,
}

pub(super) struct Index {
    pub(super) name: &'static str,
    pub(super) keys: Document,
    pub(super) unique: bool,
    /// Only the documents that this matches.
    pub(super) partial: Option<Document>,
    /// Documents go once the time in the indexed field has come.
    pub(super) expires: bool,
}

/// The key of a bar.
pub(in super::super) fn bar_key() -> Document {
    doc! { "symbol": 1, "exchange": 1, "interval": 1, "datetime": -1 }
}

/// The index of forming bars alone, which makes counting final ones cheap.
pub(in super::super) fn forming_key() -> Document {
    doc! { "state": 1, "symbol": 1, "exchange": 1, "interval": 1 }
}

/// The order of the bar log.
pub(in super::super) fn log_sequence() -> Document {
    doc! { "shard": 1, "sequence": 1 }
}

/// Every collection.
pub(super) fn layouts() -> [Layout; 12] {
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
            validator: v::bar_schema(),
        },
        Layout {
            name: symbols::COLLECTION,
            indexes: vec![unique("idx_symbols_unique", doc! { "symbol": 1, "exchange": 1 })],
            validator: v::symbol_schema(),
        },
        Layout {
            name: sync_status::COLLECTION,
            indexes: vec![unique(
                "idx_sync_status_unique",
                doc! { "symbol": 1, "exchange": 1, "interval": 1 },
            )],
            validator: v::status_schema(),
        },
        log_layout(),
        Layout {
            name: bar_log::HEAD,
            indexes: vec![unique("idx_bar_log_head_unique", doc! { "shard": 1 })],
            validator: v::schema(&["shard"], doc! {}),
        },
        Layout {
            name: subscriptions::COLLECTION,
            indexes: vec![unique("idx_subscriptions_unique", doc! { "exchange": 1, "symbol": 1 })],
            validator: v::subscription_schema(),
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
            validator: v::sync_schema(),
        },
        idempotency_layout(),
        coverage_layout(),
        Layout { name: webhooks::COLLECTION, indexes: Vec::new(), validator: v::webhook_schema() },
        outbox_layout(),
        job_layout(),
    ]
}

fn outbox_layout() -> Layout {
    let index = |name, keys| Index { name, keys, unique: false, partial: None, expires: false };
    Layout {
        name: webhook_outbox::COLLECTION,
        indexes: vec![
            index(
                "idx_webhook_outbox_pending",
                doc! { "webhook_id": 1, "state": 1, "next_attempt_at": 1 },
            ),
            index(
                "idx_webhook_outbox_newest",
                doc! { "webhook_id": 1, "created_at": -1, "event_id": -1 },
            ),
            Index {
                partial: Some(webhook_outbox::has_ended()),
                ..index(
                    "idx_webhook_outbox_ended",
                    doc! { "webhook_id": 1, "created_at": -1, "event_id": -1, "state": 1 },
                )
            },
        ],
        validator: v::outbox_schema(),
    }
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
        validator: v::job_schema(),
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
        validator: v::idempotency_schema(),
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
        validator: v::coverage_schema(),
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
        validator: v::log_schema(),
    }
}
