//! The file of the queue. All calls block.

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};

use super::opening::{self, PAGE, failure, unusable};
use super::{SpoolEntry, SpoolError};

/// How much waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) entries: u64,
    pub(super) bytes: u64,
    /// When the oldest entry was put there, in milliseconds since 1970; none where nothing waits.
    pub(super) oldest_ms: Option<i64>,
}

/// The open file. Entries up to a place that is given are not counted: they are written, and only
/// not removed yet.
#[derive(Debug)]
pub(super) struct QueueFile {
    path: PathBuf,
    max_bytes: u64,
    /// To whom what waits belongs, once that was said.
    owner: Option<String>,
    /// None where nothing waits, and the file could not be made anew.
    connection: Option<Connection>,
    /// Held for as long as this is there.
    _lock: File,
}

impl QueueFile {
    pub(super) fn open(data_dir: &Path, max_bytes: u64) -> Result<Self, SpoolError> {
        let (lock, path, connection) = opening::first(data_dir, max_bytes)?;
        let connection = Some(connection);
        Ok(Self { path, max_bytes, owner: None, connection, _lock: lock })
    }

    /// Makes the queue that of `database`, unless something waits in it for another one.
    pub(super) fn claim(&mut self, database: String, done: i64) -> Result<(), SpoolError> {
        if let Some(connection) = &mut self.connection {
            claim(connection, &database, done)?;
        }
        self.owner = Some(database);
        Ok(())
    }

    pub(super) fn append(
        &mut self,
        entries: &[SpoolEntry],
        at_ms: i64,
        done: i64,
    ) -> Result<(), SpoolError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect(done)?,
        };
        append(self.connection.insert(connection), entries, at_ms).map_err(|error| failure(&error))
    }

    pub(super) fn oldest(
        &self,
        count: u32,
        bytes: usize,
        done: i64,
    ) -> Result<Vec<(i64, SpoolEntry)>, SpoolError> {
        let Some(connection) = &self.connection else { return Ok(Vec::new()) };
        oldest(connection, count, bytes, done).map_err(|error| failure(&error))
    }

    /// Removes what is not counted. That needs room in the journal, which a full disk has not:
    /// where nothing else waits, the file is made anew, which needs none.
    pub(super) fn clear(&mut self, done: i64) -> Result<(), SpoolError> {
        let Some(connection) = &self.connection else { return Ok(()) };
        let Err(error) = connection.execute("DELETE FROM entries WHERE place <= ?1", [done]) else {
            return Ok(());
        };
        match self.standing(done) {
            Ok(Standing { entries: 0, .. }) => self.renew(done),
            Ok(_) | Err(_) => Err(failure(&error)),
        }
    }

    pub(super) fn standing(&self, done: i64) -> Result<Standing, SpoolError> {
        let empty = Standing { entries: 0, bytes: 0, oldest_ms: None };
        let Some(connection) = &self.connection else { return Ok(empty) };
        standing(connection, done).map_err(|error| failure(&error))
    }

    fn renew(&mut self, done: i64) -> Result<(), SpoolError> {
        self.connection = None;
        opening::remove(&self.path).map_err(|error| unusable(&error))?;
        self.connection = Some(self.connect(done)?);
        Ok(())
    }

    /// As it was, if it is new: places go on, and it belongs to whom it did.
    fn connect(&self, done: i64) -> Result<Connection, SpoolError> {
        let mut connection = opening::connect(&self.path, self.max_bytes)?;
        let sql = "INSERT INTO sqlite_sequence (name, seq) SELECT 'entries', ?1 \
                   WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'entries')";
        connection.execute(sql, [done]).map_err(|error| failure(&error))?;
        if let Some(owner) = &self.owner {
            claim(&mut connection, owner, done)?;
        }
        Ok(connection)
    }
}

fn append(connection: &mut Connection, entries: &[SpoolEntry], at_ms: i64) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let sql = "INSERT OR REPLACE INTO entries (subject, bytes, written_ms) VALUES (?1, ?2, ?3)";
    let mut insert = transaction.prepare_cached(sql)?;
    for SpoolEntry { subject, bytes } in entries {
        insert.execute(params![subject, bytes.as_ref(), at_ms])?;
    }
    drop(insert);
    transaction.commit()
}

fn oldest(
    connection: &Connection,
    count: u32,
    bytes: usize,
    done: i64,
) -> rusqlite::Result<Vec<(i64, SpoolEntry)>> {
    let sql = "SELECT place, subject, bytes FROM entries WHERE place > ?2 ORDER BY place LIMIT ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![count, done])?;
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
}

fn claim(connection: &mut Connection, database: &str, done: i64) -> Result<(), SpoolError> {
    let claim = |connection: &mut Connection| {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let owner: Option<String> =
            transaction.query_row("SELECT database FROM owner", [], |row| row.get(0)).optional()?;
        if owner.as_deref() == Some(database) {
            return Ok(true);
        }
        let sql = "SELECT EXISTS (SELECT 1 FROM entries WHERE place > ?1)";
        let waits = transaction.query_row(sql, [done], |row| row.get::<_, bool>(0))?;
        if waits && owner.is_some() {
            return Ok(false);
        }
        let sql = "INSERT OR REPLACE INTO owner (one, database) VALUES (1, ?1)";
        transaction.execute(sql, [database])?;
        transaction.commit().map(|()| true)
    };
    let is_ours = claim(connection).map_err(|error| failure(&error))?;
    if is_ours { Ok(()) } else { Err(SpoolError::OfAnother) }
}

fn standing(connection: &Connection, done: i64) -> rusqlite::Result<Standing> {
    let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
    let sql = "SELECT written_ms FROM entries WHERE place > ?1 ORDER BY place LIMIT 1";
    let oldest_ms =
        connection.prepare_cached(sql)?.query_row([done], |row| row.get(0)).optional()?;
    let sql = "SELECT count(*) FROM entries WHERE place > ?1";
    let entries: i64 = connection.prepare_cached(sql)?.query_row([done], |row| row.get(0))?;
    let bytes = pages.unsigned_abs() * u64::from(PAGE);
    Ok(Standing { entries: entries.unsigned_abs(), bytes, oldest_ms })
}
