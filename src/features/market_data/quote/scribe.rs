//! Writes jobs into the database and tells what is stored: one try, with a deadline on each step.
//!
//! It does not know what happens to a job that could not be written; that is the writer's.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{error, warn};

use super::feed_task::Rerolled;
use super::hub::{Hub, LiveChange};
use super::job::{Decided, Job};
use super::quote_service::QuoteServiceParts;
use super::reroll::Children;
use crate::common::messaging::EventBus;
use crate::domain::ohlcv::services::alike;
use crate::domain::ohlcv::{Bar, BarSource, StoredBar};
use crate::domain::shared::{DomainEvent, EventPayload, Series, Symbol};
use crate::domain::sync::SyncDiff;
use crate::infrastructure::persistence::{Database, DatabaseError, LogBar, LogFilter};

/// Entries of the log that are read at a time.
const LOG_PAGE: u32 = 2_000;
/// How long one step may take. Frozen servers are noticed by this.
const STEP_DEADLINE: Duration = Duration::from_secs(10);

/// Jobs that were not written, in order, and why the first of them was not.
#[derive(Debug)]
pub(super) struct Unwritten {
    /// May pass later.
    pub(super) error: DatabaseError,
    /// What is left to write.
    pub(super) jobs: Vec<Job>,
}

/// Writes to one database.
pub(super) struct Scribe {
    database: Database,
    children: Children,
    events: EventBus<DomainEvent>,
    hub: Hub,
    /// Unbounded, as the feed's task may be waiting for this one; it asks for no more than it can
    /// be owed.
    rerolled: mpsc::UnboundedSender<Rerolled>,
    /// Bars could not be written: nothing may be kept that takes them for stored.
    lost: AtomicBool,
}

impl Scribe {
    pub(super) fn new(
        parts: &QuoteServiceParts,
        hub: Hub,
        rerolled: mpsc::UnboundedSender<Rerolled>,
    ) -> Self {
        Self {
            database: parts.database.clone(),
            children: Children::new(parts),
            events: parts.events.clone(),
            hub,
            rerolled,
            lost: AtomicBool::new(false),
        }
    }

    /// An error where the database does not answer.
    pub(super) async fn probe(&self) -> Result<(), DatabaseError> {
        within(&self.database, self.database.ping()).await
    }

