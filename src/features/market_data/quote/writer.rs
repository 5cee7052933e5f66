//! Writes what the feed's task decided, in order, and tells it when it is stored.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::feed_task::Rerolled;
use super::hub::Hub;
use super::meter::{Meter, count_bar};
use super::quote_service::QuoteServiceParts;
use super::ring::LiveChange;
use crate::common::messaging::EventBus;
use crate::domain::ohlcv::services::alike;
use crate::domain::ohlcv::{Bar, BarRange, BarSource, Ohlcv, StoredBar};
use crate::domain::shared::{DomainEvent, EventPayload, Interval, Series, Symbol};
use crate::domain::sync::SyncDiff;
use crate::features::market_data::{LiveSeries, Sessions};
use crate::infrastructure::persistence::{
    BarOrder, BarQuery, Cache, Database, DatabaseError, LogBar, LogFilter, SeriesCache,
};

/// Jobs that are joined into one write.
const JOINED: usize = 64;
/// Entries of the log that are read at a time.
const LOG_PAGE: u32 = 2_000;
/// How long is waited for a database that is away.
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// How long a stop waits for a database that is away.
const STOPPING_TRIES: u32 = 5;
/// How often old entries of the log are removed, at least.
const TRIM_EVERY: Duration = Duration::from_mins(1);

/// Something to write.
#[derive(Debug)]
pub(super) enum Job {
    /// Bars and what goes with them, in order.
    Decided(Vec<Decided>),
    /// What a crash would cost; behind all that was decided before.
    Keep(Vec<(Symbol, Bytes)>),
    /// A bar that is not over when the feed stops.
    Forming(Series, SyncDiff),
    /// Newest values, for the cache.
    Copy {
        /// Quotes by key.
        quotes: Vec<(String, Bytes)>,
        /// Forming bars by key.
        bars: Vec<(String, Bytes)>,
        /// How long each lives.
        ttls: (Duration, Duration),
    },
    /// Tells when all before it is done.
    Barrier(oneshot::Sender<()>),
}

/// Something that was decided.
#[derive(Debug)]
pub(super) enum Decided {
    /// A bar closed, or was corrected.
    Bar {
        /// Whose.
        series: Series,
        /// What it is.
        bar: Bar,
        /// What it was, where it was closed before.
        old: Option<StoredBar>,
    },
    /// Something that is told and not stored.
    Live(LiveChange),
    /// A bar's children are to be read back.
    Reroll {
        /// Whose.
        series: Series,
        /// The bar.
        range: BarRange,
        /// How far.
        until: Timestamp,
    },
}

/// Writes; one a process.
pub(super) struct Writer {
    database: Database,
    cache: Cache,
    series: SeriesCache,
    sessions: Sessions,
    events: EventBus<DomainEvent>,
    hub: Hub,
    live: LiveSeries,
    /// Unbounded, as the feed's task may be waiting for this one; it asks for no more than it can
    /// be owed.
    rerolled: mpsc::UnboundedSender<Rerolled>,
    retention: Duration,
    stopping: CancellationToken,
    /// Bars could not be written: nothing may be kept that takes them for stored.
    lost: AtomicBool,
    meter: Meter,
}

impl Writer {
    pub(super) fn new(
        parts: &QuoteServiceParts,
        retention: Duration,
        hub: Hub,
        rerolled: mpsc::UnboundedSender<Rerolled>,
        meter: Meter,
    ) -> Self {
        Self {
            database: parts.database.clone(),
            cache: parts.cache.clone(),
            series: parts.series.clone(),
            sessions: parts.sessions.clone(),
            events: parts.events.clone(),
            live: parts.live.clone(),
            hub,
            rerolled,
            retention,
            stopping: parts.lifecycle.token(),
            lost: AtomicBool::new(false),
            meter,
        }
    }

    /// Works until the feed's task is gone and all is written.
    pub(super) async fn run(self, mut work: mpsc::Receiver<Job>) {
        let mut trim = interval(TRIM_EVERY.min(self.retention));
        trim.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut jobs = Vec::with_capacity(JOINED);
        loop {
            tokio::select! {
                received = work.recv_many(&mut jobs, JOINED) => {
                    if received == 0 {
                        return;
                    }
                    self.work(std::mem::take(&mut jobs)).await;
                }
                () = self.live.until_logged() => self.tell_logged().await,
                _ = trim.tick() => self.trim().await,
            }
        }
    }

