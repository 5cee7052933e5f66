//! How the process stops: one signal, tasks that are counted, and a bound on the wait.
//!
//! It knows no part of the service: the order in which parts stop is the composition root's.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;
use thiserror::Error;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::tracing::in_current_context;

/// The signal to stop and the tasks to wait for. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    draining: CancellationToken,
    token: CancellationToken,
    tracker: TaskTracker,
}

/// A task that panicked; the panic is in the log.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("task `{name}` panicked")]
pub struct TaskPanicked {
    /// The task's name.
    pub name: &'static str,
}

/// A tracked task that has not finished within the time to stop.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{tasks} tasks did not finish within {} s", .grace.as_secs_f64())]
pub struct GraceExceeded {
    /// How many still run.
    pub tasks: usize,
    /// How long they had.
    pub grace: Duration,
}

impl Lifecycle {
    /// Nothing runs and nobody has asked to stop.
    pub fn new() -> Self {
        Self::default()
    }

    /// Is cancelled when streams are to end, before the work behind them does.
    pub fn draining(&self) -> CancellationToken {
        self.draining.clone()
    }

    /// Asks streams to end.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// Is cancelled when the process is to stop.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Counts the tasks that stopping waits for.
    pub fn tracker(&self) -> &TaskTracker {
        &self.tracker
    }

    /// Asks everything to stop.
    pub fn stop(&self) {
        self.drain();
        self.token.cancel();
    }

    /// Whether the process is stopping.
    pub fn is_stopping(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Runs `future` as a tracked task: see [`spawn_tracked`].
    pub fn spawn<F>(
        &self,
        name: &'static str,
        future: F,
    ) -> JoinHandle<Result<F::Output, TaskPanicked>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        spawn_tracked(&self.tracker, name, future)
    }

    /// Waits for every tracked task, `grace` at most.
    pub async fn wait(&self, grace: Duration) -> Result<(), GraceExceeded> {
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait()).await.map_err(|_| {
            let tasks = self.tracker.len();
            warn!(tasks, "{tasks} tasks did not finish in time and are left");
            GraceExceeded { tasks, grace }
        })
    }
}

/// Runs `future` on `tracker`, in the caller's span and under its correlation id.
///
/// It runs to its end whether anybody awaits the handle or not. A panic is logged and becomes an
/// error instead of ending the process.
pub fn spawn_tracked<F>(
    tracker: &TaskTracker,
    name: &'static str,
    future: F,
) -> JoinHandle<Result<F::Output, TaskPanicked>>
where
    F: Future<Output: Send> + Send + 'static,
{
    tracker.spawn(in_current_context(async move { catch_panic(name, future).await }))
}

/// Awaits `future`; a panic in it is logged and becomes an error.
pub async fn catch_panic<F: Future>(
    name: &'static str,
    future: F,
) -> Result<F::Output, TaskPanicked> {
    AssertUnwindSafe(future).catch_unwind().await.map_err(|payload| report_panic(name, &*payload))
}

/// Logs the panic of what is called `name`.
pub(super) fn report_panic(name: &'static str, payload: &(dyn Any + Send)) -> TaskPanicked {
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    error!(error = message, "`{name}` panicked");
    TaskPanicked { name }
}

/// SIGTERM and SIGINT (Ctrl-C), from when this was made on.
#[derive(Debug)]
pub struct StopSignals {
    #[cfg(unix)]
    interrupted: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminated: tokio::signal::unix::Signal,
}

impl StopSignals {
    /// Hears signals from now on; none ends the process by itself any more.
    #[cfg(unix)]
    pub fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let interrupted = signal(SignalKind::interrupt())?;
        let terminated = signal(SignalKind::terminate())?;
        Ok(Self { interrupted, terminated })
    }

    /// Hears signals from now on; none ends the process by itself any more.
    #[cfg(not(unix))]
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {})
    }

    /// Completes with the next signal.
    pub async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.interrupted.recv() => {}
            _ = self.terminated.recv() => {}
        }
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Completes with the first SIGTERM or SIGINT (Ctrl-C).
pub async fn stop_signal() -> std::io::Result<()> {
    StopSignals::listen()?.next().await;
    info!("asked to stop");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::tracing::CorrelationId;

    #[tokio::test(start_paused = true)]
    async fn waiting_is_bounded_and_says_what_is_left() {
        let lifecycle = Lifecycle::new();
        let _endless = lifecycle.spawn("endless", std::future::pending::<()>());
        let (grace, begun) = (Duration::from_secs(20), tokio::time::Instant::now());
        assert_eq!(lifecycle.wait(grace).await, Err(GraceExceeded { tasks: 1, grace }));
        assert_eq!(begun.elapsed(), grace);
    }

    #[tokio::test]
    async fn waiting_ends_when_the_tasks_saw_the_signal() {
        let lifecycle = Lifecycle::new();
        let token = lifecycle.token();
        let task = lifecycle.spawn("polite", async move { token.cancelled().await });
        lifecycle.stop();
        assert_eq!(lifecycle.wait(Duration::from_secs(20)).await, Ok(()));
        assert_eq!(task.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn a_panic_in_a_task_is_an_error_and_no_more() {
        let lifecycle = Lifecycle::new();
        let task = lifecycle.spawn("clumsy", async { panic!("dropped it") });
        let result: Result<(), _> = task.await.unwrap();
        assert_eq!(result, Err(TaskPanicked { name: "clumsy" }));
    }

    #[tokio::test]
    async fn a_task_keeps_the_correlation_id_of_who_started_it() {
        let lifecycle = Lifecycle::new();
        let id = CorrelationId::generate();
        let start = || lifecycle.spawn("task", async { CorrelationId::current() });
        let task = id.sync_scope(start);
        assert_eq!(task.await.unwrap(), Ok(Some(id)));
    }
}
