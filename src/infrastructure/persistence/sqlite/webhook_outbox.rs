//! What is to be sent to webhooks.

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, named_params, params};
use uuid::Uuid;

use super::super::webhook_outbox::{
    Delivery, DeliveryPlace, DeliveryState, NewDelivery, OutboxSize, Settled,
};
use super::super::{Lease, millisecond_before};
use super::webhooks::number;
use super::{DatabaseError, Sqlite, database_error, immediate};

const TABLE: &str = "webhook_outbox";

const COLUMNS: &str = "webhook_id, event_id, event_type, body, state, attempts, next_attempt_at, \
     created_at, ended_at, status, error";

/// The table `webhook_outbox`.
#[derive(Clone, Debug)]
pub(in super::super) struct WebhookOutbox(Sqlite);

impl WebhookOutbox {
    pub(in super::super) fn new(engine: &Sqlite) -> Self {
        Self(engine.clone())
    }

    pub(in super::super) async fn put(
        &self,
        deliveries: Vec<NewDelivery>,
        at: Timestamp,
    ) -> Result<(), DatabaseError> {
        self.0
            .write(move |connection| {
                let transaction = immediate(connection)?;
                insert(&transaction, &deliveries, at)?;
                transaction.commit().map_err(database_error)
            })
            .await
    }

    pub(in super::super) async fn put_logged(
        &self,
        webhook_id: Uuid,
        deliveries: Vec<NewDelivery>,
        cursor: u64,
        dropped: u64,
        at: Timestamp,
    ) -> Result<(), DatabaseError> {
        self.0
            .write(move |connection| {
                let transaction = immediate(connection)?;
                insert(&transaction, &deliveries, at)?;
                let sql = "UPDATE webhooks SET cursor = MAX(cursor, ?2), dropped = dropped + ?3 \
                     WHERE webhook_id = ?1";
                let row = params![webhook_id.to_string(), number(cursor), number(dropped)];
                transaction.execute(sql, row).map_err(database_error)?;
                transaction.commit().map_err(database_error)
            })
            .await
    }

