//! Stream bars as they close, from anywhere that is kept, without a hole.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt as _};
use jiff::Timestamp;

use super::bar_reader::BarReader;
use super::cursor::Cursor;
use super::feed_state::FeedWord;
use super::{QuoteError, QuoteService};
use crate::common::mediator::{Handler, Request};
use crate::domain::ohlcv::Bar;
use crate::domain::shared::{Interval, Series, Symbol};
use crate::infrastructure::interfaces::ProviderError;

/// Stream the bars of `symbols`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamBars {
    /// Which, each once.
    pub symbols: Vec<Symbol>,
    /// Which lengths, each once.
    pub intervals: Vec<Interval>,
    /// Whether forming bars are wanted.
    pub include_forming: bool,
    /// Where to begin.
    pub from: BarsFrom,
}

/// Where a stream of bars begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BarsFrom {
    /// With the next bar that closes.
    Now,
    /// Behind an event that was sent.
    Cursor(BarCursor),
    /// With the stored bars that open at or after it.
    Time(Timestamp),
}

/// A cursor that was given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BarCursor(pub(super) Cursor);

/// Something that a stream of bars says.
#[derive(Clone, Debug)]
pub enum BarNews {
    /// A bar closed or was corrected.
    Bar(Series, Bar),
    /// A bar is forming: an event as it is sent, but for its cursor.
    Forming(Bytes),
    /// Something happened just now: an event as it is sent, with its cursor.
    Told(Bytes),
    /// The time of a bar is over.
    IntervalClosed(Series, Timestamp),
    /// The feed was away from one time to another.
    Gap(Symbol, Timestamp, Timestamp),
    /// How the feed is.
    Feed(FeedWord),
    /// A symbol that the provider refused.
    Refused(Symbol, ProviderError),
    /// The stream is alive.
    Heartbeat(Timestamp),
    /// The server is stopping; when to come back.
    Draining(Duration),
}

/// News with the cursor behind it.
#[derive(Clone, Debug)]
pub struct BarEvent {
    /// What happened.
    pub news: BarNews,
    /// Resumes behind it.
    pub cursor: BarCursor,
}

/// Events, and an error as the last.
pub type BarEventStream = BoxStream<'static, Result<BarEvent, QuoteError>>;

impl Request for StreamBars {
    type Output = BarEventStream;
    type Error = QuoteError;
    const NAME: &'static str = "quote_stream.stream_bars";
}

pub(super) struct StreamBarsHandler {
    pub(super) service: QuoteService,
}

impl Handler<StreamBars> for StreamBarsHandler {
    async fn handle(&self, query: StreamBars) -> Result<BarEventStream, QuoteError> {
        let reader = BarReader::start(&self.service, query).await?;
        let place = |event: &BarEvent| Some(event.cursor.0.clone());
        Ok(self.service.watch().watch(reader.into_stream(), place).boxed())
    }
}
