//! Where events are sent to.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use super::super::millisecond_before;
use super::super::webhooks::{Webhook, joined, split};
use super::{DatabaseError, Sqlite, database_error};

const TABLE: &str = "webhooks";

const COLUMNS: &str = "webhook_id, url, description, event_types, symbols, intervals, secret, \
     created_at, disabled_at, disabled_why, cursor, dropped";

/// The table `webhooks`.
#[derive(Clone, Debug)]
pub(in super::super) struct Webhooks(Sqlite);

impl Webhooks {
    pub(in super::super) fn new(engine: &Sqlite) -> Self {
        Self(engine.clone())
    }

    pub(in super::super) async fn insert(&self, webhook: &Webhook) -> Result<(), DatabaseError> {
        let webhook = webhook.clone();
        self.0
            .write(move |connection| {
                let sql = format!(
                    "INSERT INTO webhooks ({COLUMNS}) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"
                );
                let (disabled_at, why) = webhook.disabled.unzip();
                let inserted = connection.execute(
                    &sql,
                    params![
                        webhook.id.to_string(),
                        webhook.url,
                        webhook.description,
                        joined(&webhook.event_types),
                        joined(&webhook.symbols),
                        joined(&webhook.intervals),
                        webhook.secret.expose_secret(),
                        millisecond_before(webhook.created_at),
                        disabled_at.map(millisecond_before),
                        why,
                        number(webhook.cursor),
                        number(webhook.dropped),
                    ],
                );
                inserted.map(|_| ()).map_err(database_error)
            })
            .await
    }

    pub(in super::super) async fn list(&self) -> Result<Vec<Webhook>, DatabaseError> {
        self.0
            .read(|connection| {
                let sql = format!("SELECT {COLUMNS} FROM webhooks ORDER BY created_at, webhook_id");
                let mut statement = connection.prepare_cached(&sql).map_err(database_error)?;
                let mut rows = statement.query([]).map_err(database_error)?;
                let mut webhooks = Vec::new();
                while let Some(row) = rows.next().map_err(database_error)? {
                    webhooks.push(read(row)?);
                }
                Ok(webhooks)
            })
            .await
    }

    pub(in super::super) async fn delete(&self, id: Uuid) -> Result<bool, DatabaseError> {
        self.0
            .write(move |connection| {
                let sql = "DELETE FROM webhooks WHERE webhook_id = ?1";
                let deleted = connection.execute(sql, [id.to_string()]).map_err(database_error)?;
                Ok(deleted > 0)
            })
            .await
    }

    pub(in super::super) async fn disable(
        &self,
        id: Uuid,
        at: Timestamp,
        why: &str,
    ) -> Result<bool, DatabaseError> {
        let why = why.to_owned();
        self.0
            .write(move |connection| {
                let sql = "UPDATE webhooks SET disabled_at = ?2, disabled_why = ?3 \
                     WHERE webhook_id = ?1 AND disabled_at IS NULL";
                let row = params![id.to_string(), millisecond_before(at), why];
                Ok(connection.execute(sql, row).map_err(database_error)? > 0)
            })
            .await
    }

    pub(in super::super) async fn enable(
        &self,
        id: Uuid,
        cursor: u64,
    ) -> Result<Option<Webhook>, DatabaseError> {
        self.0
            .write(move |connection| {
                let sql = "UPDATE webhooks SET disabled_at = NULL, disabled_why = NULL, \
                     cursor = ?2 WHERE webhook_id = ?1 AND disabled_at IS NOT NULL";
                let row = params![id.to_string(), number(cursor)];
                connection.execute(sql, row).map_err(database_error)?;
                get(connection, id)
            })
            .await
    }
}

fn get(connection: &Connection, id: Uuid) -> Result<Option<Webhook>, DatabaseError> {
    let sql = format!("SELECT {COLUMNS} FROM webhooks WHERE webhook_id = ?1");
    let mut statement = connection.prepare_cached(&sql).map_err(database_error)?;
    let found = statement.query_row([id.to_string()], |row| Ok(read(row)));
    found.optional().map_err(database_error)?.transpose()
}

fn read(row: &Row<'_>) -> Result<Webhook, DatabaseError> {
    let text = |index| row.get::<_, String>(index).map_err(database_error);
    let id = text(0)?;
    let corrupt = |error: String| DatabaseError::corrupt(TABLE, id.clone(), error);
    let time = |index| {
        let at: Option<i64> = row.get(index).map_err(database_error)?;
        at.map(Timestamp::from_millisecond).transpose().map_err(|error| corrupt(error.to_string()))
    };
    let count = |index| -> Result<u64, DatabaseError> {
        let value: i64 = row.get(index).map_err(database_error)?;
        Ok(u64::try_from(value).unwrap_or_default())
    };
    let why: Option<String> = row.get(9).map_err(database_error)?;
    Ok(Webhook {
        id: id.parse().map_err(|error: uuid::Error| corrupt(error.to_string()))?,
        url: text(1)?,
        description: text(2)?,
        event_types: split(&text(3)?).map_err(corrupt)?,
        symbols: split(&text(4)?).map_err(corrupt)?,
        intervals: split(&text(5)?).map_err(corrupt)?,
        secret: SecretString::from(text(6)?),
        created_at: time(7)?.unwrap_or(Timestamp::UNIX_EPOCH),
        disabled: time(8)?.map(|at| (at, why.unwrap_or_default())),
        cursor: count(10)?,
        dropped: count(11)?,
    })
}

/// A count as it is stored.
pub(super) fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
