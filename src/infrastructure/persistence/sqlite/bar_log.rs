//! The bar log: an entry and its bar are written in one transaction.

use std::collections::HashMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::super::bar_log::{LogBar, LogHead, LogPage, SCAN, SHARD, Wanted};
use super::super::{millisecond_before, millisecond_from, stored_number};
use super::ohlcv::{COLUMNS, read_bar, read_series};
use super::ohlcv_write::{make_series, source_number, write_bars};
use super::{DatabaseError, ENGINE, Sqlite, database_error, immediate};
use crate::domain::ohlcv::StoredBar;
use crate::domain::shared::Series;

/// A bar's columns, in the order of [`COLUMNS`].
const LOG_COLUMNS: &str =
    "open_time, open, high, low, close, volume, revision, 0, source, tick_count";

/// Entries removed in one transaction, so that writers need not wait long.
const TRIM_BATCH: i64 = 10_000;

const APPLICATION_ID: &str = "application_id";

/// The table `bar_log`.
#[derive(Clone, Debug)]
pub(in super::super) struct BarLog(Sqlite);

/// The row of `bar_log_head`.
#[derive(Clone, Copy)]
struct Head {
    first: i64,
    next: i64,
    applied: i64,
}

impl BarLog {
    pub(in super::super) fn new(engine: &Sqlite) -> Self {
        Self(engine.clone())
    }

    pub(in super::super) async fn append(
        &self,
        bars: Vec<LogBar>,
        at: Timestamp,
    ) -> Result<Vec<(u64, usize)>, DatabaseError> {
        let at = millisecond_before(at);
        self.0
            .write(move |connection| {
                let transaction = immediate(connection)?;
                let logged = append(&transaction, &bars, at)?;
                transaction.commit().map_err(database_error)?;
                Ok(logged)
            })
            .await
    }

    pub(in super::super) async fn read(
        &self,
        after: u64,
        wanted: Wanted,
        limit: u32,
    ) -> Result<LogPage, DatabaseError> {
        self.0
            .read(move |connection| {
                // One transaction, so that what is read and what is said to be kept agree.
                let transaction = connection.transaction().map_err(database_error)?;
                read(&transaction, after, &wanted, limit)
            })
            .await
    }

    pub(in super::super) async fn head(&self) -> Result<LogHead, DatabaseError> {
        let head = self.0.read(|connection| head(connection)).await?;
        Ok(LogHead { first: sequence(head.first), next: sequence(head.applied + 1) })
    }

    /// The id is in the file's header, where SQLite keeps a number for its application.
    pub(in super::super) async fn id(&self) -> Result<String, DatabaseError> {
        let id = self.0.write(|connection| {
            let transaction = immediate(connection)?;
            let read = |row: &rusqlite::Row<'_>| row.get::<_, i32>(0);
            let stored = transaction.pragma_query_value(None, APPLICATION_ID, read);
            let id = match stored.map_err(database_error)? {
                0 => rand::random_range(1..i32::MAX),
                id => id,
            };
            transaction.pragma_update(None, APPLICATION_ID, id).map_err(database_error)?;
            transaction.commit().map_err(database_error)?;
            Ok(id)
        });
        Ok(format!("{ENGINE}-{:08x}", id.await?))
    }

    pub(in super::super) async fn trim(&self, before: Timestamp) -> Result<u64, DatabaseError> {
        let before = millisecond_from(before);
        let mut removed = 0;
        loop {
            let (batch, is_last) = self
                .0
                .write(move |connection| {
                    let transaction = immediate(connection)?;
                    let trimmed = trim(&transaction, before)?;
                    transaction.commit().map_err(database_error)?;
                    Ok(trimmed)
                })
                .await?;
            removed += batch;
            if is_last {
                return Ok(removed);
            }
        }
    }
}

fn head(connection: &Connection) -> Result<Head, DatabaseError> {
    let sql = "SELECT first, next, applied FROM bar_log_head WHERE shard = ?1";
    let mut statement = connection.prepare_cached(sql).map_err(database_error)?;
    let head = statement.query_row([SHARD], |row| {
        Ok(Head { first: row.get(0)?, next: row.get(1)?, applied: row.get(2)? })
    });
    head.map_err(database_error)
}

