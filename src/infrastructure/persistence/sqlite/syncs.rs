//! Which syncs were asked for.

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, named_params, params};
use uuid::Uuid;

use super::super::millisecond_before;
use super::super::syncs::{Lease, SyncCounts, SyncRecord, bar_count, depth};
use super::ohlcv::read_series;
use super::{DatabaseError, Sqlite, database_error, immediate};
use crate::domain::shared::Series;

const TABLE: &str = "syncs";

const COLUMNS: &str = "exchange, symbol, interval, sync_id, bar_count, state, pages, fetched, \
     inserted, updated, unchanged, rejected, oldest, newest, started_at, ended_at, outcome";

/// The table `syncs`.
#[derive(Clone, Debug)]
pub(in super::super) struct Syncs(Sqlite);

impl Syncs {
    pub(in super::super) fn new(engine: &Sqlite) -> Self {
        Self(engine.clone())
    }

    pub(in super::super) async fn insert(
        &self,
        sync: &SyncRecord,
        lease: Lease,
    ) -> Result<(), DatabaseError> {
        let (sync, until) = (sync.clone(), self.0.lapse_of(lease));
        self.0
            .write(move |connection| {
                let sql = "INSERT INTO syncs (sync_id, exchange, symbol, interval, bar_count, state, \
                     started_at, owner, leased_until) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
                let symbol = &sync.series.symbol;
                let inserted = connection.execute(
                    sql,
                    params![
                        sync.sync_id.to_string(),
                        symbol.exchange(),
                        symbol.code(),
                        sync.series.interval.as_str(),
                        bar_count(sync.depth),
                        sync.state.as_str(),
                        millisecond_before(sync.started_at),
                        lease.owner.to_string(),
                        until,
                    ],
                );
                inserted.map(|_| ()).map_err(database_error)
            })
            .await
    }

    pub(in super::super) async fn update(
        &self,
        sync: &SyncRecord,
        lease: Lease,
    ) -> Result<bool, DatabaseError> {
        let (sync, until) = (sync.clone(), self.0.lapse_of(lease));
        self.0.write(move |connection| update(connection, &sync, lease.owner, until)).await
    }

    pub(in super::super) async fn get(
        &self,
        sync_id: Uuid,
    ) -> Result<Option<SyncRecord>, DatabaseError> {
        self.0
            .read(move |connection| {
                let sql = format!("SELECT {COLUMNS} FROM syncs WHERE sync_id = ?1");
                let mut statement = connection.prepare_cached(&sql).map_err(database_error)?;
                let found = statement.query_row([sync_id.to_string()], |row| Ok(read(row)));
                found.optional().map_err(database_error)?.transpose()
            })
            .await
    }

    pub(in super::super) async fn ask_to_cancel(
        &self,
        sync_id: Uuid,
    ) -> Result<bool, DatabaseError> {
        let sql = "UPDATE syncs SET cancelled = 1 WHERE sync_id = ?1 AND ended_at IS NULL";
        self.change(sql, sync_id.to_string()).await.map(|changed| changed > 0)
    }

    pub(in super::super) async fn renew(&self, lease: Lease) -> Result<Vec<Uuid>, DatabaseError> {
        let until = self.0.lapse_of(lease);
        self.0
            .write(move |connection| {
                let sql = "UPDATE syncs SET leased_until = ?2 \
                     WHERE owner = ?1 AND ended_at IS NULL RETURNING sync_id, cancelled";
                let mut statement = connection.prepare_cached(sql).map_err(database_error)?;
                let row = params![lease.owner.to_string(), until];
                let renewed = statement
                    .query_map(row, |row| Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?)))
                    .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                    .map_err(database_error)?;
                let cancelled = renewed.into_iter().filter(|(_, cancelled)| *cancelled);
                cancelled.map(|(id, _)| read_id(&id)).collect()
            })
            .await
    }

    pub(in super::super) async fn take_over(
        &self,
        lease: Lease,
        limit: u32,
    ) -> Result<Vec<SyncRecord>, DatabaseError> {
        let until = self.0.lapse_of(lease);
        self.0
            .write(move |connection| {
                let transaction = immediate(connection)?;
                let owner = lease.owner.to_string();
                let sql = format!(
                    "SELECT {COLUMNS} FROM syncs WHERE ended_at IS NULL AND owner <> ?1 \
                     ORDER BY started_at, sync_id LIMIT ?2"
                );
                let mut statement = transaction.prepare_cached(&sql).map_err(database_error)?;
                let mut rows = statement.query(params![owner, limit]).map_err(database_error)?;
                let mut taken = Vec::new();
                while let Some(row) = rows.next().map_err(database_error)? {
                    taken.push(read(row)?);
                }
                drop(rows);
                drop(statement);
                for sync in &taken {
                    let sql = "UPDATE syncs SET owner = ?2, leased_until = ?3 WHERE sync_id = ?1";
                    let row = params![sync.sync_id.to_string(), owner, until];
                    transaction.execute(sql, row).map_err(database_error)?;
                }
                transaction.commit().map_err(database_error)?;
                Ok(taken)
            })
            .await
    }

    pub(in super::super) async fn unfinished(&self) -> Result<Vec<Series>, DatabaseError> {
        self.0
            .read(|connection| {
                let sql = "SELECT DISTINCT exchange, symbol, interval FROM syncs \
                     WHERE ended_at IS NULL";
                let mut statement = connection.prepare_cached(sql).map_err(database_error)?;
                let mut rows = statement.query([]).map_err(database_error)?;
                let mut series = Vec::new();
                while let Some(row) = rows.next().map_err(database_error)? {
                    series.push(read_series(row, TABLE)?);
                }
                Ok(series)
            })
            .await
    }

    pub(in super::super) async fn prune(&self, before: Timestamp) -> Result<(), DatabaseError> {
        let sql = "DELETE FROM syncs WHERE ended_at < ?1";
        self.change(sql, millisecond_before(before)).await.map(|_| ())
    }

    async fn change(
        &self,
        sql: &'static str,
        key: impl rusqlite::ToSql + Send + 'static,
    ) -> Result<usize, DatabaseError> {
        self.0.write(move |connection| connection.execute(sql, [key]).map_err(database_error)).await
    }
}

