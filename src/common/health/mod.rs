//! Whether the process can serve: named checks, and what they say to probes and people.
//!
//! Checks run in parallel on a schedule, each with a time limit, and drive grpc.health.v1: a
//! probe never waits for a database. What is checked, and how, is told by the composition root.

mod check;
mod coordinator;
mod report;

pub use check::{Check, SwitchedOff};
pub use coordinator::{HealthBuilder, HealthCoordinator};
pub use report::{DependencyReport, HealthReport, HealthState};
