//! Bars: reading them. `ohlcv_write` stores them.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::super::bars::{BarOrder, BarQuery, SeriesSummary};
use super::super::export::BarColumns;
use super::super::{millisecond_before, millisecond_from};
use super::{DatabaseError, Sqlite, database_error};
use crate::domain::ohlcv::{BarSource, Ohlcv as Values, StoredBar};
use crate::domain::shared::{Series, Symbol};

const TABLE: &str = "ohlcv";

const SERIES_ID: &str =
    "SELECT series_id FROM series WHERE exchange = ?1 AND symbol = ?2 AND interval = ?3";

pub(super) const COLUMNS: &str =
    "open_time, open, high, low, close, volume, revision, finality_unknown, source, tick_count";

/// Final bars, the first and the last final bar's open time, whether there is any bar.
type SummaryRow = (i64, Option<i64>, Option<i64>, bool);

/// The table `ohlcv`.
#[derive(Clone, Debug)]
pub(in super::super) struct Ohlcv(pub(super) Sqlite);

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

pub(super) fn series_key(series: &Series) -> [&str; 3] {
    [series.symbol.exchange(), series.symbol.code(), series.interval.as_str()]
}

pub(super) fn series_id(
    connection: &Connection,
    series: &Series,
) -> Result<Option<i64>, DatabaseError> {
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

pub(super) fn read_bar(row: &Row<'_>, series: &Series) -> Result<StoredBar, DatabaseError> {
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
