//! How often streams speak, and how long they are not listened to.

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::common::constants::{SLOW_CONSUMER_AFTER, STREAM_HEARTBEAT};

/// How often streams speak, and how long they are not listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamPace {
    /// How often a stream says that it is alive.
    pub heartbeat: Duration,
    /// How long a reader may read nothing while there is something to read, before it is let go.
    pub slow_after: Duration,
}

impl Default for StreamPace {
    /// 15 s and 30 s.
    fn default() -> Self {
        Self { heartbeat: STREAM_HEARTBEAT, slow_after: SLOW_CONSUMER_AFTER }
    }
}

impl StreamPace {
    /// Ticks when a heartbeat is due, the first time after a whole period.
    pub(super) fn heartbeats(self) -> Interval {
        let mut heartbeat = interval_at(Instant::now() + self.heartbeat, self.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heartbeat
    }
}