fn update(
    connection: &Connection,
    sync: &SyncRecord,
    owner: Uuid,
    until: i64,
) -> Result<bool, DatabaseError> {
    let sql = "UPDATE syncs SET state = :state, pages = :pages, fetched = :fetched, \
         inserted = :inserted, updated = :updated, unchanged = :unchanged, rejected = :rejected, \
         oldest = :oldest, newest = :newest, ended_at = :ended_at, outcome = :outcome, \
         leased_until = :until WHERE sync_id = :sync_id AND owner = :owner";
    let mut statement = connection.prepare_cached(sql).map_err(database_error)?;
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let counts = &sync.counts;
    let changed = statement.execute(named_params! {
        ":state": sync.state.as_str(),
        ":pages": counts.pages,
        ":fetched": number(counts.fetched),
        ":inserted": number(counts.inserted),
        ":updated": number(counts.updated),
        ":unchanged": number(counts.unchanged),
        ":rejected": number(counts.rejected),
        ":oldest": sync.reached.map(|(oldest, _)| millisecond_before(oldest)),
        ":newest": sync.reached.map(|(_, newest)| millisecond_before(newest)),
        ":ended_at": sync.ended.as_ref().map(|(at, _)| millisecond_before(*at)),
        ":outcome": sync.ended.as_ref().map(|(_, outcome)| outcome.as_ref()),
        ":until": until,
        ":sync_id": sync.sync_id.to_string(),
        ":owner": owner.to_string(),
    });
    changed.map(|changed| changed > 0).map_err(database_error)
}

fn read(row: &Row<'_>) -> Result<SyncRecord, DatabaseError> {
    let series = read_series(row, TABLE)?;
    let corrupt = |error: String| DatabaseError::corrupt(TABLE, series.to_string(), error);
    let number = |index| -> Result<u64, DatabaseError> {
        let value: i64 = row.get(index).map_err(database_error)?;
        Ok(u64::try_from(value).unwrap_or_default())
    };
    let time = |index| {
        let at: Option<i64> = row.get(index).map_err(database_error)?;
        at.map(Timestamp::from_millisecond).transpose().map_err(|error| corrupt(error.to_string()))
    };
    let (sync_id, state): (String, String) =
        (row.get(3).map_err(database_error)?, row.get(5).map_err(database_error)?);
    let outcome: Option<Vec<u8>> = row.get(16).map_err(database_error)?;
    Ok(SyncRecord {
        sync_id: read_id(&sync_id)?,
        depth: depth(row.get(4).map_err(database_error)?),
        state: state.parse().map_err(|error| corrupt(format!("{error}")))?,
        counts: SyncCounts {
            pages: row.get(6).map_err(database_error)?,
            fetched: number(7)?,
            inserted: number(8)?,
            updated: number(9)?,
            unchanged: number(10)?,
            rejected: number(11)?,
        },
        reached: time(12)?.zip(time(13)?),
        started_at: time(14)?.unwrap_or(Timestamp::UNIX_EPOCH),
        ended: time(15)?.zip(outcome.map(Bytes::from)),
        series,
    })
}

fn read_id(id: &str) -> Result<Uuid, DatabaseError> {
    id.parse().map_err(|error: uuid::Error| DatabaseError::corrupt(TABLE, id, error.to_string()))
}
