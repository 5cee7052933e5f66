//! What streams say, in protobuf: encoded once where many say the same.

use bytes::Bytes;
use prost::Message as _;

use super::{connection, pb_quote};
use crate::common::grpc::{Encoded, to_rpc_status};
use crate::domain::ohlcv::Bar;
use crate::domain::shared::{Series, Symbol};
use crate::features::market_data::quote::feed_state::FeedWord;
use crate::features::market_data::quote::stream_bars::{BarEvent, BarNews};
use crate::features::market_data::quote::stream_quotes::{QuoteNews, SequencedQuote};
use crate::features::market_data::wire::{bar, duration, interval, timestamp};
use crate::infrastructure::interfaces::ProviderError;
use crate::proto::v1 as pb;
use crate::proto::v1::{bar_event, quote_event};

impl From<QuoteNews> for Encoded {
    fn from(news: QuoteNews) -> Self {
        let sequence = |value: u64| value.try_into().unwrap_or(i64::MAX);
        let event = match news {
            QuoteNews::Quote(event) => return Self::shared(event),
            QuoteNews::Gap { symbol, epoch, from, to } => quote_event::Event::Gap(pb::QuoteGap {
                symbol: symbol.to_string(),
                epoch,
                from_sequence: sequence(from),
                to_sequence: sequence(to),
            }),
            QuoteNews::Feed(feed) => quote_event::Event::Feed(feed_event(feed)),
            QuoteNews::Refused(symbol, error) => {
                quote_event::Event::SymbolError(symbol_error(&symbol, &error))
            }
            QuoteNews::Heartbeat(time) => {
                quote_event::Event::Heartbeat(pb::Heartbeat { server_time: Some(timestamp(time)) })
            }
            QuoteNews::Draining(after) => {
                quote_event::Event::Draining(pb::Draining { resume_after: Some(duration(after)) })
            }
        };
        Self::of(&pb::QuoteEvent { event: Some(event) })
    }
}

impl From<BarEvent> for Encoded {
    fn from(BarEvent { news, cursor }: BarEvent) -> Self {
        let event = match news {
            BarNews::Told(event) => return Self::shared(event),
            BarNews::Forming(event) => {
                return Self::shared(event)
                    .and(&pb::BarEvent { event: None, cursor: cursor.0.encode() });
            }
            BarNews::Bar(series, known) => bar_event::Event::Bar(series_bar(&series, &known)),
            BarNews::IntervalClosed(series, time) => {
                bar_event::Event::IntervalClosed(pb::IntervalClosed {
                    symbol: series.symbol.to_string(),
                    interval: interval(series.interval).into(),
                    close_time: Some(timestamp(time)),
                })
            }
            BarNews::Gap(symbol, start, end) => bar_event::Event::Gap(pb::BarGap {
                symbol: symbol.to_string(),
                start_time: Some(timestamp(start)),
                end_time: Some(timestamp(end)),
            }),
            BarNews::Feed(feed) => bar_event::Event::Feed(feed_event(feed)),
            BarNews::Refused(symbol, error) => {
                bar_event::Event::SymbolError(symbol_error(&symbol, &error))
            }
            BarNews::Heartbeat(time) => {
                bar_event::Event::Heartbeat(pb::Heartbeat { server_time: Some(timestamp(time)) })
            }
            BarNews::Draining(after) => {
                bar_event::Event::Draining(pb::Draining { resume_after: Some(duration(after)) })
            }
        };
        Self::of(&pb::BarEvent { event: Some(event), cursor: cursor.0.encode() })
    }
}

/// The event of a quote, for everybody.
pub(in super::super) fn encode_quote_event(symbol: &Symbol, known: &SequencedQuote) -> Bytes {
    let event = quote_event::Event::Quote(pb_quote(symbol, known));
    pb::QuoteEvent { event: Some(event) }.encode_to_vec().into()
}

/// The event of a forming bar, for everybody, without a cursor.
pub(in super::super) fn encode_forming_event(series: &Series, known: &Bar) -> Bytes {
    let event = bar_event::Event::Bar(series_bar(series, known));
    pb::BarEvent { event: Some(event), cursor: String::new() }.encode_to_vec().into()
}

/// An event of bars with its cursor.
pub(in super::super) fn encode_bar_event(event: BarEvent) -> Bytes {
    Encoded::from(event).encode_to_vec().into()
}

fn series_bar(series: &Series, known: &Bar) -> pb::SeriesBar {
    pb::SeriesBar {
        symbol: series.symbol.to_string(),
        interval: interval(series.interval).into(),
        bar: Some(bar(known)),
    }
}

fn feed_event(feed: FeedWord) -> pb::FeedEvent {
    pb::FeedEvent {
        state: connection(feed.connection).into(),
        error: feed.error.unwrap_or_default(),
    }
}

/// What a call for the symbol alone would have failed with.
fn symbol_error(symbol: &Symbol, error: &ProviderError) -> pb::SymbolError {
    pb::SymbolError { symbol: symbol.to_string(), error: Some(to_rpc_status(error)) }
}
