//! Stream quotes as they come.

use std::collections::VecDeque;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt as _};
use jiff::Timestamp;
use metrics::Counter;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::feed_state::FeedState;
use super::follow::Follow;
use super::hub::Hub;
use super::pace::heartbeat;
use super::{QuoteError, QuoteService};
use crate::common::constants::{RETRY_AFTER_OUTAGE, STREAM_BATCH_EVERY};
use crate::common::mediator::{Handler, Request};
use crate::common::metrics::table::STREAM_QUOTES_CONFLATED;
use crate::domain::quote::Quote;
use crate::domain::shared::Symbol;
use crate::infrastructure::interfaces::ProviderError;

/// Stream the quotes of `symbols`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamQuotes {
    /// Which, each once.
    pub symbols: Vec<Symbol>,
    /// At most one update of a symbol in this time.
    pub conflate: Option<Duration>,
}

/// Something that a stream of quotes says.
#[derive(Clone, Debug)]
pub enum QuoteNews {
    /// The newest quote of a symbol.
    Quote(Symbol, SequencedQuote),
    /// Updates that were left out.
    Gap {
        /// Of which symbol.
        symbol: Symbol,
        /// Of which start of the server.
        epoch: i64,
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// How the feed is.
    Feed(FeedState),
    /// A symbol that the provider refused.
    Refused(Symbol, ProviderError),
    /// The stream is alive.
    Heartbeat(Timestamp),
    /// The server is stopping; when to come back.
    Draining(Duration),
}

/// A quote in its place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SequencedQuote {
    /// What is known.
    pub quote: Quote,
    /// Rises by one with each update of the symbol.
    pub sequence: u64,
    /// Another with every start of the server.
    pub epoch: i64,
}

/// News, and an error as the last.
pub type QuoteNewsStream = BoxStream<'static, Result<QuoteNews, QuoteError>>;

impl Request for StreamQuotes {
    type Output = QuoteNewsStream;
    type Error = QuoteError;
    const NAME: &'static str = "quote_stream.stream_quotes";
}

pub(super) struct StreamQuotesHandler {
    pub(super) service: QuoteService,
}

impl Handler<StreamQuotes> for StreamQuotesHandler {
    async fn handle(&self, query: StreamQuotes) -> Result<QuoteNewsStream, QuoteError> {
        let follow = self.service.follow(query.symbols.clone()).await?;
        let reader = Reader::new(&self.service, query, follow);
        Ok(stream::unfold(reader, Reader::next).boxed())
    }
}

/// One subscriber. It holds what it has seen, and nothing that it has not.
struct Reader {
    hub: Hub,
    /// Each symbol with the sequence that was sent last.
    symbols: Vec<(Symbol, u64)>,
    refused: Vec<Symbol>,
    conflate: Option<Duration>,
    quotes: watch::Receiver<u64>,
    feed: watch::Receiver<FeedState>,
    heartbeat: Interval,
    stopping: CancellationToken,
    ready: VecDeque<QuoteNews>,
    /// When the next batch is looked for: the first update goes at once, the rest in batches.
    next_look: Instant,
    last: Option<QuoteError>,
    ended: bool,
    conflated: Counter,
    _follow: Follow,
}

impl Reader {
    fn new(service: &QuoteService, query: StreamQuotes, follow: Follow) -> Self {
        let hub = service.hub().clone();
        let (mut feed, mut quotes) = (hub.feed(), hub.quotes_changed());
        let first = QuoteNews::Feed(feed.borrow_and_update().clone());
        // The first look finds all that is there.
        quotes.mark_changed();
        Self {
            hub,
            symbols: query.symbols.into_iter().map(|symbol| (symbol, 0)).collect(),
            refused: Vec::new(),
            conflate: query.conflate,
            quotes,
            feed,
            heartbeat: heartbeat(),
            stopping: service.stopping(),
            ready: VecDeque::from([first]),
            next_look: Instant::now(),
            last: None,
            ended: false,
            conflated: STREAM_QUOTES_CONFLATED.handle(),
            _follow: follow,
        }
    }

    async fn next(mut self) -> Option<(Result<QuoteNews, QuoteError>, Self)> {
        loop {
            if let Some(news) = self.ready.pop_front() {
                return Some((Ok(news), self));
            }
            if self.ended {
                let last = self.last.take()?;
                return Some((Err(last), self));
            }
            let next_look = self.next_look;
            let quotes = &mut self.quotes;
            let look = async {
                sleep_until(next_look).await;
                quotes.changed().await.is_ok()
            };
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => self.end(),
                changed = self.feed.changed() => match changed {
                    Ok(()) => {
                        let feed = self.feed.borrow_and_update().clone();
                        self.ready.push_back(QuoteNews::Feed(feed));
                    }
                    Err(_) => self.end(),
                },
                _ = self.heartbeat.tick() => {
                    self.ready.push_back(QuoteNews::Heartbeat(Timestamp::now()));
                }
                alive = look => if alive { self.look() } else { self.end() },
            }
        }
    }

    /// Collects what is newer than what was sent.
    fn look(&mut self) {
        self.next_look = Instant::now() + self.conflate.unwrap_or(STREAM_BATCH_EVERY);
        let epoch = self.hub.epoch();
        for (index, latest) in self.hub.newer_quotes(&self.symbols) {
            let Some((symbol, seen)) = self.symbols.get_mut(index) else { continue };
            if *seen > 0 {
                self.conflated.increment((latest.sequence - *seen).saturating_sub(1));
            }
            let skipped = *seen > 0 && latest.sequence > *seen + 1;
            if skipped && self.conflate.is_none() {
                let (symbol, from, to) = (symbol.clone(), *seen + 1, latest.sequence - 1);
                self.ready.push_back(QuoteNews::Gap { symbol, epoch, from, to });
            }
            *seen = latest.sequence;
            let quote = SequencedQuote { quote: latest.quote, sequence: latest.sequence, epoch };
            self.ready.push_back(QuoteNews::Quote(symbol.clone(), quote));
        }
        for (symbol, _) in &self.symbols {
            if self.refused.contains(symbol) {
                continue;
            }
            if let Some(error) = self.hub.refusal(symbol) {
                self.refused.push(symbol.clone());
                self.ready.push_back(QuoteNews::Refused(symbol.clone(), error));
            }
        }
    }

    fn end(&mut self) {
        self.ended = true;
        self.ready.push_back(QuoteNews::Draining(RETRY_AFTER_OUTAGE));
        self.last = Some(QuoteError::Draining);
    }
}
