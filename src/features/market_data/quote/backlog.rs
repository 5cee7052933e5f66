//! Jobs on their way to the database: a short queue in memory, and behind a database that is away
//! the spool on disk. What is in the spool is always older than what is in memory.

use std::collections::VecDeque;

use tokio::time::{Duration, Instant};
use tracing::{error, info, warn};

use super::job::{Job, Safe};
use super::ledger::Ledger;
use super::spool_codec;
use crate::infrastructure::persistence::DatabaseError;
use crate::infrastructure::spool::{SPOOL_FILE, Spool, SpoolEntry, SpoolError};

/// Jobs that are joined into one write.
const JOINED: usize = 64;
/// Entries of the spool that are written at a time, and about how many bytes of them.
const ENTRIES: (u32, usize) = (64, 1 << 20);
/// Jobs that wait in memory for a slow database before they go to the spool.
const SPILL_AT: usize = 256;
/// Jobs that wait in memory where the spool cannot take them, before the feed waits.
const MEMORY: usize = 1_024;
/// How long a spool that refused is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Jobs that are being written.
pub(super) struct Batch {
    /// In order.
    pub(super) jobs: Vec<Job>,
    /// The last place of the spool that they came from; none where they came from memory.
    pub(super) through: Option<i64>,
}

/// What the spool holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnDisk {
    Nothing,
    /// It did not answer in time when it was given jobs: they wait in memory, and perhaps there.
    Perhaps,
    Jobs,
}

/// The jobs that are not written yet.
pub(super) struct Backlog {
    memory: VecDeque<Job>,
    spool: Option<Spool>,
    on_disk: OnDisk,
    /// Whether jobs from memory are being written: what is behind them must not overtake them.
    memory_in_flight: bool,
    /// With fewer jobs in memory than this there is room: less where it was full.
    room_below: usize,
    refused_at: Option<Instant>,
    full: bool,
    /// Whether what was written last is still on disk, where only the next start would see it.
    lingers: bool,
}

impl Backlog {
    /// Nothing waits. Without a `spool`, all waits in memory.
    pub(super) fn new(spool: Option<Spool>) -> Self {
        Self {
            memory: VecDeque::new(),
            spool,
            on_disk: OnDisk::Nothing,
            memory_in_flight: false,
            room_below: MEMORY,
            refused_at: None,
            full: false,
            lingers: false,
        }
    }

    pub(super) fn push(&mut self, jobs: impl IntoIterator<Item = Job>) {
        self.memory.extend(jobs);
        self.measure();
    }

    /// Whether the feed may go on: where memory was full, not before half of it is free.
    pub(super) fn has_room(&self) -> bool {
        self.memory.len() < self.room_below
    }

    /// Whether more is taken in: what is on its way when there is no more room, and what callers
    /// ask for meanwhile, may be as much again.
    pub(super) fn takes_more(&self) -> bool {
        self.memory.len() < 2 * MEMORY
    }

    /// Whether nothing would be lost if the process ended now.
    pub(super) fn is_safe(&self) -> bool {
        self.memory.is_empty() && !self.memory_in_flight
    }

    pub(super) fn is_empty(&self) -> bool {
        self.is_safe() && !self.is_spooled()
    }

    /// Whether anything waits on disk.
    pub(super) fn is_spooled(&self) -> bool {
        self.on_disk != OnDisk::Nothing
    }

    /// The oldest jobs, to be written next. Each is answered by [`Self::written`] or
    /// [`Self::not_written`] before the next is taken.
    pub(super) async fn next(&mut self) -> Option<Batch> {
        if let Some(spool) = self.spool.clone().filter(|_| self.is_spooled()) {
            match spool.oldest(ENTRIES.0, ENTRIES.1).await {
                Ok(entries) if entries.is_empty() => self.emptied(),
                Ok(entries) => {
                    let through = entries.last().map(|(place, _)| *place);
                    return Some(Batch { jobs: jobs(&entries), through });
                }
                // What is there, if anything is, waits in memory too.
                Err(SpoolError::Unusable(_)) if self.on_disk == OnDisk::Perhaps => self.emptied(),
                Err(error) => {
                    warn!(%error, "the spool cannot be read; it is tried again");
                    return None;
                }
            }
        }
        let jobs: Vec<Job> = self.memory.drain(..self.memory.len().min(JOINED)).collect();
        self.memory_in_flight = !jobs.is_empty();
        self.measure();
        self.memory_in_flight.then_some(Batch { jobs, through: None })
    }

