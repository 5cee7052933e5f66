//! The socket: one connection, shared by many requests, opened when it is needed and replaced
//! before the server's limit of chart sessions is reached. Knows nothing of what pages are.

mod actor;
mod backoff;
mod chart;
mod dial;
mod link;
mod socket;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt as _;
use futures::future::Shared;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::actor::Actor;
use self::backoff::Backoff;
pub(super) use self::chart::Chart;
pub(super) use self::dial::Dialer;
use self::link::{Link, Refusal};
pub(super) use self::socket::Socket;
use super::config::TradingViewConfig;
use super::errors;
use crate::common::tracing::in_current_context;
use crate::domain::shared::Symbol;
use crate::infrastructure::interfaces::{Phase, ProviderError};

/// Hands out chart sessions. Cheap to clone.
#[derive(Clone)]
pub(super) struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    config: TradingViewConfig,
    dialer: Arc<Dialer>,
    backoff: Arc<Backoff>,
    state: Mutex<State>,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

#[derive(Default)]
struct State {
    current: Option<Link>,
    dialing: Option<Dialing>,
}

/// A connection in the making, awaited by all who need it.
type Dialing = Shared<oneshot::Receiver<Result<(), ProviderError>>>;

impl Session {
    /// Connects to nothing yet. Its tasks run on `tasks` and end when `stopping` is cancelled.
    pub(super) fn new(
        config: TradingViewConfig,
        dialer: Arc<Dialer>,
        tasks: TaskTracker,
        stopping: CancellationToken,
    ) -> Self {
        let (backoff, state) = (Arc::default(), Mutex::default());
        Self { inner: Arc::new(Inner { config, dialer, backoff, state, tasks, stopping }) }
    }

    /// What it was told.
    pub(super) fn config(&self) -> &TradingViewConfig {
        &self.inner.config
    }

    /// A fresh chart session on the connection at hand, or on a new one. Waits at most for the
    /// back-off (up to the history timeout) and for the deadline of each phase of connecting.
    pub(super) async fn chart(&self, symbol: &Symbol) -> Result<Chart, ProviderError> {
        let mut dialed = false;
        loop {
            let dialing = {
                let mut state = self.inner.state();
                match state.current.as_ref().map(|link| link.open(symbol)) {
                    Some(Ok(chart)) => return Ok(chart),
                    // A new connection that is closed already says why.
                    Some(Err(Refusal::Closed(error))) if dialed => return Err(error),
                    Some(Err(Refusal::Closed(_) | Refusal::Full)) | None => {}
                }
                state.current = None;
                let under_way = state.dialing.clone().filter(|dialing| dialing.peek().is_none());
                under_way.unwrap_or_else(|| self.start_dialing(&mut state))
            };
            dialing.await.unwrap_or_else(|_| Err(stopped()))?;
            dialed = true;
        }
    }

    /// A fresh chart session on a connection that it has to itself, which ends with it.
    pub(super) async fn chart_alone(&self, symbol: &Symbol) -> Result<Chart, ProviderError> {
        let connected = self.inner.stopping.run_until_cancelled(self.inner.connect());
        let link = connected.await.unwrap_or_else(|| Err(stopped()))?;
        let chart = link.open(symbol).map_err(|refusal| match refusal {
            Refusal::Closed(error) => error,
            Refusal::Full => errors::unavailable(Phase::History, "no chart session is to be had"),
        })?;
        link.retire();
        Ok(chart)
    }

    /// Connects in a task of its own: whoever waits may go away without harm to the others.
    fn start_dialing(&self, state: &mut State) -> Dialing {
        let (result, dialing) = oneshot::channel();
        let dialing = dialing.shared();
        state.dialing = Some(dialing.clone());
        let inner = Arc::clone(&self.inner);
        // In the log, dialing belongs to the call that needed it first.
        self.inner.tasks.spawn(in_current_context(async move {
            let outcome = tokio::select! {
                () = inner.stopping.cancelled() => Err(stopped()),
                outcome = inner.connect() => outcome,
            };
            let outcome = outcome.map(|link| inner.state().current = Some(link));
            // Nobody may be left to hear it.
            drop(result.send(outcome));
        }));
        dialing
    }
}

impl Inner {
    async fn connect(&self) -> Result<Link, ProviderError> {
        self.backoff.wait(self.config.history_timeout).await?;
        let token = self.dialer.auth().token().await.map_err(|error| self.login_failed(error))?;
        let dialed = self.dialer.dial(&token).await;
        let (socket, hello) = dialed.map_err(|error| self.backoff.failed(error))?;
        let link = Link::new(hello, &self.config);
        let actor = Actor {
            socket,
            link: link.clone(),
            backoff: Arc::clone(&self.backoff),
            auth: Arc::clone(self.dialer.auth()),
            stopping: self.stopping.clone(),
            useful: false,
        };
        self.tasks.spawn(actor.run());
        tracing::debug!(provider = super::PROVIDER, "connected to {}", self.dialer.host());
        Ok(link)
    }

    /// Refusals are remembered where they are made; what is left is network trouble.
    fn login_failed(&self, error: ProviderError) -> ProviderError {
        match error {
            ProviderError::Unavailable { .. } | ProviderError::Timeout { .. } => {
                self.backoff.failed(error)
            }
            ProviderError::AuthRequired { .. }
            | ProviderError::NotEntitled { .. }
            | ProviderError::RateLimited { .. }
            | ProviderError::SymbolNotFound { .. }
            | ProviderError::NoData { .. } => error,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("host", &self.inner.dialer.host()).finish_non_exhaustive()
    }
}

fn stopped() -> ProviderError {
    errors::unavailable(Phase::Connect, "the service is stopping")
}
