//! History page by page: one chart session a request, the next page asked for when the last one
//! was taken.

use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use jiff::Timestamp;

use super::PROVIDER;
use super::client::TradingView;
use super::reply::Reply;
use super::search::Search;
use super::session::{Chart, Session};
use crate::common::error::Coded as _;
use crate::common::metrics::table::{PROVIDER_PAGE_DURATION, PROVIDER_PAGES};
use crate::common::metrics::{outcome_of, timed};
use crate::common::tracing::{provider_span, traced};
use crate::domain::shared::Series;
use crate::infrastructure::interfaces::{
    HistoryDepth, HistoryEnd, HistoryPage, HistoryProvider, HistoryRequest, HistoryStream, Phase,
    ProviderError, RawBar,
};

/// Bars that are asked for at once.
const PAGE_BARS: u32 = 5_000;

impl HistoryProvider for TradingView {
    fn name(&self) -> &'static str {
        PROVIDER
    }

    fn history(&self, request: HistoryRequest) -> HistoryStream {
        let pages = Pages {
            session: self.session().clone(),
            search: self.directory().clone(),
            series: request.series,
            wanted: match request.depth {
                HistoryDepth::Newest(count) => Some(count),
                HistoryDepth::Full => None,
            },
            chart: None,
            oldest: None,
        };
        stream::unfold(Some(pages), |pages| async move {
            let mut pages = pages?;
            match pages.observed().await {
                Ok(Some((page, last))) => Some((Ok(page), (!last).then_some(pages))),
                Ok(None) => None,
                Err(error) => {
                    let error = pages.search.suggest(error).await;
                    Some((Err(error), None))
                }
            }
        })
        .boxed()
    }
}

/// A request that was answered up to `oldest`.
struct Pages {
    session: Session,
    search: Search,
    series: Series,
    /// How many more bars; all, where none.
    wanted: Option<u32>,
    chart: Option<Chart>,
    oldest: Option<Timestamp>,
}

impl Pages {
    /// The next page, counted, timed and traced.
    async fn observed(&mut self) -> Result<Option<(HistoryPage, bool)>, ProviderError> {
        let span = provider_span(PROVIDER, &self.series.to_string());
        let work = traced(span, self.next(), |error| error.code().reason());
        timed(work, outcome_of, |outcome, elapsed| {
            PROVIDER_PAGES.with([outcome]).increment(1);
            PROVIDER_PAGE_DURATION.handle().record(elapsed);
        })
        .await
    }

    /// The next page and whether it is the last one; none where nothing is wanted.
    async fn next(&mut self) -> Result<Option<(HistoryPage, bool)>, ProviderError> {
        let count = self.wanted.unwrap_or(PAGE_BARS).min(PAGE_BARS);
        if count == 0 {
            return Ok(None);
        }
        let patience = self.session.config().history_timeout;
        let first = self.chart.is_none();
        let asked = match (&mut self.chart, self.oldest) {
            (Some(chart), Some(oldest)) => chart.older(oldest, count, patience).await,
            _ => self.newest(count, patience).await,
        };
        let reply = match asked {
            Err(ProviderError::Unavailable { phase: Phase::History, .. }) => {
                self.once_more(count, patience).await?
            }
            answer => answer?,
        };
        // An instrument without bars yet is described all the same, by an empty last page.
        if first && reply.bars.is_empty() && reply.symbol.is_none() {
            let (symbol, detail) = (self.series.symbol.clone(), None);
            return Err(ProviderError::NoData { provider: PROVIDER, symbol, detail });
        }
        Ok(Some(self.page(reply)))
    }

    async fn newest(&mut self, count: u32, patience: Duration) -> Result<Reply, ProviderError> {
        let chart = self.chart.insert(self.session.chart(&self.series.symbol).await?);
        chart.newest(self.series.interval, count, patience).await
    }

    /// The page that a connection took with it when it ended. Requests share connections, and the
    /// trouble of one may end it for all: each gets one of its own, and pages back to where it was.
    async fn once_more(&mut self, count: u32, patience: Duration) -> Result<Reply, ProviderError> {
        let chart = self.chart.insert(self.session.chart_alone(&self.series.symbol).await?);
        let interval = self.series.interval;
        let Some(oldest) = self.oldest else {
            return chart.newest(interval, count, patience).await;
        };
        let mut reply = chart.newest(interval, PAGE_BARS, patience).await?;
        while let Some(reached) = reply.bars.first().map(|bar| bar.open_time)
            && reached >= oldest
            && reply.end.is_none()
        {
            let count = if reached == oldest { count } else { PAGE_BARS };
            reply = chart.older(reached, count, patience).await?;
        }
        reply.bars.retain(|bar| bar.open_time < oldest);
        Ok(Reply { symbol: None, ..reply })
    }

    fn page(&mut self, reply: Reply) -> (HistoryPage, bool) {
        let Reply { mut bars, symbol, server_time, end } = reply;
        // No older bar: that is the end, said or not.
        let end = end.or_else(|| bars.is_empty().then_some(HistoryEnd::End));
        let cut = self.keep_wanted(&mut bars);
        // Without any clock of the server's only what has a newer bar counts as finished.
        let newest = bars.last().map(|bar| bar.open_time).or(self.oldest);
        let server_time = server_time.or(newest).unwrap_or(Timestamp::MIN);
        self.oldest = bars.first().map(|bar| bar.open_time).or(self.oldest);
        let last = end.is_some() || self.wanted == Some(0);
        // Bars that were cut off are older ones, whatever the server said.
        let end = if cut { None } else { end };
        (HistoryPage { bars, server_time, symbol, end }, last)
    }

    /// Drops the oldest bars where more came than are wanted; answers whether it did.
    fn keep_wanted(&mut self, bars: &mut Vec<RawBar>) -> bool {
        let Some(wanted) = self.wanted else { return false };
        let most = usize::try_from(wanted).unwrap_or(usize::MAX);
        let surplus = bars.len().saturating_sub(most);
        bars.drain(..surplus);
        let left = most - bars.len();
        self.wanted = Some(u32::try_from(left).unwrap_or(u32::MAX));
        surplus > 0
    }
}
