//! Runs syncs: one at a time for a series, each in a task of its own that outlives its caller.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, watch};
use uuid::Uuid;

use super::run::SyncRun;
use super::{SyncError, SyncProgress, SyncReport};
use crate::common::messaging::EventBus;
use crate::common::metrics::table::{SYNC_DURATION, SYNCS, SYNCS_IN_FLIGHT};
use crate::common::metrics::timed;
use crate::common::shutdown::{Lifecycle, catch_panic};
use crate::domain::shared::{DomainEvent, Series};
use crate::domain::sync::SyncState;
use crate::features::market_data::{LiveSeries, Sessions};
use crate::infrastructure::interfaces::{HistoryDepth, HistoryProvider};
use crate::infrastructure::persistence::{Database, SeriesCache};

/// Syncs that talk to the provider at the same time.
const AT_ONCE: usize = 8;
/// Syncs that run or wait; more are refused.
const AT_MOST: usize = 1_024;

/// Starts syncs and lets callers join them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SyncService {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    run: SyncRun,
    lifecycle: Lifecycle,
    slots: Semaphore,
    /// The syncs of each series, the one that runs first.
    queues: Mutex<HashMap<Series, Vec<SyncTicket>>>,
}

/// A sync that was started or joined.
#[derive(Clone, Debug)]
pub struct SyncTicket {
    /// Which sync.
    pub sync_id: Uuid,
    depth: HistoryDepth,
    progress: watch::Receiver<SyncProgress>,
}

impl SyncTicket {
    /// Waits for the end. Not waiting for it does not stop the sync.
    pub async fn finished(mut self) -> Result<SyncReport, SyncError> {
        let ended = self.progress.wait_for(|progress| progress.outcome.is_some()).await;
        let outcome = ended.ok().and_then(|progress| progress.outcome.clone());
        outcome.unwrap_or(Err(SyncError::Crashed))
    }

    /// How far it is, and each step from here on.
    pub fn progress(&self) -> watch::Receiver<SyncProgress> {
        self.progress.clone()
    }
}

impl SyncService {
    /// Copies from `provider` to `database`; tells `events` what changed.
    pub fn new(
        database: Database,
        cache: SeriesCache,
        provider: Arc<dyn HistoryProvider>,
        sessions: Sessions,
        live: LiveSeries,
        events: EventBus<DomainEvent>,
        lifecycle: Lifecycle,
    ) -> Self {
        let stopping = lifecycle.token();
        let run = SyncRun { database, cache, provider, sessions, live, events, stopping };
        let (slots, queues) = (Semaphore::new(AT_ONCE), Mutex::default());
        Self { shared: Arc::new(Shared { run, lifecycle, slots, queues }) }
    }

    /// Starts a sync of `series`, or joins one under way that asks for at least as much. One that
    /// asks for less is waited for.
    pub fn start(&self, series: Series, depth: HistoryDepth) -> Result<SyncTicket, SyncError> {
        if self.shared.lifecycle.is_stopping() {
            return Err(SyncError::Interrupted);
        }
        let mut queues = self.shared.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting: usize = queues.values().map(Vec::len).sum();
        let queue = queues.entry(series.clone()).or_default();
        if let Some(ticket) = queue.iter().find(|ticket| covers(ticket.depth, depth)) {
            return Ok(ticket.clone());
        }
        if waiting >= AT_MOST {
            if queue.is_empty() {
                queues.remove(&series);
            }
            return Err(SyncError::Overloaded);
        }
        let sync_id = Uuid::now_v7();
        let (sender, progress) = watch::channel(SyncProgress::pending(sync_id, series.clone()));
        let previous = queue.last().map(SyncTicket::progress);
        let ticket = SyncTicket { sync_id, depth, progress };
        queue.push(ticket.clone());
        drop(queues);
        let service = self.clone();
        let task = Box::pin(async move {
            let work = service.carry_out(series, depth, sender, previous);
            SYNCS_IN_FLIGHT.handle().increment(1);
            timed(
                work,
                |outcome| outcome,
                |outcome, elapsed| {
                    SYNCS_IN_FLIGHT.handle().decrement(1);
                    SYNCS.with([outcome]).increment(1);
                    SYNC_DURATION.handle().record(elapsed);
                },
            )
            .await;
        });
        drop(self.shared.lifecycle.spawn("sync", task));
        Ok(ticket)
    }

    async fn carry_out(
        &self,
        series: Series,
        depth: HistoryDepth,
        progress: watch::Sender<SyncProgress>,
        previous: Option<watch::Receiver<SyncProgress>>,
    ) -> &'static str {
        let run = &self.shared.run;
        let outcome = match self.turn(previous).await {
            Ok(_slot) => {
                let work = Box::pin(run.copy_series(&series, depth, &progress));
                catch_panic("sync", work).await.unwrap_or(Err(SyncError::Crashed))
            }
            Err(error) => Err(error),
        };
        let (outcome, settled) = run.settle(&series, outcome).await;
        let sync_id = progress.borrow().sync_id;
        if settled {
            // Whoever is told that it ended can start the next one at once.
            self.leave(&series, sync_id);
        }
        let ended = match &outcome {
            Ok(_) => "completed",
            Err(SyncError::Interrupted) => "interrupted",
            Err(_) => "error",
        };
        progress.send_modify(|progress| {
            progress.state = if outcome.is_ok() { SyncState::Completed } else { SyncState::Error };
            progress.outcome = Some(outcome.clone());
        });
        if !settled {
            run.settle_later(&series, outcome).await;
            self.leave(&series, sync_id);
        }
        ended
    }

    /// Waits for the series' sync before this one, and for a slot.
    async fn turn(
        &self,
        previous: Option<watch::Receiver<SyncProgress>>,
    ) -> Result<tokio::sync::SemaphorePermit<'_>, SyncError> {
        let turn = async {
            if let Some(mut previous) = previous {
                // An error says that the task before is gone, which is what is waited for.
                drop(previous.wait_for(|progress| progress.outcome.is_some()).await);
            }
            self.shared.slots.acquire().await.map_err(|_| SyncError::Interrupted)
        };
        let stopping = self.shared.lifecycle.token();
        stopping.run_until_cancelled(turn).await.unwrap_or(Err(SyncError::Interrupted))
    }

    fn leave(&self, series: &Series, sync_id: Uuid) {
        let mut queues = self.shared.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get_mut(series) {
            queue.retain(|ticket| ticket.sync_id != sync_id);
            if queue.is_empty() {
                queues.remove(series);
            }
        }
    }
}

/// Whether a sync as deep as `running` brings all that `asked` wants.
fn covers(running: HistoryDepth, asked: HistoryDepth) -> bool {
    match (running, asked) {
        (HistoryDepth::Full, _) => true,
        (HistoryDepth::Newest(_), HistoryDepth::Full) => false,
        (HistoryDepth::Newest(running), HistoryDepth::Newest(asked)) => running >= asked,
    }
}
