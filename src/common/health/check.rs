//! One named check, and what its results so far amount to.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::report::{DependencyReport, HealthState};
use crate::common::constants::{HEALTH_CHECK_TIMEOUT, HEALTH_FAILURES};
use crate::common::error::with_causes;

/// Why something that does not fail does not work either: somebody switched it off. None where it
/// works.
pub type SwitchedOff = Option<&'static str>;

type Outcome = Result<SwitchedOff, Failure>;
type Probe = dyn Fn() -> Pin<Box<dyn Future<Output = Outcome> + Send>> + Send + Sync;

/// Why a check failed: for people, and with its causes for the log.
struct Failure {
    shown: String,
    logged: String,
}

/// A dependency and the way to find out how it is.
pub struct Check {
    pub(super) name: &'static str,
    pub(super) required: bool,
    probe: Option<Box<Probe>>,
}

impl Check {
    /// Without this dependency the process cannot serve. `probe`'s error is shown to people by
    /// its `Display`, which therefore holds no secret.
    pub fn required<F, E>(name: &'static str, probe: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::error::Error + 'static,
    {
        Self { name, required: true, probe: Some(boxed(move || never_off(probe()))) }
    }

    /// Without this dependency the process serves, degraded.
    pub fn optional<F, E>(name: &'static str, probe: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::error::Error + 'static,
    {
        Self { name, required: false, probe: Some(boxed(move || never_off(probe()))) }
    }

    /// Like [`Self::optional`], of something that people switch off and on: while `probe` says that
    /// it is off, nothing is wrong with it.
    pub fn switched<F, E>(name: &'static str, probe: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<SwitchedOff, E>> + Send + 'static,
        E: std::error::Error + 'static,
    {
        Self { name, required: false, probe: Some(boxed(probe)) }
    }

    /// This dependency is switched off by the settings.
    pub fn disabled(name: &'static str) -> Self {
        Self { name, required: false, probe: None }
    }

    /// Runs the check, within its time limit; nothing for what is switched off.
    pub(super) async fn run(&self) -> Option<CheckResult> {
        let probe = self.probe.as_ref()?;
        let started = Instant::now();
        let outcome = tokio::time::timeout(HEALTH_CHECK_TIMEOUT, probe()).await;
        let outcome = outcome.unwrap_or_else(|_| {
            let shown = format!("no answer within {} s", HEALTH_CHECK_TIMEOUT.as_secs_f64());
            Err(Failure { logged: shown.clone(), shown })
        });
        Some(CheckResult { outcome, latency: started.elapsed() })
    }
}

async fn never_off<E>(probing: impl Future<Output = Result<(), E>>) -> Result<SwitchedOff, E> {
    probing.await.map(|()| None)
}

fn boxed<F, E>(probe: impl Fn() -> F + Send + Sync + 'static) -> Box<Probe>
where
    F: Future<Output = Result<SwitchedOff, E>> + Send + 'static,
    E: std::error::Error + 'static,
{
    Box::new(move || {
        let probing = probe();
        Box::pin(async move {
            probing
                .await
                .map_err(|error| Failure { shown: error.to_string(), logged: with_causes(&error) })
        })
    })
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check")
            .field("name", &self.name)
            .field("required", &self.required)
            .finish_non_exhaustive()
    }
}

/// What one run of a check found.
pub(super) struct CheckResult {
    outcome: Outcome,
    latency: Duration,
}

/// What a check's results so far amount to: it takes [`HEALTH_FAILURES`] failures in a row to
/// become unhealthy, and one success to be healthy.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    name: &'static str,
    state: HealthState,
    failures: u32,
    latency: Option<Duration>,
    error: Option<String>,
}

impl Standing {
    pub(super) fn new(check: &Check) -> Self {
        let state =
            if check.probe.is_some() { HealthState::Unknown } else { HealthState::Disabled };
        Self { name: check.name, state, failures: 0, latency: None, error: None }
    }

    pub(super) fn state(&self) -> HealthState {
        self.state
    }

    pub(super) fn record(&mut self, result: CheckResult) {
        let name = self.name;
        self.latency = Some(result.latency);
        match result.outcome {
            Ok(off) => {
                if self.failures > 0 && off.is_none() {
                    info!("`{name}` is back");
                }
                self.failures = 0;
                self.state = off.map_or(HealthState::Serving, |_| HealthState::Disabled);
                self.error = off.map(str::to_owned);
            }
            Err(Failure { shown, logged }) => {
                self.failures = self.failures.saturating_add(1);
                self.error = Some(shown);
                // What has never worked has nothing to be damped.
                let down = self.failures >= HEALTH_FAILURES || self.state == HealthState::Unknown;
                if down && self.state != HealthState::NotServing {
                    self.state = HealthState::NotServing;
                    warn!(error = logged, "`{name}` is away: {logged}");
                }
            }
        }
    }

    pub(super) fn report(&self) -> DependencyReport {
        let Self { name, state, latency, error, .. } = self.clone();
        DependencyReport { name, state, latency, error }
    }
}
