//! What a stream of bars says, as lines.

use serde::Serialize;

use super::super::bars::JsonBar;
use super::super::names::{bar_source_text, bar_state_text, interval_text};
use super::super::times::show_time;
use super::quote_text::{JsonCommon, draining_line, symbol_error_line};
use super::situation::feed_text;
use super::view::Says;
use crate::proto::v1::bar_event::Event;
use crate::proto::v1::{Bar, BarEvent, BarGap, SeriesBar};

impl Says for BarEvent {
    fn line(&self) -> Option<String> {
        match self.event.as_ref()? {
            Event::Bar(bar) => bar_line(bar),
            Event::IntervalClosed(closed) => {
                let (length, time) = (interval_text(closed.interval), show_time(closed.close_time));
                Some(format!("{} {length} {time} interval closed", closed.symbol))
            }
            Event::Gap(gap) => Some(gap_line(gap)),
            Event::Feed(feed) => Some(feed_text(feed)),
            Event::SymbolError(error) => Some(symbol_error_line(error)),
            Event::Heartbeat(_) => None,
            Event::Draining(draining) => Some(draining_line(draining)),
        }
    }

    fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string(&JsonEvent { event: said(self), cursor: &self.cursor })
    }
}

fn bar_line(series: &SeriesBar) -> Option<String> {
    let bar = series.bar.as_ref()?;
    let Bar { open, high, low, close, volume, revision, .. } = bar;
    let (symbol, length) = (&series.symbol, interval_text(series.interval));
    let (time, state) = (show_time(bar.open_time), bar_state_text(bar.state));
    let volume = volume.map(|volume| format!(" volume {volume}")).unwrap_or_default();
    let source = bar_source_text(bar.source);
    Some(format!(
        "{symbol} {length} {time} {state} open {open} high {high} low {low} close {close}{volume} revision {revision} source {source}"
    ))
}

/// When the feed was away, in a line.
pub(super) fn gap_line(gap: &BarGap) -> String {
    let (from, to) = (show_time(gap.start_time), show_time(gap.end_time));
    format!("{} gap: the feed was away from {from} to {to}", gap.symbol)
}

#[derive(Serialize)]
struct JsonEvent<'a> {
    #[serde(flatten)]
    event: JsonSaid<'a>,
    cursor: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum JsonSaid<'a> {
    Bars(JsonBars<'a>),
    Common(JsonCommon<'a>),
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum JsonBars<'a> {
    Bar {
        symbol: &'a str,
        interval: &'static str,
        #[serde(flatten)]
        bar: Box<JsonBar>,
    },
    IntervalClosed {
        symbol: &'a str,
        interval: &'static str,
        close_time: String,
    },
    Gap {
        symbol: &'a str,
        start_time: String,
        end_time: String,
    },
}

fn said(event: &BarEvent) -> JsonSaid<'_> {
    match &event.event {
        Some(Event::Bar(SeriesBar { symbol, interval, bar })) => {
            let (interval, bar) = (interval_text(*interval), bar.unwrap_or_default());
            JsonSaid::Bars(JsonBars::Bar { symbol, interval, bar: Box::new((&bar).into()) })
        }
        Some(Event::IntervalClosed(closed)) => JsonSaid::Bars(JsonBars::IntervalClosed {
            symbol: &closed.symbol,
            interval: interval_text(closed.interval),
            close_time: show_time(closed.close_time),
        }),
        Some(Event::Gap(gap)) => JsonSaid::Bars(JsonBars::Gap {
            symbol: &gap.symbol,
            start_time: show_time(gap.start_time),
            end_time: show_time(gap.end_time),
        }),
        Some(Event::Feed(feed)) => JsonSaid::Common(feed.into()),
        Some(Event::SymbolError(error)) => JsonSaid::Common(error.into()),
        Some(Event::Heartbeat(heartbeat)) => JsonSaid::Common(heartbeat.into()),
        Some(Event::Draining(draining)) => JsonSaid::Common(draining.into()),
        None => JsonSaid::Common(JsonCommon::Unknown),
    }
}
