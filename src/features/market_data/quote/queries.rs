//! Ask for the newest quotes, forming bars, and how the feed is.

use super::feed_state::{FeedState, Subscription};
use super::stream_quotes::SequencedQuote;
use super::{QuoteError, QuoteService};
use crate::common::mediator::{Handler, Request};
use crate::domain::ohlcv::Bar;
use crate::domain::shared::{Series, Symbol};

/// How is the feed?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetFeedStatus;

/// What is followed until told otherwise?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListSubscriptions;

/// What is the newest quote of `symbol`?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetLatestQuote {
    /// Which.
    pub symbol: Symbol,
}

/// What are the newest quotes of `symbols`, or of all that are subscribed where it is empty?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuotes {
    /// Which.
    pub symbols: Vec<Symbol>,
}

/// What is the bar of `series` that is forming?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetCurrentBar {
    /// Which series.
    pub series: Series,
}

/// A quote with its symbol.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedQuote {
    /// Whose.
    pub symbol: Symbol,
    /// What is known.
    pub quote: SequencedQuote,
}

impl Request for GetFeedStatus {
    type Output = FeedState;
    type Error = QuoteError;
    const NAME: &'static str = "quote_stream.get_feed_status";
}

impl Request for ListSubscriptions {
    type Output = Vec<Subscription>;
    type Error = QuoteError;
    const NAME: &'static str = "quote_stream.list_subscriptions";
}

impl Request for GetLatestQuote {
    type Output = NamedQuote;
    type Error = QuoteError;
    const NAME: &'static str = "quote_stream.get_latest_quote";
}

impl Request for ListQuotes {
    type Output = Vec<NamedQuote>;
    type Error = QuoteError;
    const NAME: &'static str = "quote_stream.list_quotes";
}

impl Request for GetCurrentBar {
    type Output = Bar;
    type Error = QuoteError;
    const NAME: &'static str = "quote_stream.get_current_bar";
}

/// Answers all five.
pub(super) struct FeedQueries {
    pub(super) service: QuoteService,
}

impl Handler<GetFeedStatus> for FeedQueries {
    async fn handle(&self, _: GetFeedStatus) -> Result<FeedState, QuoteError> {
        Ok(self.service.status())
    }
}

impl Handler<ListSubscriptions> for FeedQueries {
    async fn handle(&self, _: ListSubscriptions) -> Result<Vec<Subscription>, QuoteError> {
        self.service.subscriptions().await
    }
}

impl Handler<GetLatestQuote> for FeedQueries {
    async fn handle(&self, query: GetLatestQuote) -> Result<NamedQuote, QuoteError> {
        self.service.latest(&query.symbol).await
    }
}

impl Handler<ListQuotes> for FeedQueries {
    async fn handle(&self, query: ListQuotes) -> Result<Vec<NamedQuote>, QuoteError> {
        self.service.newest(query.symbols).await
    }
}

impl Handler<GetCurrentBar> for FeedQueries {
    async fn handle(&self, query: GetCurrentBar) -> Result<Bar, QuoteError> {
        self.service.current_bar(query.series).await
    }
}
