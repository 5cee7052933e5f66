//! Takes what the feed's task decided and sees to it that it is written, in order.
//!
//! It never keeps the feed waiting for the database: one write is under way at a time, and what
//! comes meanwhile is taken in. While the database is away, all goes to the spool, and once a
//! second it is asked whether it is back.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, OptionFuture};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::backlog::{Backlog, Batch};
use super::job::Job;
use super::quote_service::QuoteServiceParts;
use super::scribe::{Scribe, Unwritten};
use crate::features::market_data::LiveSeries;
use crate::infrastructure::persistence::DatabaseError;

/// Jobs that are taken in at a time.
const INTAKE: usize = 64;
/// How often a database that is away is asked whether it is back.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked what other processes have put into the log of a shared database.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often it is asked when the service stops and the spool cannot take what is left.
const STOPPING_TRIES: u32 = 5;

/// How the writing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// Whether the feed may go on.
    pub(super) has_room: bool,
    /// Whether the database lacks what was decided a while ago.
    pub(super) is_behind: bool,
}

impl Default for Standing {
    fn default() -> Self {
        Self { has_room: true, is_behind: false }
    }
}

/// One try to write.
struct Outcome {
    through: Option<i64>,
    result: Result<(), Unwritten>,
}

/// Writes; one a process.
pub(super) struct Writer {
    scribe: Arc<Scribe>,
    backlog: Backlog,
    live: LiveSeries,
    stopping: CancellationToken,
    told: watch::Sender<Standing>,
    away: bool,
    /// Whether other processes put bars into the log too, and say no word of it.
    is_shared: bool,
    /// Whether others have put something into the log that is not told yet.
    untold: bool,
    tries_left: u32,
}

impl Writer {
    pub(super) fn new(
        scribe: Scribe,
        parts: &QuoteServiceParts,
        told: watch::Sender<Standing>,
    ) -> Self {
        Self {
            scribe: Arc::new(scribe),
            backlog: Backlog::new(parts.spool.clone()),
            live: parts.live.clone(),
            stopping: parts.lifecycle.token(),
            told,
            away: false,
            is_shared: parts.database.is_shared(),
            untold: false,
            tries_left: STOPPING_TRIES,
        }
    }

    /// Works until the feed's task is gone and all is safe.
    pub(super) async fn run(mut self, mut work: mpsc::Receiver<Job>) {
        let mut retry = interval(RETRY_EVERY);
        let mut look = interval(LOOK_EVERY);
        for interval in [&mut retry, &mut look] {
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        let mut attempt: Option<BoxFuture<'static, Outcome>> = None;
        let (mut jobs, mut open) = (Vec::with_capacity(INTAKE), true);
        loop {
            if attempt.is_none() && !self.away {
                attempt = self.attempt().await;
            }
            if !open && attempt.is_none() && self.may_end() {
                return;
            }
            tokio::select! {
                received = work.recv_many(&mut jobs, INTAKE), if open && self.takes_more() => {
                    open = received > 0;
                    self.backlog.push(jobs.drain(..));
                }
                Some(outcome) = OptionFuture::from(attempt.as_mut()) => {
                    attempt = None;
                    self.ended(outcome).await;
                }
                () = self.live.until_logged() => self.untold = true,
                _ = look.tick(), if self.is_shared => self.untold = true,
                _ = retry.tick() => if attempt.is_none() {
                    attempt = self.attempt().await;
                },
            }
            self.backlog.spill(self.away).await;
            self.tell();
        }
    }

    /// Begins to write what is oldest, if there is anything to do.
    async fn attempt(&mut self) -> Option<BoxFuture<'static, Outcome>> {
        let batch = self.backlog.next().await;
        if batch.is_none() && !self.untold && !self.away {
            return None;
        }
        let Batch { jobs, through } = batch.unwrap_or(Batch { jobs: Vec::new(), through: None });
        let (scribe, ask, tell) = (Arc::clone(&self.scribe), self.away, self.untold);
        self.untold = false;
        Some(Box::pin(async move {
            let result = write(&scribe, jobs, ask, tell).await;
            Outcome { through, result }
        }))
    }

    async fn ended(&mut self, Outcome { through, result }: Outcome) {
        match result {
            Ok(()) => {
                if std::mem::take(&mut self.away) {
                    info!("the database is back");
                }
                self.backlog.written(through).await;
            }
            Err(Unwritten { error, jobs }) => {
                if !std::mem::replace(&mut self.away, true) {
                    warn!(%error, "the database is away: closed bars wait");
                }
                // Asked for by whoever put something into the log; asking twice is harmless.
                self.untold = true;
                self.backlog.not_written(jobs, through);
                if self.stopping.is_cancelled() {
                    self.tries_left = self.tries_left.saturating_sub(1);
                }
            }
        }
    }

    /// What a feed that stops has left is taken in any case: it ends only then.
    fn takes_more(&self) -> bool {
        self.backlog.takes_more() || self.stopping.is_cancelled()
    }

    fn tell(&self) {
        let is_behind = self.away || self.backlog.is_spooled();
        let now = Standing { has_room: self.backlog.has_room(), is_behind };
        self.told.send_if_modified(|told| std::mem::replace(told, now) != now);
    }

    /// Nothing more will come: whether what is left may be left.
    fn may_end(&self) -> bool {
        let on_disk = self.away && self.backlog.is_safe();
        let gave_up = self.away && self.tries_left == 0;
        if gave_up && !on_disk {
            error!("the service stops without a database and a spool: bars are not written");
        }
        self.backlog.is_empty() || on_disk || gave_up
    }
}

/// Writes `jobs`; `ask`s first whether the database is there, and `tell`s what others have logged.
async fn write(scribe: &Scribe, jobs: Vec<Job>, ask: bool, tell: bool) -> Result<(), Unwritten> {
    let unwritten = |error: DatabaseError, jobs| Unwritten { error, jobs };
    if ask && let Err(error) = scribe.probe().await {
        return Err(unwritten(error, jobs));
    }
    scribe.write(jobs).await?;
    match if tell { scribe.tell_logged().await } else { Ok(()) } {
        Err(error) if error.is_transient() => Err(unwritten(error, Vec::new())),
        Err(error) => {
            error!(%error, "bars that others have logged could not be told");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
