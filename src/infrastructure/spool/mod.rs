//! A queue on disk, for what cannot be written where it belongs right now: bounded, in order, and
//! still there after a kill -9.
//!
//! One SQLite file of one process, so that a torn write is rolled back and a full disk is an error
//! and not a damage. It does not know what is in it.

mod file;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rusqlite::Connection;
use thiserror::Error;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

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

/// Why the queue did not do what it was asked. After an error nothing has changed, or, where it
/// was too slow, perhaps all of it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SpoolError {
    /// It has reached its bound, or the disk is full.
    #[error("it is full")]
    Full,
    /// It cannot be used; where it is opened: another process has it, or it cannot be written.
    #[error("{0}")]
    Unusable(String),
}

/// The queue. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Spool {
    connection: Arc<Mutex<Connection>>,
    tasks: TaskTracker,
}

impl Spool {
    /// Opens the queue in `data_dir`, with what an earlier process left in it, or makes it. It
    /// takes `max_bytes` on disk, and a few MiB of journal. A file that is no queue is set aside
    /// under a name that ends in `.damaged`.
    pub async fn open(
        data_dir: &Path,
        max_bytes: u64,
        tasks: TaskTracker,
    ) -> Result<Self, SpoolError> {
        let data_dir: PathBuf = data_dir.to_owned();
        let open = move || file::open(&data_dir, max_bytes);
        let connection = wait(tasks.spawn_blocking(open)).await?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), tasks })
    }

    /// Puts `entries` at the end, in their order: all of them or none, and durable when it returns.
    pub async fn append(&self, entries: Vec<SpoolEntry>) -> Result<(), SpoolError> {
        self.run(move |connection| file::append(connection, &entries)).await
    }

    /// The oldest entries with their places, rising: at most `count`, and no more than it takes to
    /// reach `bytes`. They stay.
    pub async fn oldest(
        &self,
        count: u32,
        bytes: usize,
    ) -> Result<Vec<(i64, SpoolEntry)>, SpoolError> {
        self.run(move |connection| file::oldest(connection, count, bytes)).await
    }

    /// Removes all entries up to the place `last`.
    pub async fn remove_through(&self, last: i64) -> Result<(), SpoolError> {
        self.run(move |connection| file::remove_through(connection, last)).await
    }

    /// How many entries wait.
    pub async fn count(&self) -> Result<u64, SpoolError> {
        self.run(|connection| file::count(connection)).await
    }

    async fn run<T, F>(&self, work: F) -> Result<T, SpoolError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, SpoolError> + Send + 'static,
    {
        let connection = Arc::clone(&self.connection);
        let work = move || work(&mut connection.lock().unwrap_or_else(PoisonError::into_inner));
        wait(self.tasks.spawn_blocking(work)).await
    }
}

async fn wait<T>(task: tokio::task::JoinHandle<Result<T, SpoolError>>) -> Result<T, SpoolError> {
    match timeout(DEADLINE, task).await {
        Ok(Ok(result)) => result,
        Ok(Err(error)) => Err(SpoolError::Unusable(format!("a call broke: {error}"))),
        Err(_) => Err(SpoolError::Unusable(format!("no answer within {DEADLINE:?}"))),
    }
}

#[cfg(test)]
mod tests;
