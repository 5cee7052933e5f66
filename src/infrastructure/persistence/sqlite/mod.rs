//! The embedded engine: one file in the data directory, one writer, a few readers.
//!
//! Write-ahead log, every commit synced to disk (a sync is acknowledged once; losing it to a power
//! cut would break a promise for little gain). All calls run on blocking threads.

mod bar_log;
mod coverage;
mod feed_state;
mod idempotency;
mod job_runs;
mod migrations;
mod ohlcv;
mod ohlcv_write;
mod pool;
mod subscriptions;
mod symbols;
mod sync_status;
mod syncs;
mod webhook_outbox;
mod webhooks;

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub(super) use bar_log::BarLog;
pub(super) use coverage::Coverage;
pub(super) use feed_state::FeedState;
pub(super) use idempotency::Idempotency;
pub(super) use job_runs::JobRuns;
pub(super) use ohlcv::Ohlcv;
use pool::Pool;
pub(super) use subscriptions::Subscriptions;
pub(super) use symbols::Symbols;
pub(super) use sync_status::SyncStatuses;
pub(super) use syncs::Syncs;
pub(super) use webhook_outbox::WebhookOutbox;
pub(super) use webhooks::Webhooks;

use super::{DatabaseError, Lease, millisecond_before};

/// The engine's name in answers and logs.
pub(super) const ENGINE: &str = "sqlite";

/// The database's file in the data directory.
const FILE: &str = "pocketquant.db";

/// The file whose lock says that the data directory is in use.
const LOCK_FILE: &str = "pocketquant.lock";

/// Connections for reading at most.
const READERS: usize = 4;

/// How long SQLite itself waits for a lock that another program holds, such as a `sqlite3` shell.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a read may take, waiting for a connection included.
const READ_DEADLINE: Duration = Duration::from_secs(10);

/// How long a write may take, waiting for its turn included.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);

/// Prepared statements kept by each connection.
const STATEMENTS: usize = 32;

/// An open data directory. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Sqlite {
    readers: Pool,
    writer: Pool,
    /// When it was opened, by the machine's clock and by the monotonic one.
    opened: (Timestamp, Instant),
    /// Held as long as the database is open.
    _lock: Arc<File>,
}

impl Sqlite {
    /// Opens, or makes, the database in `data_dir`.
    pub(super) async fn open(data_dir: PathBuf, tasks: TaskTracker) -> Result<Self, DatabaseError> {
        let prepare = move || -> Result<(PathBuf, File), DatabaseError> {
            let lock = lock_directory(&data_dir)?;
            let path = data_dir.join(FILE);
            let failed = |error| start_error(&data_dir, &error);
            let mut connection = connect(&path).map_err(failed)?;
            migrations::migrate(&mut connection, &data_dir)?;
            Ok((path, lock))
        };
        let prepared = tasks.spawn_blocking(prepare).await;
        let (path, lock) = prepared.map_err(|error| {
            DatabaseError::unavailable(ENGINE, format!("the start was ended: {error}"))
        })??;
        Ok(Self {
            readers: Pool::new(path.clone(), READERS, READ_DEADLINE, tasks.clone()),
            writer: Pool::new(path, 1, WRITE_DEADLINE, tasks),
            opened: (Timestamp::now(), Instant::now()),
            _lock: Arc::new(lock),
        })
    }

    /// The time of leases, in milliseconds: the machine's clock must not end them, so that what
    /// happens to that after the start does not count.
    fn lease_time(&self) -> i64 {
        let (at, instant) = self.opened;
        millisecond_before(at.saturating_add(instant.elapsed()).unwrap_or(Timestamp::MAX))
    }

    /// When `lease` lapses, if it is not renewed.
    fn lapse_of(&self, lease: Lease) -> i64 {
        let length = i64::try_from(lease.length.as_millis()).unwrap_or(i64::MAX);
        self.lease_time().saturating_add(length)
    }

    /// Runs `work` on a connection of its own.
    async fn read<T, F>(&self, work: F) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, DatabaseError> + Send + 'static,
    {
        self.readers.run(work).await
    }

    /// Runs `work` on the one connection that writes. Once begun it is finished, whatever becomes
    /// of the caller.
    async fn write<T, F>(&self, work: F) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, DatabaseError> + Send + 'static,
    {
        self.writer.run(work).await
    }

    pub(super) async fn ping(&self) -> Result<(), DatabaseError> {
        self.read(|connection| {
            connection
                .query_row("SELECT 1 FROM sqlite_schema LIMIT 1", [], |_| Ok(()))
                .map_err(database_error)
        })
        .await
    }

    /// Connections in use, and idle.
    pub(super) fn connections(&self) -> (u32, u32) {
        let (readers, writer) = (self.readers.connections(), self.writer.connections());
        (readers.0 + writer.0, readers.1 + writer.1)
    }

    pub(super) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Makes the directory, readable by its owner only, and takes its lock.
fn lock_directory(data_dir: &Path) -> Result<File, DatabaseError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    let unusable = |error: &std::io::Error| {
        DatabaseError::config(
            format!("the data directory `{}` cannot be used: {error}", data_dir.display()),
            "set DATA_DIR to a directory that this user can write to",
        )
    };
    builder.create(data_dir).map_err(|error| unusable(&error))?;
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    let lock = options.open(data_dir.join(LOCK_FILE)).map_err(|error| unusable(&error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::Error(error)) => Err(unusable(&error)),
        Err(TryLockError::WouldBlock) => Err(DatabaseError::config(
            format!("the data directory `{}` is in use by another process", data_dir.display()),
            "stop that process, or set DATA_DIR to another directory",
        )),
    }
}

/// A connection set up as all are.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // 16 MiB of pages a connection.
    connection.pragma_update(None, "cache_size", -16_384)?;
    Ok(connection)
}

/// A transaction that writes from its beginning: nothing, not even another program, gets in
/// between its reads and its writes.
fn immediate(connection: &mut Connection) -> Result<Transaction<'_>, DatabaseError> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(database_error)
}

/// What went wrong while opening the database in `data_dir`.
fn start_error(data_dir: &Path, error: &rusqlite::Error) -> DatabaseError {
    DatabaseError::config(
        format!("the database in `{}` cannot be opened: {error}", data_dir.display()),
        "check its permissions and the space on its disk, or set DATA_DIR to another directory",
    )
}

/// What SQLite's `error` means to a caller.
fn database_error(error: rusqlite::Error) -> DatabaseError {
    use rusqlite::ErrorCode;
    let detail = error.to_string();
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::ReadOnly
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::OutOfMemory
            | ErrorCode::OperationInterrupted
            | ErrorCode::OperationAborted
            | ErrorCode::PermissionDenied
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::NoLargeFileSupport
            | ErrorCode::SchemaChanged,
        ) => DatabaseError::Unavailable {
            engine: ENGINE,
            detail,
            cause: Some(Arc::new(SqliteCause(error))),
        },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            DatabaseError::corrupt("database", FILE, detail)
        }
        _ => DatabaseError::Refused {
            engine: ENGINE,
            detail,
            cause: Some(Arc::new(SqliteCause(error))),
        },
    }
}

/// Keeps what can be shared between threads of SQLite's error: its text.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct SqliteCause(#[source] rusqlite::Error);

#[cfg(test)]
#[path = "disk_tests.rs"]
mod disk_tests;
