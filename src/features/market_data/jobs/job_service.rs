//! Looks what is due, claims it, and has it run; one run a job at a time, over all processes that
//! share the database.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use super::carry_out::{ClaimedRun, LEASE, lease};
use super::under_way::{RunUnderWay, UnderWay};
use super::{Clock, Job, JobError, meter};
use crate::common::error::with_causes;
use crate::common::schedule::{newest_run, next_run};
use crate::common::shutdown::{Lifecycle, TaskPanicked};
use crate::common::tracing::task_span;
use crate::domain::job::{DueRun, JobOutcome, LastRun, due_run};
use crate::infrastructure::persistence::{Claim, Database, DatabaseError, JobRun, JobRuns};
use crate::infrastructure::scheduling::Heartbeat;

/// How often the database is asked what other processes did, where nothing is due.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// How often a run is looked at that another process carries out.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Without a look for so long, something is wrong.
const SILENT_AT_MOST: Duration = Duration::from_secs(30);

/// Runs jobs by schedule and on demand. Cheap to clone.
#[derive(Clone, Debug)]
pub struct JobService {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    jobs: Vec<Job>,
    /// Whether jobs run by schedule.
    enabled: bool,
    runs: JobRuns,
    clock: Clock,
    lifecycle: Lifecycle,
    /// Who this process is to others.
    owner: Uuid,
    under_way: UnderWay,
    seen: Mutex<Seen>,
}

/// What the looks so far found.
#[derive(Debug, Default)]
struct Seen {
    /// When the last one ended, and why it failed, if it did.
    last: Option<(Instant, Option<String>)>,
    /// When the database was asked about all jobs.
    asked: Option<Instant>,
    /// The newest instant of each job that is taken care of, by anybody.
    settled: Vec<Option<Timestamp>>,
}

/// Why jobs do not run as they should.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum JobTrouble {
    /// Nobody looks what is due.
    #[error("nobody looks what is due: the scheduler is silent")]
    Silent,
    /// The runs cannot be read or kept.
    #[error("{0}")]
    Away(String),
}

/// A run that this process carries out.
type RunTask = JoinHandle<Result<JobRun, TaskPanicked>>;

/// What became of an attempt to begin a run.
enum Begun {
    /// This process carries it out.
    Here(JobRun, RunTask),
    /// This other run of the job is under way.
    Busy(JobRun),
    /// There was that attempt for that instant already.
    Taken,
}

impl JobService {
    /// Runs `jobs`, by schedule where that is `enabled`, and keeps their runs in `database`.
    pub fn new(
        jobs: Vec<Job>,
        enabled: bool,
        database: &Database,
        clock: Clock,
        lifecycle: Lifecycle,
    ) -> Self {
        meter::count_from_zero(&jobs);
        let seen = Seen { settled: vec![None; jobs.len()], ..Seen::default() };
        let (runs, owner, seen) = (database.job_runs(), Uuid::now_v7(), Mutex::new(seen));
        let under_way = UnderWay::default();
        let shared = Shared { jobs, enabled, runs, clock, lifecycle, owner, under_way, seen };
        Self { shared: Arc::new(shared) }
    }

    /// Until the service stops: looks what is due, at every beat.
    pub async fn look_after(self, heartbeat: Heartbeat) {
        let stopping = self.stopping();
        let mut was_away = false;
        while stopping.run_until_cancelled(heartbeat.next()).await.is_some() {
            let looked = self.look().await;
            if let Err(error) = &looked
                && !was_away
            {
                warn!(
                    error = with_causes(error),
                    "it cannot be told which jobs are due; trying on"
                );
            }
            was_away = looked.is_err();
        }
        if let Err(error) = heartbeat.stop().await {
            warn!(error = with_causes(&error), "the heartbeat of jobs was not stopped");
        }
    }

    /// Begins what is due now, and answers the runs that it began. Where nothing is due, the
    /// database is asked now and then whether another process left a run behind.
    pub async fn look(&self) -> Result<Vec<JobRun>, DatabaseError> {
        let ask = self.seen().asked.is_none_or(|at| at.elapsed() >= ASK_EVERY);
        let looked = self.begin_due(ask).await;
        let mut seen = self.seen();
        let now = Instant::now();
        seen.last = Some((now, looked.as_ref().err().map(ToString::to_string)));
        if ask && looked.is_ok() {
            seen.asked = Some(now);
        }
        looked
    }

    /// Why jobs do not run as they should, if so.
    pub fn health(&self) -> Result<(), JobTrouble> {
        match &self.seen().last {
            Some((_, Some(error))) => Err(JobTrouble::Away(error.clone())),
            Some((at, None)) if at.elapsed() > SILENT_AT_MOST => Err(JobTrouble::Silent),
            Some((_, None)) | None => Ok(()),
        }
    }

    /// Tells metrics when each job runs next.
    pub fn observe(&self) {
        for job in &self.shared.jobs {
            meter::next_run(job.id(), self.next(job));
        }
    }

    /// The jobs, in the order of the table.
    pub(super) fn jobs(&self) -> &[Job] {
        &self.shared.jobs
    }

    /// When `job` runs next by itself.
    pub(super) fn next(&self, job: &Job) -> Option<Timestamp> {
        let next = || next_run(&job.settings.schedule, self.now());
        self.is_enabled(job).then(next).flatten()
    }

    /// Whether `job` runs by itself.
    pub(super) fn is_enabled(&self, job: &Job) -> bool {
        self.shared.enabled && job.settings.enabled
    }

    /// The newest run of `job`.
    pub(super) async fn newest(&self, job: &Job) -> Result<Option<JobRun>, DatabaseError> {
        self.shared.runs.newest(job.id()).await
    }

