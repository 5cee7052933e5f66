//! Writes jobs into the database, and tells nobody. All of it is safe to repeat.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use jiff::Timestamp;
use tokio::time::timeout;
use tracing::error;

use super::job::{Decided, Job};
use super::snapshot_codec;
use crate::domain::ohlcv::services::alike;
use crate::domain::ohlcv::{BarSource, StoredBar};
use crate::domain::shared::{Series, Symbol};
use crate::domain::sync::SyncDiff;
use crate::infrastructure::persistence::{Database, DatabaseError, LogBar, SeriesCache};

/// How long one step may take. A frozen server is noticed by this.
const STEP_DEADLINE: Duration = Duration::from_secs(10);

/// What came of bars that were decided.
pub(super) struct Appended {
    /// The sequence of each in the log, by its index among the bars.
    pub(super) sequences: HashMap<usize, u64>,
    /// What was stored and what replaced it, where more was written than was decided.
    pub(super) outranking: Vec<(Series, StoredBar, StoredBar)>,
}

/// The database, and the answers of it that are kept elsewhere.
pub(super) struct Ledger {
    database: Database,
    cached: SeriesCache,
}

impl Ledger {
    pub(super) const fn new(database: Database, cached: SeriesCache) -> Self {
        Self { database, cached }
    }

    pub(super) const fn database(&self) -> &Database {
        &self.database
    }

    /// Stores what `jobs` say, which an earlier process has left; one that never can be is said and
    /// left out. What was kept of a symbol later than that stays: another process may have gone on.
    pub(super) async fn store_left(&self, jobs: Vec<Job>) -> Result<(), DatabaseError> {
        for mut job in jobs {
            let stored = async {
                if let Job::Keep(kept) = &mut job {
                    self.retain_newer(kept).await?;
                }
                self.store(&job).await
            };
            match stored.await {
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => error!(%error, "bars could not be written"),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Leaves only what is newer in `kept` than what is stored.
    async fn retain_newer(&self, kept: &mut Vec<(Symbol, Bytes)>) -> Result<(), DatabaseError> {
        let saved_at = |bytes: &Bytes| snapshot_codec::decode(bytes).map(|kept| kept.saved_at);
        let states = self.database.feed_state();
        let mut newer = Vec::with_capacity(kept.len());
        for (symbol, left) in kept.drain(..) {
            let stored = self.within(states.get(&symbol)).await?;
            if stored.is_none_or(|stored| saved_at(&stored) <= saved_at(&left)) {
                newer.push((symbol, left));
            }
        }
        *kept = newer;
        Ok(())
    }

    pub(super) async fn store(&self, job: &Job) -> Result<(), DatabaseError> {
        let (database, now) = (&self.database, Timestamp::now());
        match job {
            Job::Decided(decided) => self.append(decided).await.map(|_| ()),
            Job::Keep(kept) => self.within(database.feed_state().save(kept, now)).await,
            Job::Forming(series, bar) => {
                let diff = SyncDiff { inserted: vec![*bar], ..SyncDiff::default() };
                let (bars, of) = (database.bars(), HashSet::from([series]));
                self.uncached(&of, Box::pin(bars.write(series, &diff, now))).await
            }
            Job::LoggedFrom(symbol, from) => {
                let subscriptions = database.subscriptions();
                let known = self.within(subscriptions.get(symbol)).await?;
                // One that was given up meanwhile stays so.
                let Some(mut row) = known.filter(|row| row.logged_from.is_none()) else {
                    return Ok(());
                };
                row.logged_from = Some(*from);
                self.within(subscriptions.put(&row)).await
            }
            Job::Barrier(_) => Ok(()),
        }
    }

    /// Appends what closed to the log.
    pub(super) async fn append(&self, decided: &[Decided]) -> Result<Appended, DatabaseError> {
        let bar = |each: &Decided| match each {
            Decided::Bar { series, bar, .. } => {
                Some(LogBar { series: series.clone(), bar: bar.stored })
            }
            Decided::Live(_) | Decided::Reroll { .. } => None,
        };
        let bars: Vec<LogBar> = decided.iter().filter_map(bar).collect();
        let appended = self.log(&bars).await?;
        let sequences: HashMap<usize, u64> =
            appended.into_iter().map(|(sequence, index)| (index, sequence)).collect();
        let outranking = self.append_outranking(&bars, &sequences).await?;
        Ok(Appended { sequences, outranking })
    }

    /// A bar of the provider's may be decided without knowing what is stored, as that was not
    /// written yet: then it is the next revision of that, where it says something else.
    async fn append_outranking(
        &self,
        bars: &[LogBar],
        written: &HashMap<usize, u64>,
    ) -> Result<Vec<(Series, StoredBar, StoredBar)>, DatabaseError> {
        let passed_over = bars.iter().enumerate().filter(|(index, entry)| {
            entry.bar.source == BarSource::Repair && !written.contains_key(index)
        });
        let mut outranking = Vec::new();
        for (_, LogBar { series, bar }) in passed_over {
            let (stored, open) = (self.database.bars(), bar.open_time);
            let found = self.within(stored.stretch(series, open, open)).await?;
            let old = found.first().copied().filter(StoredBar::is_final);
            let Some(old) = old.filter(|old| !alike(&old.values, &bar.values, 0.0)) else {
                continue;
            };
            let new = old.revised(bar.values, BarSource::Repair);
            self.log(&[LogBar { series: series.clone(), bar: new }]).await?;
            outranking.push((series.clone(), old, new));
        }
        Ok(outranking)
    }

    async fn log(&self, bars: &[LogBar]) -> Result<Vec<(u64, usize)>, DatabaseError> {
        let series: HashSet<&Series> = bars.iter().map(|bar| &bar.series).collect();
        let log = self.database.bar_log();
        self.uncached(&series, Box::pin(log.append(bars, Timestamp::now()))).await
    }

    /// Does `write`, which writes bars of `series`; no answer that was kept before is given after
    /// it. One that failed may still take place: then nothing is kept until it is tried again.
    async fn uncached<T>(
        &self,
        series: &HashSet<&Series>,
        write: impl Future<Output = Result<T, DatabaseError>>,
    ) -> Result<T, DatabaseError> {
        join_all(series.iter().map(|series| self.cached.begin_write(series))).await;
        let written = self.within(write).await?;
        join_all(series.iter().map(|series| self.cached.finish_write(series))).await;
        Ok(written)
    }

    /// Waits for `step`, but not for ever. A write goes on where nobody waits.
    pub(super) async fn within<T>(
        &self,
        step: impl Future<Output = Result<T, DatabaseError>>,
    ) -> Result<T, DatabaseError> {
        timeout(STEP_DEADLINE, step).await.unwrap_or_else(|_| {
            let (engine, cause) = (self.database.engine(), None);
            let detail = format!("no answer within {STEP_DEADLINE:?}");
            Err(DatabaseError::Unavailable { engine, detail, cause })
        })
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
