//! What happens around every handler: a span, and a record of how long it took and how it ended.

use std::future::Future;

use tokio::time::Instant;
use tracing::{Instrument as _, debug, info_span};

use super::Request;
use crate::common::error::Coded as _;

/// Runs `handling` in the request's span and records its outcome.
///
/// Metrics by request type belong here, beside the record.
pub(super) async fn observe<R: Request>(
    handling: impl Future<Output = Result<R::Output, R::Error>>,
) -> Result<R::Output, R::Error> {
    let span = info_span!("request", request.name = R::NAME);
    async move {
        let started = Instant::now();
        let result = handling.await;
        let outcome = result.as_ref().map_or_else(|error| error.code().reason(), |_| "OK");
        let duration_ms = started.elapsed().as_secs_f64() * 1e3;
        debug!(outcome, duration_ms, "handled `{}`", R::NAME);
        result
    }
    .instrument(span)
    .await
}