    pub(super) fn stopping(&self) -> CancellationToken {
        self.shared.lifecycle.token()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// Runs the job now and waits for the end. One that is under way, here or elsewhere, is joined.
    pub async fn run_now(&self, job_id: &str) -> Result<JobRun, JobError> {
        let job = self.shared.jobs.iter().find(|job| job.id() == job_id);
        let job = job.ok_or_else(|| JobError::NotFound(job_id.to_owned()))?;
        if self.shared.lifecycle.is_stopping() {
            return Err(JobError::Stopping);
        }
        self.interrupt_dead().await?;
        match self.claim(job, None).await? {
            Begun::Here(_, task) => {
                let ended = task.await.map_err(|_| JobError::Crashed)?;
                let run = ended.map_err(|_| JobError::Crashed)?;
                let outcome = run.ended.as_ref().map(|end| end.outcome);
                let stopped =
                    outcome == Some(JobOutcome::Interrupted) && self.shared.lifecycle.is_stopping();
                if stopped { Err(JobError::Stopping) } else { Ok(run) }
            }
            Begun::Busy(other) => self.ended(other, job.timeout).await,
            Begun::Taken => Err(JobError::Crashed),
        }
    }

    async fn begin_due(&self, ask: bool) -> Result<Vec<JobRun>, DatabaseError> {
        if ask {
            self.interrupt_dead().await?;
        }
        let (now, mut begun) = (self.now(), Vec::new());
        for (index, job) in self.shared.jobs.iter().enumerate() {
            let newest = newest_run(&job.settings.schedule, now);
            let settled = self.seen().settled.get(index).copied().flatten();
            if self.is_enabled(job) && (ask || newest > settled) {
                let claim = self.claim_due(job, newest, now).await?;
                let is_settled = !matches!(claim, Some(Begun::Busy(_)));
                if is_settled && let Some(settled) = self.seen().settled.get_mut(index) {
                    *settled = newest;
                }
                if let Some(Begun::Here(run, _)) = claim {
                    begun.push(run);
                }
            }
        }
        Ok(begun)
    }

    /// Begins the run that is due, if one is: with `newest`, the newest instant that has come.
    async fn claim_due(
        &self,
        job: &Job,
        newest: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Option<Begun>, DatabaseError> {
        let runs = &self.shared.runs;
        let since = runs.since(job.id(), &job.settings.schedule.to_string(), now).await?;
        let last = runs.last_scheduled(job.id()).await?;
        let due = due_run(newest, since, last.as_ref().and_then(last_run));
        let Some(due) = due else { return Ok(None) };
        self.claim(job, Some(due)).await.map(Some)
    }

    /// Claims a run, and begins it where it is claimed.
    async fn claim(&self, job: &Job, due: Option<DueRun>) -> Result<Begun, DatabaseError> {
        let run = self.new_run(job, due);
        let under_way = self.shared.under_way.enter(run.run_id);
        Ok(match self.shared.runs.claim(run, lease(self.shared.owner)).await? {
            Claim::Claimed(run) => Begun::Here(run.clone(), self.begin(job, run, under_way)),
            Claim::Busy(other) => Begun::Busy(other),
            Claim::Taken => Begun::Taken,
        })
    }

    fn new_run(&self, job: &Job, due: Option<DueRun>) -> JobRun {
        JobRun {
            run_id: Uuid::now_v7(),
            job_id: job.id().to_owned(),
            instant: due.map(|due| due.instant),
            attempt: due.map_or(1, |due| due.attempt),
            started_at: self.now(),
            ended: None,
        }
    }

    /// Carries out a run that was claimed, in a task of its own.
    fn begin(&self, job: &Job, run: JobRun, under_way: RunUnderWay) -> RunTask {
        let Shared { runs, clock, lifecycle, owner, .. } = &*self.shared;
        let run = ClaimedRun {
            job: job.clone(),
            record: run,
            runs: runs.clone(),
            clock: clock.clone(),
            owner: *owner,
            stopping: lifecycle.token(),
            _under_way: under_way,
        };
        // In the caller's trace, but not in its span: the run may outlive the call.
        task_span("job").in_scope(|| lifecycle.spawn("job", Box::pin(run.carry_out())))
    }

    /// Waits for the end of a run that another process, or another task, carries out.
    async fn ended(&self, mut run: JobRun, timeout: Duration) -> Result<JobRun, JobError> {
        let stopping = self.stopping();
        let give_up = Instant::now() + timeout + LEASE;
        while run.ended.is_none() && Instant::now() < give_up {
            if stopping.run_until_cancelled(sleep(LOOK_EVERY)).await.is_none() {
                return Err(JobError::Stopping);
            }
            let found = self.shared.runs.get(run.run_id).await?;
            run = found.ok_or(JobError::Crashed)?;
        }
        Ok(run)
    }

    /// Tells runs of processes that are gone as interrupted, and those of this process that were
    /// claimed without its knowing.
    async fn interrupt_dead(&self) -> Result<(), DatabaseError> {
        let Shared { runs, owner, under_way, .. } = &*self.shared;
        for job_id in runs.interrupt(*owner, &under_way.ids()).await? {
            info!(job_id, "a run of the job `{job_id}` was cut off: the process that ran it ended");
            meter::interrupted(&self.shared.jobs, &job_id);
        }
        Ok(())
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn last_run(run: &JobRun) -> Option<LastRun> {
    let outcome: Option<JobOutcome> = run.ended.as_ref().map(|end| end.outcome);
    Some(LastRun { instant: run.instant?, attempt: run.attempt, outcome })
}
