//! How often streams speak.

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::common::constants::STREAM_HEARTBEAT;

/// Ticks when a heartbeat is due, the first time after a whole period.
pub(super) fn heartbeat() -> Interval {
    let mut heartbeat = interval_at(Instant::now() + STREAM_HEARTBEAT, STREAM_HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat
}
