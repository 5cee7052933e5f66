//! What was asked of the provider, and when the feed was there: stretches as JSON arrays of
//! `[start, end]` in milliseconds. The view `coverage_ranges` shows them as people read them.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, params};

use super::super::coverage::{CoverageRecord, StoredParts, scope};
use super::super::millisecond_before;
use super::{DatabaseError, Sqlite, database_error, immediate};
use crate::domain::coverage::{RangeSet, TimeRange};
use crate::domain::shared::{Interval, Symbol};

const TABLE: &str = "coverage";

const COLUMNS: &str = "exchange, symbol, interval, followed, heard, asked, connected, down";

/// The table `coverage`.
#[derive(Clone, Debug)]
pub(in super::super) struct Coverage(Sqlite);

impl Coverage {
    pub(in super::super) fn new(engine: &Sqlite) -> Self {
        Self(engine.clone())
    }

    pub(in super::super) async fn put(
        &self,
        records: &[CoverageRecord],
    ) -> Result<(), DatabaseError> {
        let records = records.to_vec();
        self.0
            .write(move |connection| {
                let transaction = immediate(connection)?;
                let sql = format!(
                    "INSERT OR REPLACE INTO coverage ({COLUMNS}) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
                );
                let mut statement = transaction.prepare_cached(&sql).map_err(database_error)?;
                for record in &records {
                    let (symbol, parts) = (record.symbol(), record.parts());
                    let row = params![
                        symbol.exchange(),
                        symbol.code(),
                        record.scope(),
                        parts.followed,
                        parts.heard.map(millisecond_before),
                        text(&parts.asked),
                        text(&parts.connected),
                        text(&parts.down),
                    ];
                    statement.execute(row).map_err(database_error)?;
                }
                drop(statement);
                transaction.commit().map_err(database_error)
            })
            .await
    }

    pub(in super::super) async fn get(
        &self,
        symbol: &Symbol,
        interval: Option<Interval>,
    ) -> Result<Option<CoverageRecord>, DatabaseError> {
        let symbol = symbol.clone();
        let row = self
            .0
            .read(move |connection| {
                let sql = format!(
                    "SELECT {COLUMNS} FROM coverage \
                     WHERE exchange = ?1 AND symbol = ?2 AND interval = ?3"
                );
                let mut statement = connection.prepare_cached(&sql).map_err(database_error)?;
                let key = [symbol.exchange(), symbol.code(), scope(interval)];
                statement.query_row(key, read_row).optional().map_err(database_error)
            })
            .await?;
        row.map(into_record).transpose()
    }

    pub(in super::super) async fn followed(&self) -> Result<Vec<CoverageRecord>, DatabaseError> {
        let rows: Vec<CoverageRow> = self
            .0
            .read(|connection| {
                let sql = format!("SELECT {COLUMNS} FROM coverage WHERE followed");
                let mut statement = connection.prepare_cached(&sql).map_err(database_error)?;
                let found = statement.query_map([], read_row);
                found.and_then(Iterator::collect).map_err(database_error)
            })
            .await?;
        rows.into_iter().map(into_record).collect()
    }

    pub(in super::super) async fn delete(&self, symbol: &Symbol) -> Result<(), DatabaseError> {
        let symbol = symbol.clone();
        self.0
            .write(move |connection| {
                let sql = "DELETE FROM coverage WHERE exchange = ?1 AND symbol = ?2";
                let deleted = connection.execute(sql, [symbol.exchange(), symbol.code()]);
                deleted.map(|_| ()).map_err(database_error)
            })
            .await
    }
}

struct CoverageRow {
    key: [String; 3],
    followed: bool,
    heard: Option<i64>,
    ranges: [String; 3],
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<CoverageRow> {
    Ok(CoverageRow {
        key: [row.get(0)?, row.get(1)?, row.get(2)?],
        followed: row.get(3)?,
        heard: row.get(4)?,
        ranges: [row.get(5)?, row.get(6)?, row.get(7)?],
    })
}

fn into_record(row: CoverageRow) -> Result<CoverageRecord, DatabaseError> {
    let CoverageRow { key: [exchange, code, scope], followed, heard, ranges } = row;
    let corrupt =
        |detail: &str| DatabaseError::corrupt(TABLE, format!("{exchange}:{code} {scope}"), detail);
    let symbol = Symbol::new(&exchange, &code).map_err(|error| corrupt(&error.to_string()))?;
    let [asked, connected, down] = ranges.map(|text| read_text(&text));
    let heard = heard.map(Timestamp::from_millisecond).transpose();
    let damaged = || corrupt("its stretches cannot be read");
    let parts = StoredParts {
        vouched: None,
        followed,
        heard: heard.map_err(|error| corrupt(&error.to_string()))?,
        asked: asked.ok_or_else(damaged)?,
        connected: connected.ok_or_else(damaged)?,
        down: down.ok_or_else(damaged)?,
    };
    CoverageRecord::read(symbol, &scope, parts).ok_or_else(|| corrupt("it is of no interval"))
}

fn text(ranges: &RangeSet) -> String {
    let pair =
        |range: &TimeRange| [millisecond_before(range.open()), millisecond_before(range.close())];
    let pairs: Vec<[i64; 2]> = ranges.ranges().iter().map(pair).collect();
    // Numbers always have a form in JSON.
    serde_json::to_string(&pairs).unwrap_or_default()
}

fn read_text(text: &str) -> Option<RangeSet> {
    let pairs: Vec<[i64; 2]> = serde_json::from_str(text).ok()?;
    let time = |at| Timestamp::from_millisecond(at).ok();
    // What was shorter than a millisecond is nothing.
    let range = |[open, close]: [i64; 2]| Some(TimeRange::new(time(open)?, time(close)?));
    pairs
        .into_iter()
        .map(range)
        .collect::<Option<Vec<_>>>()
        .map(|all| all.into_iter().flatten().collect())
}