    pub(in super::super) async fn claim(
        &self,
        webhook_id: Uuid,
        lease: Lease,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Delivery>, DatabaseError> {
        let leases = (self.0.lease_time(), self.0.lapse_of(lease));
        let now = millisecond_before(now);
        self.0
            .write(move |connection| {
                let transaction = immediate(connection)?;
                let claimed = claim(&transaction, webhook_id, lease.owner, leases, now, limit)?;
                transaction.commit().map_err(database_error)?;
                Ok(claimed)
            })
            .await
    }

    pub(in super::super) async fn settle(
        &self,
        settled: Vec<Settled>,
    ) -> Result<(), DatabaseError> {
        self.0
            .write(move |connection| {
                let transaction = immediate(connection)?;
                for each in &settled {
                    settle(&transaction, each)?;
                }
                transaction.commit().map_err(database_error)
            })
            .await
    }

    pub(in super::super) async fn size(
        &self,
        webhook_id: Uuid,
        now: Timestamp,
    ) -> Result<OutboxSize, DatabaseError> {
        let later = millisecond_before(now).saturating_sub(self.0.lease_time());
        self.0
            .read(move |connection| {
                let sql = "SELECT COUNT(*), MIN(created_at), \
                     MIN(MAX(next_attempt_at, COALESCE(leased_until + ?2, 0))) \
                     FROM webhook_outbox WHERE webhook_id = ?1 AND state = 'pending'";
                let mut statement = connection.prepare_cached(sql).map_err(database_error)?;
                let (pending, oldest, due) = statement
                    .query_row(params![webhook_id.to_string(), later], |row| {
                        Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?))
                    })
                    .map_err(database_error)?;
                let pending = u64::try_from(pending).unwrap_or_default();
                Ok(OutboxSize { pending, oldest: time(oldest)?, due: time(due)? })
            })
            .await
    }

    pub(in super::super) async fn trim(
        &self,
        webhook_id: Uuid,
        ended: u32,
        pending: u32,
    ) -> Result<u64, DatabaseError> {
        self.0
            .write(move |connection| {
                let transaction = immediate(connection)?;
                let id = webhook_id.to_string();
                trim(&transaction, &id, "state <> 'pending'", ended)?;
                let dropped = trim(&transaction, &id, "state = 'pending'", pending)?;
                if dropped > 0 {
                    let sql = "UPDATE webhooks SET dropped = dropped + ?2 WHERE webhook_id = ?1";
                    transaction
                        .execute(sql, params![id, number(dropped)])
                        .map_err(database_error)?;
                }
                transaction.commit().map_err(database_error)?;
                Ok(dropped)
            })
            .await
    }

    pub(in super::super) async fn prune(
        &self,
        webhook_id: Uuid,
        before: Timestamp,
    ) -> Result<(), DatabaseError> {
        // What ended before was put before: so the index finds it.
        let sql = "DELETE FROM webhook_outbox \
             WHERE webhook_id = ?1 AND created_at < ?2 AND ended_at < ?2";
        self.0
            .write(move |connection| {
                let row = params![webhook_id.to_string(), millisecond_before(before)];
                connection.execute(sql, row).map(|_| ()).map_err(database_error)
            })
            .await
    }

    pub(in super::super) async fn list(
        &self,
        webhook_id: Uuid,
        after: Option<DeliveryPlace>,
        limit: u32,
    ) -> Result<Vec<Delivery>, DatabaseError> {
        self.0
            .read(move |connection| {
                let sql = format!(
                    "SELECT {COLUMNS} FROM webhook_outbox \
                     WHERE webhook_id = ?1 AND (created_at, event_id) < (?2, ?3) \
                     ORDER BY created_at DESC, event_id DESC LIMIT ?4"
                );
                let at = after.map_or(i64::MAX, |after| millisecond_before(after.created_at));
                let event = after.map_or_else(String::new, |after| after.event_id.to_string());
                let row = params![webhook_id.to_string(), at, event, limit];
                rows(connection, &sql, row)
            })
            .await
    }

    pub(in super::super) async fn ended(
        &self,
        webhook_id: Uuid,
        limit: u32,
    ) -> Result<Vec<DeliveryState>, DatabaseError> {
        self.0
            .read(move |connection| {
                let sql = "SELECT state FROM webhook_outbox \
                     WHERE webhook_id = ?1 AND state <> 'pending' \
                     ORDER BY created_at DESC, event_id DESC LIMIT ?2";
                let mut statement = connection.prepare_cached(sql).map_err(database_error)?;
                let row = params![webhook_id.to_string(), limit];
                let states = statement
                    .query_map(row, |row| row.get::<_, String>(0))
                    .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                    .map_err(database_error)?;
                let corrupt = |error| DatabaseError::corrupt(TABLE, webhook_id.to_string(), error);
                states.iter().map(|state| state.parse().map_err(corrupt)).collect()
            })
            .await
    }
}

fn insert(
    transaction: &Transaction<'_>,
    deliveries: &[NewDelivery],
    at: Timestamp,
) -> Result<(), DatabaseError> {
    // Of an endpoint that was just deleted, nothing is kept.
    let sql = "INSERT INTO webhook_outbox (webhook_id, event_id, event_type, body, state, \
         next_attempt_at, created_at) SELECT ?1, ?2, ?3, ?4, 'pending', ?5, ?5 \
         WHERE EXISTS (SELECT 1 FROM webhooks WHERE webhook_id = ?1) ON CONFLICT DO NOTHING";
    let mut statement = transaction.prepare_cached(sql).map_err(database_error)?;
    for each in deliveries {
        let row = params![
            each.webhook_id.to_string(),
            each.event_id.to_string(),
            each.event_type.as_str(),
            each.body.as_ref(),
            millisecond_before(at),
        ];
        statement.execute(row).map_err(database_error)?;
    }
    Ok(())
}

fn claim(
    transaction: &Transaction<'_>,
    webhook_id: Uuid,
    owner: Uuid,
    (lapsed, until): (i64, i64),
    now: i64,
    limit: u32,
) -> Result<Vec<Delivery>, DatabaseError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM webhook_outbox WHERE webhook_id = ?1 AND state = 'pending' \
         AND next_attempt_at <= ?2 \
         AND (leased_until IS NULL OR owner <> ?3 OR leased_until <= ?4) \
         ORDER BY next_attempt_at LIMIT ?5"
    );
    let (id, owner) = (webhook_id.to_string(), owner.to_string());
    let row = params![id, now, owner, lapsed, limit];
    let claimed = rows(transaction, &sql, row)?;
    let sql = "UPDATE webhook_outbox SET owner = ?3, leased_until = ?4 \
         WHERE webhook_id = ?1 AND event_id = ?2";
    let mut statement = transaction.prepare_cached(sql).map_err(database_error)?;
    for each in &claimed {
        let row = params![id, each.event_id.to_string(), owner, until];
        statement.execute(row).map_err(database_error)?;
    }
    Ok(claimed)
}

