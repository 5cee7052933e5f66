//! What a connection's task and the requests on it share. Everything here is short and locked;
//! the socket itself belongs to the task alone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rand::RngExt as _;
use rand::distr::Alphanumeric;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::chart::{Chart, Slot};
use super::dial::Hello;
use crate::domain::shared::Symbol;
use crate::infrastructure::interfaces::ProviderError;
use crate::infrastructure::tradingview::config::TradingViewConfig;

/// A connection as its requests see it. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Link {
    shared: Arc<Shared>,
}

/// Why a connection takes no further request.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Its chart sessions are used up, or it is not trusted any more.
    Full,
    /// It has ended.
    Closed(ProviderError),
}

/// What the connection's task has to look at next, and when.
#[derive(Clone, Copy, Debug)]
pub(super) enum Watch {
    /// Requests are open: at this time it is dead, if nothing came.
    Dead(Instant),
    /// Nobody uses it: at this time it is closed.
    Idle(Instant),
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Something is to be sent, or the connection has become superfluous.
    wake: Notify,
    hello: Hello,
    sessions: usize,
    dead_after: Duration,
    idle_after: Duration,
}

#[derive(Debug)]
struct State {
    charts: HashMap<String, Arc<Slot>>,
    /// Bounded by the requests: each has one question under way, and one farewell.
    outbox: Vec<String>,
    opened: usize,
    retired: bool,
    closed: Option<ProviderError>,
    received_at: Instant,
    /// When the first request came, or the last one went.
    changed_at: Instant,
}

impl Link {
    pub(super) fn new(hello: Hello, config: &TradingViewConfig) -> Self {
        let now = Instant::now();
        let state = State {
            charts: HashMap::new(),
            outbox: Vec::new(),
            opened: 0,
            retired: false,
            closed: None,
            received_at: now,
            changed_at: now,
        };
        let shared = Shared {
            state: Mutex::new(state),
            wake: Notify::new(),
            hello,
            sessions: config.sessions_per_connection.max(1),
            dead_after: config.dead_after,
            idle_after: config.idle_after,
        };
        Self { shared: Arc::new(shared) }
    }

    /// A chart session for `symbol`, counted against the server's limit.
    pub(super) fn open(&self, symbol: &Symbol) -> Result<Chart, Refusal> {
        let mut state = self.state();
        if let Some(error) = &state.closed {
            return Err(Refusal::Closed(error.clone()));
        }
        let silent = state.received_at.elapsed() >= self.shared.dead_after;
        if state.retired || silent || state.opened >= self.shared.sessions {
            state.retired = true;
            self.shared.wake.notify_one();
            return Err(Refusal::Full);
        }
        if state.charts.is_empty() {
            state.changed_at = Instant::now();
        }
        state.opened += 1;
        let id = chart_id();
        let slot = Arc::new(Slot::default());
        state.charts.insert(id.clone(), Arc::clone(&slot));
        Ok(Chart::new(self.clone(), id, slot, symbol.clone()))
    }

    /// Hands over what is to be sent.
    pub(super) fn send(&self, texts: Vec<String>) -> Result<(), ProviderError> {
        let mut state = self.state();
        if let Some(error) = &state.closed {
            return Err(error.clone());
        }
        state.outbox.extend(texts);
        self.shared.wake.notify_one();
        Ok(())
    }

    /// Ends a chart session, saying `farewell`.
    pub(super) fn forget(&self, id: &str, farewell: Vec<String>) {
        let mut state = self.state();
        state.charts.remove(id);
        if state.charts.is_empty() {
            state.changed_at = Instant::now();
        }
        state.outbox.extend(farewell);
        self.shared.wake.notify_one();
    }

    /// Takes no further requests; ends when the last one is served.
    pub(super) fn retire(&self) {
        self.state().retired = true;
        self.shared.wake.notify_one();
    }

    /// The server's time now: what it said first, moved on by our clock's pace.
    pub(super) fn server_time(&self) -> Option<Timestamp> {
        let (time, since) = self.shared.hello?;
        time.checked_add(since.elapsed()).ok()
    }

    /// Waits until something is to be sent, or the connection has become superfluous.
    pub(super) async fn woken(&self) {
        self.shared.wake.notified().await;
    }

    /// Takes what is to be sent.
    pub(super) fn outbox(&self) -> Vec<String> {
        std::mem::take(&mut self.state().outbox)
    }

    /// Notes that something came.
    pub(super) fn received(&self) {
        self.state().received_at = Instant::now();
    }

    /// The request that named its chart session `id`, unless it is gone.
    pub(super) fn chart(&self, id: &str) -> Option<Arc<Slot>> {
        self.state().charts.get(id).map(Arc::clone)
    }

    /// What to look at next.
    pub(super) fn watch(&self) -> Watch {
        let state = self.state();
        if state.charts.is_empty() {
            return Watch::Idle(state.changed_at + self.shared.idle_after);
        }
        Watch::Dead(state.received_at.max(state.changed_at) + self.shared.dead_after)
    }

    /// How long a silence makes it dead.
    pub(super) fn dead_after(&self) -> Duration {
        self.shared.dead_after
    }

    /// Whether nobody uses it and it was retired, or is to be because it is `idle`. Then nobody
    /// will use it any more.
    pub(super) fn retire_unused(&self, idle: bool) -> bool {
        let mut state = self.state();
        let unused = state.charts.is_empty() && state.outbox.is_empty() && (idle || state.retired);
        state.retired |= unused;
        unused
    }

    /// Closes it: all requests on it fail with `error`. Answers how many there were.
    pub(super) fn close(&self, error: &ProviderError) -> usize {
        let charts = {
            let mut state = self.state();
            state.closed = Some(error.clone());
            state.outbox.clear();
            std::mem::take(&mut state.charts)
        };
        for slot in charts.values() {
            slot.fail(error);
        }
        charts.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `cs_` and twelve characters, as the web site makes them.
fn chart_id() -> String {
    let random = rand::rng().sample_iter(Alphanumeric).take(12).map(char::from);
    std::iter::once("cs_".to_owned()).chain(random.map(String::from)).collect()
}