    async fn work(&self, jobs: Vec<Job>) {
        let (mut decided, mut kept) = (Vec::new(), HashMap::new());
        for job in jobs {
            match job {
                Job::Decided(more) => {
                    self.keep(std::mem::take(&mut kept)).await;
                    decided.extend(more);
                }
                Job::Keep(more) => {
                    self.write_decided(std::mem::take(&mut decided)).await;
                    kept.extend(more);
                }
                other @ (Job::Forming(..) | Job::Copy { .. } | Job::Barrier(_)) => {
                    self.write_decided(std::mem::take(&mut decided)).await;
                    self.keep(std::mem::take(&mut kept)).await;
                    self.other(other).await;
                }
            }
        }
        self.write_decided(decided).await;
        self.keep(kept).await;
    }

    async fn keep(&self, kept: HashMap<Symbol, Bytes>) {
        if kept.is_empty() || self.lost.load(Ordering::Relaxed) {
            return;
        }
        let kept: Vec<_> = kept.into_iter().collect();
        let state = self.database.feed_state();
        self.persist(|| state.save(&kept, Timestamp::now())).await;
    }

    async fn other(&self, job: Job) {
        match job {
            Job::Decided(decided) => self.write_decided(decided).await,
            Job::Keep(kept) => self.keep(kept.into_iter().collect()).await,
            Job::Forming(series, diff) => {
                let bars = self.database.bars();
                self.series.begin_write(&series).await;
                self.persist(|| bars.write(&series, &diff, Timestamp::now())).await;
                self.series.finish_write(&series).await;
            }
            Job::Copy { quotes, bars, ttls } => {
                for (values, ttl) in [(quotes, ttls.0), (bars, ttls.1)] {
                    if let Err(error) = self.cache.set_many(&values, ttl).await {
                        tracing::debug!(%error, "the newest values were not copied to the cache");
                    }
                }
            }
            // Whoever waited may be gone.
            Job::Barrier(done) => drop(done.send(())),
        }
    }

    /// Writes bars ahead, then tells everything in the order in which it was decided.
    async fn write_decided(&self, decided: Vec<Decided>) {
        let bar = |each: &Decided| match each {
            Decided::Bar { series, bar, .. } => {
                Some(LogBar { series: series.clone(), bar: bar.stored })
            }
            Decided::Live(_) | Decided::Reroll { .. } => None,
        };
        let bars: Vec<LogBar> = decided.iter().filter_map(bar).collect();
        let log = self.database.bar_log();
        let append = self.persist(|| log.append(&bars, Timestamp::now()));
        let appended = self.uncached(&bars, append).await;
        self.meter.settled(bars.len());
        let Some(appended) = appended else {
            self.lost.store(true, Ordering::Relaxed);
            return;
        };
        let sequences: HashMap<usize, u64> =
            appended.into_iter().map(|(sequence, index)| (index, sequence)).collect();
        self.write_outranking(&bars, &sequences).await;
        let mut logged = self.read_logged().await.into_iter().peekable();
        let (mut told, mut indexes) = (Vec::new(), 0..);
        for each in decided {
            match each {
                Decided::Bar { series, bar, old } => {
                    // Where somebody else wrote the same revision, there is nothing to tell.
                    let index: usize = indexes.next().unwrap_or_default();
                    let Some(own) = sequences.get(&index).copied() else { continue };
                    self.announce(&series, bar, old);
                    let until_own = std::iter::from_fn(|| logged.next_if(|(at, _)| *at <= own));
                    told.extend(until_own.map(stored));
                }
                Decided::Live(change) => told.push((None, change)),
                Decided::Reroll { series, range, until } => {
                    self.reroll(series, range, until).await;
                }
            }
        }
        told.extend(logged.map(stored));
        self.hub.put_bars(told);
    }

    /// A bar of the provider's may be decided without knowing what is stored, as that was not
    /// written yet: then it is the next revision of that, where it says something else.
    async fn write_outranking(&self, bars: &[LogBar], written: &HashMap<usize, u64>) {
        let passed_over = bars.iter().enumerate().filter(|(index, entry)| {
            entry.bar.source == BarSource::Repair && !written.contains_key(index)
        });
        for (_, LogBar { series, bar }) in passed_over {
            let (stored, open) = (self.database.bars(), bar.open_time);
            let found = self.persist(|| stored.stretch(series, open, open)).await;
            let old = found.and_then(|found| found.first().copied()).filter(StoredBar::is_final);
            let Some(old) = old.filter(|old| !alike(&old.values, &bar.values, 0.0)) else {
                continue;
            };
            let new = old.revised(bar.values, BarSource::Repair);
            let next = [LogBar { series: series.clone(), bar: new }];
            let log = self.database.bar_log();
            let append = self.persist(|| log.append(&next, Timestamp::now()));
            if self.uncached(&next, append).await.is_some() {
                let payload = EventPayload::BarRevised { series: series.clone(), old, new };
                self.events.publish(DomainEvent { time: Timestamp::now(), payload });
            }
        }
    }

