//! Writes jobs and tells what is stored: one try, with a deadline on each step.
//!
//! It does not know what happens to a job that could not be written; that is the writer's.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tracing::{error, warn};

use super::feed_task::Rerolled;
use super::hub::Hub;
use super::job::{Decided, Job, Safe};
use super::ledger::{Appended, Ledger};
use super::meter::{Meter, count_bar};
use super::quote_service::QuoteServiceParts;
use super::reroll::Children;
use super::ring::LiveChange;
use crate::domain::ohlcv::{Bar, StoredBar};
use crate::domain::shared::{DomainEvent, EventPayload, Series, Symbol};
use crate::features::market_data::Announcer;
use crate::infrastructure::persistence::{DatabaseError, LogBar, LogFilter};

/// Entries of the log that are read at a time.
const LOG_PAGE: u32 = 2_000;

/// Jobs that were not written, in order, and why the first of them was not.
#[derive(Debug)]
pub(super) struct Unwritten {
    /// May pass later.
    pub(super) error: DatabaseError,
    /// What is left to write.
    pub(super) jobs: Vec<Job>,
}

/// Writes to one database.
pub(super) struct Scribe {
    ledger: Ledger,
    children: Children,
    announcer: Announcer,
    hub: Hub,
    /// Unbounded, as the feed's task may be waiting for this one; it asks for no more than it can
    /// be owed.
    rerolled: mpsc::UnboundedSender<Rerolled>,
    /// Bars could not be written: nothing may be kept that takes them for stored.
    lost: AtomicBool,
    meter: Meter,
}

impl Scribe {
    pub(super) fn new(
        parts: &QuoteServiceParts,
        hub: Hub,
        rerolled: mpsc::UnboundedSender<Rerolled>,
        meter: Meter,
    ) -> Self {
        Self {
            ledger: Ledger::new(parts.database.clone(), parts.series.clone()),
            children: Children::new(parts),
            announcer: parts.announcer.clone(),
            hub,
            rerolled,
            lost: AtomicBool::new(false),
            meter,
        }
    }

    /// An error where the database does not answer.
    pub(super) async fn probe(&self) -> Result<(), DatabaseError> {
        self.ledger.within(self.ledger.database().ping()).await
    }

