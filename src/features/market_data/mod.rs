//! Market data over gRPC: a folder a slice, a file a request.
//!
//! A slice can be deleted with its folder, its `register` line and its RPCs. It names nothing of
//! another slice but what that one re-exports.

mod announcer;
pub mod coverage;
mod coverage_ledger;
mod event_json;
pub mod grpc;
pub mod jobs;
mod live_series;
pub mod ohlcv;
mod page_token;
pub mod quote;
mod read_error;
mod sessions;
pub mod status;
pub mod symbols;
pub mod sync;
pub mod takeover;
pub mod webhooks;
mod wire;

pub use announcer::{Announced, Announcer, Untold};
pub use coverage_ledger::CoverageLedger;
pub use live_series::{FormingBars, Live, LiveSeries};
pub use page_token::PageTokenInvalid;
pub use read_error::ReadError;
pub use sessions::Sessions;

#[cfg(test)]
#[path = "../../../tests/fuzz/tokens.rs"]
mod fuzz;
