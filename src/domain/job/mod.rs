//! What is done by schedule: how a run ended, and which run is due.

mod due;
mod outcome;

pub use due::{DueRun, LastRun, MAX_ATTEMPTS, due_run};
pub use outcome::{JobOutcome, UnknownJobOutcome};
