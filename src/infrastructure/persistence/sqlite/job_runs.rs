//! Which jobs ran for which instants, and how.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Params, Row, params};
use uuid::Uuid;

use super::super::job_runs::{Claim, DIED, JobEnd, JobRun};
use super::super::{Lease, millisecond_before};
use super::{DatabaseError, Sqlite, database_error, immediate};
use crate::domain::job::JobOutcome;

const TABLE: &str = "job_runs";

const COLUMNS: &str = "run_id, job_id, instant, attempt, started_at, ended_at, outcome, message";

/// The tables `jobs` and `job_runs`.
#[derive(Clone, Debug)]
pub(in super::super) struct JobRuns(Sqlite);

impl JobRuns {
    pub(in super::super) fn new(engine: &Sqlite) -> Self {
        Self(engine.clone())
    }

    pub(in super::super) async fn since(
        &self,
        job_id: &str,
        schedule: &str,
        now: Timestamp,
    ) -> Result<Timestamp, DatabaseError> {
        let (job_id, schedule) = (job_id.to_owned(), schedule.to_owned());
        let sql = "INSERT INTO jobs (job_id, schedule, since) VALUES (?1, ?2, ?3) \
             ON CONFLICT (job_id) DO UPDATE SET schedule = excluded.schedule, \
             since = CASE WHEN schedule = excluded.schedule THEN since ELSE excluded.since END \
             RETURNING since";
        self.0
            .write(move |connection| {
                let row = params![job_id, schedule, millisecond_before(now)];
                let since = connection.query_row(sql, row, |row| row.get::<_, i64>(0));
                read_time(&job_id, since.map_err(database_error)?)
            })
            .await
    }

    pub(in super::super) async fn claim(
        &self,
        run: JobRun,
        lease: Lease,
    ) -> Result<Claim, DatabaseError> {
        let until = self.0.lapse_of(lease);
        self.0
            .write(move |connection| {
                let transaction = immediate(connection)?;
                let running = "job_id = ?1 AND ended_at IS NULL";
                if let Some(other) = find(&transaction, running, [&run.job_id])? {
                    return Ok(Claim::Busy(other));
                }
                let same = "job_id = ?1 AND instant = ?2 AND attempt = ?3";
                let instant = run.instant.map(millisecond_before);
                if find(&transaction, same, params![run.job_id, instant, run.attempt])?.is_some() {
                    return Ok(Claim::Taken);
                }
                let sql = "INSERT INTO job_runs (run_id, job_id, instant, attempt, started_at, \
                     owner, leased_until) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
                let row = params![
                    run.run_id.to_string(),
                    run.job_id,
                    instant,
                    run.attempt,
                    millisecond_before(run.started_at),
                    lease.owner.to_string(),
                    until,
                ];
                transaction.execute(sql, row).map_err(database_error)?;
                transaction.commit().map_err(database_error)?;
                Ok(Claim::Claimed(run))
            })
            .await
    }

    pub(in super::super) async fn renew(
        &self,
        run_id: Uuid,
        lease: Lease,
    ) -> Result<bool, DatabaseError> {
        let sql = "UPDATE job_runs SET leased_until = ?3 \
             WHERE run_id = ?1 AND owner = ?2 AND ended_at IS NULL";
        let until = self.0.lapse_of(lease);
        self.0
            .write(move |connection| {
                let row = params![run_id.to_string(), lease.owner.to_string(), until];
                connection.execute(sql, row).map(|changed| changed > 0).map_err(database_error)
            })
            .await
    }

    pub(in super::super) async fn end(
        &self,
        run_id: Uuid,
        owner: Uuid,
        end: &JobEnd,
    ) -> Result<bool, DatabaseError> {
        let sql = "UPDATE job_runs SET ended_at = ?3, outcome = ?4, message = ?5 \
             WHERE run_id = ?1 AND owner = ?2 AND ended_at IS NULL";
        let JobEnd { at, outcome, message } = end.clone();
        self.0
            .write(move |connection| {
                let (run_id, owner) = (run_id.to_string(), owner.to_string());
                let row = params![run_id, owner, millisecond_before(at), outcome.as_str(), message];
                connection.execute(sql, row).map(|changed| changed > 0).map_err(database_error)
            })
            .await
    }

