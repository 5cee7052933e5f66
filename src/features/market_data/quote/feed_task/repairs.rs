//! Bars that are fetched again: what is waited for of one series is one request, however much it is
//! and however often it is asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::{Duration, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::fetch::{Fetched, first_page, unavailable, values};
use super::subscriptions::is_passing;
use crate::domain::ohlcv::BarRange;
use crate::domain::ohlcv::services::{BarClock, RepairedBar};
use crate::domain::shared::{Series, Symbol};
use crate::features::market_data::quote::quote_service::QuoteServiceParts;
use crate::infrastructure::interfaces::ProviderError;

/// Series that are asked for at a time.
const TURNS: usize = 8;
/// How long is waited before a bar that is not finished yet is asked for again.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// The longest wait for a provider that is away.
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// How often a provider is asked that has not finished a bar.
const TRIES: u32 = 12;
/// Bars that are asked for first, and where those do not reach back far enough.
const DEPTHS: [u32; 3] = [50, 1_000, 5_000];

/// Asks for bars again. Cheap to clone.
#[derive(Clone)]
pub(super) struct Repairs {
    parts: QuoteServiceParts,
    fetches: mpsc::Sender<Fetched>,
    turns: Arc<Semaphore>,
    stopping: CancellationToken,
    /// What is waited for; a series that is here has a task.
    wanted: Arc<Mutex<HashMap<Series, Wanted>>>,
}

#[derive(Default)]
struct Wanted {
    /// Each with how often it was not finished.
    ranges: Vec<(BarRange, u32)>,
    more: Arc<Notify>,
}

/// What came of a range: its finished bars, and whether that is all of it.
type Found = (BarRange, Vec<RepairedBar>, bool);

impl Repairs {
    /// Nothing is waited for. What is found goes to `fetches`.
    pub(super) fn new(parts: &QuoteServiceParts, fetches: mpsc::Sender<Fetched>) -> Self {
        Self {
            parts: parts.clone(),
            fetches,
            turns: Arc::new(Semaphore::new(TURNS)),
            stopping: parts.lifecycle.token(),
            wanted: Arc::default(),
        }
    }

    /// Fetches the bars of `series` in `range`, until the provider has finished them all. A
    /// provider that is away is waited for.
    pub(super) fn ask(&self, series: Series, range: BarRange) {
        let mut all = self.wanted();
        if let Some(wanted) = all.get_mut(&series) {
            if wanted.ranges.iter().all(|(known, _)| *known != range) {
                wanted.ranges.push((range, 0));
                wanted.more.notify_one();
            }
            return;
        }
        let wanted = Wanted { ranges: vec![(range, 0)], more: Arc::default() };
        let work = self.clone().work(series.clone(), Arc::clone(&wanted.more));
        all.insert(series, wanted);
        drop(all);
        drop(self.parts.lifecycle.spawn("repair bars", Box::pin(work)));
    }

    /// Nobody follows `symbol` any more. What was waited for is kept with it.
    pub(super) fn forget(&self, symbol: &Symbol) {
        let mut all = self.wanted();
        for (_, wanted) in all.iter_mut().filter(|(series, _)| series.symbol == *symbol) {
            wanted.ranges.clear();
            wanted.more.notify_one();
        }
    }

    /// Works until nothing of `series` is waited for.
    async fn work(self, series: Series, more: Arc<Notify>) {
        let mut wait = RETRY_AFTER;
        while let Some(ranges) = self.next(&series) {
            let turn = self.stopping.run_until_cancelled(self.turns.acquire()).await;
            let Some(Ok(turn)) = turn else { return };
            let outcome = self.fetch(&series, &ranges).await;
            drop(turn);
            let waited = match outcome {
                Ok(found) => {
                    wait = RETRY_AFTER;
                    if self.answer(&series, found).await {
                        continue;
                    }
                    // Or until something else is to be had.
                    let more = timeout(RETRY_AFTER, more.notified());
                    self.stopping.run_until_cancelled(more).await.map(drop)
                }
                Err(error) if is_passing(&error) => {
                    debug!(%series, %error, "a repair of {series} waits");
                    wait = (wait * 2).min(LONGEST_WAIT);
                    self.stopping.run_until_cancelled(sleep(wait)).await
                }
                // The feed ends, too: what is under way is kept, and goes on with its next start.
                Err(ProviderError::AuthRequired { .. }) => None,
                Err(error) => {
                    if !matches!(error, ProviderError::NoData { .. }) {
                        warn!(%series, %error, "bars of {series} cannot be fetched again");
                    }
                    let none = ranges.into_iter().map(|range| (range, Vec::new(), true));
                    self.answer(&series, none.collect()).await;
                    Some(())
                }
            };
            if waited.is_none() {
                self.wanted().remove(&series);
                return;
            }
        }
    }

