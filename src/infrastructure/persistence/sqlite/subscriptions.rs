//! Which symbols the feed follows.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, params};

use super::super::millisecond_before;
use super::super::subscriptions::Subscribed;
use super::{DatabaseError, Sqlite, database_error};
use crate::domain::shared::Symbol;

const TABLE: &str = "subscriptions";

/// The table `subscriptions`.
#[derive(Clone, Debug)]
pub(in super::super) struct Subscriptions(Sqlite);

impl Subscriptions {
    pub(in super::super) fn new(engine: &Sqlite) -> Self {
        Self(engine.clone())
    }

    pub(in super::super) async fn put(&self, subscribed: &Subscribed) -> Result<(), DatabaseError> {
        let subscribed = subscribed.clone();
        self.0
            .write(move |connection| {
                let sql = "INSERT OR REPLACE INTO subscriptions \
                     (exchange, symbol, created_at, logged_from) VALUES (?1, ?2, ?3, ?4)";
                let mut statement = connection.prepare_cached(sql).map_err(database_error)?;
                let stored = statement.execute(params![
                    subscribed.symbol.exchange(),
                    subscribed.symbol.code(),
                    millisecond_before(subscribed.created_at),
                    subscribed.logged_from.map(millisecond_before),
                ]);
                stored.map(|_| ()).map_err(database_error)
            })
            .await
    }

    pub(in super::super) async fn get(
        &self,
        symbol: &Symbol,
    ) -> Result<Option<Subscribed>, DatabaseError> {
        let symbol = symbol.clone();
        let row = self
            .0
            .read(move |connection| {
                let sql = "SELECT exchange, symbol, created_at, logged_from FROM subscriptions \
                     WHERE exchange = ?1 AND symbol = ?2";
                let mut statement = connection.prepare_cached(sql).map_err(database_error)?;
                let key = [symbol.exchange(), symbol.code()];
                statement.query_row(key, read_row).optional().map_err(database_error)
            })
            .await?;
        row.map(into_subscribed).transpose()
    }

    pub(in super::super) async fn delete(&self, symbol: &Symbol) -> Result<bool, DatabaseError> {
        let symbol = symbol.clone();
        self.0
            .write(move |connection| {
                let sql = "DELETE FROM subscriptions WHERE exchange = ?1 AND symbol = ?2";
                let deleted = connection.execute(sql, [symbol.exchange(), symbol.code()]);
                deleted.map(|deleted| deleted > 0).map_err(database_error)
            })
            .await
    }

    pub(in super::super) async fn list(
        &self,
        after: Option<&Symbol>,
        limit: u32,
    ) -> Result<Vec<Subscribed>, DatabaseError> {
        let after = after.cloned();
        let rows: Vec<SubscriptionRow> = self
            .0
            .read(move |connection| {
                let sql = "SELECT exchange, symbol, created_at, logged_from FROM subscriptions \
                     WHERE ?1 IS NULL OR (exchange, symbol) > (?1, ?2) \
                     ORDER BY exchange, symbol LIMIT ?3";
                let mut statement = connection.prepare_cached(sql).map_err(database_error)?;
                let exchange = after.as_ref().map(Symbol::exchange);
                let code = after.as_ref().map(Symbol::code);
                let found = statement.query_map(params![exchange, code, limit], read_row);
                found.and_then(Iterator::collect).map_err(database_error)
            })
            .await?;
        rows.into_iter().map(into_subscribed).collect()
    }
}

/// Exchange, code, `created_at`, `logged_from`.
type SubscriptionRow = (String, String, i64, Option<i64>);

fn read_row(row: &Row<'_>) -> rusqlite::Result<SubscriptionRow> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
}

fn into_subscribed(row: SubscriptionRow) -> Result<Subscribed, DatabaseError> {
    let (exchange, code, created_at, logged_from) = row;
    let corrupt =
        |error: String| DatabaseError::corrupt(TABLE, format!("{exchange}:{code}"), error);
    let time = |at| Timestamp::from_millisecond(at).map_err(|error| corrupt(error.to_string()));
    let symbol = Symbol::new(&exchange, &code).map_err(|error| corrupt(error.to_string()))?;
    let logged_from = logged_from.map(time).transpose()?;
    Ok(Subscribed { symbol, created_at: time(created_at)?, logged_from })
}
