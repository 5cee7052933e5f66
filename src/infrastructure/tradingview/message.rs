//! The messages inside of frames: what is sent, as text, and what is received, typed. Unknown
//! messages and unknown keys are nothing to fail on. Knows no socket and no request.

use std::borrow::Cow;
use std::fmt;

use jiff::Timestamp;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::{frame, resolve};
use crate::domain::symbol::SymbolDescription;
use crate::infrastructure::interfaces::{HistoryEnd, RawBar};

/// From here on a number stands for "no value" (seen as a volume of 1e+100).
pub(super) const NO_VALUE: f64 = 1e100;

/// A message from the server.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Incoming {
    /// The first one of a connection; carries no method. With the server's clock, if it said.
    Hello(Option<Timestamp>),
    /// Concerns one chart session.
    Chart {
        /// Which: the name that we gave it.
        session: String,
        /// What happened.
        event: ChartEvent,
        /// The server's clock, if it said.
        server_time: Option<Timestamp>,
    },
    /// Concerns the whole connection, which the server then closes.
    ProtocolError(String),
    /// Nothing that is listened to.
    Other,
}

/// What happens in a chart session.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum ChartEvent {
    /// An answer to a request for bars begins.
    Loading,
    /// The symbol is known.
    Resolved(Box<SymbolDescription>),
    /// Bars, some perhaps known before.
    Bars {
        /// Those whose time can be read.
        bars: Vec<RawBar>,
        /// How many have no time.
        timeless: usize,
    },
    /// An answer ends; says why nothing older follows, if so.
    Completed(Option<HistoryEnd>),
    /// The symbol is refused: the reason and what follows it.
    SymbolError(Vec<String>),
    /// The series is refused.
    SeriesError(String),
    /// A command was refused: the reason, and details.
    CriticalError(Vec<String>),
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    m: Option<Cow<'a, str>>,
    #[serde(borrow)]
    p: Option<&'a RawValue>,
    t: Option<f64>,
    t_ms: Option<f64>,
    timestamp: Option<f64>,
    #[serde(rename = "timestampMs")]
    timestamp_ms: Option<f64>,
}

/// The part of a `timescale_update` that concerns the one series of our chart sessions.
#[derive(Deserialize)]
struct Changes {
    sds_1: Option<SeriesChange>,
}

#[derive(Deserialize)]
struct SeriesChange {
    #[serde(default)]
    s: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    v: Option<Values>,
}

/// `[time, open, high, low, close]`, a volume where the instrument has one, perhaps more.
struct Values([Option<f64>; 6]);

#[derive(Deserialize)]
struct CompletedInfo<'a> {
    #[serde(borrow)]
    data_completed: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
struct Command<'a, P> {
    m: &'a str,
    p: P,
}

/// A framed command.
pub(super) fn command(method: &str, params: impl Serialize) -> String {
    let json = serde_json::to_string(&Command { m: method, p: params });
    frame::encode(&json.unwrap_or_else(|_| unreachable!("texts and numbers are JSON")))
}

/// Reads the JSON of one frame.
pub(super) fn parse(json: &str) -> Result<Incoming, serde_json::Error> {
    let envelope: Envelope<'_> = serde_json::from_str(json)?;
    let Some(method) = envelope.m.as_deref() else {
        let time = envelope.timestamp_ms.and_then(milliseconds);
        return Ok(Incoming::Hello(time.or_else(|| envelope.timestamp.and_then(seconds))));
    };
    let params = match envelope.p {
        Some(params) => serde_json::from_str::<Vec<&RawValue>>(params.get())?,
        None => Vec::new(),
    };
    if method == "protocol_error" {
        return Ok(Incoming::ProtocolError(texts(&params).join(" ")));
    }
    let Some(event) = chart_event(method, &params)? else { return Ok(Incoming::Other) };
    let Some(session) = params.first().copied().and_then(text) else { return Ok(Incoming::Other) };
    let server_time = envelope.t_ms.and_then(milliseconds);
    let server_time = server_time.or_else(|| envelope.t.and_then(seconds));
    Ok(Incoming::Chart { session, event, server_time })
}

fn chart_event(
    method: &str,
    params: &[&RawValue],
) -> Result<Option<ChartEvent>, serde_json::Error> {
    let after = |skipped: usize| texts(params.get(skipped..).unwrap_or_default());
    Ok(Some(match method {
        "series_loading" => ChartEvent::Loading,
        "symbol_resolved" => {
            let description = params.get(2).map(|symbol| resolve::description(symbol.get()));
            ChartEvent::Resolved(Box::new(description.unwrap_or_default()))
        }
        "timescale_update" => match params.get(1) {
            Some(changes) => bars(serde_json::from_str(changes.get())?),
            None => return Ok(None),
        },
        "series_completed" => ChartEvent::Completed(params.iter().find_map(|info| end(info))),
        "symbol_error" => ChartEvent::SymbolError(after(2)),
        "series_error" => {
            // The reason stands after the turnaround, where there is one.
            let reason = after(3).into_iter().next().or_else(|| after(2).pop());
            ChartEvent::SeriesError(reason.unwrap_or_default())
        }
        "unsupported_resolution" => ChartEvent::SeriesError("unsupported resolution".to_owned()),
        "critical_error" => ChartEvent::CriticalError(after(1)),
        _ => return Ok(None),
    }))
}

fn bars(changes: Changes) -> ChartEvent {
    let rows = changes.sds_1.map(|series| series.s).unwrap_or_default();
    let count = rows.len();
    let bars: Vec<RawBar> = rows.into_iter().filter_map(|row| raw_bar(&row.v?)).collect();
    ChartEvent::Bars { timeless: count - bars.len(), bars }
}

fn raw_bar(Values([time, open, high, low, close, volume]): &Values) -> Option<RawBar> {
    let value = |number: &Option<f64>| number.filter(|number| number.abs() < NO_VALUE);
    let price = |number| value(number).unwrap_or(f64::NAN);
    Some(RawBar {
        open_time: seconds(value(time)?)?,
        open: price(open),
        high: price(high),
        low: price(low),
        close: price(close),
        volume: value(volume),
    })
}

fn end(info: &RawValue) -> Option<HistoryEnd> {
    let info: CompletedInfo<'_> = serde_json::from_str(info.get()).ok()?;
    match info.data_completed?.as_ref() {
        "end" => Some(HistoryEnd::End),
        "limit" => Some(HistoryEnd::Limit),
        _ => None,
    }
}

fn text(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// Each parameter as text; what is none, as JSON.
pub(super) fn texts(params: &[&RawValue]) -> Vec<String> {
    params.iter().map(|value| text(value).unwrap_or_else(|| value.get().to_owned())).collect()
}

pub(super) fn seconds(seconds: f64) -> Option<Timestamp> {
    milliseconds(seconds * 1_000.0)
}

fn milliseconds(milliseconds: f64) -> Option<Timestamp> {
    /// Up to here each whole number is its own float.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if !milliseconds.is_finite() || milliseconds.abs() > EXACT {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole and in range")]
    Timestamp::from_millisecond(milliseconds.round() as i64).ok()
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Numbers;
        impl<'de> Visitor<'de> for Numbers {
            type Value = Values;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the numbers of a bar")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Values, A::Error> {
                let mut values = [None; 6];
                for value in &mut values {
                    *value = numbers.next_element()?.flatten();
                }
                while numbers.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Values(values))
            }
        }
        deserializer.deserialize_seq(Numbers)
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
