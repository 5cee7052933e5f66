//! Leases, in the field `leased_until`, on the server's clock: the hosts that share a database need
//! not agree on the time.

use std::time::Duration;

use mongodb::bson::{Document, doc};

use super::super::Lease;

/// So long from now.
pub(super) fn from_now(duration: Duration) -> Document {
    let milliseconds = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    doc! { "$add": ["$$NOW", milliseconds] }
}

/// Which documents nobody has a lease of. The filters beside it are to be such that an index finds
/// few documents: servers before 5.0 use none for this.
pub(super) fn has_lapsed() -> Document {
    doc! { "$expr": { "$lte": ["$leased_until", "$$NOW"] } }
}

/// Sets the fields of `change`, as they are, and renews the lease.
pub(super) fn renewed(change: Document, lease: Lease) -> Vec<Document> {
    vec![replace_with(doc! { "$mergeObjects": ["$$ROOT", leased(change, lease)] })]
}

/// Makes an upsert by `_id` an insert of `document` under the lease: one that is there stays.
pub(super) fn inserted(document: Document, lease: Lease) -> Vec<Document> {
    let is_new = doc! { "$eq": [{ "$type": "$leased_until" }, "missing"] };
    vec![replace_with(doc! { "$cond": [is_new, leased(document, lease), "$$ROOT"] })]
}

fn leased(document: Document, lease: Lease) -> Document {
    // What callers wrote could be an expression.
    let until = doc! { "leased_until": from_now(lease.length) };
    doc! { "$mergeObjects": [{ "$literal": document }, until] }
}

fn replace_with(document: Document) -> Document {
    doc! { "$replaceWith": document }
}
