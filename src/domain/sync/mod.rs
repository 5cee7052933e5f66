//! Copying a series: how far it is, and what it changes.

mod diff;
mod status;

pub use diff::SyncDiff;
pub use status::{SyncState, SyncStatus, SyncTransitionError, UnknownSyncState};
