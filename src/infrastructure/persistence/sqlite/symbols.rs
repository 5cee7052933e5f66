//! Instruments.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, params};

use super::super::millisecond_before;
use super::super::symbols::SymbolFilter;
use super::{DatabaseError, Sqlite, database_error};
use crate::domain::shared::Symbol;
use crate::domain::symbol::{
    CustomFields, SessionSpec, SymbolChange, SymbolDescription, SymbolInfo,
};

const TABLE: &str = "symbols";

const COLUMNS: &str = "exchange, symbol, name, description, asset_type, currency, timezone, \
     session, holidays, corrections, price_scale, is_active, created_at, updated_at, \
     custom_name, custom_description, custom_asset_type";

/// What the provider says. A symbol that comes back after it was deleted is a new one.
const PUT: &str = "INSERT INTO symbols (exchange, symbol, name, description, asset_type, currency, \
     timezone, session, holidays, corrections, price_scale, is_active, created_at, updated_at) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) \
     ON CONFLICT DO UPDATE SET name = ?3, description = ?4, asset_type = ?5, currency = ?6, \
     timezone = ?7, session = ?8, holidays = ?9, corrections = ?10, price_scale = ?11, \
     created_at = iif(deleted_at IS NULL, created_at, ?13), updated_at = ?14, deleted_at = NULL";

/// What a person says: absent stays, empty is taken back.
const CUSTOMISE: &str = "UPDATE symbols SET \
     custom_name = iif(?3 IS NULL, custom_name, nullif(?3, '')), \
     custom_description = iif(?4 IS NULL, custom_description, nullif(?4, '')), \
     custom_asset_type = iif(?5 IS NULL, custom_asset_type, nullif(?5, '')), \
     is_active = ifnull(?6, is_active), updated_at = ?7 \
     WHERE exchange = ?1 AND symbol = ?2 AND deleted_at IS NULL";

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
        self.find(symbol, " AND deleted_at IS NULL").await
    }

    pub(in super::super) async fn last_known(
        &self,
        symbol: &Symbol,
    ) -> Result<Option<SymbolInfo>, DatabaseError> {
        self.find(symbol, "").await
    }

    async fn find(
        &self,
        symbol: &Symbol,
        and: &'static str,
    ) -> Result<Option<SymbolInfo>, DatabaseError> {
        let symbol = symbol.clone();
        let sql = format!("SELECT {COLUMNS} FROM symbols WHERE exchange = ?1 AND symbol = ?2{and}");
        let row = self
            .0
            .read(move |connection| {
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
                let mut statement = connection.prepare_cached(PUT).map_err(database_error)?;
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

    pub(in super::super) async fn customise(
        &self,
        symbol: &Symbol,
        change: &SymbolChange,
        at: Timestamp,
    ) -> Result<Option<SymbolInfo>, DatabaseError> {
        let (symbol, change) = (symbol.clone(), change.clone());
        let row = self
            .0
            .write(move |connection| {
                let sql = format!("{CUSTOMISE} RETURNING {COLUMNS}");
                let mut statement = connection.prepare_cached(&sql).map_err(database_error)?;
                let values = params![
                    symbol.exchange(),
                    symbol.code(),
                    change.name,
                    change.description,
                    change.asset_type,
                    change.active,
                    millisecond_before(at),
                ];
                statement.query_row(values, SymbolRow::read).optional().map_err(database_error)
            })
            .await?;
        row.map(SymbolRow::into_info).transpose()
    }

    pub(in super::super) async fn delete(
        &self,
        symbol: &Symbol,
        at: Timestamp,
    ) -> Result<bool, DatabaseError> {
        let symbol = symbol.clone();
        self.0
            .write(move |connection| {
                let sql = "UPDATE symbols SET deleted_at = ?3, is_active = 1, custom_name = NULL, \
                     custom_description = NULL, custom_asset_type = NULL \
                     WHERE exchange = ?1 AND symbol = ?2 AND deleted_at IS NULL";
                let values = params![symbol.exchange(), symbol.code(), millisecond_before(at)];
                let deleted = connection.execute(sql, values).map_err(database_error)?;
                Ok(deleted > 0)
            })
            .await
    }

    pub(in super::super) async fn forget(&self, symbol: &Symbol) -> Result<(), DatabaseError> {
        let symbol = symbol.clone();
        self.0
            .write(move |connection| {
                let sql = "DELETE FROM symbols WHERE exchange = ?1 AND symbol = ?2";
                let forgotten = connection.execute(sql, [symbol.exchange(), symbol.code()]);
                forgotten.map(|_| ()).map_err(database_error)
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
                    "SELECT {COLUMNS} FROM symbols WHERE deleted_at IS NULL \
                     AND (?1 IS NULL OR exchange = ?1) \
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
    custom: CustomFields,
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
            custom: CustomFields {
                name: row.get(14)?,
                description: row.get(15)?,
                asset_type: row.get(16)?,
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
            custom: self.custom,
            active: self.active,
            created_at: time(self.created_at)?,
            updated_at: time(self.updated_at)?,
        })
    }
}
