//! The file of the queue. All calls block.

use std::fs::{self, DirBuilder};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, TransactionBehavior, params};

use super::{SPOOL_FILE, SpoolEntry, SpoolError};

/// Bytes of a page.
const PAGE: u16 = 4_096;

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

const COUNT: &str = "SELECT count(*) FROM entries";

/// How much waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) entries: u64,
    pub(super) bytes: u64,
    /// When the oldest entry was put there, in milliseconds since 1970; none where nothing waits.
    pub(super) oldest_ms: Option<i64>,
}

pub(super) fn open(data_dir: &Path, max_bytes: u64) -> Result<Connection, SpoolError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(data_dir).map_err(|error| SpoolError::Unusable(error.to_string()))?;
    let path = data_dir.join(SPOOL_FILE);
    match connect(&path, max_bytes) {
        Err(error) if is_damaged(&error) => {
            tracing::error!(
                path = %path.display(), %error,
                "the spool is damaged and set aside; what was in it is fetched again from the provider"
            );
            set_aside(&path)?;
            connect(&path, max_bytes).map_err(|error| failure(&error))
        }
        connection => connection.map_err(|error| failure(&error)),
    }
}

fn connect(path: &Path, max_bytes: u64) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::ZERO)?;
    connection.pragma_update(None, "page_size", PAGE)?;
    // The file shrinks as entries are removed.
    connection.pragma_update(None, "auto_vacuum", "FULL")?;
    // Nobody else reads it: a second process is told at once.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let pages = i64::try_from(max_bytes / u64::from(PAGE)).unwrap_or(i64::MAX).max(1);
    connection.pragma_update(None, "max_page_count", pages)?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == 1 {
        connection.execute_batch(TO_VERSION_2)?;
    }
    connection.execute_batch(SCHEMA)?;
    connection.pragma_update(None, "user_version", VERSION)?;
    Ok(connection)
}

fn set_aside(path: &Path) -> Result<(), SpoolError> {
    for ending in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        let mut aside = path.as_os_str().to_owned();
        aside.push(".damaged");
        aside.push(ending);
        match fs::rename(&name, &aside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(SpoolError::Unusable(error.to_string()));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

pub(super) fn append(
    connection: &mut Connection,
    entries: &[SpoolEntry],
    at_ms: i64,
) -> Result<(), SpoolError> {
    let append = |connection: &mut Connection| {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let sql = "INSERT OR REPLACE INTO entries (subject, bytes, written_ms) VALUES (?1, ?2, ?3)";
        let mut insert = transaction.prepare_cached(sql)?;
        for SpoolEntry { subject, bytes } in entries {
            insert.execute(params![subject, bytes.as_ref(), at_ms])?;
        }
        drop(insert);
        transaction.commit()
    };
    append(connection).map_err(|error| failure(&error))
}

pub(super) fn oldest(
    connection: &Connection,
    count: u32,
    bytes: usize,
) -> Result<Vec<(i64, SpoolEntry)>, SpoolError> {
    let read = || {
        let sql = "SELECT place, subject, bytes FROM entries ORDER BY place LIMIT ?1";
        let mut statement = connection.prepare_cached(sql)?;
        let mut rows = statement.query([count])?;
        let (mut entries, mut size) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let held: Vec<u8> = row.get(2)?;
            size += held.len();
            entries.push((row.get(0)?, SpoolEntry { subject: row.get(1)?, bytes: held.into() }));
            if size >= bytes {
                break;
            }
        }
        Ok(entries)
    };
    read().map_err(|error| failure(&error))
}

pub(super) fn remove_through(connection: &Connection, last: i64) -> Result<(), SpoolError> {
    let removed = connection.execute("DELETE FROM entries WHERE place <= ?1", [last]);
    removed.map(|_| ()).map_err(|error| failure(&error))
}

/// Makes the queue that of `database`, unless something waits in it for another one.
pub(super) fn claim(connection: &mut Connection, database: &str) -> Result<(), SpoolError> {
    let claim = |connection: &mut Connection| {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let owner: Option<String> =
            transaction.query_row("SELECT database FROM owner", [], |row| row.get(0)).optional()?;
        let waits = transaction
            .query_row("SELECT EXISTS (SELECT 1 FROM entries)", [], |row| row.get::<_, bool>(0))?;
        if waits && owner.is_some_and(|owner| owner != database) {
            return Ok(false);
        }
        let sql = "INSERT OR REPLACE INTO owner (one, database) VALUES (1, ?1)";
        transaction.execute(sql, [database])?;
        transaction.commit().map(|()| true)
    };
    let is_ours = claim(connection).map_err(|error| failure(&error))?;
    if is_ours { Ok(()) } else { Err(SpoolError::OfAnother) }
}

pub(super) fn standing(connection: &Connection) -> rusqlite::Result<Standing> {
    let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
    let sql = "SELECT written_ms FROM entries ORDER BY place LIMIT 1";
    let oldest_ms = connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
    let entries: i64 = connection.prepare_cached(COUNT)?.query_row([], |row| row.get(0))?;
    let bytes = pages.unsigned_abs() * u64::from(PAGE);
    Ok(Standing { entries: entries.unsigned_abs(), bytes, oldest_ms })
}

pub(super) fn count(connection: &Connection) -> Result<u64, SpoolError> {
    let count = connection.query_row(COUNT, [], |row| row.get(0));
    count.map(i64::unsigned_abs).map_err(|error| failure(&error))
}

fn is_damaged(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn failure(error: &rusqlite::Error) -> SpoolError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => SpoolError::Full,
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            SpoolError::Unusable("another process uses it".to_owned())
        }
        _ => SpoolError::Unusable(error.to_string()),
    }
}
