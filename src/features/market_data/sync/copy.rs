//! The pages of one sync: fetched, checked, compared, stored, written down.

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::meter::count_bars;
use super::run::SyncRun;
use super::{SyncError, SyncProgress};
use crate::domain::coverage::TimeRange;
use crate::domain::ohlcv::services::BarClock;
use crate::domain::ohlcv::{FetchedBar, Ohlcv, OhlcvAggregate};
use crate::domain::shared::Series;
use crate::domain::symbol::{SymbolAggregate, SymbolDescription};
use crate::infrastructure::interfaces::{HistoryDepth, HistoryEnd, HistoryPage, HistoryRequest};
use crate::infrastructure::persistence::SyncRecord;

use futures::StreamExt as _;

/// A sync under way.
pub(super) struct Copy<'a> {
    pub(super) run: &'a SyncRun,
    pub(super) record: &'a mut SyncRecord,
    pub(super) progress: &'a watch::Sender<SyncProgress>,
    pub(super) cancel: &'a CancellationToken,
    /// When this process began with it, and how long others had worked on it before.
    pub(super) began: (Instant, Duration),
    /// Why the provider sent nothing older.
    pub(super) history_end: Option<HistoryEnd>,
}

/// Bars that are stored already, by their open times, both ends included.
pub(super) type Known = (Timestamp, Timestamp);

