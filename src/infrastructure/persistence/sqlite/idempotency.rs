//! What became of idempotency keys: a row a key.
//!
//! The data directory belongs to one process, so a lease is measured on that process's own clock,
//! which no change of the machine's moves, and one of a process before it has lapsed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use tokio::time::Instant;
use uuid::Uuid;

use super::super::millisecond_before;
use super::{DatabaseError, Sqlite, database_error, immediate};
use crate::common::idempotency::{Claim, KeyedCall, Scope, Token};

/// Rows whose time is over that a claim removes: more than it adds.
const PRUNED: i64 = 16;

/// The table `idempotency`.
#[derive(Clone, Debug)]
pub(in super::super) struct Idempotency {
    engine: Sqlite,
    clock: Clock,
}

/// This process's own.
#[derive(Clone, Debug)]
struct Clock {
    /// Which process.
    process: Arc<str>,
    started: Instant,
}

/// A row of a key: fingerprint, token, process, `lease_until`, answer, `expires_at`.
type KeyRow = (String, String, String, i64, Option<Vec<u8>>, i64);

impl Idempotency {
    pub(in super::super) fn new(engine: &Sqlite) -> Self {
        let process = Uuid::now_v7().to_string().into();
        Self { engine: engine.clone(), clock: Clock { process, started: Instant::now() } }
    }

    pub(in super::super) async fn claim(
        &self,
        call: &KeyedCall,
        token: Token,
        lease: Duration,
        ttl: Duration,
    ) -> Result<Claim, DatabaseError> {
        let (call, clock) = (call.clone(), self.clock.clone());
        self.engine
            .write(move |connection| {
                let transaction = immediate(connection)?;
                prune(&transaction)?;
                let found = find(&transaction, &call.scope)?;
                let claim = decide(found, &call, token, &clock);
                if claim == Claim::Ours {
                    put(&transaction, &call, token, clock.lease(lease), None, ttl)?;
                }
                transaction.commit().map_err(database_error)?;
                Ok(claim)
            })
            .await
    }

    pub(in super::super) async fn renew(
        &self,
        scope: &Scope,
        token: Token,
        lease: Duration,
    ) -> Result<bool, DatabaseError> {
        let (scope, clock) = (scope.clone(), self.clock.clone());
        self.engine
            .write(move |connection| {
                let sql = "UPDATE idempotency SET process = ?5, lease_until = ?6 \
                     WHERE principal = ?1 AND method = ?2 AND key = ?3 AND token = ?4";
                let (process, until) = clock.lease(lease);
                let [principal, method, key] = names(&scope);
                let renewed = connection.execute(
                    sql,
                    params![principal, method, key, token.to_string(), process, until],
                );
                renewed.map(|renewed| renewed > 0).map_err(database_error)
            })
            .await
    }

    pub(in super::super) async fn finish(
        &self,
        call: &KeyedCall,
        token: Token,
        answer: Bytes,
        ttl: Duration,
    ) -> Result<bool, DatabaseError> {
        let (call, clock) = (call.clone(), self.clock.clone());
        self.engine
            .write(move |connection| {
                let transaction = immediate(connection)?;
                let found = find(&transaction, &call.scope)?;
                let is_held = found.is_none_or(|(_, holder, ..)| holder == token.to_string());
                if is_held {
                    let lease = clock.lease(Duration::ZERO);
                    put(&transaction, &call, token, lease, Some(&answer), ttl)?;
                }
                transaction.commit().map_err(database_error)?;
                Ok(is_held)
            })
            .await
    }

    pub(in super::super) async fn release(
        &self,
        scope: &Scope,
        token: Token,
    ) -> Result<(), DatabaseError> {
        let scope = scope.clone();
        self.engine
            .write(move |connection| {
                let sql = "DELETE FROM idempotency WHERE principal = ?1 AND method = ?2 \
                     AND key = ?3 AND token = ?4 AND answer IS NULL";
                let [principal, method, key] = names(&scope);
                let token = token.to_string();
                let released = connection.execute(sql, [&principal, &method, &key, &token]);
                released.map(|_| ()).map_err(database_error)
            })
            .await
    }
}

impl Clock {
    fn now(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// A lease of `duration` from now: whose clock it is on, and until when.
    fn lease(&self, duration: Duration) -> (&str, i64) {
        let duration = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        (&self.process, self.now().saturating_add(duration))
    }

    fn is_lapsed(&self, process: &str, until: i64) -> bool {
        *process != *self.process || until <= self.now()
    }
}

fn decide(found: Option<KeyRow>, call: &KeyedCall, token: Token, clock: &Clock) -> Claim {
    let Some((fingerprint, holder, process, until, answer, expires_at)) = found else {
        return Claim::Ours;
    };
    if expires_at <= millisecond_before(Timestamp::now()) {
        return Claim::Ours;
    }
    if fingerprint != call.fingerprint.as_str() {
        return Claim::OtherRequest;
    }
    match answer {
        Some(answer) => Claim::Finished(answer.into()),
        None if holder == token.to_string() || clock.is_lapsed(&process, until) => Claim::Ours,
        None => Claim::Running,
    }
}

fn find(transaction: &Transaction<'_>, scope: &Scope) -> Result<Option<KeyRow>, DatabaseError> {
    let sql = "SELECT fingerprint, token, process, lease_until, answer, expires_at \
         FROM idempotency WHERE principal = ?1 AND method = ?2 AND key = ?3";
    let mut statement = transaction.prepare_cached(sql).map_err(database_error)?;
    let row = statement.query_row(names(scope), |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
    });
    row.optional().map_err(database_error)
}

fn put(
    transaction: &Transaction<'_>,
    call: &KeyedCall,
    token: Token,
    (process, until): (&str, i64),
    answer: Option<&[u8]>,
    ttl: Duration,
) -> Result<(), DatabaseError> {
    let sql = "INSERT OR REPLACE INTO idempotency (principal, method, key, fingerprint, token, \
         process, lease_until, answer, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let mut statement = transaction.prepare_cached(sql).map_err(database_error)?;
    let [principal, method, key] = names(&call.scope);
    let ttl = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
    let expires_at = millisecond_before(Timestamp::now()).saturating_add(ttl);
    let (fingerprint, token) = (call.fingerprint.as_str(), token.to_string());
    let stored = statement.execute(params![
        principal,
        method,
        key,
        fingerprint,
        token,
        process,
        until,
        answer,
        expires_at
    ]);
    stored.map(|_| ()).map_err(database_error)
}

/// Removes some rows whose time is over.
fn prune(connection: &Connection) -> Result<(), DatabaseError> {
    let sql = "DELETE FROM idempotency WHERE rowid IN \
         (SELECT rowid FROM idempotency WHERE expires_at <= ?1 LIMIT ?2)";
    let mut statement = connection.prepare_cached(sql).map_err(database_error)?;
    let pruned = statement.execute([millisecond_before(Timestamp::now()), PRUNED]);
    pruned.map(|_| ()).map_err(database_error)
}

fn names(scope: &Scope) -> [String; 3] {
    [scope.principal.to_string(), scope.method.to_owned(), scope.key.to_string()]
}