fn append(
    transaction: &Transaction<'_>,
    bars: &[LogBar],
    at: i64,
) -> Result<Vec<(u64, usize)>, DatabaseError> {
    let mut next = head(transaction)?.next;
    let mut ids: HashMap<&Series, i64> = HashMap::new();
    let mut logged = Vec::with_capacity(bars.len());
    for (index, LogBar { series, bar }) in bars.iter().enumerate() {
        let id = match ids.get(series) {
            Some(id) => *id,
            None => *ids.entry(series).or_insert(make_series(transaction, series)?),
        };
        let stored = stored_bar(transaction, id, bar, series)?;
        if let Some(kept) = stored.filter(|stored| !bar.replaces(stored)) {
            // A higher revision was logged when it was written; this one perhaps not.
            let is_same = kept.revision() == bar.revision();
            next += i64::from(is_same && insert(transaction, next, id, &kept, at)?);
            logged.extend(logged_before(transaction, id, bar, series)?.map(|at| (at, index)));
            continue;
        }
        if insert(transaction, next, id, bar, at)? {
            logged.push((sequence(next), index));
            next += 1;
        } else {
            // Its bar was removed since.
            logged.extend(logged_before(transaction, id, bar, series)?.map(|at| (at, index)));
        }
        write_bars(transaction, series, &[*bar], at)?;
    }
    let sql = "UPDATE bar_log_head SET next = ?2, applied = ?2 - 1 WHERE shard = ?1";
    transaction.execute(sql, params![SHARD, next]).map_err(database_error)?;
    logged.sort_unstable();
    Ok(logged)
}

/// What `ohlcv` has under the key of `bar`.
fn stored_bar(
    transaction: &Transaction<'_>,
    series_id: i64,
    bar: &StoredBar,
    series: &Series,
) -> Result<Option<StoredBar>, DatabaseError> {
    let sql = format!("SELECT {COLUMNS} FROM ohlcv WHERE series_id = ?1 AND open_time = ?2");
    let mut statement = transaction.prepare_cached(&sql).map_err(database_error)?;
    let key = params![series_id, bar.open_time.as_millisecond()];
    let mut rows = statement.query(key).map_err(database_error)?;
    let row = rows.next().map_err(database_error)?;
    row.map(|row| read_bar(row, series)).transpose()
}

/// The sequence of `bar`, where it was logged as it is.
fn logged_before(
    transaction: &Transaction<'_>,
    series_id: i64,
    bar: &StoredBar,
    series: &Series,
) -> Result<Option<u64>, DatabaseError> {
    let sql = format!(
        "SELECT {LOG_COLUMNS}, sequence FROM bar_log \
         WHERE series_id = ?1 AND open_time = ?2 AND revision = ?3"
    );
    let mut statement = transaction.prepare_cached(&sql).map_err(database_error)?;
    let key = params![series_id, bar.open_time.as_millisecond(), bar.revision()];
    let mut rows = statement.query(key).map_err(database_error)?;
    let Some(row) = rows.next().map_err(database_error)? else { return Ok(None) };
    let is_same = read_bar(row, series)? == *bar;
    Ok(is_same.then_some(sequence(row.get(10).map_err(database_error)?)))
}

/// Answers whether it is new.
fn insert(
    transaction: &Transaction<'_>,
    sequence: i64,
    series_id: i64,
    bar: &StoredBar,
    at: i64,
) -> Result<bool, DatabaseError> {
    let sql = "INSERT INTO bar_log (shard, sequence, series_id, open_time, open, high, low, close, \
         volume, revision, source, tick_count, written_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) \
         ON CONFLICT (series_id, open_time, revision) DO NOTHING";
    let mut statement = transaction.prepare_cached(sql).map_err(database_error)?;
    let inserted = statement.execute(params![
        SHARD,
        sequence,
        series_id,
        bar.open_time.as_millisecond(),
        stored_number(bar.values.open()),
        stored_number(bar.values.high()),
        stored_number(bar.values.low()),
        stored_number(bar.values.close()),
        bar.values.volume().map(stored_number),
        bar.revision(),
        source_number(bar.source),
        bar.tick_count,
        at,
    ]);
    inserted.map(|inserted| inserted == 1).map_err(database_error)
}

