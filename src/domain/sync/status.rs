//! How the last sync of a series went.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use thiserror::Error;

use crate::domain::shared::Series;

/// Where a sync stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SyncState {
    /// Asked for, not begun.
    Pending,
    /// Under way.
    Syncing,
    /// The last one ended well.
    Completed,
    /// The last one failed, was cancelled or was interrupted.
    Error,
}

/// A text that names no sync state.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` names no sync state")]
pub struct UnknownSyncState(pub String);

/// A step the state machine does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a sync that is {from} cannot become {to}")]
pub struct SyncTransitionError {
    /// Where it stands.
    pub from: SyncState,
    /// Where it was to go.
    pub to: SyncState,
}

/// The state of a series' newest sync: pending -> syncing -> completed | error, and from the
/// ends back to pending or syncing.
#[derive(Clone, Debug, PartialEq)]
pub struct SyncStatus {
    /// Which series.
    pub series: Series,
    /// Where its sync stands.
    pub state: SyncState,
    /// Final bars stored when the last sync ended.
    pub bar_count: u64,
    /// When the last successful sync ended.
    pub last_sync_at: Option<Timestamp>,
    /// Open time of the newest final bar.
    pub last_bar_at: Option<Timestamp>,
    /// Why it failed, where it did.
    pub error_message: Option<String>,
}

impl SyncState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Pending, Self::Syncing, Self::Completed, Self::Error];

    /// The word used in storage and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Syncing => "syncing",
            Self::Completed => "completed",
            Self::Error => "error",
        }
    }
}

impl FromStr for SyncState {
    type Err = UnknownSyncState;

    fn from_str(text: &str) -> Result<Self, UnknownSyncState> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| UnknownSyncState(text.to_owned()))
    }
}

impl fmt::Display for SyncState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl SyncStatus {
    /// What an interrupted sync's status says after a restart.
    pub const INTERRUPTED: &'static str = "interrupted";

    /// A series that was asked for and never synced.
    pub const fn pending(series: Series) -> Self {
        Self {
            series,
            state: SyncState::Pending,
            bar_count: 0,
            last_sync_at: None,
            last_bar_at: None,
            error_message: None,
        }
    }

    /// Whether there is something to keep current: a sync ended well, or stored bars before it
    /// failed. Else the name may be one that nobody knows.
    pub const fn was_ever_synced(&self) -> bool {
        self.last_sync_at.is_some() || self.last_bar_at.is_some()
    }

    /// A sync begins.
    pub fn start(&mut self) -> Result<(), SyncTransitionError> {
        match self.state {
            SyncState::Pending | SyncState::Completed | SyncState::Error => {
                self.state = SyncState::Syncing;
                self.error_message = None;
                Ok(())
            }
            SyncState::Syncing => self.refuse(SyncState::Syncing),
        }
    }

    /// The sync under way ended well at `at`, leaving `bar_count` final bars.
    pub fn complete(
        &mut self,
        at: Timestamp,
        bar_count: u64,
        last_bar_at: Option<Timestamp>,
    ) -> Result<(), SyncTransitionError> {
        if self.state != SyncState::Syncing {
            return self.refuse(SyncState::Completed);
        }
        self.state = SyncState::Completed;
        self.bar_count = bar_count;
        self.last_sync_at = Some(at);
        self.last_bar_at = last_bar_at;
        Ok(())
    }

    /// The sync under way, or waiting, failed. What is stored by then counts.
    pub fn fail(
        &mut self,
        message: impl Into<String>,
        bar_count: u64,
        last_bar_at: Option<Timestamp>,
    ) -> Result<(), SyncTransitionError> {
        match self.state {
            SyncState::Pending | SyncState::Syncing => {
                self.state = SyncState::Error;
                self.error_message = Some(message.into());
                self.bar_count = bar_count;
                self.last_bar_at = last_bar_at;
                Ok(())
            }
            SyncState::Completed | SyncState::Error => self.refuse(SyncState::Error),
        }
    }

    /// The sync under way ended with its process, unheard.
    pub fn interrupt(&mut self) {
        if matches!(self.state, SyncState::Pending | SyncState::Syncing) {
            self.state = SyncState::Error;
            self.error_message = Some(Self::INTERRUPTED.to_owned());
        }
    }

    const fn refuse(&self, to: SyncState) -> Result<(), SyncTransitionError> {
        Err(SyncTransitionError { from: self.state, to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::shared::{Interval, Symbol};

    fn status() -> SyncStatus {
        SyncStatus::pending(Series::new(Symbol::parse("A:B").unwrap(), Interval::D1))
    }

    #[test]
    fn a_sync_goes_from_pending_through_syncing_to_completed() {
        let mut status = status();
        status.start().unwrap();
        status.complete(Timestamp::UNIX_EPOCH, 7, None).unwrap();
        assert_eq!((status.state, status.bar_count), (SyncState::Completed, 7));
        status.start().unwrap();
        status.fail("no", 8, None).unwrap();
        assert_eq!((status.state, status.error_message.as_deref()), (SyncState::Error, Some("no")));
        assert_eq!(status.last_sync_at, Some(Timestamp::UNIX_EPOCH), "the last good one");
    }

    #[test]
    fn a_series_was_synced_once_a_sync_ended_well_or_stored_bars() {
        let mut status = status();
        status.start().unwrap();
        status.fail("unknown", 0, None).unwrap();
        assert!(!status.was_ever_synced());
        let mut stored = status.clone();
        stored.start().unwrap();
        stored.fail("cancelled", 1, Some(Timestamp::UNIX_EPOCH)).unwrap();
        assert!(stored.was_ever_synced());
        status.start().unwrap();
        status.complete(Timestamp::UNIX_EPOCH, 0, None).unwrap();
        status.start().unwrap();
        status.fail("away", 0, None).unwrap();
        assert!(status.was_ever_synced(), "it was, once");
    }

    #[test]
    fn a_step_the_machine_does_not_have_is_refused() {
        let mut pending = status();
        assert!(pending.complete(Timestamp::UNIX_EPOCH, 0, None).is_err());
        pending.start().unwrap();
        assert!(pending.start().is_err());
        pending.complete(Timestamp::UNIX_EPOCH, 0, None).unwrap();
        assert!(pending.fail("late", 0, None).is_err());
    }
}
