//! Which jobs ran for which instants, and how, whichever engine keeps it.
//!
//! A run is claimed by keeping it. One job has one run under way and one run an instant and
//! attempt, whoever asks: the database holds both rules, so all processes that share it keep them.

use jiff::Timestamp;
use uuid::Uuid;

use super::calls::Calls;
use super::database::Engine;
use super::{DatabaseError, Lease, mongodb, sqlite};
use crate::domain::job::JobOutcome;

/// A run of a job. Times are kept to the millisecond.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRun {
    /// Which run.
    pub run_id: Uuid,
    /// Of which job.
    pub job_id: String,
    /// For which instant of its schedule; absent where somebody asked for it.
    pub instant: Option<Timestamp>,
    /// The how manyth run for that instant: from 1.
    pub attempt: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// How it ended; absent while it runs.
    pub ended: Option<JobEnd>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobEnd {
    /// When; of a run whose process died, when that can last have lived.
    pub at: Timestamp,
    /// How.
    pub outcome: JobOutcome,
    /// What it did, in words.
    pub message: String,
}

/// What became of an attempt to begin a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is the caller's, and is under way.
    Claimed(JobRun),
    /// This other run of the job is under way.
    Busy(JobRun),
    /// There was that attempt for that instant already.
    Taken,
}

/// What runs say whose process died.
pub(super) const DIED: &str = "the process that ran it ended";

/// The runs of jobs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct JobRuns {
    engine: RunEngine,
    calls: Calls,
}

#[derive(Clone, Debug)]
enum RunEngine {
    MongoDb(mongodb::JobRuns),
    Sqlite(sqlite::JobRuns),
}

/// Hands the call to the engine and observes it.
macro_rules! observed {
    ($self:ident, $operation:literal, $call:ident($($argument:expr),*)) => {{
        let work = async {
            match &$self.engine {
                RunEngine::MongoDb(engine) => engine.$call($($argument),*).await,
                RunEngine::Sqlite(engine) => engine.$call($($argument),*).await,
            }
        };
        $self.calls.observe($operation, Box::pin(work)).await
    }};
}

impl JobRuns {
    pub(super) fn new(engine: &Engine) -> Self {
        let calls = Calls::new(engine.name(), "job_runs");
        let engine = match engine {
            Engine::MongoDb(engine) => RunEngine::MongoDb(mongodb::JobRuns::new(engine)),
            Engine::Sqlite(engine) => RunEngine::Sqlite(sqlite::JobRuns::new(engine)),
        };
        Self { engine, calls }
    }

    /// Since when the job has this `schedule`: `now` where that is new.
    pub async fn since(
        &self,
        job_id: &str,
        schedule: &str,
        now: Timestamp,
    ) -> Result<Timestamp, DatabaseError> {
        observed!(self, "since", since(job_id, schedule, now))
    }

    /// Begins `run`, unless the job runs or ran for that instant.
    pub async fn claim(&self, run: JobRun, lease: Lease) -> Result<Claim, DatabaseError> {
        observed!(self, "claim", claim(run, lease))
    }

    /// Says that the run goes on. Answers false where it is no longer the owner's.
    pub async fn renew(&self, run_id: Uuid, lease: Lease) -> Result<bool, DatabaseError> {
        observed!(self, "renew", renew(run_id, lease))
    }

    /// Keeps how a run ended. Answers false, and changes nothing, where it is no longer the
    /// owner's.
    pub async fn end(
        &self,
        run_id: Uuid,
        owner: Uuid,
        end: &JobEnd,
    ) -> Result<bool, DatabaseError> {
        observed!(self, "end", end(run_id, owner, end))
    }

    /// Ends, as interrupted, runs whose lease has lapsed, but for those that the owner has
    /// `under_way`; answers of which jobs they were. On the embedded engine, whose files belong to
    /// one process, every lease of another has lapsed.
    pub async fn interrupt(
        &self,
        owner: Uuid,
        under_way: &[Uuid],
    ) -> Result<Vec<String>, DatabaseError> {
        let work = async {
            match &self.engine {
                RunEngine::MongoDb(engine) => engine.interrupt(under_way).await,
                RunEngine::Sqlite(engine) => engine.interrupt(owner, under_way).await,
            }
        };
        self.calls.observe("interrupt", Box::pin(work)).await
    }

    /// The run of this id.
    pub async fn get(&self, run_id: Uuid) -> Result<Option<JobRun>, DatabaseError> {
        observed!(self, "get", get(run_id))
    }

    /// The job's newest run.
    pub async fn newest(&self, job_id: &str) -> Result<Option<JobRun>, DatabaseError> {
        observed!(self, "newest", newest(job_id))
    }

    /// The job's newest run by schedule: of its newest instant, the last attempt.
    pub async fn last_scheduled(&self, job_id: &str) -> Result<Option<JobRun>, DatabaseError> {
        observed!(self, "last_scheduled", last_scheduled(job_id))
    }

    /// Forgets all but the newest `keep` runs of the job, its newest one by schedule, and what is
    /// under way.
    pub async fn prune(&self, job_id: &str, keep: u32) -> Result<(), DatabaseError> {
        observed!(self, "prune", prune(job_id, keep))
    }
}
