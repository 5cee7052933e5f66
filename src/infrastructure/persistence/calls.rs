//! Calls of the database, as metrics and traces see them.

use futures::future::BoxFuture;

use crate::common::error::Coded;
use crate::common::metrics::table::{DATABASE_DURATION, DATABASE_OPERATIONS};
use crate::common::metrics::{outcome_of, timed};
use crate::common::tracing::{database_span, traced};

/// The calls of one collection, counted, timed and traced.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calls {
    engine: &'static str,
    collection: &'static str,
}

impl Calls {
    pub(super) const fn new(engine: &'static str, collection: &'static str) -> Self {
        Self { engine, collection }
    }

    /// Does `work`, which is `operation`.
    pub(super) async fn observe<T, E: Coded>(
        &self,
        operation: &'static str,
        work: BoxFuture<'_, Result<T, E>>,
    ) -> Result<T, E> {
        let collection = self.collection;
        let span = database_span(self.engine, operation, collection);
        let work = traced(span, work, |error| error.code().reason());
        timed(work, outcome_of, |outcome, elapsed| {
            DATABASE_OPERATIONS.with([collection, operation, outcome]).increment(1);
            DATABASE_DURATION.with([collection, operation]).record(elapsed);
        })
        .await
    }
}
