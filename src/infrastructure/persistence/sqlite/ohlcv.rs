//! Bars.

use jiff::Timestamp;
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Row, Transaction, params};

use super::super::bars::{BarColumns, BarOrder, BarQuery, SeriesSummary};
use super::super::{millisecond_before, millisecond_from, stored_number};
use super::{DatabaseError, Sqlite, database_error};
use crate::domain::ohlcv::{BarSource, Ohlcv as Values, StoredBar};
use crate::domain::shared::{Series, Symbol};
use crate::domain::sync::SyncDiff;

const TABLE: &str = "ohlcv";

const SERIES_ID: &str =
    "SELECT series_id FROM series WHERE exchange = ?1 AND symbol = ?2 AND interval = ?3";

const INSERT: &str = "INSERT OR IGNORE INTO ohlcv (series_id, open_time, open, high, low, close, \
     volume, revision, finality_unknown, source, tick_count, created_at, updated_at) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?12)";

const UPDATE: &str = "UPDATE ohlcv SET open = ?3, high = ?4, low = ?5, close = ?6, volume = ?7, \
     revision = ?8, finality_unknown = ?9, source = ?10, tick_count = ?11, updated_at = ?12 \
     WHERE series_id = ?1 AND open_time = ?2";

const COLUMNS: &str =
    "open_time, open, high, low, close, volume, revision, finality_unknown, source, tick_count";

/// Final bars, the first and the last final bar's open time, whether there is any bar.
type SummaryRow = (i64, Option<i64>, Option<i64>, bool);

/// The table `ohlcv`.
#[derive(Clone, Debug)]
pub(in super::super) struct Ohlcv(Sqlite);

impl Ohlcv {
    pub(in super::super) fn new(engine: &Sqlite) -> Self {
        Self(engine.clone())
    }

    pub(in super::super) async fn find(
        &self,
        series: &Series,
        query: BarQuery,
    ) -> Result<Vec<StoredBar>, DatabaseError> {
        let from = query.start.map_or(i64::MIN, millisecond_from);
        let before = query.end.map_or(i64::MAX, millisecond_from);
        let direction = match query.order {
            BarOrder::NewestFirst => "DESC",
            BarOrder::OldestFirst => "ASC",
        };
        let least = u32::from(!query.include_forming);
        let sql = format!(
            "SELECT {COLUMNS} FROM ohlcv WHERE series_id = ?1 AND open_time >= ?2 \
             AND open_time < ?3 AND revision >= ?4 ORDER BY open_time {direction} LIMIT ?5"
        );
        let series = series.clone();
        self.0
            .read(move |connection| {
                let Some(id) = series_id(connection, &series)? else { return Ok(Vec::new()) };
                let mut bars = Vec::new();
                let mut statement = connection.prepare_cached(&sql).map_err(database_error)?;
                let mut rows = statement
                    .query(params![id, from, before, least, query.limit])
                    .map_err(database_error)?;
                while let Some(row) = rows.next().map_err(database_error)? {
                    bars.push(read_bar(row, &series)?);
                }
                Ok(bars)
            })
            .await
    }

    pub(in super::super) async fn stretch(
        &self,
        series: &Series,
        from: Timestamp,
        to_inclusive: Timestamp,
    ) -> Result<Vec<StoredBar>, DatabaseError> {
        let query = BarQuery {
            start: Some(from),
            end: Some(after(to_inclusive)),
            order: BarOrder::OldestFirst,
            limit: u32::MAX,
            include_forming: true,
        };
        self.find(series, query).await
    }

