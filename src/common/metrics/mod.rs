//! What the service counts and times, for Prometheus.
//!
//! One table ([`METRICS`]) declares every metric; whoever counts names a [`Family`] of it, and
//! docs/metrics.md is printed from it. Nothing is recorded until [`install`] is called: before it,
//! and where metrics are off, a family gives handles that do nothing. It knows no feature: what
//! the numbers mean is in the table, and who reads them is not known here.

mod family;
mod process;
mod recorder;
mod server;
pub mod table;
mod timed;

pub use family::{Description, Family, Kind};
pub use recorder::{Recorder, RecorderError, install};
pub use server::MetricsServer;
pub use table::{METRICS, metrics_table};
pub use timed::{CANCELLED, outcome_of, timed};