impl Copy<'_> {
    /// Takes pages until the provider has no more, or `until` is reached. What is known is passed
    /// over. Answers the open time of the oldest bar that came. What was answered is noted in the
    /// ledger of coverage, however it ends.
    pub(super) async fn pages(
        &mut self,
        depth: HistoryDepth,
        known: Option<Known>,
        until: Option<Timestamp>,
    ) -> Result<Option<Timestamp>, SyncError> {
        let mut answered = None;
        let oldest = self.take_pages(depth, known, until, &mut answered).await;
        let (ledger, series) = (&self.run.ledger, &self.record.series);
        match answered {
            Some(answered) => match (oldest, ledger.answered(series, answered).await) {
                (Ok(_), Err(error)) => Err(error.into()),
                (oldest, Ok(()) | Err(_)) => oldest,
            },
            None => oldest,
        }
    }

    async fn take_pages(
        &mut self,
        depth: HistoryDepth,
        known: Option<Known>,
        until: Option<Timestamp>,
        answered: &mut Option<TimeRange>,
    ) -> Result<Option<Timestamp>, SyncError> {
        let (run, cancel) = (self.run, self.cancel);
        let series = self.record.series.clone();
        let mut pages = run.provider.history(HistoryRequest { series, depth });
        let mut oldest = known.map(|(oldest, _)| oldest);
        loop {
            let page = cancel.run_until_cancelled(pages.next()).await;
            let Some(page) = page.ok_or_else(|| run.cut_off())? else { break };
            // While the service stops, its connections end too: that is no fault of the provider.
            let mut page =
                page.map_err(
                    |error| if cancel.is_cancelled() { run.cut_off() } else { error.into() },
                )?;
            if let Some(said) = page.symbol.take() {
                self.observe(&said).await?;
            }
            let reached = page.bars.first().map(|bar| bar.open_time);
            let is_known = |at| known.is_some_and(|(oldest, newest)| oldest <= at && at <= newest);
            page.bars.retain(|bar| !is_known(bar.open_time));
            let first = page.bars.first().map(|bar| bar.open_time);
            oldest = first.into_iter().chain(oldest).min();
            self.history_end = page.end;
            self.store(&page).await?;
            if let Some(reached) = reached {
                // All is answered up to the provider's clock in the newest page.
                let end = answered.map_or(page.server_time, |answered| answered.close());
                *answered = TimeRange::new(reached, end).or(*answered);
            }
            self.tell(&page).await?;
            if let (Some(until), Some(oldest)) = (until, oldest)
                && oldest <= until
            {
                break;
            }
        }
        Ok(oldest)
    }

    /// Writes down how far it is, and tells.
    async fn tell(&mut self, page: &HistoryPage) -> Result<(), SyncError> {
        self.record.counts.pages += 1;
        if let (Some(first), Some(last)) = (page.bars.first(), page.bars.last()) {
            let (oldest, newest) = self.record.reached.unwrap_or((first.open_time, last.open_time));
            self.record.reached = Some((oldest.min(first.open_time), newest.max(last.open_time)));
        }
        if !self.run.journal.keep(self.record).await? {
            // Another process took this one for dead and goes on with it.
            return Err(SyncError::Interrupted);
        }
        let (counts, elapsed) = (self.record.counts, self.elapsed());
        self.progress.send_modify(|progress| {
            progress.bars_fetched = counts.fetched;
            progress.pages = counts.pages;
            progress.elapsed = elapsed;
        });
        Ok(())
    }

    /// How long it has taken so far.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.0.elapsed() + self.began.1
    }

    /// Keeps what the provider says of the instrument.
    async fn observe(&self, said: &SymbolDescription) -> Result<(), SyncError> {
        let (run, symbol) = (self.run, &self.record.series.symbol);
        let symbols = run.database.symbols();
        let stored = symbols.get(symbol).await?;
        let (before, now) = (stored.clone(), Timestamp::now());
        let (info, changed) = SymbolAggregate::new(symbol, stored, now).observe(said, now);
        if changed {
            symbols.put(&info).await?;
            run.sessions.forget(symbol).await;
        }
        if !info.trading_session().1 {
            let session = info.description.session.as_ref().map_or("", |spec| &spec.session);
            warn!(%symbol, session, "the session of {symbol} is not known; its bars are cut around the clock in UTC");
        }
        let session_before = before.and_then(|info| info.description.session);
        if session_before != info.description.session {
            // Where bars close has changed: what is cached says otherwise.
            run.cache.forget(symbol).await;
        }
        Ok(())
    }

    /// Compares a page with what is stored and writes the difference.
    async fn store(&mut self, page: &HistoryPage) -> Result<(), SyncError> {
        let (run, series) = (self.run, &self.record.series);
        let (Some(first), Some(last)) = (page.bars.first(), page.bars.last()) else {
            return Ok(());
        };
        let session = run.sessions.of(&series.symbol).await?;
        let mut clock = BarClock::new(session, series.interval);
        let fetched = check(series, page, &mut clock);
        let stored = run.database.bars().stretch(series, first.open_time, last.open_time).await?;
        let mut bars = OhlcvAggregate::new(series.clone(), stored);
        let known = if run.live.of(&series.symbol).tracked {
            // Its forming bar is the feed's; what was fetched of it counts as unchanged.
            fetched.iter().filter(|bar| bar.finished).copied().collect()
        } else {
            fetched.clone()
        };
        let mut diff = bars.merge(&known);
        diff.unchanged += u64::try_from(fetched.len() - known.len()).unwrap_or_default();
        if !diff.is_empty() {
            let now = Timestamp::now();
            let logged_from = run.live.logged_from(&series.symbol).await?;
            run.cache.begin_write(series).await;
            let stored = run.database.bars();
            let written = stored.write_logged(series, &diff, logged_from, now).await;
            run.cache.finish_write(series).await;
            if !written?.is_empty() {
                run.live.logged();
            }
            bars.events(&diff, now).into_iter().for_each(|event| run.announcer.publish(event));
        }
        let total = |bars: usize| u64::try_from(bars).unwrap_or(u64::MAX);
        let before = self.record.counts;
        let counts = &mut self.record.counts;
        counts.fetched += total(page.bars.len());
        counts.rejected += total(page.bars.len() - fetched.len());
        counts.inserted += total(diff.inserted.len());
        counts.updated += total(diff.updated.len());
        counts.unchanged += diff.unchanged;
        count_bars(&before, counts);
        Ok(())
    }
}

/// The bars of `page` that are bars. Whether one is finished is for the provider's clock to say.
fn check(series: &Series, page: &HistoryPage, clock: &mut BarClock) -> Vec<FetchedBar> {
    let mut fetched = Vec::with_capacity(page.bars.len());
    let mut rejected = None;
    for bar in &page.bars {
        match Ohlcv::new(bar.open, bar.high, bar.low, bar.close, bar.volume) {
            Ok(values) => {
                let range = clock.bounds_of(bar.open_time);
                let finished = range.is_over(page.server_time);
                fetched.push(FetchedBar { range, values, finished });
            }
            Err(reason) => rejected = rejected.or(Some((bar.open_time, reason))),
        }
    }
    if let Some((open_time, reason)) = rejected {
        let bars_rejected = page.bars.len() - fetched.len();
        warn!(
            %series, bars_rejected, %open_time, error = %reason,
            "rejected {bars_rejected} bars of {series}; the first opens at {open_time}: {reason}"
        );
    }
    fetched
}
