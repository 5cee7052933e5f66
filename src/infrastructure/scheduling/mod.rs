//! Wakes whoever looks what is due. It decides nothing: it knows neither jobs nor schedules.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_cron_scheduler::{Job, JobScheduler, JobSchedulerError};
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;

/// How often it wakes.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// After this long it wakes in any case: the scheduler goes by the machine's clock, and is silent
/// for as long as that was set back.
const SILENT_AT_MOST: Duration = Duration::from_secs(5);

/// The heartbeat cannot be started.
#[derive(Debug, Error)]
#[error("the scheduler cannot be started")]
pub struct HeartbeatError(#[from] JobSchedulerError);

/// Beats about once a second until it is stopped.
pub struct Heartbeat {
    scheduler: JobScheduler,
    beats: Arc<Notify>,
}

impl Heartbeat {
    /// Starts it.
    pub async fn start() -> Result<Self, HeartbeatError> {
        let mut scheduler = JobScheduler::new().await?;
        let beats = Arc::<Notify>::default();
        let beaten = Arc::clone(&beats);
        let beat = Job::new_repeated_async(BEAT_EVERY, move |_, _| {
            let beaten = Arc::clone(&beaten);
            Box::pin(async move { beaten.notify_one() })
        })?;
        // It tells its own construction at the level of information.
        let silent = NoSubscriber::default();
        scheduler.init().with_subscriber(silent).await?;
        scheduler.add(beat).with_subscriber(silent).await?;
        scheduler.start().await?;
        Ok(Self { scheduler, beats })
    }

    /// Waits for the next beat; beats that nobody waited for count as one.
    pub async fn next(&self) {
        // Whether it beat or was silent for long: it is time to look.
        let _woken = timeout(SILENT_AT_MOST, self.beats.notified()).await;
    }

    /// Stops it.
    pub async fn stop(mut self) -> Result<(), HeartbeatError> {
        Ok(self.scheduler.shutdown().await?)
    }
}

impl fmt::Debug for Heartbeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heartbeat").finish_non_exhaustive()
    }
}