    pub(in super::super) async fn page(
        &self,
        series: &Series,
        from: i64,
        before: i64,
        limit: u32,
    ) -> Result<BarColumns, DatabaseError> {
        let series = series.clone();
        self.0
            .read(move |connection| {
                let Some(id) = series_id(connection, &series)? else {
                    return Ok(BarColumns::default());
                };
                let sql = "SELECT open_time, open, high, low, close, volume, revision FROM ohlcv \
                     WHERE series_id = ?1 AND open_time >= ?2 AND open_time < ?3 \
                     AND revision > 0 ORDER BY open_time LIMIT ?4";
                let mut columns =
                    BarColumns::with_capacity(usize::try_from(limit).unwrap_or_default());
                let mut statement = connection.prepare_cached(sql).map_err(database_error)?;
                let mut rows =
                    statement.query(params![id, from, before, limit]).map_err(database_error)?;
                while let Some(row) = rows.next().map_err(database_error)? {
                    columns.push(&read_values(row, &series)?);
                }
                Ok(columns)
            })
            .await
    }

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
                let transaction = connection.transaction().map_err(database_error)?;
                write_bars(&transaction, &series, &bars, at)?;
                transaction.commit().map_err(database_error)
            })
            .await
    }

    pub(in super::super) async fn summary(
        &self,
        series: &Series,
    ) -> Result<SeriesSummary, DatabaseError> {
        let key = series.clone();
        let sql = "SELECT final_count, \
             (SELECT open_time FROM ohlcv AS o WHERE o.series_id = s.series_id AND revision > 0 \
              ORDER BY open_time LIMIT 1), \
             (SELECT open_time FROM ohlcv AS o WHERE o.series_id = s.series_id AND revision > 0 \
              ORDER BY open_time DESC LIMIT 1), \
             EXISTS (SELECT 1 FROM ohlcv AS o WHERE o.series_id = s.series_id) \
             FROM series AS s WHERE exchange = ?1 AND symbol = ?2 AND interval = ?3";
        let found: Option<SummaryRow> = self
            .0
            .read(move |connection| {
                let mut statement = connection.prepare_cached(sql).map_err(database_error)?;
                statement
                    .query_row(series_key(&key), |row| {
                        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                    })
                    .optional()
                    .map_err(database_error)
            })
            .await?;
        let Some((bar_count, first, last, has_any)) = found else {
            return Ok(SeriesSummary::default());
        };
        let time = |at: Option<i64>| at.map(|at| open_time(at, series)).transpose();
        Ok(SeriesSummary {
            bar_count: u64::try_from(bar_count).unwrap_or_default(),
            first_bar_at: time(first)?,
            last_bar_at: time(last)?,
            has_any,
        })
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
                let transaction = connection.transaction().map_err(database_error)?;
                let Some(id) = series_id(&transaction, &series)? else { return Ok(0) };
                let (deleted, finals) =
                    delete_bars(&transaction, id, &times).map_err(database_error)?;
                count_finals(&transaction, id, -finals).map_err(database_error)?;
                transaction.commit().map_err(database_error)?;
                Ok(deleted)
            })
            .await
    }

    pub(in super::super) async fn series(&self) -> Result<Vec<Series>, DatabaseError> {
        self.0
            .read(|connection| {
                let sql = "SELECT exchange, symbol, interval FROM series AS s WHERE EXISTS \
                     (SELECT 1 FROM ohlcv AS o WHERE o.series_id = s.series_id)";
                let mut statement = connection.prepare_cached(sql).map_err(database_error)?;
                let mut rows = statement.query([]).map_err(database_error)?;
                let mut all = Vec::new();
                while let Some(row) = rows.next().map_err(database_error)? {
                    all.push(read_series(row, "series")?);
                }
                Ok(all)
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

fn write_bars(
    transaction: &Transaction<'_>,
    series: &Series,
    bars: &[StoredBar],
    at: i64,
) -> Result<(), DatabaseError> {
    let add_series =
        "INSERT OR IGNORE INTO series (exchange, symbol, interval) VALUES (?1, ?2, ?3)";
    transaction.execute(add_series, series_key(series)).map_err(database_error)?;
    let Some(series_id) = series_id(transaction, series)? else {
        return Err(DatabaseError::refused(super::ENGINE, "a series was not stored"));
    };
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

fn series_key(series: &Series) -> [&str; 3] {
    [series.symbol.exchange(), series.symbol.code(), series.interval.as_str()]
}

fn series_id(connection: &Connection, series: &Series) -> Result<Option<i64>, DatabaseError> {
    let mut statement = connection.prepare_cached(SERIES_ID).map_err(database_error)?;
    statement.query_row(series_key(series), |row| row.get(0)).optional().map_err(database_error)
}

/// The series named by the first three columns.
pub(super) fn read_series(row: &Row<'_>, table: &'static str) -> Result<Series, DatabaseError> {
    let text = |index| row.get::<_, String>(index).map_err(database_error);
    let (exchange, code, interval) = (text(0)?, text(1)?, text(2)?);
    let key = format!("{exchange}:{code} {interval}");
    let corrupt = |error: String| DatabaseError::corrupt(table, key.clone(), error);
    let symbol = Symbol::new(&exchange, &code).map_err(|error| corrupt(error.to_string()))?;
    let interval = interval.parse().map_err(|error| corrupt(format!("{error}")))?;
    Ok(Series::new(symbol, interval))
}

fn read_bar(row: &Row<'_>, series: &Series) -> Result<StoredBar, DatabaseError> {
    let mut bar = read_values(row, series)?;
    bar.finality_unknown = row.get(7).map_err(database_error)?;
    bar.source = read_source(row.get(8).map_err(database_error)?);
    bar.tick_count = row.get(9).map_err(database_error)?;
    Ok(bar)
}

/// The bar of the first seven columns, from the provider.
fn read_values(row: &Row<'_>, series: &Series) -> Result<StoredBar, DatabaseError> {
    let number = |index| row.get::<_, f64>(index).map_err(database_error);
    let at: i64 = row.get(0).map_err(database_error)?;
    let volume: Option<f64> = row.get(5).map_err(database_error)?;
    let values = Values::new(number(1)?, number(2)?, number(3)?, number(4)?, volume)
        .map_err(|error| corrupt_bar(at, series, &error.to_string()))?;
    let revision: u32 = row.get(6).map_err(database_error)?;
    Ok(StoredBar::with_revision(open_time(at, series)?, values, revision, BarSource::Provider))
}

fn open_time(at: i64, series: &Series) -> Result<Timestamp, DatabaseError> {
    Timestamp::from_millisecond(at).map_err(|error| corrupt_bar(at, series, &error.to_string()))
}

fn corrupt_bar(at: i64, series: &Series, detail: &str) -> DatabaseError {
    DatabaseError::corrupt(TABLE, format!("{series} at {at} ms"), detail)
}

const fn source_number(source: BarSource) -> i64 {
    match source {
        BarSource::Provider => 0,
        BarSource::Ticks => 1,
        BarSource::Repair => 2,
    }
}

const fn read_source(number: i64) -> BarSource {
    match number {
        1 => BarSource::Ticks,
        2 => BarSource::Repair,
        _ => BarSource::Provider,
    }
}

/// The first instant after the millisecond of `time`.
fn after(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(millisecond_before(time).saturating_add(1)).unwrap_or(time)
}