    /// Writes `jobs` and tells of them, in order. Stops at the first that may pass later; one that
    /// never will is said and left out.
    pub(super) async fn write(&self, jobs: Vec<Job>) -> Result<(), Unwritten> {
        let mut left = VecDeque::from(jobs);
        while let Some(job) = left.pop_front() {
            let job = joined(job, &mut left);
            let Err(error) = self.write_one(&job).await else {
                // Whoever waited may be gone.
                if let Job::Barrier(done) = job {
                    let _heard = done.send(());
                }
                continue;
            };
            if error.is_transient() {
                left.push_front(job);
                return Err(Unwritten { error, jobs: left.into() });
            }
            error!(%error, "bars could not be written");
            let is_lost = matches!(job, Job::Decided(_));
            self.lost.fetch_or(is_lost, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn write_one(&self, job: &Job) -> Result<(), DatabaseError> {
        match job {
            Job::Decided(decided) => self.write_decided(decided).await,
            Job::Keep(_) if self.lost.load(Ordering::Relaxed) => Ok(()),
            Job::Keep(_) | Job::Forming(..) | Job::LoggedFrom(..) | Job::Barrier(_) => {
                store(&self.database, job).await
            }
        }
    }

    /// Writes bars ahead, then tells everything in the order in which it was decided. Nothing is
    /// told before all is written.
    async fn write_decided(&self, decided: &[Decided]) -> Result<(), DatabaseError> {
        let Appended { sequences, outranking } = append(&self.database, decided).await?;
        let logged = self.read_logged().await?;
        let rerolled = self.rerolled(decided).await?;

        let mut logged = logged.into_iter().peekable();
        let (mut told, mut indexes) = (Vec::new(), 0..);
        for each in decided {
            match each {
                Decided::Bar { series, bar, old } => {
                    // Where somebody else wrote the same revision, there is nothing to tell.
                    let index: usize = indexes.next().unwrap_or_default();
                    let Some(own) = sequences.get(&index).copied() else { continue };
                    self.announce(series, *bar, *old);
                    let until_own = std::iter::from_fn(|| logged.next_if(|(at, _)| *at <= own));
                    told.extend(until_own.map(stored));
                }
                Decided::Live(change) => told.push((None, change.clone())),
                Decided::Reroll { .. } => {}
            }
        }
        told.extend(logged.map(stored));
        self.hub.put_bars(told);
        for (series, old, new) in outranking {
            self.publish(EventPayload::BarRevised { series, old, new });
        }
        for each in rerolled {
            // The feed's task may be gone: then it is owed still.
            drop(self.rerolled.send(each));
        }
        Ok(())
    }

    /// Tells what others have put into the log.
    pub(super) async fn tell_logged(&self) -> Result<(), DatabaseError> {
        let logged = self.read_logged().await?;
        self.hub.put_bars(logged.into_iter().map(stored));
        Ok(())
    }

    /// What is in the log and was not told: whoever wrote it, it is told in the log's order, or a
    /// cursor could pass over an entry.
    async fn read_logged(&self) -> Result<Vec<(u64, LogBar)>, DatabaseError> {
        let (log, all) = (self.database.bar_log(), LogFilter::default());
        let mut logged = Vec::new();
        let mut told = self.hub.newest().1;
        loop {
            let page = within(&self.database, log.read(told, &all, LOG_PAGE)).await?;
            if page.entries.is_empty() {
                return Ok(logged);
            }
            told = page.examined;
            logged.extend(page.entries);
        }
    }

    fn announce(&self, series: &Series, bar: Bar, old: Option<StoredBar>) {
        let series = series.clone();
        let payload = match old {
            Some(old) => EventPayload::BarRevised { series, old, new: bar.stored },
            None => EventPayload::BarCompleted { series, bar },
        };
        self.publish(payload);
    }

    fn publish(&self, payload: EventPayload) {
        self.events.publish(DomainEvent { time: Timestamp::now(), payload });
    }

    /// Reads children back and says what they come to.
    async fn rerolled(&self, decided: &[Decided]) -> Result<Vec<Rerolled>, DatabaseError> {
        let mut rerolled = Vec::new();
        for each in decided {
            let Decided::Reroll { series, range, until } = each else { continue };
            match within(&self.database, self.children.reroll(series, *range, *until)).await {
                Ok(done) => rerolled.push(done),
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => warn!(%series, %error, "a bar of {series} cannot be rolled up again"),
            }
        }
        Ok(rerolled)
    }
}

/// What `jobs` leave in the database, without telling anybody: for what an earlier process has
/// left in the spool.
pub(super) async fn store_all(database: &Database, jobs: Vec<Job>) -> Result<(), DatabaseError> {
    for job in jobs {
        match store(database, &job).await {
            Err(error) if error.is_transient() => return Err(error),
            Err(error) => error!(%error, "bars could not be written"),
            Ok(()) => {}
        }
    }
    Ok(())
}

async fn store(database: &Database, job: &Job) -> Result<(), DatabaseError> {
    let now = Timestamp::now();
    match job {
        Job::Decided(decided) => append(database, decided).await.map(|_| ()),
        Job::Keep(kept) => within(database, database.feed_state().save(kept, now)).await,
        Job::Forming(series, bar) => {
            let diff = SyncDiff { inserted: vec![*bar], ..SyncDiff::default() };
            within(database, database.bars().write(series, &diff, now)).await.map(|_| ())
        }
        Job::LoggedFrom(symbol, from) => {
            let subscriptions = database.subscriptions();
            let known = within(database, subscriptions.get(symbol)).await?;
            // One that was given up meanwhile stays so.
            let Some(mut row) = known.filter(|row| row.logged_from.is_none()) else {
                return Ok(());
            };
            row.logged_from = Some(*from);
            within(database, subscriptions.put(&row)).await
        }
        Job::Barrier(_) => Ok(()),
    }
}

/// What came of bars that were decided.
struct Appended {
    /// The sequence of each in the log, by its index among the bars.
    sequences: HashMap<usize, u64>,
    /// What was stored, and what replaced it, where more than the bar as it was decided.
    outranking: Vec<(Series, StoredBar, StoredBar)>,
}

/// Appends what closed to the log.
async fn append(database: &Database, decided: &[Decided]) -> Result<Appended, DatabaseError> {
    let bar = |each: &Decided| match each {
        Decided::Bar { series, bar, .. } => {
            Some(LogBar { series: series.clone(), bar: bar.stored })
        }
        Decided::Live(_) | Decided::Reroll { .. } => None,
    };
    let bars: Vec<LogBar> = decided.iter().filter_map(bar).collect();
    let log = database.bar_log();
    let appended = within(database, log.append(&bars, Timestamp::now())).await?;
    let sequences: HashMap<usize, u64> =
        appended.into_iter().map(|(sequence, index)| (index, sequence)).collect();
    let outranking = append_outranking(database, &bars, &sequences).await?;
    Ok(Appended { sequences, outranking })
}

/// A bar of the provider's may be decided without knowing what is stored, as that was not written
/// yet: then it is the next revision of that, where it says something else.
async fn append_outranking(
    database: &Database,
    bars: &[LogBar],
    written: &HashMap<usize, u64>,
) -> Result<Vec<(Series, StoredBar, StoredBar)>, DatabaseError> {
    let passed_over = bars.iter().enumerate().filter(|(index, entry)| {
        entry.bar.source == BarSource::Repair && !written.contains_key(index)
    });
    let mut outranking = Vec::new();
    for (_, LogBar { series, bar }) in passed_over {
        let (stored, open) = (database.bars(), bar.open_time);
        let found = within(database, stored.stretch(series, open, open)).await?;
        let old = found.first().copied().filter(StoredBar::is_final);
        let Some(old) = old.filter(|old| !alike(&old.values, &bar.values, 0.0)) else { continue };
        let new = old.revised(bar.values, BarSource::Repair);
        let next = [LogBar { series: series.clone(), bar: new }];
        within(database, database.bar_log().append(&next, Timestamp::now())).await?;
        outranking.push((series.clone(), old, new));
    }
    Ok(outranking)
}

/// What is decided one after the other is one write; of what is kept so, the newest counts.
fn joined(job: Job, left: &mut VecDeque<Job>) -> Job {
    match job {
        Job::Decided(mut decided) => {
            while let Some(Job::Decided(more)) =
                left.pop_front_if(|next| matches!(next, Job::Decided(_)))
            {
                decided.extend(more);
            }
            Job::Decided(decided)
        }
        Job::Keep(kept) => {
            let mut newest: HashMap<Symbol, Bytes> = kept.into_iter().collect();
            while let Some(Job::Keep(more)) = left.pop_front_if(|next| matches!(next, Job::Keep(_)))
            {
                newest.extend(more);
            }
            Job::Keep(newest.into_iter().collect())
        }
        Job::Forming(..) | Job::LoggedFrom(..) | Job::Barrier(_) => job,
    }
}

/// Waits for `step`, but not for ever. A write goes on where nobody waits, and is safe to repeat.
async fn within<T>(
    database: &Database,
    step: impl Future<Output = Result<T, DatabaseError>>,
) -> Result<T, DatabaseError> {
    timeout(STEP_DEADLINE, step).await.unwrap_or_else(|_| {
        let (engine, cause) = (database.engine(), None);
        let detail = format!("no answer within {STEP_DEADLINE:?}");
        Err(DatabaseError::Unavailable { engine, detail, cause })
    })
}

fn stored((sequence, entry): (u64, LogBar)) -> (Option<u64>, LiveChange) {
    (Some(sequence), LiveChange::Stored(entry.series, entry.bar))
}
