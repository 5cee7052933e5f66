//! What happens around every handler: spans, and a record of how long it took and how it ended.

use std::future::Future;

use tracing::{Instrument as _, debug, info_span};

use super::Request;
use crate::common::error::Coded as _;
use crate::common::metrics::table::{REQUEST_DURATION, REQUESTS};
use crate::common::metrics::timed;
use crate::common::tracing::{request_ended, request_span};

/// The outcome of a request that did not fail.
const OK: &str = "ok";

/// Runs `handling` in the request's spans and records its outcome: the reason of its error, or
/// `cancelled` where it is dropped half-way.
pub(super) async fn observe<R: Request>(
    handling: impl Future<Output = Result<R::Output, R::Error>>,
) -> Result<R::Output, R::Error> {
    let logged = info_span!("request", request.name = R::NAME);
    let traced = request_span(R::NAME);
    let within = traced.clone();
    let outcome = |result: &Result<R::Output, R::Error>| {
        result.as_ref().map_or_else(|error| error.code().reason(), |_| OK)
    };
    let record = |outcome: &'static str, elapsed: std::time::Duration| {
        REQUESTS.with([R::NAME, outcome]).increment(1);
        REQUEST_DURATION.with([R::NAME]).record(elapsed);
        request_ended(&traced, outcome, outcome == OK);
        let duration_ms = elapsed.as_secs_f64() * 1e3;
        debug!(outcome, duration_ms, "handled `{}`", R::NAME);
    };
    timed(handling, outcome, record).instrument(within).instrument(logged).await
}