    pub(in super::super) async fn interrupt(
        &self,
        owner: Uuid,
        under_way: &[Uuid],
    ) -> Result<Vec<String>, DatabaseError> {
        let sql = "UPDATE job_runs SET ended_at = MAX(started_at, MIN(leased_until, ?2)), \
             outcome = ?3, message = ?4 WHERE ended_at IS NULL \
             AND (owner <> ?1 OR leased_until <= ?2) \
             AND run_id NOT IN (SELECT value FROM json_each(?5)) RETURNING job_id";
        let (now, under_way) = (self.0.lease_time(), serde_json::json!(under_way).to_string());
        self.0
            .write(move |connection| {
                let interrupted = JobOutcome::Interrupted.as_str();
                let row = params![owner.to_string(), now, interrupted, DIED, under_way];
                let mut statement = connection.prepare_cached(sql).map_err(database_error)?;
                let ended = statement.query_map(row, |row| row.get(0)).map_err(database_error)?;
                ended.collect::<Result<_, _>>().map_err(database_error)
            })
            .await
    }

    pub(in super::super) async fn get(
        &self,
        run_id: Uuid,
    ) -> Result<Option<JobRun>, DatabaseError> {
        self.one("run_id = ?1", run_id.to_string()).await
    }

    pub(in super::super) async fn newest(
        &self,
        job_id: &str,
    ) -> Result<Option<JobRun>, DatabaseError> {
        let newest = "job_id = ?1 ORDER BY started_at DESC, run_id DESC LIMIT 1";
        self.one(newest, job_id.to_owned()).await
    }

    pub(in super::super) async fn last_scheduled(
        &self,
        job_id: &str,
    ) -> Result<Option<JobRun>, DatabaseError> {
        let last =
            "job_id = ?1 AND instant IS NOT NULL ORDER BY instant DESC, attempt DESC LIMIT 1";
        self.one(last, job_id.to_owned()).await
    }

    pub(in super::super) async fn prune(
        &self,
        job_id: &str,
        keep: u32,
    ) -> Result<(), DatabaseError> {
        let sql = "DELETE FROM job_runs WHERE job_id = ?1 AND ended_at IS NOT NULL \
             AND started_at < (SELECT started_at FROM job_runs WHERE job_id = ?1 \
                               ORDER BY started_at DESC LIMIT 1 OFFSET ?2) \
             AND COALESCE(instant, 0) <> \
                 COALESCE((SELECT MAX(instant) FROM job_runs WHERE job_id = ?1), -1)";
        let job_id = job_id.to_owned();
        self.0
            .write(move |connection| {
                let row = params![job_id, keep.saturating_sub(1)];
                connection.execute(sql, row).map(|_| ()).map_err(database_error)
            })
            .await
    }

    async fn one(&self, which: &'static str, key: String) -> Result<Option<JobRun>, DatabaseError> {
        self.0.read(move |connection| find(connection, which, [key])).await
    }
}

fn find(
    connection: &Connection,
    which: &str,
    key: impl Params,
) -> Result<Option<JobRun>, DatabaseError> {
    let sql = format!("SELECT {COLUMNS} FROM job_runs WHERE {which}");
    let mut statement = connection.prepare_cached(&sql).map_err(database_error)?;
    let found = statement.query_row(key, |row| Ok(read(row)));
    found.optional().map_err(database_error)?.transpose()
}

fn read(row: &Row<'_>) -> Result<JobRun, DatabaseError> {
    let run_id: String = row.get(0).map_err(database_error)?;
    let time = |index| {
        let at: Option<i64> = row.get(index).map_err(database_error)?;
        at.map(|at| read_time(&run_id, at)).transpose()
    };
    let corrupt = |error: String| DatabaseError::corrupt(TABLE, run_id.clone(), error);
    let outcome: Option<String> = row.get(6).map_err(database_error)?;
    let outcome = outcome.map(|text| text.parse().map_err(|error| corrupt(format!("{error}"))));
    let message: Option<String> = row.get(7).map_err(database_error)?;
    let ended = time(5)?.zip(outcome.transpose()?);
    Ok(JobRun {
        run_id: run_id.parse().map_err(|error: uuid::Error| corrupt(error.to_string()))?,
        job_id: row.get(1).map_err(database_error)?,
        instant: time(2)?,
        attempt: row.get(3).map_err(database_error)?,
        started_at: time(4)?.unwrap_or(Timestamp::UNIX_EPOCH),
        ended: ended.map(|(at, outcome)| JobEnd {
            at,
            outcome,
            message: message.unwrap_or_default(),
        }),
    })
}

fn read_time(key: &str, milliseconds: i64) -> Result<Timestamp, DatabaseError> {
    let time = Timestamp::from_millisecond(milliseconds);
    time.map_err(|error| DatabaseError::corrupt(TABLE, key, error.to_string()))
}