    /// A batch is written.
    pub(super) async fn written(&mut self, through: Option<i64>) {
        self.memory_in_flight = false;
        let (Some(through), Some(spool)) = (through, &self.spool) else { return };
        self.refused_at = None;
        match spool.remove_through(through).await {
            Ok(()) => self.lingers = false,
            Err(error) if !std::mem::replace(&mut self.lingers, true) => {
                warn!(%error, "what is written cannot be removed from the spool yet");
            }
            Err(_) => {}
        }
    }

    /// A batch is not written, but for what is not in `jobs`.
    pub(super) fn not_written(&mut self, jobs: Vec<Job>, through: Option<i64>) {
        self.memory_in_flight = false;
        if through.is_none() {
            for job in jobs.into_iter().rev() {
                self.memory.push_front(job);
            }
        }
    }

    /// Moves what waits in memory to the spool, where it has to: `away` where the database is.
    pub(super) async fn spill(&mut self, away: bool) {
        let wanted = away || self.is_spooled() || self.memory.len() > SPILL_AT;
        let resting = self.refused_at.is_some_and(|at| at.elapsed() < RETRY_AFTER);
        if !wanted || resting || self.memory_in_flight || self.memory.is_empty() {
            return;
        }
        let Some(spool) = &self.spool else { return };
        match spool.append(spool_codec::encode(&self.memory)).await {
            Ok(()) => {
                if self.on_disk != OnDisk::Jobs {
                    info!("closed bars wait on disk until the database takes them");
                }
                (self.on_disk, self.full, self.refused_at) = (OnDisk::Jobs, false, None);
                for job in self.memory.drain(..) {
                    // Whoever waited may be gone.
                    if let Job::Barrier(safe) = job {
                        let _heard = safe.send(Safe::Spooled);
                    }
                }
                self.measure();
            }
            Err(refusal) => self.refused(&refusal),
        }
    }

    fn refused(&mut self, refusal: &SpoolError) {
        self.refused_at = Some(Instant::now());
        if *refusal == SpoolError::TooSlow && !self.is_spooled() {
            self.on_disk = OnDisk::Perhaps;
        }
        let is_full = *refusal == SpoolError::Full;
        if is_full && !self.full {
            error!(
                "the spool is full: soon the feed waits for the database, and what it misses is \
                 fetched from the provider; see SPOOL_MAX_SIZE"
            );
        } else if !is_full {
            warn!(error = %refusal, "the spool takes nothing; bars wait in memory");
        }
        self.full = is_full;
    }

    fn measure(&mut self) {
        self.room_below = if self.has_room() { MEMORY } else { MEMORY / 2 };
    }

    fn emptied(&mut self) {
        self.full = false;
        if std::mem::replace(&mut self.on_disk, OnDisk::Nothing) == OnDisk::Jobs {
            info!("all bars that waited on disk are stored");
        }
    }
}

/// Stores what an earlier process has left in `spool`. It is published by the log alone: nobody
/// listens yet. An error where all that is left cannot be read or stored.
pub(super) async fn store_left(ledger: &Ledger, spool: &Spool) -> Result<(), DatabaseError> {
    let mut count = 0;
    loop {
        let entries = spool.oldest(ENTRIES.0, ENTRIES.1).await.map_err(|error| unread(&error))?;
        let Some((through, _)) = entries.last() else { break };
        ledger.store_left(jobs(&entries)).await?;
        count += entries.len();
        if let Err(error) = spool.remove_through(*through).await {
            warn!(%error, "what is stored cannot be removed from the spool yet");
        }
    }
    if count > 0 {
        info!(count, "stored what an earlier run had left on disk while the database was away");
    }
    Ok(())
}

fn unread(error: &SpoolError) -> DatabaseError {
    DatabaseError::Config {
        message: format!("bars wait in `{SPOOL_FILE}` in DATA_DIR, and it cannot be read: {error}"),
        remedy: "mend its disk and start again, or move the file away to give them up".to_owned(),
    }
}

/// What `entries` stand for; what is kept of several symbols is one job where it may be.
fn jobs(entries: &[(i64, SpoolEntry)]) -> Vec<Job> {
    let mut jobs = Vec::with_capacity(entries.len());
    for (place, entry) in entries {
        match (spool_codec::decode(entry), jobs.last_mut()) {
            (Some(Job::Keep(more)), Some(Job::Keep(kept))) => kept.extend(more),
            (Some(job), _) => jobs.push(job),
            (None, _) => error!(place, "an entry of the spool cannot be read and is left out"),
        }
    }
    jobs
}

#[cfg(test)]
#[path = "backlog_tests.rs"]
mod tests;
