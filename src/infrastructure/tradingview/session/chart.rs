//! A chart session: one series of one symbol on a shared connection.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::link::Link;
use crate::domain::shared::{Interval, Symbol};
use crate::infrastructure::interfaces::{Phase, ProviderError};
use crate::infrastructure::tradingview::message::{self, ChartEvent};
use crate::infrastructure::tradingview::reply::{Assembly, Reply, Step};
use crate::infrastructure::tradingview::{errors, resolve};

/// What we call the series; the messages read know this name, too.
const SERIES: &str = "sds_1";
const RESOLVED: &str = "sds_sym_1";
const TURNAROUND: &str = "s1";

/// An answer that trickles in takes at most this many times the longest wait without progress.
const MOST_WAITS: u32 = 10;

/// A chart session. Dropping it ends it at the server.
pub(in crate::infrastructure::tradingview) struct Chart {
    link: Link,
    id: String,
    slot: Arc<Slot>,
    symbol: Symbol,
    created: bool,
}

/// Where the connection's task puts what belongs to a chart session.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pending: Mutex<Option<Pending>>,
    changed: Notify,
}

/// A question under way. Bounded by what an [`Assembly`] takes.
#[derive(Debug)]
struct Pending {
    assembly: Assembly,
    progress_at: Instant,
}

impl Chart {
    pub(super) const fn new(link: Link, id: String, slot: Arc<Slot>, symbol: Symbol) -> Self {
        Self { link, id, slot, symbol, created: false }
    }

    /// The symbol's description and its newest `count` bars; waits `patience` for each progress.
    pub(in crate::infrastructure::tradingview) async fn newest(
        &mut self,
        interval: Interval,
        count: u32,
        patience: Duration,
    ) -> Result<Reply, ProviderError> {
        let id = self.id.as_str();
        let spec = resolve::symbol_spec(&self.symbol);
        let resolution = resolve::resolution(interval);
        let commands = vec![
            message::command("chart_create_session", (id, "")),
            message::command("switch_timezone", (id, "Etc/UTC")),
            message::command("resolve_symbol", (id, RESOLVED, spec)),
            message::command(
                "create_series",
                (id, SERIES, TURNAROUND, RESOLVED, resolution, count, ""),
            ),
        ];
        self.created = true;
        self.ask(commands, None, patience).await
    }

    /// Up to `count` bars before `oldest`.
    pub(in crate::infrastructure::tradingview) async fn older(
        &mut self,
        oldest: Timestamp,
        count: u32,
        patience: Duration,
    ) -> Result<Reply, ProviderError> {
        let more = message::command("request_more_data", (self.id.as_str(), SERIES, count));
        self.ask(vec![more], Some(oldest), patience).await
    }

    async fn ask(
        &self,
        commands: Vec<String>,
        oldest: Option<Timestamp>,
        patience: Duration,
    ) -> Result<Reply, ProviderError> {
        let asked_at = Instant::now();
        let assembly = Assembly::new(self.symbol.clone(), oldest);
        *self.slot.pending() = Some(Pending { assembly, progress_at: asked_at });
        self.link.send(commands)?;
        loop {
            let progress_at = match self.slot.take_answer() {
                Ok(Some(answer)) => return answer.map(|reply| self.timed(reply)),
                Ok(None) => asked_at,
                Err(progress_at) => progress_at,
            };
            let deadline = (progress_at + patience).min(asked_at + patience * MOST_WAITS);
            if Instant::now() >= deadline {
                // It may live, but others fare better on a new one.
                self.link.retire();
                let waited = asked_at.elapsed();
                return Err(errors::timeout(Phase::History, waited));
            }
            // Late or not, the slot is looked at once more.
            drop(timeout_at(deadline, self.slot.changed.notified()).await);
        }
    }

    fn timed(&self, reply: Reply) -> Reply {
        Reply { server_time: reply.server_time.or_else(|| self.link.server_time()), ..reply }
    }
}

impl Drop for Chart {
    fn drop(&mut self) {
        let mut farewell = Vec::new();
        if self.created {
            let id = self.id.as_str();
            farewell.push(message::command("remove_series", (id, SERIES)));
            farewell.push(message::command("chart_delete_session", [id]));
        }
        self.link.forget(&self.id, farewell);
    }
}

impl fmt::Debug for Chart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chart")
            .field("id", &self.id)
            .field("symbol", &self.symbol)
            .finish_non_exhaustive()
    }
}

impl Slot {
    /// Takes a message of this chart session; nothing, where no question is under way.
    pub(super) fn apply(&self, event: ChartEvent, server_time: Option<Timestamp>) -> Step {
        let mut pending = self.pending();
        let Some(pending) = pending.as_mut() else { return Step::Idle };
        let step = pending.assembly.apply(event, server_time);
        match step {
            Step::Idle => {}
            Step::Progress => pending.progress_at = Instant::now(),
            Step::Finished => self.changed.notify_one(),
        }
        step
    }

    /// Ends the question under way with `error`.
    pub(super) fn fail(&self, error: &ProviderError) {
        if let Some(pending) = self.pending().as_mut() {
            pending.assembly.fail(error.clone());
        }
        self.changed.notify_one();
    }

    /// The answer, if it is there; else when it last came further.
    fn take_answer(&self) -> Result<Option<Result<Reply, ProviderError>>, Instant> {
        let mut slot = self.pending();
        match slot.as_ref() {
            Some(pending) if !pending.assembly.is_finished() => Err(pending.progress_at),
            Some(_) | None => Ok(slot.take().and_then(|pending| pending.assembly.finish())),
        }
    }

    fn pending(&self) -> MutexGuard<'_, Option<Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
