//! Which jobs ran for which instants, and how. A document is named by its run's id; while the run
//! is under way it says `running`, which one document of a job does at most.

use futures::stream::TryStreamExt as _;
use jiff::Timestamp;
use mongodb::bson::{DateTime, Document, doc};
use mongodb::options::{ReturnDocument, UpdateModifications};
use uuid::Uuid;

use super::super::job_runs::{Claim, DIED, JobEnd, JobRun};
use super::super::{Lease, millisecond_before};
use super::{DEADLINE, DatabaseError, ENGINE, MongoDb, database_error, is_duplicate_key, leases};
use crate::domain::job::JobOutcome;

/// The collection's name.
pub(super) const COLLECTION: &str = "job_runs";
/// The collection that says since when a job has its schedule.
pub(super) const SCHEDULES: &str = "jobs";

/// How often a claim is tried that met a run which then was not there.
const CLAIMS: u32 = 3;

/// The collections `jobs` and `job_runs`.
#[derive(Clone, Debug)]
pub(in super::super) struct JobRuns(MongoDb);

impl JobRuns {
    pub(in super::super) fn new(engine: &MongoDb) -> Self {
        Self(engine.clone())
    }

    pub(in super::super) async fn since(
        &self,
        job_id: &str,
        schedule: &str,
        now: Timestamp,
    ) -> Result<Timestamp, DatabaseError> {
        let is_same = doc! { "$eq": ["$schedule", schedule] };
        let since = doc! { "$cond": [is_same, "$since", date(now)] };
        let change = vec![doc! { "$set": { "since": since, "schedule": schedule } }];
        let collection = self.0.documents(SCHEDULES);
        let job = doc! { "_id": job_id };
        let update = async move {
            let update = || {
                let update = collection.find_one_and_update(job.clone(), change.clone());
                update.upsert(true).return_document(ReturnDocument::After)
            };
            // Of two upserts of a new key one may lose, and then finds it.
            let mut done = update().await;
            if done.as_ref().is_err_and(is_duplicate_key) {
                done = update().await;
            }
            let found = done.map_err(|error| database_error(&error))?.unwrap_or_default();
            let since = read_time(&found, "since", SCHEDULES)?;
            Ok(since.unwrap_or(now))
        };
        self.0.run(DEADLINE, update).await
    }

    pub(in super::super) async fn claim(
        &self,
        run: JobRun,
        lease: Lease,
    ) -> Result<Claim, DatabaseError> {
        for _ in 0..CLAIMS {
            if self.insert(&run, lease).await? {
                return Ok(Claim::Claimed(run));
            }
            let mut same = doc! { "job_id": &run.job_id, "attempt": i64::from(run.attempt) };
            if let Some(instant) = run.instant {
                same.insert("instant", date(instant));
                if self.find(same, doc! {}).await?.is_some() {
                    return Ok(Claim::Taken);
                }
            }
            let running = doc! { "job_id": &run.job_id, "running": true };
            if let Some(other) = self.find(running, doc! {}).await? {
                return Ok(Claim::Busy(other));
            }
        }
        Err(DatabaseError::unavailable(ENGINE, "runs of the job begin and end too fast"))
    }

    pub(in super::super) async fn renew(
        &self,
        run_id: Uuid,
        lease: Lease,
    ) -> Result<bool, DatabaseError> {
        self.change(own(run_id, lease.owner), leases::renewed(doc! {}, lease)).await
    }

    pub(in super::super) async fn end(
        &self,
        run_id: Uuid,
        owner: Uuid,
        end: &JobEnd,
    ) -> Result<bool, DatabaseError> {
        let JobEnd { at, outcome, message } = end;
        let ended = doc! { "ended_at": date(*at), "outcome": outcome.as_str(), "message": message };
        let change = doc! { "$set": ended, "$unset": { "running": "" } };
        self.change(own(run_id, owner), change).await
    }

    pub(in super::super) async fn interrupt(
        &self,
        under_way: &[Uuid],
    ) -> Result<Vec<String>, DatabaseError> {
        let under_way: Vec<String> = under_way.iter().map(Uuid::to_string).collect();
        let mut lapsed = leases::has_lapsed();
        lapsed.extend(doc! { "running": true, "_id": { "$nin": under_way } });
        let ended = doc! {
            "ended_at": { "$max": ["$started_at", "$leased_until"] },
            "outcome": JobOutcome::Interrupted.as_str(), "message": DIED,
        };
        let change = vec![doc! { "$set": ended }, doc! { "$unset": "running" }];
        let mut jobs = Vec::new();
        // One by one, so that each is told by one process. There are as many as jobs at most.
        loop {
            let collection = self.0.documents(COLLECTION);
            let (lapsed, change) = (lapsed.clone(), change.clone());
            let take = async move {
                let found = collection.find_one_and_update(lapsed, change).await;
                found.map_err(|error| database_error(&error))
            };
            let Some(found) = self.0.run(DEADLINE, take).await? else { return Ok(jobs) };
            jobs.push(found.get_str("job_id").unwrap_or_default().to_owned());
        }
    }

    pub(in super::super) async fn get(
        &self,
        run_id: Uuid,
    ) -> Result<Option<JobRun>, DatabaseError> {
        self.find(doc! { "_id": run_id.to_string() }, doc! {}).await
    }

