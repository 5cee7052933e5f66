//! Runs the checks and tells everybody what they found.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::join_all;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use super::check::{Check, Standing};
use super::report::{HealthReport, HealthState};
use crate::common::constants::{HEALTH_CHECK_EVERY, HEALTH_LIVENESS, HEALTH_READINESS};
use crate::common::metrics::table::{DEPENDENCY_UP, READY};

/// Collects what is checked, before anything is served.
#[derive(Debug, Default)]
pub struct HealthBuilder {
    services: Vec<&'static str>,
    checks: Vec<Check>,
}

/// The checks and what they found. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HealthCoordinator {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    services: Vec<&'static str>,
    checks: Vec<Check>,
    /// One for each check, in the same order.
    standings: Mutex<Vec<Standing>>,
    draining: AtomicBool,
    reporter: HealthReporter,
    /// One announcement at a time: an older one never overwrites a newer.
    announcing: tokio::sync::Mutex<()>,
}

impl HealthBuilder {
    /// A gRPC service (`pocketquant.v1.MarketData`) that is served when the process is ready.
    #[must_use]
    pub fn service(mut self, name: &'static str) -> Self {
        self.services.push(name);
        self
    }

    /// Something the process depends on.
    #[must_use]
    pub fn check(mut self, check: Check) -> Self {
        self.checks.push(check);
        self
    }

    /// Registers every name: `NOT_SERVING` until the first checks have run, but for `liveness`.
    pub async fn build(self) -> HealthCoordinator {
        let Self { services, checks } = self;
        let standings = Mutex::new(checks.iter().map(Standing::new).collect());
        let draining = AtomicBool::new(false);
        let reporter = HealthReporter::new();
        reporter.set_service_status(HEALTH_LIVENESS, ServingStatus::Serving).await;
        let announcing = tokio::sync::Mutex::new(());
        let shared = Shared { services, checks, standings, draining, reporter, announcing };
        let coordinator = HealthCoordinator { shared: Arc::new(shared) };
        coordinator.announce().await;
        coordinator
    }
}

impl HealthCoordinator {
    /// Nothing is checked yet.
    pub fn builder() -> HealthBuilder {
        HealthBuilder::default()
    }

    /// The gRPC service that probes call.
    pub fn server(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.shared.reporter.clone()))
    }

    /// Checks at once and then on schedule, until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let mut schedule = tokio::time::interval(HEALTH_CHECK_EVERY);
        schedule.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = schedule.tick() => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.check_now() => {}
            }
        }
    }

    /// Runs every check once, in parallel, and tells probes what came out.
    pub async fn check_now(&self) {
        let results = join_all(self.shared.checks.iter().map(Check::run)).await;
        {
            let mut standings = self.standings();
            for (standing, result) in standings.iter_mut().zip(results) {
                if let Some(result) = result {
                    standing.record(result);
                }
            }
        }
        self.announce().await;
    }

    /// The process is stopping: ready for nothing from now on, and still alive.
    pub async fn drain(&self) {
        self.shared.draining.store(true, Ordering::SeqCst);
        self.announce().await;
    }

    /// Ends the streams of all who watch, after they were told the last; for when nobody can ask
    /// any more.
    pub async fn end_watches(&self) {
        let _turn = self.shared.announcing.lock().await;
        let mut reporter = self.shared.reporter.clone();
        for name in self.names() {
            reporter.clear_service_status(name).await;
        }
    }

    /// What the last checks found; waits for nothing.
    pub fn report(&self) -> HealthReport {
        let standings = self.standings();
        let dependencies = standings.iter().map(Standing::report).collect();
        HealthReport { state: self.state(&standings), dependencies }
    }

    fn standings(&self) -> std::sync::MutexGuard<'_, Vec<Standing>> {
        self.shared.standings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self, standings: &[Standing]) -> HealthState {
        if self.shared.draining.load(Ordering::SeqCst) {
            return HealthState::NotServing;
        }
        let mut overall = HealthState::Serving;
        for (check, standing) in self.shared.checks.iter().zip(standings) {
            match (standing.state(), check.required) {
                (HealthState::NotServing | HealthState::Unknown, true) => {
                    return HealthState::NotServing;
                }
                (HealthState::NotServing | HealthState::Degraded, _) => {
                    overall = HealthState::Degraded;
                }
                (HealthState::Serving | HealthState::Disabled, _)
                | (HealthState::Unknown, false) => {}
            }
        }
        overall
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        let checks = self.shared.checks.iter().map(|check| check.name);
        let services = self.shared.services.iter().copied();
        ["", HEALTH_READINESS, HEALTH_LIVENESS].into_iter().chain(services).chain(checks)
    }

    async fn announce(&self) {
        let _turn = self.shared.announcing.lock().await;
        let report = self.report();
        record(&report);
        let ready = serving(report.is_ready());
        let dependencies =
            report.dependencies.iter().map(|each| (each.name, serving(each.is_up())));
        let overall =
            ["", HEALTH_READINESS].into_iter().chain(self.shared.services.iter().copied());
        for (name, status) in overall.map(|name| (name, ready)).chain(dependencies) {
            self.shared.reporter.set_service_status(name, status).await;
        }
    }
}

/// Tells metrics what probes are told.
fn record(report: &HealthReport) {
    let number = |yes: bool| f64::from(u8::from(yes));
    READY.handle().set(number(report.is_ready()));
    let checked = report.dependencies.iter().filter(|each| each.state != HealthState::Disabled);
    for dependency in checked {
        DEPENDENCY_UP.with([dependency.name]).set(number(dependency.is_up()));
    }
}

fn serving(yes: bool) -> ServingStatus {
    if yes { ServingStatus::Serving } else { ServingStatus::NotServing }
}

#[cfg(test)]
mod tests;
