//! Runs syncs: one at a time for a series, each in a task of its own that outlives its caller.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::holds::{HeldSymbol, Holds};
use super::journal::SyncJournal;
use super::meter::{self, SyncMeter};
use super::run::SyncRun;
use super::{SyncError, SyncProgress, SyncReport, SyncTicket, wire};
use crate::common::shutdown::{Lifecycle, catch_panic};
use crate::common::tracing::task_span;
use crate::domain::shared::{Series, Symbol};
use crate::domain::sync::SyncState;
use crate::features::market_data::{Announcer, CoverageLedger, LiveSeries, Sessions};
use crate::infrastructure::interfaces::{HistoryDepth, HistoryProvider};
use crate::infrastructure::persistence::{
    Database, DatabaseError, SeriesCache, SyncCounts, SyncRecord,
};

/// Syncs that talk to the provider at the same time.
const AT_ONCE: usize = 8;
/// Syncs that run or wait; more are refused.
const AT_MOST: usize = 1_024;

/// What syncs work with.
#[derive(Clone, Debug)]
pub struct SyncServiceParts {
    /// Where bars, statuses and records are kept.
    pub database: Database,
    /// Where answers about bars are kept; forgotten when bars are written.
    pub cache: SeriesCache,
    /// Where bars come from.
    pub provider: Arc<dyn HistoryProvider>,
    /// When symbols trade.
    pub sessions: Sessions,
    /// What the feed tracks.
    pub live: LiveSeries,
    /// Where it is noted what was asked for.
    pub ledger: CoverageLedger,
    /// Who is told what changed.
    pub announcer: Announcer,
    /// When to stop, and where tasks run.
    pub lifecycle: Lifecycle,
}

/// Starts syncs and lets callers join them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SyncService {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    run: SyncRun,
    lifecycle: Lifecycle,
    slots: Arc<Semaphore>,
    /// The syncs of each series, the one that runs first.
    queues: Mutex<HashMap<Series, Vec<SyncTicket>>>,
    holds: Holds,
}

/// A sync's task, and whom it tells.
struct Task {
    record: SyncRecord,
    /// Whether it was written down before.
    resumed: bool,
    progress: watch::Sender<SyncProgress>,
    kept: watch::Sender<bool>,
    cancel: CancellationToken,
    /// The series' sync before this one.
    previous: Option<SyncTicket>,
    /// The turns of the call that it belongs to.
    turns: Option<Arc<Semaphore>>,
}

impl SyncService {
    /// Runs nothing yet.
    pub fn new(parts: SyncServiceParts) -> Self {
        let SyncServiceParts {
            database,
            cache,
            provider,
            sessions,
            live,
            ledger,
            announcer,
            lifecycle,
        } = parts;
        meter::count_from_zero();
        let (stopping, journal) = (lifecycle.token(), SyncJournal::new(&database));
        let run = SyncRun {
            database,
            cache,
            provider,
            sessions,
            live,
            ledger,
            announcer,
            journal,
            stopping,
        };
        let (slots, queues) = (Arc::new(Semaphore::new(AT_ONCE)), Mutex::default());
        let holds = Holds::default();
        Self { shared: Arc::new(Shared { run, lifecycle, slots, queues, holds }) }
    }

    /// Starts a sync of `series`, or joins one under way that asks for at least as much. One that
    /// asks for less is waited for.
    pub fn start(&self, series: Series, depth: HistoryDepth) -> Result<SyncTicket, SyncError> {
        self.join_or_enqueue(new_record(series, depth), None)
    }

    /// Like [`Self::start`]; a sync that is not joined waits for one of `turns` first.
    pub(super) fn start_in_turn(
        &self,
        series: Series,
        depth: HistoryDepth,
        turns: &Arc<Semaphore>,
    ) -> Result<SyncTicket, SyncError> {
        self.join_or_enqueue(new_record(series, depth), Some(Arc::clone(turns)))
    }

    /// Goes on with a sync that was written down.
    pub(super) fn resume(&self, record: SyncRecord) {
        let mut queues = self.shared.queues.lock().unwrap_or_else(PoisonError::into_inner);
        self.enqueue(&mut queues, record, true, None);
    }

    /// Holds `symbol`, so that no sync of it writes until the answer is dropped: one that is asked
    /// for meanwhile waits. None where a sync of it is not over, here or on another server.
    pub async fn hold(&self, symbol: &Symbol) -> Result<Option<HeldSymbol>, DatabaseError> {
        let held = self.shared.holds.take(symbol);
        let unfinished = self.database().syncs().unfinished().await?;
        Ok(held.filter(|_| !unfinished.iter().any(|series| series.symbol == *symbol)))
    }

    /// A sync of this process that is not over.
    pub(super) fn ticket(&self, sync_id: Uuid) -> Option<SyncTicket> {
        let queues = self.shared.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.values().flatten().find(|ticket| ticket.sync_id == sync_id).cloned()
    }

    /// What is written down of a sync, whichever process runs it.
    pub(super) async fn record(&self, sync_id: Uuid) -> Result<SyncRecord, SyncError> {
        let record = self.database().syncs().get(sync_id).await?;
        record.ok_or(SyncError::NotFound(sync_id))
    }

    /// Asks the process that runs a sync to cancel it.
    pub(super) async fn ask_to_cancel(&self, sync_id: Uuid) -> Result<bool, DatabaseError> {
        self.database().syncs().ask_to_cancel(sync_id).await
    }

    pub(super) fn database(&self) -> &Database {
        &self.shared.run.database
    }

