//! A queue on disk, for what cannot be written where it belongs right now: bounded, in order, and
//! still there after a kill -9.
//!
//! One SQLite file of one process, so that a torn write is rolled back and a full disk is an error
//! and not a damage. It does not know what is in it.

mod file;
mod opening;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use file::{QueueFile, Standing};
use jiff::Timestamp;
use thiserror::Error;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::common::metrics::table::{SPOOL_BYTES, SPOOL_ENTRIES, SPOOL_OLDEST, SPOOL_REFUSALS};

/// The queue's file in the data directory.
pub const SPOOL_FILE: &str = "spool.db";

/// How long a call may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Something that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolEntry {
    /// What it is the newest word on: an older entry of the same subject is removed as this one
    /// takes its place at the end. None where every entry counts.
    pub subject: Option<String>,
    /// What it is.
    pub bytes: Bytes,
}

/// Why the queue did not do what it was asked. After an error nothing has changed, but where it
/// was too slow.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SpoolError {
    /// It has reached its bound, or the disk is full.
    #[error("it is full")]
    Full,
    /// The disk did not answer in time: what was asked may happen yet.
    #[error("no answer within {DEADLINE:?}")]
    TooSlow,
    /// It cannot be used; where it is opened: another process has it, or it cannot be written.
    #[error("{0}")]
    Unusable(String),
    /// What is in it waits for another database.
    #[error("it holds bars that wait for another database")]
    OfAnother,
}

/// The queue. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Spool {
    shared: Arc<Shared>,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Shared {
    file: Mutex<QueueFile>,
    /// Entries up to this place are removed, whether or not the disk knows.
    done: AtomicI64,
}

impl Spool {
    /// Whether an earlier process may have left something in `data_dir`. Does not open it.
    pub fn may_hold(data_dir: &Path) -> bool {
        std::fs::metadata(data_dir.join(SPOOL_FILE)).is_ok_and(|file| file.len() > 0)
    }

    /// Opens the queue in `data_dir`, with what an earlier process left in it, or makes it. It
    /// takes `max_bytes` on disk, and a few MiB of journal. A file that is no queue is set aside
    /// under a name that ends in `.damaged`.
    pub async fn open(
        data_dir: &Path,
        max_bytes: u64,
        tasks: TaskTracker,
    ) -> Result<Self, SpoolError> {
        let data_dir: PathBuf = data_dir.to_owned();
        let open = move || {
            let file = QueueFile::open(&data_dir, max_bytes)?;
            observe(&file, 0);
            Ok(file)
        };
        let file = wait(tasks.spawn_blocking(open)).await?;
        // There from the start: what has not happened yet is 0 and not unknown.
        for reason in ["full", "unusable"] {
            SPOOL_REFUSALS.with([reason]).increment(0);
        }
        let shared = Shared { file: Mutex::new(file), done: AtomicI64::new(0) };
        Ok(Self { shared: Arc::new(shared), tasks })
    }

    /// Says to which database the queue belongs. What waits for another one is never written to
    /// this one: [`SpoolError::OfAnother`], and nothing is changed.
    pub async fn claim(&self, database: String) -> Result<(), SpoolError> {
        self.run(move |file, done| file.claim(database, done)).await
    }

    /// Puts `entries` at the end, in their order: all of them or none, and durable when it returns.
    pub async fn append(&self, entries: Vec<SpoolEntry>) -> Result<(), SpoolError> {
        let at = Timestamp::now().as_millisecond();
        let appended = self.run(move |file, done| file.append(&entries, at, done)).await;
        if let Err(error) = &appended {
            SPOOL_REFUSALS.with([error.reason()]).increment(1);
        }
        appended
    }

    /// The oldest entries with their places, rising: at most `count`, and no more than it takes to
    /// reach `bytes`. They stay.
    pub async fn oldest(
        &self,
        count: u32,
        bytes: usize,
    ) -> Result<Vec<(i64, SpoolEntry)>, SpoolError> {
        self.run(move |file, done| file.oldest(count, bytes, done)).await
    }

    /// Removes all entries up to `last`, a place that [`Self::oldest`] has told. Where the disk does
    /// not take that, as it is full, they are gone all the same for as long as this process lives:
    /// an error says that the next one may find them again. Once nothing is left, it is tried in a
    /// way that needs no room.
    pub async fn remove_through(&self, last: i64) -> Result<(), SpoolError> {
        self.shared.done.fetch_max(last, Ordering::Relaxed);
        self.run(QueueFile::clear).await
    }

    /// How many entries wait.
    pub async fn count(&self) -> Result<u64, SpoolError> {
        self.run(|file, done| Ok(file.standing(done)?.entries)).await
    }

    async fn run<T, F>(&self, work: F) -> Result<T, SpoolError>
    where
        T: Send + 'static,
        F: FnOnce(&mut QueueFile, i64) -> Result<T, SpoolError> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let work = move || {
            let mut file = shared.file.lock().unwrap_or_else(PoisonError::into_inner);
            let done = shared.done.load(Ordering::Relaxed);
            let worked = work(&mut file, done);
            observe(&file, done);
            worked
        };
        wait(self.tasks.spawn_blocking(work)).await
    }
}

impl SpoolError {
    /// The name in metrics.
    const fn reason(&self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::TooSlow | Self::Unusable(_) | Self::OfAnother => "unusable",
        }
    }
}

/// Tells metrics how much waits. A file that cannot be read tells the caller.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn observe(file: &QueueFile, done: i64) {
    if let Ok(Standing { entries, bytes, oldest_ms }) = file.standing(done) {
        SPOOL_ENTRIES.handle().set(entries as f64);
        SPOOL_BYTES.handle().set(bytes as f64);
        SPOOL_OLDEST.handle().set(oldest_ms.map_or(0.0, |at| at as f64 / 1_000.0));
    }
}

async fn wait<T>(task: tokio::task::JoinHandle<Result<T, SpoolError>>) -> Result<T, SpoolError> {
    match timeout(DEADLINE, task).await {
        Ok(Ok(result)) => result,
        Ok(Err(error)) => Err(SpoolError::Unusable(format!("a call broke: {error}"))),
        Err(_) => Err(SpoolError::TooSlow),
    }
}

#[cfg(test)]
mod tests;
