//! How the file of the queue is found, locked, made and brought up to date. All calls block.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::{SPOOL_FILE, SpoolError};

/// Who holds it uses the queue.
const LOCK_FILE: &str = "spool.lock";

/// The file, and what SQLite puts beside it.
const FILES: [&str; 3] = ["", "-wal", "-shm"];

/// Bytes of a page.
pub(super) const PAGE: u16 = 4_096;

/// The form of the file that this version writes.
const VERSION: i64 = 2;

/// A subject's entry is moved to the end with each newer one; a place is never used again.
const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS entries (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    subject TEXT UNIQUE,
    bytes BLOB NOT NULL,
    written_ms INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS owner (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    database TEXT NOT NULL
)";

/// What the first form lacked.
const TO_VERSION_2: &str = "ALTER TABLE entries ADD COLUMN written_ms INTEGER NOT NULL DEFAULT 0";

/// Opens the file in `data_dir`, or makes it, for this process alone: for as long as the lock is
/// held. One that is damaged is set aside.
pub(super) fn first(
    data_dir: &Path,
    max_bytes: u64,
) -> Result<(File, PathBuf, Connection), SpoolError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(data_dir).map_err(|error| unusable(&error))?;
    let lock = lock(&data_dir.join(LOCK_FILE))?;
    let path = data_dir.join(SPOOL_FILE);
    let connection = match connect(&path, max_bytes) {
        Err(Refusal::Sqlite(error)) if is_damaged(&error) => {
            tracing::error!(
                path = %path.display(), %error,
                "the spool is damaged and set aside; what was in it is fetched again from the provider"
            );
            set_aside(&path)?;
            connect(&path, max_bytes)
        }
        connection => connection,
    };
    Ok((lock, path, connection?))
}

/// Who makes the file anew must be alone with it, also in between.
fn lock(path: &Path) -> Result<File, SpoolError> {
    let mut options = OpenOptions::new();
    let options = options.create(true).truncate(false).write(true);
    let lock = options.open(path).map_err(|error| unusable(&error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::Error(error)) => Err(unusable(&error)),
        Err(TryLockError::WouldBlock) => Err(in_use()),
    }
}

/// Opens the file, or makes it: whole or not at all. One that is there and as it should be is not
/// written to, as its disk may be full.
pub(super) fn connect(path: &Path, max_bytes: u64) -> Result<Connection, Refusal> {
    let is_new = !path.exists();
    let connected = open(path, max_bytes);
    if is_new && connected.is_err() {
        // What is left is empty.
        let _removed = remove(path);
    }
    connected
}

fn open(path: &Path, max_bytes: u64) -> Result<Connection, Refusal> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(Duration::ZERO)?;
    // Nobody else reads it.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == 0 {
        connection.pragma_update(None, "page_size", PAGE)?;
        // The file shrinks as entries are removed.
        connection.pragma_update(None, "auto_vacuum", "FULL")?;
    }
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let pages = i64::try_from(max_bytes / u64::from(PAGE)).unwrap_or(i64::MAX).max(1);
    connection.pragma_update(None, "max_page_count", pages)?;
    bring_up_to_date(&mut connection, version)?;
    Ok(connection)
}

/// All steps and the new version, or nothing.
fn bring_up_to_date(connection: &mut Connection, version: i64) -> Result<(), Refusal> {
    if version > VERSION {
        return Err(Refusal::Newer);
    }
    if version == VERSION {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if version == 1 && !has_times(&transaction)? {
        transaction.execute_batch(TO_VERSION_2)?;
    }
    transaction.execute_batch(SCHEMA)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    Ok(transaction.commit()?)
}

/// Earlier versions could end between a step and the version that follows from it.
fn has_times(connection: &Connection) -> rusqlite::Result<bool> {
    let sql =
        "SELECT EXISTS (SELECT 1 FROM pragma_table_info('entries') WHERE name = 'written_ms')";
    connection.query_row(sql, [], |row| row.get(0))
}

fn set_aside(path: &Path) -> Result<(), SpoolError> {
    let aside = with_ending(path, ".damaged");
    for ending in FILES {
        match fs::rename(with_ending(path, ending), with_ending(&aside, ending)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(unusable(&error)),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Sees to it that there is no file at `path`, nor what SQLite puts beside it.
pub(super) fn remove(path: &Path) -> std::io::Result<()> {
    for ending in FILES {
        match fs::remove_file(with_ending(path, ending)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Why the file cannot be used.
pub(super) enum Refusal {
    Newer,
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Refusal> for SpoolError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Newer => Self::Unusable("a newer version wrote it".to_owned()),
            Refusal::Sqlite(error) => failure(&error),
        }
    }
}

fn is_damaged(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

pub(super) fn failure(error: &rusqlite::Error) -> SpoolError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => SpoolError::Full,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => in_use(),
        _ => SpoolError::Unusable(error.to_string()),
    }
}

pub(super) fn unusable(error: &std::io::Error) -> SpoolError {
    SpoolError::Unusable(error.to_string())
}

fn in_use() -> SpoolError {
    SpoolError::Unusable("another process uses it".to_owned())
}