    /// Writes `jobs` and tells of them, in order. Stops at the first that may pass later; one that
    /// never will is said and left out.
    pub(super) async fn write(&self, jobs: Vec<Job>) -> Result<(), Unwritten> {
        let mut left = VecDeque::from(jobs);
        while let Some(job) = left.pop_front() {
            let job = joined(job, &mut left);
            let written = self.write_one(&job).await;
            if let Err(error) = &written
                && error.is_transient()
            {
                let error = error.clone();
                left.push_front(job);
                return Err(Unwritten { error, jobs: left.into() });
            }
            if let Job::Decided(decided) = &job {
                let is_bar = |each: &&Decided| matches!(each, Decided::Bar { .. });
                self.meter.settled(decided.iter().filter(is_bar).count());
            }
            let Err(error) = written else {
                // Whoever waited may be gone.
                if let Job::Barrier(done) = job {
                    let _heard = done.send(Safe::Stored);
                }
                continue;
            };
            error!(%error, "bars could not be written");
            let is_lost = matches!(job, Job::Decided(_));
            self.lost.fetch_or(is_lost, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn write_one(&self, job: &Job) -> Result<(), DatabaseError> {
        match job {
            Job::Decided(decided) => self.write_decided(decided).await,
            Job::Keep(_) if self.lost.load(Ordering::Relaxed) => Ok(()),
            Job::Keep(_) | Job::Forming(..) | Job::LoggedFrom(..) | Job::Barrier(_) => {
                self.ledger.store(job).await
            }
        }
    }

    /// Writes bars ahead, then tells everything in the order in which it was decided. Nothing is
    /// told before all is written.
    async fn write_decided(&self, decided: &[Decided]) -> Result<(), DatabaseError> {
        let Appended { sequences, outranking } = self.ledger.append(decided).await?;
        let logged = self.read_logged().await?;
        let rerolled = self.rerolled(decided).await?;

        let mut logged = VecDeque::from(logged);
        let (mut told, mut indexes) = (Vec::new(), 0..);
        for each in decided {
            match each {
                Decided::Bar { series, bar, old } => {
                    let index: usize = indexes.next().unwrap_or_default();
                    let (place, bar) = match sequences.get(&index) {
                        Some(own) => (*own, *bar),
                        // Where somebody else wrote the same revision, theirs is told.
                        None => match theirs(&logged, series, bar) {
                            Some((place, stored)) => (place, Bar { stored, ..*bar }),
                            None => continue,
                        },
                    };
                    self.announce(series, bar, *old);
                    let next = || logged.pop_front_if(|(at, _)| *at <= place);
                    told.extend(std::iter::from_fn(next).map(stored));
                }
                Decided::Live(change) => told.push((None, change.clone())),
                Decided::Reroll { .. } => {}
            }
        }
        told.extend(logged.into_iter().map(stored));
        self.hub.put_bars(told);
        self.announcer.bars_logged();
        for (series, old, new) in outranking {
            self.publish(EventPayload::BarRevised { series, old, new });
        }
        for each in rerolled {
            // The feed's task may be gone: then it is owed still.
            drop(self.rerolled.send(each));
        }
        Ok(())
    }

    /// Tells what others have put into the log; a page at a time, as that may be what the feed of
    /// another process has logged for days.
    pub(super) async fn tell_logged(&self) -> Result<(), DatabaseError> {
        let mut is_news = false;
        loop {
            let logged = self.read_page(self.hub.newest().1).await?;
            if logged.is_empty() {
                break;
            }
            is_news = true;
            self.hub.put_bars(logged.into_iter().map(stored));
        }
        if is_news {
            self.announcer.bars_logged();
        }
        Ok(())
    }

    /// What is in the log and was not told: whoever wrote it, it is told in the log's order, or a
    /// cursor could pass over an entry.
    async fn read_logged(&self) -> Result<Vec<(u64, LogBar)>, DatabaseError> {
        let mut logged = Vec::new();
        let mut told = self.hub.newest().1;
        loop {
            let page = self.read_page(told).await?;
            let Some((last, _)) = page.last() else { return Ok(logged) };
            told = *last;
            logged.extend(page);
        }
    }

    async fn read_page(&self, after: u64) -> Result<Vec<(u64, LogBar)>, DatabaseError> {
        let (log, all) = (self.ledger.database().bar_log(), LogFilter::default());
        let page = self.ledger.within(log.read(after, &all, LOG_PAGE)).await?;
        if let Some((last, _)) = page.entries.last() {
            self.meter.logged(*last);
        }
        Ok(page.entries)
    }

    fn announce(&self, series: &Series, bar: Bar, old: Option<StoredBar>) {
        count_bar(bar.stored.source, old.is_none());
        let series = series.clone();
        let payload = match old {
            Some(old) => EventPayload::BarRevised { series, old, new: bar.stored },
            None => EventPayload::BarCompleted { series, bar },
        };
        self.publish(payload);
    }

    fn publish(&self, payload: EventPayload) {
        self.announcer.publish(DomainEvent { time: Timestamp::now(), payload });
    }

    /// Reads children back and says what they come to.
    async fn rerolled(&self, decided: &[Decided]) -> Result<Vec<Rerolled>, DatabaseError> {
        let mut rerolled = Vec::new();
        for each in decided {
            let Decided::Reroll { series, range, until, number } = each else { continue };
            match self.ledger.within(self.children.reroll(series, *range, *until)).await {
                Ok(done) => rerolled.push(Rerolled { number: *number, ..done }),
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => warn!(%series, %error, "a bar of {series} cannot be rolled up again"),
            }
        }
        Ok(rerolled)
    }
}

/// What is decided one after the other is one write; of what is kept so, the newest counts.
fn joined(job: Job, left: &mut VecDeque<Job>) -> Job {
    match job {
        Job::Decided(mut decided) => {
            while let Some(Job::Decided(more)) =
                left.pop_front_if(|next| matches!(next, Job::Decided(_)))
            {
                decided.extend(more);
            }
            Job::Decided(decided)
        }
        Job::Keep(kept) => {
            let mut newest: HashMap<Symbol, Bytes> = kept.into_iter().collect();
            while let Some(Job::Keep(more)) = left.pop_front_if(|next| matches!(next, Job::Keep(_)))
            {
                newest.extend(more);
            }
            Job::Keep(newest.into_iter().collect())
        }
        Job::Forming(..) | Job::LoggedFrom(..) | Job::Barrier(_) => job,
    }
}

/// What is logged under the key and revision of `bar`, and where.
fn theirs(
    logged: &VecDeque<(u64, LogBar)>,
    series: &Series,
    bar: &Bar,
) -> Option<(u64, StoredBar)> {
    let key = |bar: &StoredBar| (bar.open_time, bar.revision());
    let is_it = |entry: &LogBar| entry.series == *series && key(&entry.bar) == key(&bar.stored);
    logged.iter().find(|(_, entry)| is_it(entry)).map(|(at, entry)| (*at, entry.bar))
}

fn stored((sequence, entry): (u64, LogBar)) -> (Option<u64>, LiveChange) {
    (Some(sequence), LiveChange::Stored(entry.series, entry.bar))
}

#[cfg(test)]
#[path = "scribe_tests.rs"]
mod tests;
