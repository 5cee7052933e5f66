//! What the feed remembers.

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, params};

use super::super::millisecond_before;
use super::{DatabaseError, Sqlite, database_error, immediate};
use crate::domain::shared::Symbol;

const TABLE: &str = "feed_state";

/// The table `feed_state`.
#[derive(Clone, Debug)]
pub(in super::super) struct FeedState(Sqlite);

impl FeedState {
    pub(in super::super) fn new(engine: &Sqlite) -> Self {
        Self(engine.clone())
    }

    pub(in super::super) async fn save(
        &self,
        states: &[(Symbol, Bytes)],
        at: Timestamp,
    ) -> Result<(), DatabaseError> {
        let (states, at) = (states.to_vec(), millisecond_before(at));
        self.0
            .write(move |connection| {
                let transaction = immediate(connection)?;
                let sql = "INSERT OR REPLACE INTO feed_state \
                     (exchange, symbol, state, updated_at) VALUES (?1, ?2, ?3, ?4)";
                let mut statement = transaction.prepare_cached(sql).map_err(database_error)?;
                for (symbol, state) in &states {
                    let row = params![symbol.exchange(), symbol.code(), state.as_ref(), at];
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
    ) -> Result<Option<Bytes>, DatabaseError> {
        let symbol = symbol.clone();
        self.0
            .read(move |connection| {
                let sql = "SELECT state FROM feed_state WHERE exchange = ?1 AND symbol = ?2";
                let mut statement = connection.prepare_cached(sql).map_err(database_error)?;
                let key = [symbol.exchange(), symbol.code()];
                let state = statement.query_row(key, |row| row.get::<_, Vec<u8>>(0));
                let state = state.optional().map_err(database_error)?;
                Ok(state.map(Bytes::from))
            })
            .await
    }

    pub(in super::super) async fn load_all(&self) -> Result<Vec<(Symbol, Bytes)>, DatabaseError> {
        self.0
            .read(|connection| {
                let sql = "SELECT exchange, symbol, state FROM feed_state";
                let mut statement = connection.prepare_cached(sql).map_err(database_error)?;
                let mut rows = statement.query([]).map_err(database_error)?;
                let mut states = Vec::new();
                while let Some(row) = rows.next().map_err(database_error)? {
                    let text = |index| row.get::<_, String>(index).map_err(database_error);
                    let (exchange, code) = (text(0)?, text(1)?);
                    let symbol = Symbol::new(&exchange, &code).map_err(|error| {
                        DatabaseError::corrupt(
                            TABLE,
                            format!("{exchange}:{code}"),
                            error.to_string(),
                        )
                    })?;
                    let state: Vec<u8> = row.get(2).map_err(database_error)?;
                    states.push((symbol, Bytes::from(state)));
                }
                Ok(states)
            })
            .await
    }

    pub(in super::super) async fn delete(&self, symbols: &[Symbol]) -> Result<(), DatabaseError> {
        let symbols = symbols.to_vec();
        self.0
            .write(move |connection| {
                let transaction = immediate(connection)?;
                let sql = "DELETE FROM feed_state WHERE exchange = ?1 AND symbol = ?2";
                let mut statement = transaction.prepare_cached(sql).map_err(database_error)?;
                for symbol in &symbols {
                    let key = [symbol.exchange(), symbol.code()];
                    statement.execute(key).map_err(database_error)?;
                }
                drop(statement);
                transaction.commit().map_err(database_error)
            })
            .await
    }
}
