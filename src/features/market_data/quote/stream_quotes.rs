//! Stream quotes as they come.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use jiff::Timestamp;
use metrics::Counter;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::feed_state::FeedWord;
use super::follow::Follow;
use super::hub::Hub;
use super::pace::StreamPace;
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
    /// The newest quote of a symbol, as it is sent.
    Quote(Bytes),
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
    Feed(FeedWord),
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
        let service = &self.service;
        let follow = service.follow(query.symbols.clone()).await?;
        let reader = Reader::new(service.hub(), service.pace(), service.stopping(), query, follow);
        Ok(service.watch().watch(reader.into_stream(), |_| None).boxed())
    }
}

/// One subscriber. It holds what it has seen, and nothing that it has not.
struct Reader {
    hub: Hub,
    /// Each symbol with the sequence that was sent last.
    symbols: Vec<(Symbol, u64)>,
    names: Vec<Symbol>,
    refused: HashSet<Symbol>,
    conflate: Option<Duration>,
    quotes: watch::Receiver<u64>,
    feed: watch::Receiver<FeedWord>,
    heartbeat: Interval,
    stopping: CancellationToken,
    ready: VecDeque<QuoteNews>,
    /// Which of `symbols` have something newer: what it is, is looked up when it is taken.
    due: VecDeque<usize>,
    /// When the next batch is looked for: the first update goes at once, the rest in batches.
    next_look: Instant,
    last: Option<QuoteError>,
    ended: bool,
    conflated: Counter,
    _follow: Follow,
}

impl Reader {
    fn new(
        hub: &Hub,
        pace: StreamPace,
        stopping: CancellationToken,
        query: StreamQuotes,
        follow: Follow,
    ) -> Self {
        let (mut feed, mut quotes) = (hub.feed_word(), hub.quotes_changed());
        let first = QuoteNews::Feed(feed.borrow_and_update().clone());
        // The first look finds all that is there.
        quotes.mark_changed();
        Self {
            hub: hub.clone(),
            symbols: query.symbols.iter().map(|symbol| (symbol.clone(), 0)).collect(),
            names: query.symbols,
            refused: HashSet::new(),
            conflate: query.conflate,
            quotes,
            feed,
            heartbeat: pace.heartbeats(),
            stopping,
            ready: VecDeque::from([first]),
            due: VecDeque::new(),
            next_look: Instant::now(),
            last: None,
            ended: false,
            conflated: STREAM_QUOTES_CONFLATED.handle(),
            _follow: follow,
        }
    }

    fn into_stream(self) -> QuoteNewsStream {
        stream::unfold(Box::new(self), Self::next).boxed()
    }

    async fn next(mut self: Box<Self>) -> Option<(Result<QuoteNews, QuoteError>, Box<Self>)> {
        loop {
            if let Some(news) = self.take() {
                return Some((Ok(news), self));
            }
            if self.ended {
                let last = self.last.take()?;
                return Some((Err(last), self));
            }
            self.wait().await;
        }
    }

    /// The next thing to say. A quote is the newest there is by now.
    fn take(&mut self) -> Option<QuoteNews> {
        while self.ready.is_empty()
            && let Some(index) = self.due.pop_front()
        {
            let Some((symbol, seen)) = self.symbols.get_mut(index) else { continue };
            let Some((sequence, event)) = self.hub.newer_quote(symbol, *seen) else { continue };
            let skipped = *seen > 0 && sequence > *seen + 1;
            if skipped {
                self.conflated.increment(sequence - *seen - 1);
            }
            if skipped && self.conflate.is_none() {
                let (epoch, from, to) = (self.hub.epoch(), *seen + 1, sequence - 1);
                self.ready.push_back(QuoteNews::Gap { symbol: symbol.clone(), epoch, from, to });
            }
            *seen = sequence;
            self.ready.push_back(QuoteNews::Quote(event));
        }
        self.ready.pop_front()
    }

