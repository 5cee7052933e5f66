//! Bars: storing and removing them, and counting the final ones while at it.

use jiff::Timestamp;
use rusqlite::{CachedStatement, OptionalExtension as _, Transaction, params};

use super::super::{millisecond_before, stored_number};
use super::ohlcv::{COLUMNS, Ohlcv, read_bar, series_id, series_key};
use super::{DatabaseError, database_error, immediate};
use crate::domain::ohlcv::{BarSource, StoredBar};
use crate::domain::shared::Series;
use crate::domain::sync::SyncDiff;

const INSERT: &str = "INSERT OR IGNORE INTO ohlcv (series_id, open_time, open, high, low, close, \
     volume, revision, finality_unknown, source, tick_count, created_at, updated_at) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?12)";

const UPDATE: &str = "UPDATE ohlcv SET open = ?3, high = ?4, low = ?5, close = ?6, volume = ?7, \
     revision = ?8, finality_unknown = ?9, source = ?10, tick_count = ?11, updated_at = ?12 \
     WHERE series_id = ?1 AND open_time = ?2";

impl Ohlcv {
    pub(in super::super) async fn write(
        &self,
        series: &Series,
        diff: &SyncDiff,
        at: Timestamp,
    ) -> Result<(), DatabaseError> {
        let series = series.clone();
        let mut bars: Vec<StoredBar> = diff.inserted.iter().chain(&diff.updated).copied().collect();
        // In the order of the key; a stable sort, so that the later of two equal keys stays later.
        bars.sort_by_key(|bar| bar.open_time);
        let at = millisecond_before(at);
        self.0
            .write(move |connection| {
                let transaction = immediate(connection)?;
                write_bars(&transaction, &series, &bars, at)?;
                transaction.commit().map_err(database_error)
            })
            .await
    }

    pub(in super::super) async fn delete(
        &self,
        series: &Series,
        open_times: &[Timestamp],
    ) -> Result<u64, DatabaseError> {
        let series = series.clone();
        let times: Vec<i64> = open_times.iter().map(|time| time.as_millisecond()).collect();
        self.0
            .write(move |connection| {
                let transaction = immediate(connection)?;
                let Some(id) = series_id(&transaction, &series)? else { return Ok(0) };
                let (deleted, finals) =
                    delete_bars(&transaction, id, &times).map_err(database_error)?;
                count_finals(&transaction, id, -finals).map_err(database_error)?;
                transaction.commit().map_err(database_error)?;
                Ok(deleted)
            })
            .await
    }
}

/// The statements of a write.
struct Write<'connection> {
    insert: CachedStatement<'connection>,
    read: CachedStatement<'connection>,
    update: CachedStatement<'connection>,
    series_id: i64,
    at: i64,
}

pub(super) fn write_bars(
    transaction: &Transaction<'_>,
    series: &Series,
    bars: &[StoredBar],
    at: i64,
) -> Result<(), DatabaseError> {
    let series_id = make_series(transaction, series)?;
    let read = format!("SELECT {COLUMNS} FROM ohlcv WHERE series_id = ?1 AND open_time = ?2");
    let prepare = |sql: &str| transaction.prepare_cached(sql).map_err(database_error);
    let mut write = Write {
        insert: prepare(INSERT)?,
        read: prepare(&read)?,
        update: prepare(UPDATE)?,
        series_id,
        at,
    };
    let mut finals = 0;
    for bar in bars {
        finals += write.bar(bar, series)?;
    }
    count_finals(transaction, series_id, finals).map_err(database_error)
}

/// The number of `series`, which gets one where it has none.
pub(super) fn make_series(
    transaction: &Transaction<'_>,
    series: &Series,
) -> Result<i64, DatabaseError> {
    if let Some(id) = series_id(transaction, series)? {
        return Ok(id);
    }
    let sql = "INSERT INTO series (exchange, symbol, interval) VALUES (?1, ?2, ?3)";
    transaction.execute(sql, series_key(series)).map_err(database_error)?;
    Ok(transaction.last_insert_rowid())
}

impl Write<'_> {
    /// Stores `bar` where it may; answers by how many the final bars changed.
    fn bar(&mut self, bar: &StoredBar, series: &Series) -> Result<i64, DatabaseError> {
        let now_final = i64::from(bar.is_final());
        if execute(&mut self.insert, self.series_id, bar, self.at).map_err(database_error)? == 1 {
            return Ok(now_final);
        }
        let key = params![self.series_id, bar.open_time.as_millisecond()];
        let mut rows = self.read.query(key).map_err(database_error)?;
        let Some(row) = rows.next().map_err(database_error)? else {
            return Err(DatabaseError::refused(super::ENGINE, "a bar was neither new nor stored"));
        };
        let stored = read_bar(row, series)?;
        drop(rows);
        if !bar.replaces(&stored) {
            return Ok(0);
        }
        execute(&mut self.update, self.series_id, bar, self.at).map_err(database_error)?;
        Ok(now_final - i64::from(stored.is_final()))
    }
}

fn execute(
    statement: &mut CachedStatement<'_>,
    series_id: i64,
    bar: &StoredBar,
    at: i64,
) -> rusqlite::Result<usize> {
    statement.execute(params![
        series_id,
        bar.open_time.as_millisecond(),
        stored_number(bar.values.open()),
        stored_number(bar.values.high()),
        stored_number(bar.values.low()),
        stored_number(bar.values.close()),
        bar.values.volume().map(stored_number),
        bar.revision(),
        bar.finality_unknown,
        source_number(bar.source),
        bar.tick_count,
        at,
    ])
}

/// Answers how many were deleted, and how many of them were final.
fn delete_bars(
    transaction: &Transaction<'_>,
    series_id: i64,
    times: &[i64],
) -> rusqlite::Result<(u64, i64)> {
    let sql = "DELETE FROM ohlcv WHERE series_id = ?1 AND open_time = ?2 RETURNING revision > 0";
    let mut statement = transaction.prepare_cached(sql)?;
    let (mut deleted, mut finals) = (0, 0);
    for time in times {
        let was_final: Option<bool> =
            statement.query_row(params![series_id, time], |row| row.get(0)).optional()?;
        deleted += u64::from(was_final.is_some());
        finals += i64::from(was_final.unwrap_or_default());
    }
    Ok((deleted, finals))
}

fn count_finals(transaction: &Transaction<'_>, series_id: i64, by: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE series SET final_count = final_count + ?2 WHERE series_id = ?1";
    transaction.execute(sql, params![series_id, by]).map(|_| ())
}

pub(super) const fn source_number(source: BarSource) -> i64 {
    match source {
        BarSource::Provider => 0,
        BarSource::Ticks => 1,
        BarSource::Repair => 2,
    }
}
