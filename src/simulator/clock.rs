//! The world's time, as its messages tell it.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Starts at the machine's clock, or at the time given, and advances with the machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct WorldClock {
    start: Option<(Timestamp, Instant)>,
    offset: SignedDuration,
}

impl WorldClock {
    /// A clock that reads `now` at this moment, or the machine's time; `offset` is added to either.
    pub(super) fn new(now: Option<Timestamp>, offset: SignedDuration) -> Self {
        Self { start: now.map(|now| (now, Instant::now())), offset }
    }

    /// The server's time.
    pub(super) fn now(&self) -> Timestamp {
        let time = match self.start {
            Some((start, since)) => start.saturating_add(since.elapsed()).unwrap_or(start),
            None => Timestamp::now(),
        };
        self.told(time)
    }

    /// What the server says at `time`.
    pub(super) fn told(&self, time: Timestamp) -> Timestamp {
        time.saturating_add(self.offset).unwrap_or(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_starts_where_it_is_told_and_goes_on() {
        let start: Timestamp = "2013-09-03T14:00:00Z".parse().unwrap();
        let clock = WorldClock::new(Some(start), SignedDuration::from_hours(-1));
        assert_eq!(clock.now().to_string(), "2013-09-03T13:00:00Z");
        tokio::time::advance(std::time::Duration::from_secs(90)).await;
        assert_eq!(clock.now().to_string(), "2013-09-03T13:01:30Z");
    }
}
