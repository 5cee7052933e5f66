//! What is asked of the provider's history while the feed goes on: sessions, and what was kept.

use std::sync::Arc;

use futures::StreamExt as _;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Duration, sleep};

use super::seed::{DAYS, Days};
use crate::domain::coverage::FeedPresence;
use crate::domain::ohlcv::services::RepairedBar;
use crate::domain::ohlcv::{BarRange, BarSource, Ohlcv, StoredBar};
use crate::domain::quote::SymbolId;
use crate::domain::shared::{Interval, Series, Symbol};
use crate::domain::symbol::{SymbolAggregate, TradingSession};
use crate::features::market_data::quote::quote_service::QuoteServiceParts;
use crate::features::market_data::quote::snapshot_codec::{self, Kept};
use crate::infrastructure::interfaces::{HistoryDepth, HistoryPage, HistoryRequest, ProviderError};
use crate::infrastructure::persistence::DatabaseError;

/// How long is waited before a symbol is asked for again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// A symbol that is looked up, for the how manieth time of all: what an earlier look-up answers
/// was read before the symbol's bars were kept last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::features::market_data::quote) struct Lookup {
    pub(super) symbol: Symbol,
    pub(super) number: u64,
}

/// What was fetched.
#[derive(Debug)]
pub(in crate::features::market_data::quote) enum Fetched {
    /// A symbol's session, or why there is none.
    Resolved(Lookup, Result<Box<Resolved>, ProviderError>),
    /// A symbol is worth another try.
    Retry(Lookup),
    /// What makes a symbol's first bars complete.
    Seeded {
        /// Whose.
        symbol: Symbol,
        /// As it was when it joined.
        id: SymbolId,
        /// One-minute bars since its session opened.
        minutes: Vec<(Timestamp, Ohlcv)>,
        /// The days before.
        days: Days,
    },
    /// Bars that were in doubt, as the provider says them.
    Repaired {
        /// Whose.
        series: Series,
        /// Of which time.
        range: BarRange,
        /// The finished ones.
        bars: Vec<RepairedBar>,
        /// Of which time the provider has said what it has.
        answered: Option<BarRange>,
        /// Whether nothing more is to come.
        done: bool,
    },
}

/// A bar as its children in the database make it.
#[derive(Debug)]
pub(in crate::features::market_data::quote) struct Rerolled {
    /// Whose.
    pub(in crate::features::market_data::quote) series: Series,
    /// The bar.
    pub(in crate::features::market_data::quote) range: BarRange,
    /// How far its children were read.
    pub(in crate::features::market_data::quote) until: Timestamp,
    /// What they come to; none where there is none.
    pub(in crate::features::market_data::quote) values: Option<Ohlcv>,
    /// Which of all roll-ups it answers.
    pub(in crate::features::market_data::quote) number: u64,
    /// The bar as it is stored.
    pub(in crate::features::market_data::quote) stored: Option<StoredBar>,
}

/// What is needed to take ticks of a symbol.
#[derive(Debug)]
pub(in crate::features::market_data::quote) struct Resolved {
    /// When it trades.
    pub(super) session: Arc<TradingSession>,
    /// The days that are over.
    pub(super) days: Days,
    /// What was kept of its bars.
    pub(super) kept: Option<Kept>,
    /// What is stored under the keys of what was kept.
    pub(super) stored: Vec<(Interval, StoredBar)>,
    /// When the newest one-minute bar opens that the feed has closed before.
    pub(super) newest: Option<Timestamp>,
    /// Until when the feed has heard it before, where it was followed to the end.
    pub(super) heard: Option<Timestamp>,
}

/// Looks up a symbol's session, with its daily bars in the same request, and what was kept of it.
pub(super) async fn resolve(
    parts: &QuoteServiceParts,
    symbol: &Symbol,
) -> Result<Resolved, ProviderError> {
    let series = Series::new(symbol.clone(), Interval::D1);
    let mut page = first_page(parts, series.clone(), DAYS).await;
    if let Err(ProviderError::AuthRequired { .. }) = page {
        // A token may only have grown old: the next connection begins with a new one.
        page = first_page(parts, series, DAYS).await;
    }
    let page = match page {
        Ok(page) => Some(page),
        // No day is over yet, as in a replay that has just begun: its session may be known already.
        Err(ProviderError::NoData { .. }) => None,
        Err(error) => return Err(error),
    };
    let known = parts.database.symbols().get(symbol).await;
    let known = known.map_err(|error| unavailable(parts, &error.to_string()))?;
    let now = Timestamp::now();
    let mut session = known.as_ref().map(|info| info.trading_session().0);
    let before = known.as_ref().and_then(|info| info.description.session.clone());
    if let Some(said) = page.as_ref().and_then(|page| page.symbol.as_ref()) {
        let (info, changed) = SymbolAggregate::new(symbol, known, now).observe(said, now);
        session = Some(info.trading_session().0);
        if changed {
            let put = parts.database.symbols().put(&info).await;
            put.map_err(|error| unavailable(parts, &error.to_string()))?;
            parts.sessions.forget(symbol).await;
        }
        if before != info.description.session {
            // Where bars close has changed: what is cached says otherwise.
            parts.series.forget(symbol).await;
        }
    }
    let session = session.unwrap_or_else(|| Arc::new(TradingSession::around_the_clock()));
    let days = match &page {
        Some(page) => Days::of(page, Arc::clone(&session)),
        None => Days::unknown(Arc::clone(&session)),
    };
    let kept = kept(parts, symbol).await;
    let (kept, stored) = kept.map_err(|error| unavailable(parts, &error.to_string()))?;
    let newest = parts.database.bars().newest(&Series::new(symbol.clone(), Interval::M1)).await;
    let newest = newest.map_err(|error| unavailable(parts, &error.to_string()))?;
    let newest = newest.filter(|bar| bar.source != BarSource::Provider);
    let newest = newest.map(|bar| bar.open_time);
    let presence = parts.database.coverage().feed(symbol).await;
    let presence = presence.map_err(|error| unavailable(parts, &error.to_string()))?;
    let heard = presence.filter(FeedPresence::is_followed).and_then(|feed| feed.heard_until());
    Ok(Resolved { session, days, kept, stored, newest, heard })
}

