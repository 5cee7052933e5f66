//! Takes over a database that the original PocketQuant filled.
//!
//! It stamped daily, weekly and monthly bars at 00:00Z of their date. Where the symbol has a
//! session, the right bar opens with it, so both would be served. It also stored bars that were
//! not over; the first sync of such a series fetches the newest one again (see `sync`).

use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use tracing::{info, warn};

use crate::domain::ohlcv::StoredBar;
use crate::domain::shared::{Interval, Series};
use crate::domain::symbol::TradingSession;
use crate::domain::sync::SyncState;
use crate::infrastructure::persistence::{
    BarOrder, BarQuery, Database, DatabaseError, SeriesCache, SymbolFilter,
};

/// Rows that are read at a time.
const PAGE: u32 = 1_000;

/// A bar that an older version stamped at midnight, beside the right one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoubleBar {
    /// Whose bar.
    pub series: Series,
    /// When the wrong one opens.
    pub open_time: Timestamp,
    /// When the right one opens.
    pub right_open_time: Timestamp,
}

/// What an older version left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakeoverReport {
    /// Bars that are there twice.
    pub doubles: Vec<DoubleBar>,
    /// Bars at midnight whose right bar is not stored: they stay until it is synced.
    pub waiting: Vec<DoubleBar>,
    /// Series whose newest bar was perhaps stored before it was over.
    pub unconfirmed: Vec<Series>,
    /// Bars that were removed.
    pub removed: u64,
}

impl TakeoverReport {
    /// Says what was found, and what to do about it.
    pub fn log(&self) {
        let (doubles, waiting) = (self.doubles.len(), self.waiting.len());
        if doubles > 0 {
            warn!(
                doubles,
                "{doubles} bars stamped at midnight stand beside the right ones: `pocketquant migrate --apply` removes them"
            );
        }
        if waiting > 0 {
            warn!(
                waiting,
                "{waiting} bars are stamped at midnight and the right ones are not stored: sync their series, then run `pocketquant migrate`"
            );
        }
        for series in &self.unconfirmed {
            info!(%series, "the newest bar of {series} may have been stored unfinished; the next sync fetches it again");
        }
    }
}

/// Looks for what an older version left; changes nothing.
pub async fn survey(database: &Database) -> Result<TakeoverReport, DatabaseError> {
    let mut report = TakeoverReport::default();
    let symbols = database.symbols();
    let mut after = None;
    loop {
        let page = symbols.list(&SymbolFilter::default(), after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(report) };
        after = Some(last.symbol.clone());
        for info in page {
            let (session, known) = info.trading_session();
            for interval in Interval::ALL {
                let series = Series::new(info.symbol.clone(), interval);
                survey_series(database, &series, known.then_some(&*session), &mut report).await?;
            }
        }
    }
}

/// Removes the doubles where `apply`, and tells what it found.
pub async fn migrate(
    database: &Database,
    cache: &SeriesCache,
    apply: bool,
) -> Result<TakeoverReport, DatabaseError> {
    let mut report = survey(database).await?;
    if !apply {
        return Ok(report);
    }
    for doubles in report.doubles.chunk_by(|a, b| a.series == b.series) {
        let Some(DoubleBar { series, .. }) = doubles.first() else { continue };
        let open_times: Vec<Timestamp> = doubles.iter().map(|double| double.open_time).collect();
        cache.begin_write(series).await;
        let removed = database.bars().delete(series, &open_times).await;
        cache.finish_write(series).await;
        report.removed += removed?;
        recount(database, series).await?;
    }
    Ok(report)
}

/// Makes the series' status row count what is stored now. A sync under way counts when it ends.
async fn recount(database: &Database, series: &Series) -> Result<(), DatabaseError> {
    let statuses = database.sync_statuses();
    let stored = statuses.get(series).await?;
    let Some(mut status) = stored.filter(|status| status.state != SyncState::Syncing) else {
        return Ok(());
    };
    let summary = database.bars().summary(series).await?;
    (status.bar_count, status.last_bar_at) = (summary.bar_count, summary.last_bar_at);
    statuses.put(&status, Timestamp::now()).await
}

async fn survey_series(
    database: &Database,
    series: &Series,
    session: Option<&TradingSession>,
    report: &mut TakeoverReport,
) -> Result<(), DatabaseError> {
    let Some(newest) = database.bars().newest(series).await? else { return Ok(()) };
    if newest.finality_unknown {
        report.unconfirmed.push(series.clone());
    }
    let Some(session) = session.filter(|_| !series.interval.is_intraday()) else { return Ok(()) };
    let bars = all_bars(database, series).await?;
    for bar in bars.iter().filter(|bar| bar.finality_unknown) {
        let Some(right_open_time) = right_open_time(session, series.interval, bar) else {
            continue;
        };
        let (series, open_time) = (series.clone(), bar.open_time);
        let double = DoubleBar { series, open_time, right_open_time };
        match bars.binary_search_by_key(&right_open_time, |bar| bar.open_time) {
            Ok(_) => report.doubles.push(double),
            Err(_) => report.waiting.push(double),
        }
    }
    Ok(())
}

/// When the bar of the same date opens by the session, where `bar` is stamped at midnight instead.
fn right_open_time(
    session: &TradingSession,
    interval: Interval,
    bar: &StoredBar,
) -> Option<Timestamp> {
    let stamped = TimeZone::UTC.to_datetime(bar.open_time);
    let right = session.period_range(interval, stamped.date())?.open();
    (stamped.time() == Time::midnight() && right != bar.open_time).then_some(right)
}

/// Days, weeks and months of one symbol: some ten thousand at most.
async fn all_bars(database: &Database, series: &Series) -> Result<Vec<StoredBar>, DatabaseError> {
    let mut bars: Vec<StoredBar> = Vec::new();
    loop {
        let query = BarQuery {
            start: bars.last().map(|bar| bar.open_time + jiff::SignedDuration::from_millis(1)),
            end: None,
            order: BarOrder::OldestFirst,
            limit: PAGE,
            include_forming: true,
        };
        let page = database.bars().find(series, &query).await?;
        if page.is_empty() {
            return Ok(bars);
        }
        bars.extend(page);
    }
}
