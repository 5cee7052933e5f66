//! Lets the markets go on, all of them in one task that sleeps until something is due.

use std::time::Duration;

use tokio::time::Instant;

use super::Replay;
use crate::simulator::Shared;

/// The longest sleep where nothing is due.
const IDLE: Duration = Duration::from_hours(1);

/// Lets the replays of the world go on, for ever.
pub(in crate::simulator) async fn drive(shared: &Shared) {
    let pulse = shared.world.pulse();
    loop {
        let now = Instant::now();
        let replays = shared.world.instruments().filter_map(|instrument| instrument.replay());
        let wake = replays.filter_map(|replay: &std::sync::Arc<Replay>| replay.advance(now)).min();
        if wake.is_some_and(|wake| wake <= now) {
            tokio::task::yield_now().await;
            continue;
        }
        let wake = wake.unwrap_or(now + IDLE);
        tokio::select! {
            () = pulse.wanted.notified() => {}
            () = tokio::time::sleep_until(wake) => {}
        }
    }
}