    /// Does `write`, which writes `bars`; no answer that was kept before is given after it.
    async fn uncached<T>(&self, bars: &[LogBar], write: impl Future<Output = T>) -> T {
        let series: HashSet<&Series> = bars.iter().map(|bar| &bar.series).collect();
        join_all(series.iter().map(|series| self.series.begin_write(series))).await;
        let written = write.await;
        join_all(series.iter().map(|series| self.series.finish_write(series))).await;
        written
    }

    /// Tells what others have put into the log.
    async fn tell_logged(&self) {
        let logged = self.read_logged().await;
        self.hub.put_bars(logged.into_iter().map(stored));
    }

    /// What is in the log and was not told: whoever wrote it, it is told in the log's order, or a
    /// cursor could pass over an entry.
    async fn read_logged(&self) -> Vec<(u64, LogBar)> {
        let (log, all) = (self.database.bar_log(), LogFilter::default());
        let mut logged = Vec::new();
        let mut told = self.hub.newest().1;
        loop {
            let page = self.persist(|| log.read(told, &all, LOG_PAGE)).await;
            let Some(page) = page.filter(|page| !page.entries.is_empty()) else { return logged };
            told = page.examined;
            self.meter.logged(told);
            logged.extend(page.entries);
        }
    }

    fn announce(&self, series: &Series, bar: Bar, old: Option<StoredBar>) {
        count_bar(bar.stored.source, old.is_none());
        let series = series.clone();
        let payload = match old {
            Some(old) => EventPayload::BarRevised { series, old, new: bar.stored },
            None => EventPayload::BarCompleted { series, bar },
        };
        self.events.publish(DomainEvent { time: Timestamp::now(), payload });
    }

    /// Reads a bar's children back and says what they come to.
    async fn reroll(&self, series: Series, range: BarRange, until: Timestamp) {
        let (bars, open) = (self.database.bars(), range.open());
        let stored = self.persist(|| bars.stretch(&series, open, open)).await;
        let values = self.persist(|| self.children(&series, range, until)).await;
        let (Some(stored), Some(values)) = (stored, values) else { return };
        let stored = stored.first().copied();
        // The feed's task may be gone: then it is owed still.
        drop(self.rerolled.send(Rerolled { series, range, until, values, stored }));
    }

    async fn children(
        &self,
        series: &Series,
        range: BarRange,
        until: Timestamp,
    ) -> Result<Option<Ohlcv>, DatabaseError> {
        let session = self.sessions.of(&series.symbol).await?;
        let (mut total, mut from) = (None, range.open());
        let add = |total: Option<Ohlcv>, bar: &StoredBar| {
            Some(total.map_or(bar.values, |total: Ohlcv| total.followed_by(&bar.values)))
        };
        let periods = !series.interval.is_intraday() && series.interval != Interval::D1;
        for interval in [Interval::D1, Interval::M1] {
            if interval == Interval::D1 && !periods {
                continue;
            }
            let children = Series::new(series.symbol.clone(), interval);
            for bar in self.all(&children, from, until).await? {
                let bounds = session.bounds_of(interval, bar.open_time);
                if bounds.close() <= until {
                    total = add(total, &bar);
                    from = bounds.close();
                }
            }
        }
        Ok(total)
    }

    /// Every final bar that opens in `[from, until)`.
    async fn all(
        &self,
        series: &Series,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<StoredBar>, DatabaseError> {
        let query = BarQuery {
            start: Some(from),
            end: Some(until),
            order: BarOrder::OldestFirst,
            // The longest bar made of minutes is a day, of days a month.
            limit: 2_000,
            include_forming: false,
        };
        if from >= until {
            return Ok(Vec::new());
        }
        self.database.bars().find(series, &query).await
    }

    /// Tries until it is written; gives up only when the service stops or trying cannot help.
    async fn persist<T, F>(&self, write: impl Fn() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, DatabaseError>>,
    {
        let mut tries_left = STOPPING_TRIES;
        loop {
            match write().await {
                Ok(written) => return Some(written),
                Err(failure) if failure.is_transient() && tries_left > 0 => {
                    warn!(error = %failure, "bars wait for the database");
                    if self.stopping.is_cancelled() {
                        tries_left -= 1;
                    }
                    sleep(RETRY_EVERY).await;
                }
                Err(failure) => {
                    error!(error = %failure, "bars could not be written");
                    return None;
                }
            }
        }
    }

    async fn trim(&self) {
        let before = Timestamp::now().saturating_sub(self.retention);
        let Ok(before) = before else { return };
        if let Err(error) = self.database.bar_log().trim(before).await {
            warn!(%error, "old entries of the bar log could not be removed");
        }
    }
}

fn stored((sequence, entry): (u64, LogBar)) -> (Option<u64>, LiveChange) {
    (Some(sequence), LiveChange::Stored(entry.series, entry.bar))
}
