//! Whether there is a server that takes commands, as the driver's heartbeats find.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mongodb::event::sdam::SdamEvent;
use tokio::time::Instant;

/// Since when no server takes commands.
#[derive(Debug, Default)]
pub(super) struct Presence {
    missing_since: Mutex<Option<Instant>>,
}

impl Presence {
    /// Takes in what the driver has found out about the servers.
    pub(super) fn update(&self, event: &SdamEvent) {
        if let SdamEvent::TopologyDescriptionChanged(changed) = event {
            self.set(changed.new_description.has_writable_server());
        }
    }

    fn set(&self, is_there: bool) {
        let mut since = self.missing_since.lock().unwrap_or_else(PoisonError::into_inner);
        *since = if is_there { None } else { since.or_else(|| Some(Instant::now())) };
    }

    /// Whether no server has taken commands for `time` or longer.
    pub(super) fn is_missing_for(&self, time: Duration) -> bool {
        let since = self.missing_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() >= time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_is_missing_from_when_it_was_lost_until_it_is_back() {
        let (presence, time) = (Presence::default(), Duration::from_secs(3));
        assert!(!presence.is_missing_for(time), "nothing is known yet");
        presence.set(false);
        tokio::time::advance(time / 2).await;
        // Another of its servers is lost, too.
        presence.set(false);
        assert!(!presence.is_missing_for(time));
        tokio::time::advance(time / 2).await;
        assert!(presence.is_missing_for(time));
        presence.set(true);
        assert!(!presence.is_missing_for(time));
        presence.set(false);
        assert!(!presence.is_missing_for(time), "it is looked for again");
    }
}