    async fn wait(&mut self) {
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

    /// Finds out what is newer than what was sent.
    fn look(&mut self) {
        self.next_look = Instant::now() + self.conflate.unwrap_or(STREAM_BATCH_EVERY);
        for (symbol, error) in self.hub.refusals(&self.names) {
            if self.refused.insert(symbol.clone()) {
                self.ready.push_back(QuoteNews::Refused(symbol, error));
            }
        }
        self.due = self.hub.newer_quotes(&self.symbols).into();
    }

    fn end(&mut self) {
        self.ended = true;
        self.ready.push_back(QuoteNews::Draining(RETRY_AFTER_OUTAGE));
        self.last = Some(QuoteError::Draining);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use tokio::sync::mpsc;

    use super::*;
    use crate::features::market_data::quote::Connection;
    use crate::features::market_data::quote::hub::LatestQuote;

    fn symbol(code: &str) -> Symbol {
        Symbol::new("TEST", code).unwrap()
    }

    fn reader(hub: &Hub, conflate: Option<Duration>) -> QuoteNewsStream {
        reader_until(CancellationToken::new(), hub, conflate)
    }

    fn reader_until(
        stopping: CancellationToken,
        hub: &Hub,
        conflate: Option<Duration>,
    ) -> QuoteNewsStream {
        let symbols = vec![symbol("A"), symbol("B")];
        let (released, _) = mpsc::unbounded_channel();
        let follow = Follow::new(symbols.clone(), released);
        let query = StreamQuotes { symbols, conflate };
        Reader::new(hub, StreamPace::default(), stopping, query, follow).into_stream()
    }

    fn put(hub: &Hub, code: &str, sequence: u64) {
        let quote = Quote { last_price: Some(1.0), ..Quote::default() };
        hub.put_quotes(&[(symbol(code), LatestQuote { quote, sequence })]);
    }

    async fn next(stream: &mut QuoteNewsStream) -> QuoteNews {
        stream.next().await.unwrap().unwrap()
    }

    async fn next_quote(stream: &mut QuoteNewsStream) -> Bytes {
        loop {
            if let QuoteNews::Quote(event) = next(stream).await {
                return event;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_says_every_fifteen_seconds_that_it_is_alive() {
        let mut stream = reader(&Hub::new(1, 0), None);
        assert!(matches!(next(&mut stream).await, QuoteNews::Feed(_)));
        let began = Instant::now();
        for beat in 1..=3 {
            assert!(matches!(next(&mut stream).await, QuoteNews::Heartbeat(_)));
            assert_eq!(began.elapsed().as_secs(), beat * 15);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_two_readers_are_sent_is_encoded_once() {
        let hub = Hub::new(1, 0);
        let (mut one, mut other) = (reader(&hub, None), reader(&hub, None));
        put(&hub, "A", 1);
        let (one, other) = (next_quote(&mut one).await, next_quote(&mut other).await);
        assert_eq!((one.as_ptr(), &one), (other.as_ptr(), &other));
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_gets_what_is_newest_when_it_reads_and_is_told_what_was_left_out() {
        let hub = Hub::new(1, 0);
        let mut stream = reader(&hub, None);
        put(&hub, "A", 1);
        put(&hub, "B", 1);
        next_quote(&mut stream).await;
        next_quote(&mut stream).await;
        put(&hub, "A", 2);
        put(&hub, "B", 2);
        next_quote(&mut stream).await;
        // It was found, but is not what is newest any more.
        put(&hub, "B", 5);
        let QuoteNews::Gap { symbol: of, from, to, .. } = next(&mut stream).await else {
            panic!("no gap")
        };
        assert_eq!((of, from, to), (symbol("B"), 2, 4));
        next_quote(&mut stream).await;
        assert!(next_quote(&mut stream).now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_asks_for_less_gets_the_newest_in_its_time_and_no_word_of_the_others() {
        let hub = Hub::new(1, 0);
        let mut stream = reader(&hub, Some(Duration::from_secs(1)));
        put(&hub, "A", 1);
        next_quote(&mut stream).await;
        let began = Instant::now();
        put(&hub, "A", 2);
        put(&hub, "A", 7);
        assert!(matches!(next(&mut stream).await, QuoteNews::Quote(_)));
        assert_eq!(began.elapsed(), Duration::from_secs(1));
        assert!(next_quote(&mut stream).now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_feed_is_told_first_and_when_what_is_said_of_it_changes() {
        let hub = Hub::new(1, 0);
        let mut stream = reader(&hub, None);
        assert!(matches!(next(&mut stream).await, QuoteNews::Feed(_)));
        hub.put_feed(|feed| feed.last_message_at = Some(Timestamp::UNIX_EPOCH));
        assert!(next(&mut stream).now_or_never().is_none());
        hub.put_feed(|feed| feed.connection = Connection::Connected);
        let QuoteNews::Feed(feed) = next(&mut stream).await else { panic!("no feed") };
        assert_eq!((feed.connection, feed.error), (Connection::Connected, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_symbol_that_is_refused_is_told_once() {
        let hub = Hub::new(1, 0);
        let mut stream = reader(&hub, None);
        assert!(matches!(next(&mut stream).await, QuoteNews::Feed(_)));
        let (provider, symbol) = ("test", symbol("B"));
        let error = ProviderError::SymbolNotFound {
            provider,
            symbol: symbol.clone(),
            suggestions: Vec::new(),
        };
        hub.refuse(&symbol, error);
        let QuoteNews::Refused(of, _) = next(&mut stream).await else { panic!("not told") };
        assert_eq!(of, symbol);
        put(&hub, "A", 1);
        assert!(matches!(next(&mut stream).await, QuoteNews::Quote(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_says_that_the_service_stops_and_then_ends() {
        let stopping = CancellationToken::new();
        let mut stream = reader_until(stopping.clone(), &Hub::new(1, 0), None);
        assert!(matches!(next(&mut stream).await, QuoteNews::Feed(_)));
        stopping.cancel();
        assert!(matches!(next(&mut stream).await, QuoteNews::Draining(_)));
        assert!(matches!(stream.next().await, Some(Err(QuoteError::Draining))));
        assert!(stream.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_quote_without_a_price_is_not_sent() {
        let hub = Hub::new(1, 0);
        let mut stream = reader(&hub, None);
        let quote = Quote { volume: Some(0.0), ..Quote::default() };
        hub.put_quotes(&[(symbol("A"), LatestQuote { quote, sequence: 1 })]);
        assert!(next_quote(&mut stream).now_or_never().is_none());
    }
}