fn settle(transaction: &Transaction<'_>, settled: &Settled) -> Result<(), DatabaseError> {
    let sql = "UPDATE webhook_outbox SET state = :state, attempts = attempts + 1, \
         next_attempt_at = :next, owner = NULL, leased_until = NULL, ended_at = :ended, \
         status = :status, error = :error \
         WHERE webhook_id = :webhook AND event_id = :event AND state = 'pending' \
         AND (:state <> 'pending' OR attempts < :attempt)";
    let mut statement = transaction.prepare_cached(sql).map_err(database_error)?;
    let ended = (settled.state != DeliveryState::Pending).then_some(settled.at);
    let done = statement.execute(named_params! {
        ":state": settled.state.as_str(),
        ":next": millisecond_before(settled.next_attempt_at),
        ":ended": ended.map(millisecond_before),
        ":status": settled.status,
        ":error": settled.error,
        ":webhook": settled.webhook_id.to_string(),
        ":event": settled.event_id.to_string(),
        ":attempt": settled.attempt,
    });
    done.map(|_| ()).map_err(database_error)
}

/// Removes all but the `keep` newest that are `which`; answers how many there were.
fn trim(
    transaction: &Transaction<'_>,
    webhook_id: &str,
    which: &str,
    keep: u32,
) -> Result<u64, DatabaseError> {
    let sql = format!(
        "SELECT created_at, event_id FROM webhook_outbox WHERE webhook_id = ?1 AND {which} \
         ORDER BY created_at DESC, event_id DESC LIMIT 1 OFFSET ?2"
    );
    let mut statement = transaction.prepare_cached(&sql).map_err(database_error)?;
    let found = statement
        .query_row(params![webhook_id, keep], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
        })
        .optional()
        .map_err(database_error)?;
    let Some((at, event)) = found else { return Ok(0) };
    let sql = format!(
        "DELETE FROM webhook_outbox WHERE webhook_id = ?1 AND {which} \
         AND (created_at, event_id) <= (?2, ?3)"
    );
    let removed = transaction.execute(&sql, params![webhook_id, at, event]);
    removed.map(|removed| removed as u64).map_err(database_error)
}

fn rows(
    connection: &Connection,
    sql: &str,
    row: impl rusqlite::Params,
) -> Result<Vec<Delivery>, DatabaseError> {
    let mut statement = connection.prepare_cached(sql).map_err(database_error)?;
    let mut rows = statement.query(row).map_err(database_error)?;
    let mut deliveries = Vec::new();
    while let Some(row) = rows.next().map_err(database_error)? {
        deliveries.push(read(row)?);
    }
    Ok(deliveries)
}

fn read(row: &Row<'_>) -> Result<Delivery, DatabaseError> {
    let text = |index| row.get::<_, String>(index).map_err(database_error);
    let event_id = text(1)?;
    let corrupt = |error: String| DatabaseError::corrupt(TABLE, event_id.clone(), error);
    let id = |text: &str| text.parse().map_err(|error: uuid::Error| corrupt(error.to_string()));
    let at = |index| row.get::<_, Option<i64>>(index).map_err(database_error).and_then(time);
    let body: Vec<u8> = row.get(3).map_err(database_error)?;
    Ok(Delivery {
        webhook_id: id(&text(0)?)?,
        event_id: id(&event_id)?,
        event_type: text(2)?.parse().map_err(|error| corrupt(format!("{error}")))?,
        body: Bytes::from(body),
        state: text(4)?.parse().map_err(corrupt)?,
        attempts: row.get(5).map_err(database_error)?,
        next_attempt_at: at(6)?.unwrap_or(Timestamp::UNIX_EPOCH),
        created_at: at(7)?.unwrap_or(Timestamp::UNIX_EPOCH),
        ended_at: at(8)?,
        status: row.get(9).map_err(database_error)?,
        error: text(10)?,
    })
}

fn time(at: Option<i64>) -> Result<Option<Timestamp>, DatabaseError> {
    let time = at.map(Timestamp::from_millisecond).transpose();
    time.map_err(|error| DatabaseError::corrupt(TABLE, "a time", error.to_string()))
}