/// Tries a symbol again in a while.
pub(super) fn resolve_later(
    parts: &QuoteServiceParts,
    lookup: Lookup,
    fetches: mpsc::Sender<Fetched>,
) {
    let stopping = parts.lifecycle.token();
    let task = async move {
        if stopping.run_until_cancelled(sleep(RETRY_AFTER)).await.is_some() {
            drop(fetches.send(Fetched::Retry(lookup)).await);
        }
    };
    drop(parts.lifecycle.spawn("retry symbol", task));
}

/// What was kept of a symbol's bars, with what is stored under their keys.
async fn kept(
    parts: &QuoteServiceParts,
    symbol: &Symbol,
) -> Result<(Option<Kept>, Vec<(Interval, StoredBar)>), DatabaseError> {
    let bytes = parts.database.feed_state().get(symbol).await?;
    let kept = bytes.as_deref().and_then(snapshot_codec::decode);
    let Some(kept) = kept.filter(|kept| kept.snapshot.symbol == *symbol) else {
        return Ok((None, Vec::new()));
    };
    let minutes = kept.snapshot.minutes.iter().map(|bar| (Interval::M1, bar.range.open()));
    let parents = kept.snapshot.parents.iter().map(|(interval, bar)| (*interval, bar.range.open()));
    let mut stored = Vec::new();
    for (interval, open) in minutes.chain(parents) {
        let series = Series::new(symbol.clone(), interval);
        let found = parts.database.bars().stretch(&series, open, open).await?;
        stored.extend(found.into_iter().map(|bar| (interval, bar)));
    }
    Ok((Some(kept), stored))
}

pub(super) async fn first_page(
    parts: &QuoteServiceParts,
    series: Series,
    bars: u32,
) -> Result<HistoryPage, ProviderError> {
    let symbol = series.symbol.clone();
    let request = HistoryRequest { series, depth: HistoryDepth::Newest(bars) };
    let mut pages = parts.history.history(request);
    let stopping = parts.lifecycle.token();
    let page = stopping.run_until_cancelled(pages.next()).await.flatten();
    let provider = parts.history.name();
    page.unwrap_or(Err(ProviderError::NoData { provider, symbol, detail: None }))
}

/// The bars of a page that are bars, by open time.
pub(super) fn values(page: &HistoryPage) -> Vec<(Timestamp, Ohlcv)> {
    let checked = page.bars.iter().filter_map(|bar| {
        let values = Ohlcv::new(bar.open, bar.high, bar.low, bar.close, bar.volume).ok()?;
        Some((bar.open_time, values))
    });
    checked.collect()
}

pub(super) fn unavailable(parts: &QuoteServiceParts, detail: &str) -> ProviderError {
    ProviderError::Unavailable {
        provider: parts.history.name(),
        phase: crate::infrastructure::interfaces::Phase::History,
        detail: detail.to_owned(),
        retry_after: RETRY_AFTER,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::stream;

    use super::*;
    use crate::domain::symbol::{SessionSpec, SymbolDescription};
    use crate::features::market_data::quote::test_bench::{Bench, at, hour, symbol};
    use crate::infrastructure::interfaces::{HistoryProvider, HistoryStream};
    use crate::infrastructure::persistence::CacheRead;

    /// A provider that has no bars, and says when a symbol trades.
    #[derive(Debug)]
    struct Trades(&'static str);

    impl HistoryProvider for Trades {
        fn name(&self) -> &'static str {
            "says when"
        }

        fn history(&self, _: HistoryRequest) -> HistoryStream {
            let (timezone, session) = ("Etc/UTC".to_owned(), self.0.to_owned());
            let (holidays, corrections) = (String::new(), String::new());
            let session = Some(SessionSpec { timezone, session, holidays, corrections });
            let symbol = Some(SymbolDescription { session, ..SymbolDescription::default() });
            let page = HistoryPage { bars: Vec::new(), server_time: at(0), symbol, end: None };
            stream::iter([Ok(page)]).boxed()
        }
    }

    #[tokio::test]
    async fn answers_that_were_kept_before_the_session_changed_are_not_given_after_it() {
        let bench = Bench::start().await;
        let mut parts = bench.parts.clone();
        for (hours, is_new) in [("0930-1600", true), ("0930-1600", false), ("0930-1300", true)] {
            if let CacheRead::Miss(ticket) = parts.series.read(&hour(), "newest").await {
                parts.series.fill(ticket, Bytes::from_static(b"closes when it did")).await;
            }
            parts.history = Arc::new(Trades(hours));
            resolve(&parts, &symbol()).await.unwrap();
            let read = parts.series.read(&hour(), "newest").await;
            assert_eq!(matches!(read, CacheRead::Miss(_)), is_new, "{hours}: {read:?}");
        }
    }
}