fn read(
    transaction: &Transaction<'_>,
    after: u64,
    wanted: &Wanted,
    limit: u32,
) -> Result<LogPage, DatabaseError> {
    let head = head(transaction)?;
    let first = sequence(head.first);
    let begin = after.max(first.saturating_sub(1));
    let end = sequence(head.applied).min(begin.saturating_add(SCAN));
    let mut page = LogPage { entries: Vec::new(), examined: after, first };
    if begin >= end || limit == 0 {
        return Ok(page);
    }
    let sql = format!(
        "SELECT {LOG_COLUMNS}, sequence, series_id FROM bar_log \
         WHERE shard = ?1 AND sequence > ?2 AND sequence <= ?3 ORDER BY sequence"
    );
    let mut statement = transaction.prepare_cached(&sql).map_err(database_error)?;
    let range = params![SHARD, row_number(begin), row_number(end)];
    let mut rows = statement.query(range).map_err(database_error)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut names: HashMap<i64, Option<Series>> = HashMap::new();
    while let Some(row) = rows.next().map_err(database_error)? {
        let id: i64 = row.get(11).map_err(database_error)?;
        let name = match names.get(&id) {
            Some(name) => name,
            None => names.entry(id).or_insert(wanted_series(transaction, id, wanted)?),
        };
        let Some(series) = name else { continue };
        let at = sequence(row.get(10).map_err(database_error)?);
        let bar = read_bar(row, series)?;
        page.entries.push((at, LogBar { series: series.clone(), bar }));
        if page.entries.len() == limit {
            page.examined = at;
            return Ok(page);
        }
    }
    page.examined = end;
    Ok(page)
}

/// The series with this number, where it is wanted.
fn wanted_series(
    connection: &Connection,
    id: i64,
    wanted: &Wanted,
) -> Result<Option<Series>, DatabaseError> {
    let sql = "SELECT exchange, symbol, interval FROM series WHERE series_id = ?1";
    let mut statement = connection.prepare_cached(sql).map_err(database_error)?;
    let mut rows = statement.query([id]).map_err(database_error)?;
    let Some(row) = rows.next().map_err(database_error)? else {
        return Err(DatabaseError::refused(ENGINE, "a logged bar is of no series"));
    };
    Ok(Some(read_series(row, "series")?).filter(|series| wanted.has(series)))
}

/// Removes one batch; answers how many there were, and whether there are no more.
fn trim(transaction: &Transaction<'_>, before: i64) -> Result<(u64, bool), DatabaseError> {
    let head = head(transaction)?;
    let end = (head.applied + 1).min(head.first.saturating_add(TRIM_BATCH));
    // By the first that stays, and not by time alone: a clock may have been set back.
    let sql = "SELECT sequence FROM bar_log WHERE shard = ?1 AND sequence >= ?2 AND sequence < ?3 \
         AND written_at >= ?4 ORDER BY sequence LIMIT 1";
    let stays: Option<i64> = transaction
        .query_row(sql, params![SHARD, head.first, end, before], |row| row.get(0))
        .optional()
        .map_err(database_error)?;
    let first = stays.unwrap_or(end);
    let sql = "DELETE FROM bar_log WHERE shard = ?1 AND sequence < ?2";
    let removed = transaction.execute(sql, params![SHARD, first]).map_err(database_error)?;
    let sql = "UPDATE bar_log_head SET first = ?2 WHERE shard = ?1";
    transaction.execute(sql, params![SHARD, first]).map_err(database_error)?;
    Ok((removed as u64, stays.is_some() || end == head.applied + 1))
}

fn sequence(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

fn row_number(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}
