//! What a page of fetched bars changes in the stored ones.

use crate::domain::ohlcv::StoredBar;

/// The difference between what the provider says and what is stored: all that is written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SyncDiff {
    /// Bars that were not stored.
    pub inserted: Vec<StoredBar>,
    /// Bars that replace a stored one.
    pub updated: Vec<StoredBar>,
    /// Those of `updated` that correct a final bar: what was stored, what it is now.
    pub revised: Vec<(StoredBar, StoredBar)>,
    /// Bars that are stored as they were fetched.
    pub unchanged: u64,
}

impl SyncDiff {
    /// Whether there is nothing to write.
    pub const fn is_empty(&self) -> bool {
        self.inserted.is_empty() && self.updated.is_empty()
    }
}
