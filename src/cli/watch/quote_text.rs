//! What a stream of quotes says, as lines.

use std::fmt::Write as _;

use serde::Serialize;

use super::super::failure::CallError;
use super::super::names::connection_state_text;
use super::super::quote::JsonQuote;
use super::super::times::{show_duration, show_time};
use super::situation::feed_text;
use super::view::Says;
use crate::proto::v1::quote_event::Event;
use crate::proto::v1::{Draining, FeedEvent, Heartbeat, Quote, QuoteEvent, QuoteGap, SymbolError};

impl Says for QuoteEvent {
    fn line(&self) -> Option<String> {
        match self.event.as_ref()? {
            Event::Quote(quote) => Some(quote_line(quote)),
            Event::Gap(gap) => Some(gap_line(gap)),
            Event::Feed(feed) => Some(feed_text(feed)),
            Event::SymbolError(error) => Some(symbol_error_line(error)),
            Event::Heartbeat(_) => None,
            Event::Draining(draining) => Some(draining_line(draining)),
        }
    }

    fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string(&JsonEvent::from(self))
    }
}

fn quote_line(quote: &Quote) -> String {
    let mut line = format!("{} {} last {}", show_time(quote.time), quote.symbol, quote.last_price);
    let values = [
        ("bid", quote.bid),
        ("ask", quote.ask),
        ("volume", quote.volume),
        ("change", quote.change),
    ];
    for (name, value) in values {
        if let Some(value) = value {
            // Writing to a string cannot fail.
            let _written = write!(line, " {name} {value}");
        }
    }
    if let Some(percent) = quote.change_percent {
        let _written = write!(line, " ({percent:+.2} %)");
    }
    if quote.delay.is_some() {
        let _written = write!(line, " delay {}", show_duration(quote.delay));
    }
    let _written = write!(line, " sequence {}", quote.sequence);
    line
}

/// Which updates were left out, in a line.
pub(super) fn gap_line(gap: &QuoteGap) -> String {
    let QuoteGap { symbol, from_sequence, to_sequence, .. } = gap;
    format!("{symbol} gap: updates {from_sequence} to {to_sequence} were left out")
}

/// Which symbol the provider refused and why, in a line.
pub(super) fn symbol_error_line(error: &SymbolError) -> String {
    let reason = error.error.as_ref().map(|error| CallError::inside(error).brief());
    format!("{} error: {}", error.symbol, reason.unwrap_or_default())
}

/// That the server is stopping, in a line.
pub(super) fn draining_line(draining: &Draining) -> String {
    match show_duration(draining.resume_after).as_str() {
        "" => "draining: the server is stopping".to_owned(),
        wait => format!("draining: the server is stopping, back after {wait}"),
    }
}

/// What any stream says, for programs.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum JsonCommon<'a> {
    Feed {
        state: &'static str,
        #[serde(rename = "error", skip_serializing_if = "str::is_empty")]
        why: &'a str,
    },
    SymbolError {
        symbol: &'a str,
        error: Option<Box<CallError>>,
    },
    Heartbeat {
        server_time: String,
    },
    Draining {
        #[serde(skip_serializing_if = "String::is_empty")]
        resume_after: String,
    },
    /// What this client is too old to know.
    Unknown,
}

impl<'a> From<&'a FeedEvent> for JsonCommon<'a> {
    fn from(feed: &'a FeedEvent) -> Self {
        Self::Feed { state: connection_state_text(feed.state), why: &feed.error }
    }
}

impl<'a> From<&'a SymbolError> for JsonCommon<'a> {
    fn from(error: &'a SymbolError) -> Self {
        let SymbolError { symbol, error } = error;
        Self::SymbolError {
            symbol,
            error: error.as_ref().map(|error| Box::new(CallError::inside(error))),
        }
    }
}

impl From<&Heartbeat> for JsonCommon<'_> {
    fn from(heartbeat: &Heartbeat) -> Self {
        Self::Heartbeat { server_time: show_time(heartbeat.server_time) }
    }
}

impl From<&Draining> for JsonCommon<'_> {
    fn from(draining: &Draining) -> Self {
        Self::Draining { resume_after: show_duration(draining.resume_after) }
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum JsonEvent<'a> {
    Quotes(JsonQuotes<'a>),
    Common(JsonCommon<'a>),
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum JsonQuotes<'a> {
    Quote(Box<JsonQuote<'a>>),
    Gap { symbol: &'a str, epoch: i64, from_sequence: i64, to_sequence: i64 },
}

impl<'a> From<&'a QuoteEvent> for JsonEvent<'a> {
    fn from(event: &'a QuoteEvent) -> Self {
        match &event.event {
            Some(Event::Quote(quote)) => Self::Quotes(JsonQuotes::Quote(Box::new(quote.into()))),
            Some(Event::Gap(gap)) => Self::Quotes(JsonQuotes::Gap {
                symbol: &gap.symbol,
                epoch: gap.epoch,
                from_sequence: gap.from_sequence,
                to_sequence: gap.to_sequence,
            }),
            Some(Event::Feed(feed)) => Self::Common(feed.into()),
            Some(Event::SymbolError(error)) => Self::Common(error.into()),
            Some(Event::Heartbeat(heartbeat)) => Self::Common(heartbeat.into()),
            Some(Event::Draining(draining)) => Self::Common(draining.into()),
            None => Self::Common(JsonCommon::Unknown),
        }
    }
}
