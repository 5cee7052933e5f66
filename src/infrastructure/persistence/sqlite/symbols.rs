//! Instruments.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, params};

use super::super::millisecond_before;
use super::super::symbols::SymbolFilter;
use super::{DatabaseError, Sqlite, database_error};
use crate::domain::shared::Symbol;
use crate::domain::symbol::{SessionSpec, SymbolDescription, SymbolInfo};

const TABLE: &str = "symbols";

const COLUMNS: &str = "exchange, symbol, name, description, asset_type, currency, timezone, \
     session, holidays, corrections, price_scale, is_active, created_at, updated_at";

/// The table `symbols`.
#[derive(Clone, Debug)]
pub(in super::super) struct Symbols(Sqlite);

impl Symbols {
    pub(in super::super) fn new(engine: &Sqlite) -> Self {
        Self(engine.clone())
    }

    pub(in super::super) async fn get(
        &self,
        symbol: &Symbol,
    ) -> Result<Option<SymbolInfo>, DatabaseError> {
        let symbol = symbol.clone();
        let row = self
            .0
            .read(move |connection| {
                let sql =
                    format!("SELECT {COLUMNS} FROM symbols WHERE exchange = ?1 AND symbol = ?2");
                let mut statement = connection.prepare_cached(&sql).map_err(database_error)?;
                statement
                    .query_row([symbol.exchange(), symbol.code()], SymbolRow::read)
                    .optional()
                    .map_err(database_error)
            })
            .await?;
        row.map(SymbolRow::into_info).transpose()
    }

    pub(in super::super) async fn put(&self, info: &SymbolInfo) -> Result<(), DatabaseError> {
        let info = info.clone();
        self.0
            .write(move |connection| {
                let (symbol, said) = (&info.symbol, &info.description);
                let session = said.session.as_ref();
                let sql = format!(
                    "INSERT OR REPLACE INTO symbols ({COLUMNS}) VALUES \
                     (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)"
                );
                let mut statement = connection.prepare_cached(&sql).map_err(database_error)?;
                let stored = statement.execute(params![
                    symbol.exchange(),
                    symbol.code(),
                    said.name,
                    said.description,
                    said.asset_type,
                    said.currency,
                    session.map(|session| session.timezone.as_str()),
                    session.map(|session| session.session.as_str()),
                    session.map(|session| session.holidays.as_str()),
                    session.map(|session| session.corrections.as_str()),
                    said.price_scale,
                    info.active,
                    millisecond_before(info.created_at),
                    millisecond_before(info.updated_at),
                ]);
                stored.map(|_| ()).map_err(database_error)
            })
            .await
    }

    pub(in super::super) async fn list(
        &self,
        filter: &SymbolFilter,
        after: Option<&Symbol>,
        limit: u32,
    ) -> Result<Vec<SymbolInfo>, DatabaseError> {
        let (filter, after) = (filter.clone(), after.cloned());
        let rows: Vec<SymbolRow> = self
            .0
            .read(move |connection| {
                let sql = format!(
                    "SELECT {COLUMNS} FROM symbols WHERE (?1 IS NULL OR exchange = ?1) \
                     AND (?2 IS NULL OR is_active = ?2) \
                     AND (?3 IS NULL OR (exchange, symbol) > (?3, ?4)) \
                     ORDER BY exchange, symbol LIMIT ?5"
                );
                let mut statement = connection.prepare_cached(&sql).map_err(database_error)?;
                let exchange = after.as_ref().map(Symbol::exchange);
                let code = after.as_ref().map(Symbol::code);
                let found = statement.query_map(
                    params![filter.exchange, filter.active, exchange, code, limit],
                    SymbolRow::read,
                );
                found.and_then(Iterator::collect).map_err(database_error)
            })
            .await?;
        rows.into_iter().map(SymbolRow::into_info).collect()
    }
}

/// A row, before its names and times are checked.
struct SymbolRow {
    exchange: String,
    code: String,
    description: SymbolDescription,
    active: bool,
    created_at: i64,
    updated_at: i64,
}

impl SymbolRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let session = match row.get::<_, Option<String>>(7)? {
            None => None,
            Some(session) => Some(SessionSpec {
                timezone: row.get::<_, Option<String>>(6)?.unwrap_or_default(),
                session,
                holidays: row.get::<_, Option<String>>(8)?.unwrap_or_default(),
                corrections: row.get::<_, Option<String>>(9)?.unwrap_or_default(),
            }),
        };
        Ok(Self {
            exchange: row.get(0)?,
            code: row.get(1)?,
            description: SymbolDescription {
                name: row.get(2)?,
                description: row.get(3)?,
                asset_type: row.get(4)?,
                currency: row.get(5)?,
                session,
                price_scale: row.get(10)?,
            },
            active: row.get(11)?,
            created_at: row.get(12)?,
            updated_at: row.get(13)?,
        })
    }

    fn into_info(self) -> Result<SymbolInfo, DatabaseError> {
        let key = format!("{}:{}", self.exchange, self.code);
        let corrupt = |error: String| DatabaseError::corrupt(TABLE, key.clone(), error);
        let time = |at| Timestamp::from_millisecond(at).map_err(|error| corrupt(error.to_string()));
        let symbol = Symbol::new(&self.exchange, &self.code);
        Ok(SymbolInfo {
            symbol: symbol.map_err(|error| corrupt(error.to_string()))?,
            description: self.description,
            active: self.active,
            created_at: time(self.created_at)?,
            updated_at: time(self.updated_at)?,
        })
    }
}
