//! How syncs went.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, params};

use super::super::millisecond_before;
use super::super::sync_statuses::SyncStatusFilter;
use super::ohlcv::read_series;
use super::{DatabaseError, Sqlite, database_error};
use crate::domain::shared::{Series, Symbol};
use crate::domain::sync::{SyncState, SyncStatus};

const TABLE: &str = "sync_status";

const COLUMNS: &str = "exchange, symbol, interval, status, bar_count, last_sync_at, last_bar_at, \
     error_message";

/// The table `sync_status`.
#[derive(Clone, Debug)]
pub(in super::super) struct SyncStatuses(Sqlite);

impl SyncStatuses {
    pub(in super::super) fn new(engine: &Sqlite) -> Self {
        Self(engine.clone())
    }

    pub(in super::super) async fn get(
        &self,
        series: &Series,
    ) -> Result<Option<SyncStatus>, DatabaseError> {
        let series = series.clone();
        self.0
            .read(move |connection| {
                let sql = format!(
                    "SELECT {COLUMNS} FROM sync_status \
                     WHERE exchange = ?1 AND symbol = ?2 AND interval = ?3"
                );
                let mut statement = connection.prepare_cached(&sql).map_err(database_error)?;
                let symbol = &series.symbol;
                let key = [symbol.exchange(), symbol.code(), series.interval.as_str()];
                statement
                    .query_row(key, |row| Ok(read_status(row)))
                    .optional()
                    .map_err(database_error)?
                    .transpose()
            })
            .await
    }

    pub(in super::super) async fn put(
        &self,
        status: &SyncStatus,
        at: Timestamp,
    ) -> Result<(), DatabaseError> {
        let status = status.clone();
        let at = millisecond_before(at);
        self.0
            .write(move |connection| {
                let sql = format!(
                    "INSERT INTO sync_status ({COLUMNS}, created_at, updated_at) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9) \
                     ON CONFLICT DO UPDATE SET status = ?4, bar_count = ?5, last_sync_at = ?6, \
                     last_bar_at = ?7, error_message = ?8, updated_at = ?9"
                );
                let mut statement = connection.prepare_cached(&sql).map_err(database_error)?;
                let symbol = &status.series.symbol;
                let stored = statement.execute(params![
                    symbol.exchange(),
                    symbol.code(),
                    status.series.interval.as_str(),
                    status.state.as_str(),
                    i64::try_from(status.bar_count).unwrap_or(i64::MAX),
                    status.last_sync_at.map(millisecond_before),
                    status.last_bar_at.map(millisecond_before),
                    status.error_message,
                    at,
                ]);
                stored.map(|_| ()).map_err(database_error)
            })
            .await
    }

    pub(in super::super) async fn delete(&self, symbol: &Symbol) -> Result<u64, DatabaseError> {
        let symbol = symbol.clone();
        self.0
            .write(move |connection| {
                let sql = "DELETE FROM sync_status WHERE exchange = ?1 AND symbol = ?2";
                let deleted = connection.execute(sql, [symbol.exchange(), symbol.code()]);
                deleted.map(|rows| rows as u64).map_err(database_error)
            })
            .await
    }

    pub(in super::super) async fn list(
        &self,
        filter: &SyncStatusFilter,
        after: Option<&Series>,
        limit: u32,
    ) -> Result<Vec<SyncStatus>, DatabaseError> {
        let (filter, after) = (filter.clone(), after.cloned());
        self.0
            .read(move |connection| {
                let sql = format!(
                    "SELECT {COLUMNS} FROM sync_status WHERE (?1 IS NULL OR exchange = ?1) \
                     AND (?2 IS NULL OR status = ?2) \
                     AND (?3 IS NULL OR (exchange, symbol, interval) > (?3, ?4, ?5)) \
                     ORDER BY exchange, symbol, interval LIMIT ?6"
                );
                let mut statement = connection.prepare_cached(&sql).map_err(database_error)?;
                let after = after.as_ref();
                let mut rows = statement
                    .query(params![
                        filter.exchange,
                        filter.state.map(SyncState::as_str),
                        after.map(|series| series.symbol.exchange()),
                        after.map(|series| series.symbol.code()),
                        after.map(|series| series.interval.as_str()),
                        limit,
                    ])
                    .map_err(database_error)?;
                let mut statuses = Vec::new();
                while let Some(row) = rows.next().map_err(database_error)? {
                    statuses.push(read_status(row)?);
                }
                Ok(statuses)
            })
            .await
    }
}

fn read_status(row: &Row<'_>) -> Result<SyncStatus, DatabaseError> {
    let series = read_series(row, TABLE)?;
    let corrupt = |error: String| DatabaseError::corrupt(TABLE, series.to_string(), error);
    let time = |index| {
        let at: Option<i64> = row.get(index).map_err(database_error)?;
        let time = at.map(Timestamp::from_millisecond).transpose();
        time.map_err(|error| corrupt(error.to_string()))
    };
    let state: String = row.get(3).map_err(database_error)?;
    let bar_count: i64 = row.get(4).map_err(database_error)?;
    Ok(SyncStatus {
        state: state.parse().map_err(|error| corrupt(format!("{error}")))?,
        bar_count: u64::try_from(bar_count).unwrap_or_default(),
        last_sync_at: time(5)?,
        last_bar_at: time(6)?,
        error_message: row.get(7).map_err(database_error)?,
        series,
    })
}
