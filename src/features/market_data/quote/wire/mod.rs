//! Protobuf to commands and queries, quotes and events to protobuf.

mod events;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

pub(super) use self::events::{encode_bar_event, encode_forming_event, encode_quote_event};
use super::commands::{StartFeed, StopFeed, Subscribe, Unsubscribe};
use super::cursor::{Cursor, digest};
use super::feed_state::{Connection, FeedState, Subscription, SubscriptionState};
use super::hub::LatestQuote;
use super::queries::{
    GetCurrentBar, GetFeedStatus, GetLatestQuote, ListQuotes, ListSubscriptions, NamedQuote,
};
use super::stream_bars::{BarCursor, BarsFrom, StreamBars};
use super::stream_quotes::{SequencedQuote, StreamQuotes};
use crate::common::constants::{MAX_CONFLATE, MAX_STREAM_SYMBOLS};
use crate::common::error::{FieldViolations, InvalidFields};
use crate::domain::ohlcv::Bar;
use crate::domain::quote::Quote;
use crate::domain::shared::{Interval, Symbol};
use crate::features::market_data::wire::{
    ReadFields as _, bar, count, duration, interval, timestamp,
};
use crate::proto::v1 as pb;
use crate::proto::v1::stream_bars_request;

macro_rules! without_fields {
    ($($request:ident => $ours:ident),+ $(,)?) => {
        $(impl From<pb::$request> for $ours {
            fn from(_: pb::$request) -> Self {
                Self
            }
        })+
    };
}

without_fields!(
    StartFeedRequest => StartFeed,
    StopFeedRequest => StopFeed,
    GetFeedStatusRequest => GetFeedStatus,
    ListSubscriptionsRequest => ListSubscriptions,
);

macro_rules! with_a_symbol {
    ($($request:ident => $ours:ident),+ $(,)?) => {
        $(impl TryFrom<pb::$request> for $ours {
            type Error = InvalidFields;

            fn try_from(request: pb::$request) -> Result<Self, InvalidFields> {
                let mut violations = FieldViolations::default();
                let symbol = violations.symbol(&request.symbol);
                violations.finish(symbol.map(|symbol| Self { symbol }))
            }
        })+
    };
}

with_a_symbol!(
    SubscribeRequest => Subscribe,
    UnsubscribeRequest => Unsubscribe,
    GetLatestQuoteRequest => GetLatestQuote,
);

impl TryFrom<pb::ListQuotesRequest> for ListQuotes {
    type Error = InvalidFields;

    fn try_from(request: pb::ListQuotesRequest) -> Result<Self, InvalidFields> {
        let mut violations = FieldViolations::default();
        let symbols = symbols(&mut violations, &request.symbols, 0);
        violations.finish(Some(Self { symbols }))
    }
}

impl TryFrom<pb::GetCurrentBarRequest> for GetCurrentBar {
    type Error = InvalidFields;

    fn try_from(request: pb::GetCurrentBarRequest) -> Result<Self, InvalidFields> {
        let mut violations = FieldViolations::default();
        let series = violations.series(&request.symbol, request.interval);
        violations.finish(series.map(|series| Self { series }))
    }
}

impl TryFrom<pb::StreamQuotesRequest> for StreamQuotes {
    type Error = InvalidFields;

    fn try_from(request: pb::StreamQuotesRequest) -> Result<Self, InvalidFields> {
        let mut violations = FieldViolations::default();
        let symbols = symbols(&mut violations, &request.symbols, 1);
        let conflate = request.conflate.map(|given| {
            let length = Duration::try_from(given).ok();
            length.filter(|length| *length <= MAX_CONFLATE).unwrap_or_else(|| {
                violations.push("conflate", "must be 0 s to 60 s; absent means as they come");
                Duration::ZERO
            })
        });
        let conflate = conflate.filter(|length| !length.is_zero());
        violations.finish(Some(Self { symbols, conflate }))
    }
}

impl TryFrom<pb::StreamBarsRequest> for StreamBars {
    type Error = InvalidFields;

    fn try_from(request: pb::StreamBarsRequest) -> Result<Self, InvalidFields> {
        let mut violations = FieldViolations::default();
        let symbols = symbols(&mut violations, &request.symbols, 1);
        let mut intervals = BTreeSet::new();
        for (index, value) in request.intervals.iter().enumerate() {
            match Interval::ALL.into_iter().find(|each| i32::from(interval(*each)) == *value) {
                Some(known) => drop(intervals.insert(known)),
                None => violations.push(format!("intervals[{index}]"), "is no interval"),
            }
        }
        if request.intervals.is_empty() {
            intervals.extend(Interval::ALL);
        }
        let intervals: Vec<Interval> = intervals.into_iter().collect();
        let from = match request.from {
            None => BarsFrom::Now,
            Some(stream_bars_request::From::StartTime(time)) => {
                violations.time("start_time", Some(time)).map_or(BarsFrom::Now, BarsFrom::Time)
            }
            Some(stream_bars_request::From::ResumeCursor(text)) => {
                resume(&mut violations, &text, &symbols, &intervals)
            }
        };
        let include_forming = request.include_forming;
        violations.finish(Some(Self { symbols, intervals, include_forming, from }))
    }
}

/// Behind the event that had this cursor. While stored bars are sent it belongs to the symbols and
/// intervals that it was given out for; after that it is a place in the one log of all bars.
fn resume(
    violations: &mut FieldViolations,
    text: &str,
    symbols: &[Symbol],
    intervals: &[Interval],
) -> BarsFrom {
    let Some(cursor) = Cursor::decode(text) else {
        violations.push("resume_cursor", "must be the cursor of an event, unchanged");
        return BarsFrom::Now;
    };
    let query = digest(symbols, intervals);
    if cursor.stored.as_ref().is_some_and(|stored| stored.query != query) {
        violations.push(
            "resume_cursor",
            "was given out while stored bars of other symbols or intervals were sent: ask for the same, or give start_time",
        );
    }
    BarsFrom::Cursor(BarCursor(cursor))
}