    /// What is waited for of `series`; without anything, its task ends.
    fn next(&self, series: &Series) -> Option<Vec<BarRange>> {
        let mut all = self.wanted();
        let ranges: Vec<_> = all.get(series)?.ranges.iter().map(|(range, _)| *range).collect();
        if ranges.is_empty() {
            all.remove(series);
            return None;
        }
        Some(ranges)
    }

    /// Hands on what was found; answers whether that was all. What the provider does not finish is
    /// given up after a while.
    async fn answer(&self, series: &Series, found: Vec<Found>) -> bool {
        let mut all_done = true;
        for (range, bars, finished) in found {
            let done = finished || self.is_last_try(series, range);
            all_done &= done;
            if done && let Some(wanted) = self.wanted().get_mut(series) {
                // Before the answer: who gets it may ask once more.
                wanted.ranges.retain(|(known, _)| *known != range);
            }
            let series = series.clone();
            drop(self.fetches.send(Fetched::Repaired { series, range, bars, done }).await);
        }
        all_done
    }

    fn is_last_try(&self, series: &Series, range: BarRange) -> bool {
        let mut all = self.wanted();
        let wanted = all.get_mut(series).map(|wanted| &mut wanted.ranges);
        let tries = wanted.and_then(|ranges| ranges.iter_mut().find(|(known, _)| *known == range));
        tries.is_none_or(|(_, tries)| {
            *tries += 1;
            *tries >= TRIES
        })
    }

    /// The finished bars of each of `ranges`.
    async fn fetch(
        &self,
        series: &Series,
        ranges: &[BarRange],
    ) -> Result<Vec<Found>, ProviderError> {
        let parts = &self.parts;
        let from = ranges.iter().map(BarRange::open).min().unwrap_or(Timestamp::MAX);
        let to = ranges.iter().map(BarRange::close).max().unwrap_or(Timestamp::MIN);
        let session = parts.sessions.of(&series.symbol).await;
        let session = session.map_err(|error| unavailable(parts, &error.to_string()))?;
        let mut clock = BarClock::new(session, series.interval);
        let mut page = first_page(parts, series.clone(), DEPTHS[0]).await?;
        for depth in DEPTHS.into_iter().skip(1) {
            let reached = page.bars.first().is_some_and(|bar| bar.open_time <= from);
            if reached || page.end.is_some() {
                break;
            }
            page = first_page(parts, series.clone(), depth).await?;
        }
        let mut bars = values(&page);
        bars.retain(|(open, _)| clock.bounds_of(*open).is_over(page.server_time));
        let from = bars.first().map_or(from, |(open, _)| from.max(*open));
        let stored = parts.database.bars().stretch(series, from, to).await;
        let stored = stored.map_err(|error| unavailable(parts, &error.to_string()))?;
        let find = |open| stored.iter().find(|bar| bar.open_time == open).copied();
        let found = ranges.iter().map(|range| {
            let wanted = bars.iter().filter(|(open, _)| range.contains(*open));
            let found = wanted.map(|(open_time, values)| RepairedBar {
                open_time: *open_time,
                values: *values,
                stored: find(*open_time),
            });
            (*range, found.collect(), range.is_over(page.server_time))
        });
        Ok(found.collect())
    }

    fn wanted(&self) -> MutexGuard<'_, HashMap<Series, Wanted>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