    pub(super) fn journal(&self) -> &SyncJournal {
        &self.shared.run.journal
    }

    pub(super) fn stopping(&self) -> CancellationToken {
        self.shared.lifecycle.token()
    }

    fn join_or_enqueue(
        &self,
        record: SyncRecord,
        turns: Option<Arc<Semaphore>>,
    ) -> Result<SyncTicket, SyncError> {
        if self.shared.lifecycle.is_stopping() {
            return Err(SyncError::Interrupted);
        }
        let mut queues = self.shared.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.get(&record.series).map_or(&[][..], Vec::as_slice);
        let joins = |ticket: &&SyncTicket| {
            covers(ticket.depth, record.depth) && !ticket.cancel.is_cancelled()
        };
        if let Some(ticket) = queue.iter().find(joins) {
            return Ok(ticket.clone());
        }
        if queues.values().map(Vec::len).sum::<usize>() >= AT_MOST {
            return Err(SyncError::Overloaded);
        }
        Ok(self.enqueue(&mut queues, record, false, turns))
    }

    fn enqueue(
        &self,
        queues: &mut HashMap<Series, Vec<SyncTicket>>,
        record: SyncRecord,
        resumed: bool,
        turns: Option<Arc<Semaphore>>,
    ) -> SyncTicket {
        let queue = queues.entry(record.series.clone()).or_default();
        let (sync_id, depth) = (record.sync_id, record.depth);
        let begun = SyncProgress {
            state: SyncState::Pending,
            ..SyncProgress::of(&record, Timestamp::now())
        };
        let (progress, watched) = watch::channel(begun);
        let (kept, is_kept) = watch::channel(resumed);
        let cancel = self.stopping().child_token();
        let ticket =
            SyncTicket { sync_id, depth, progress: watched, kept: is_kept, cancel: cancel.clone() };
        let previous = queue.last().cloned();
        queue.push(ticket.clone());
        let task = Task { record, resumed, progress, kept, cancel, previous, turns };
        let service = self.clone();
        let work = Box::pin(async move { service.carry_out(task).await });
        // In the caller's trace, but not in its span: the sync may outlive the call.
        task_span("sync").in_scope(|| drop(self.shared.lifecycle.spawn("sync", work)));
        ticket
    }

    async fn carry_out(&self, mut task: Task) {
        let (run, meter) = (&self.shared.run, SyncMeter::start());
        // Held until the end is told: only then another begins.
        let mut slots = Vec::new();
        let outcome = self.perform(&mut task, &mut slots).await;
        let Task { mut record, progress, kept, .. } = task;
        let (outcome, settled) = run.settle(&record.series, outcome).await;
        let state = if outcome.is_ok() { SyncState::Completed } else { SyncState::Error };
        let last = {
            let so_far = progress.borrow().clone();
            let elapsed = outcome.as_ref().map_or(so_far.elapsed, |report| report.elapsed);
            SyncProgress { state, elapsed, outcome: Some(outcome.clone()), ..so_far }
        };
        if !matches!(outcome, Err(SyncError::Interrupted)) {
            record.state = state;
            record.ended = Some((Timestamp::now(), wire::encode(last.clone())));
        }
        let settled =
            settled && run.tell(&record, outcome.as_ref()).await && run.close(&record).await;
        if settled {
            // Whoever is told that it ended can start the next one at once.
            self.leave(&record.series, record.sync_id);
        }
        meter.end(&outcome);
        progress.send_replace(last);
        // Whoever waits until it is written down is told why it was not.
        drop((kept, slots));
        if !settled {
            run.settle_later(&record, outcome).await;
            self.leave(&record.series, record.sync_id);
        }
    }

    async fn perform(
        &self,
        task: &mut Task,
        slots: &mut Vec<OwnedSemaphorePermit>,
    ) -> Result<SyncReport, SyncError> {
        let run = &self.shared.run;
        if !task.resumed {
            run.journal.begin(&task.record).await?;
            task.kept.send_replace(true);
        }
        *slots = self.turn(task).await?;
        let sharing = self.shared.holds.share(&task.record.series.symbol);
        let _held = task.cancel.run_until_cancelled(sharing).await.ok_or_else(|| run.cut_off())?;
        let work = Box::pin(run.copy_series(&mut task.record, &task.progress, &task.cancel));
        catch_panic("sync", work).await.unwrap_or(Err(SyncError::Crashed))
    }

    /// Waits for the series' sync before this one, for a turn, and for a slot.
    async fn turn(&self, task: &mut Task) -> Result<Vec<OwnedSemaphorePermit>, SyncError> {
        let (previous, turns) = (task.previous.take(), task.turns.take());
        let waiting = async {
            if let Some(previous) = previous {
                // However it ended: that it has is what is waited for.
                drop(previous.finished().await);
            }
            let mut permits = Vec::new();
            for semaphore in turns.into_iter().chain([Arc::clone(&self.shared.slots)]) {
                let permit = semaphore.acquire_owned().await;
                permits.push(permit.map_err(|_| SyncError::Interrupted)?);
            }
            Ok(permits)
        };
        let cut_off = || Err(self.shared.run.cut_off());
        task.cancel.run_until_cancelled(waiting).await.unwrap_or_else(cut_off)
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

fn new_record(series: Series, depth: HistoryDepth) -> SyncRecord {
    SyncRecord {
        sync_id: Uuid::now_v7(),
        series,
        depth,
        state: SyncState::Pending,
        counts: SyncCounts::default(),
        reached: None,
        started_at: Timestamp::now(),
        ended: None,
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