    pub(in super::super) async fn newest(
        &self,
        job_id: &str,
    ) -> Result<Option<JobRun>, DatabaseError> {
        self.find(doc! { "job_id": job_id }, doc! { "started_at": -1, "_id": -1 }).await
    }

    pub(in super::super) async fn last_scheduled(
        &self,
        job_id: &str,
    ) -> Result<Option<JobRun>, DatabaseError> {
        let scheduled = doc! { "job_id": job_id, "instant": { "$exists": true } };
        self.find(scheduled, doc! { "instant": -1, "attempt": -1 }).await
    }

    pub(in super::super) async fn prune(
        &self,
        job_id: &str,
        keep: u32,
    ) -> Result<(), DatabaseError> {
        let last = self.last_scheduled(job_id).await?.and_then(|run| run.instant);
        let collection = self.0.documents(COLLECTION);
        let job_id = job_id.to_owned();
        let prune = async move {
            let mut kept = collection
                .find(doc! { "job_id": &job_id })
                .sort(doc! { "started_at": -1 })
                .skip(u64::from(keep.saturating_sub(1)))
                .limit(1)
                .max_time(DEADLINE)
                .await
                .map_err(|error| database_error(&error))?;
            let oldest = kept.try_next().await.map_err(|error| database_error(&error))?;
            let Some(oldest) = oldest.and_then(|run| run.get_datetime("started_at").ok().copied())
            else {
                return Ok(());
            };
            let mut old = doc! {
                "job_id": job_id, "started_at": { "$lt": oldest }, "running": { "$ne": true },
            };
            if let Some(last) = last {
                old.insert("instant", doc! { "$ne": date(last) });
            }
            let done = collection.delete_many(old).await;
            done.map(|_| ()).map_err(|error| database_error(&error))
        };
        self.0.run(DEADLINE, prune).await
    }

    /// Whether the document was kept: no other has the key of one of the unique indexes.
    async fn insert(&self, run: &JobRun, lease: Lease) -> Result<bool, DatabaseError> {
        let id = run.run_id.to_string();
        let mut document = doc! {
            "_id": &id, "job_id": &run.job_id, "attempt": i64::from(run.attempt),
            "started_at": date(run.started_at), "owner": lease.owner.to_string(), "running": true,
        };
        if let Some(instant) = run.instant {
            document.insert("instant", date(instant));
        }
        let collection = self.0.documents(COLLECTION);
        let insert = async move {
            let new = leases::inserted(document, lease);
            match collection.update_one(doc! { "_id": id }, new).upsert(true).await {
                Ok(done) => Ok(done.upserted_id.is_some()),
                Err(error) if is_duplicate_key(&error) => Ok(false),
                Err(error) => Err(database_error(&error)),
            }
        };
        self.0.run(DEADLINE, insert).await
    }

    async fn find(
        &self,
        which: Document,
        order: Document,
    ) -> Result<Option<JobRun>, DatabaseError> {
        let collection = self.0.documents(COLLECTION);
        let find = async move {
            let found = collection.find_one(which).sort(order).max_time(DEADLINE).await;
            found.map_err(|error| database_error(&error))?.as_ref().map(read).transpose()
        };
        self.0.run(DEADLINE, find).await
    }

    async fn change(
        &self,
        which: Document,
        change: impl Into<UpdateModifications>,
    ) -> Result<bool, DatabaseError> {
        let (collection, change) = (self.0.documents(COLLECTION), change.into());
        let update = async move {
            let done = collection.update_one(which, change).await;
            done.map(|done| done.matched_count > 0).map_err(|error| database_error(&error))
        };
        self.0.run(DEADLINE, update).await
    }
}

fn own(run_id: Uuid, owner: Uuid) -> Document {
    doc! { "_id": run_id.to_string(), "owner": owner.to_string(), "running": true }
}

fn date(time: Timestamp) -> DateTime {
    DateTime::from_millis(millisecond_before(time))
}

fn read(document: &Document) -> Result<JobRun, DatabaseError> {
    let id = document.get_str("_id").unwrap_or_default();
    let corrupt = |error: String| DatabaseError::corrupt(COLLECTION, id, error);
    let time = |name| read_time(document, name, COLLECTION);
    let outcome = document.get_str("outcome").ok().map(str::parse::<JobOutcome>).transpose();
    let outcome = outcome.map_err(|error| corrupt(error.to_string()))?;
    let attempt = document.get_i64("attempt").ok().and_then(|attempt| u32::try_from(attempt).ok());
    let ended = time("ended_at")?.zip(outcome);
    Ok(JobRun {
        run_id: id.parse().map_err(|error: uuid::Error| corrupt(error.to_string()))?,
        job_id: document.get_str("job_id").unwrap_or_default().to_owned(),
        instant: time("instant")?,
        attempt: attempt.unwrap_or(1),
        started_at: time("started_at")?.unwrap_or(Timestamp::UNIX_EPOCH),
        ended: ended.map(|(at, outcome)| JobEnd {
            at,
            outcome,
            message: document.get_str("message").unwrap_or_default().to_owned(),
        }),
    })
}

fn read_time(
    document: &Document,
    name: &str,
    collection: &'static str,
) -> Result<Option<Timestamp>, DatabaseError> {
    let Ok(at) = document.get_datetime(name) else { return Ok(None) };
    let time = Timestamp::from_millisecond(at.timestamp_millis());
    let key = document.get_str("_id").unwrap_or_default();
    time.map(Some).map_err(|error| DatabaseError::corrupt(collection, key, error.to_string()))
}
