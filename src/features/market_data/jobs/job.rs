//! A job: its name, when it runs, how long it may take, and what it does.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;

use crate::common::config::JobSettings;
use crate::domain::job::JobOutcome;

/// Longest message of a run that is kept, in bytes.
const MAX_MESSAGE: usize = 1_000;
/// Failures that a message quotes.
const QUOTED: usize = 3;

/// Something that is done by schedule, or when somebody asks for it.
#[derive(Clone)]
pub struct Job {
    /// Its name, when it runs, and whether it does by itself.
    pub settings: JobSettings,
    /// How long a run may take; then it is ended.
    pub timeout: Duration,
    /// What a run does.
    pub work: JobWork,
}

/// What a run does. It may be dropped half-way, at any `await`.
pub type JobWork = Arc<dyn Fn() -> BoxFuture<'static, JobReport> + Send + Sync>;

/// What a run did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobReport {
    /// How it ended.
    pub outcome: JobOutcome,
    /// What it did, in words.
    pub message: String,
}

/// What time it is.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Job {
    /// A job that runs as `settings` say.
    pub fn new<F>(
        settings: &JobSettings,
        timeout: Duration,
        work: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = JobReport> + Send + 'static,
    {
        Self { settings: settings.clone(), timeout, work: Arc::new(move || work().boxed()) }
    }

    /// Its name.
    pub const fn id(&self) -> &'static str {
        self.settings.job_id
    }
}

impl JobReport {
    /// A run over many things, `done` of which were done and the others `failed`: `what` says so,
    /// and the first failures follow it.
    pub(super) fn of_many(
        done: usize,
        what: String,
        failed: impl ExactSizeIterator<Item = String>,
    ) -> Self {
        let outcome = match (done, failed.len()) {
            (_, 0) => JobOutcome::Succeeded,
            (0, _) => JobOutcome::Failed,
            (_, _) => JobOutcome::Partial,
        };
        let more = failed.len().saturating_sub(QUOTED);
        let more = (more > 0).then(|| format!("and {more} more"));
        let parts: Vec<String> =
            [what].into_iter().chain(failed.take(QUOTED)).chain(more).collect();
        Self::new(outcome, parts.join("; "))
    }

    /// A run that ended so; of a long message, the beginning.
    pub fn new(outcome: JobOutcome, message: impl Into<String>) -> Self {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        Self { outcome, message }
    }
}

impl Clock {
    /// The machine's.
    pub fn of_machine() -> Self {
        Self::new(Timestamp::now)
    }

    /// One of one's own.
    pub fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// What time it is, to the millisecond: as times of runs are kept.
    pub fn now(&self) -> Timestamp {
        let now = (self.0)();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}