/// Symbols that a request lists, each once, in the order given.
fn symbols(violations: &mut FieldViolations, texts: &[String], least: usize) -> Vec<Symbol> {
    if texts.len() < least || texts.len() > MAX_STREAM_SYMBOLS {
        violations.push("symbols", format!("must be {least} to {MAX_STREAM_SYMBOLS} symbols"));
        return Vec::new();
    }
    let mut seen = BTreeSet::new();
    let mut symbols = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let symbol = violations.check(&format!("symbols[{index}]"), Symbol::parse(text));
        symbols.extend(symbol.filter(|symbol| seen.insert(symbol.clone())));
    }
    symbols
}

impl From<(FeedState, bool)> for pb::FeedStatus {
    fn from((feed, unchanged): (FeedState, bool)) -> Self {
        Self {
            state: connection(feed.connection).into(),
            connected_since: feed.connected_since.map(timestamp),
            reconnects: count(feed.reconnects.into()),
            subscription_count: count(feed.subscriptions.into()),
            active_symbols: count(feed.active_symbols.into()),
            last_message_time: feed.last_message_at.map(timestamp),
            last_error: feed.last_error.unwrap_or_default(),
            unchanged,
        }
    }
}

impl From<FeedState> for pb::FeedStatus {
    fn from(feed: FeedState) -> Self {
        Self::from((feed, false))
    }
}

impl From<Subscription> for pb::Subscription {
    fn from(subscription: Subscription) -> Self {
        let state = match subscription.state {
            SubscriptionState::Pending => pb::SubscriptionState::Pending,
            SubscriptionState::Active => pb::SubscriptionState::Active,
            SubscriptionState::Error => pb::SubscriptionState::Error,
        };
        Self {
            symbol: subscription.symbol.to_string(),
            state: state.into(),
            error: subscription.error.unwrap_or_default(),
            create_time: Some(timestamp(subscription.created_at)),
        }
    }
}

impl From<Vec<Subscription>> for pb::ListSubscriptionsResponse {
    fn from(subscriptions: Vec<Subscription>) -> Self {
        Self { subscriptions: subscriptions.into_iter().map(Into::into).collect() }
    }
}

impl From<NamedQuote> for pb::Quote {
    fn from(NamedQuote { symbol, quote }: NamedQuote) -> Self {
        pb_quote(&symbol, &quote)
    }
}

impl From<Bar> for pb::Bar {
    fn from(known: Bar) -> Self {
        bar(&known)
    }
}

impl From<Vec<NamedQuote>> for pb::ListQuotesResponse {
    fn from(quotes: Vec<NamedQuote>) -> Self {
        Self { quotes: quotes.into_iter().map(Into::into).collect() }
    }
}

fn pb_quote(symbol: &Symbol, known: &SequencedQuote) -> pb::Quote {
    let quote = &known.quote;
    pb::Quote {
        symbol: symbol.to_string(),
        time: quote.last_time.map(timestamp),
        last_price: quote.last_price.unwrap_or_default(),
        bid: quote.bid,
        ask: quote.ask,
        volume: quote.volume,
        change: quote.change,
        change_percent: quote.change_percent,
        open_price: quote.open_price,
        high_price: quote.high_price,
        low_price: quote.low_price,
        prev_close: quote.prev_close,
        sequence: known.sequence.try_into().unwrap_or(i64::MAX),
        epoch: known.epoch,
        delay: quote.delay.filter(|delay| !delay.is_zero()).map(duration),
    }
}

const fn connection(state: Connection) -> pb::ConnectionState {
    match state {
        Connection::Stopped => pb::ConnectionState::Stopped,
        Connection::Idle => pb::ConnectionState::Idle,
        Connection::Connecting => pb::ConnectionState::Connecting,
        Connection::Connected => pb::ConnectionState::Connected,
        Connection::Reconnecting => pb::ConnectionState::Reconnecting,
    }
}

/// A quote as it goes into the cache.
pub(super) fn encode_quote(symbol: &Symbol, latest: &LatestQuote, epoch: i64) -> Bytes {
    let quote = SequencedQuote { quote: latest.quote, sequence: latest.sequence, epoch };
    pb_quote(symbol, &quote).encode_to_vec().into()
}

/// A quote of `symbol` as it came out of the cache; none where it is no such thing.
pub(super) fn decode_quote(symbol: &Symbol, bytes: Bytes) -> Option<NamedQuote> {
    let cached = pb::Quote::decode(bytes).ok().filter(|cached| cached.symbol == symbol.as_str())?;
    // Without a time nothing was traded yet, and there is no price.
    let last_time = FieldViolations::default().time("time", cached.time)?;
    let quote = Quote {
        last_price: Some(cached.last_price),
        last_time: Some(last_time),
        volume: cached.volume,
        bid: cached.bid,
        ask: cached.ask,
        change: cached.change,
        change_percent: cached.change_percent,
        open_price: cached.open_price,
        high_price: cached.high_price,
        low_price: cached.low_price,
        prev_close: cached.prev_close,
        session: None,
        delay: cached.delay.and_then(|delay| delay.try_into().ok()),
    };
    let sequence = cached.sequence.try_into().ok()?;
    let quote = SequencedQuote { quote, sequence, epoch: cached.epoch };
    Some(NamedQuote { symbol: symbol.clone(), quote })
}

/// A forming bar as it goes into the cache.
pub(super) fn encode_bar(known: &Bar) -> Bytes {
    bar(known).encode_to_vec().into()
}
