//! The values of a `qsd`. One of an unexpected type, `null` and `1e+100` are "no value"; one that
//! is not named is absent.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::message::Text;
use crate::domain::quote::{Field, QuoteUpdate, SessionState};
use crate::infrastructure::tradingview::message::{NO_VALUE, seconds};

/// The fields that are asked for: all that a [`QuoteUpdate`] holds, and nothing that would come
/// in vain.
pub(super) const FIELDS: [&str; 13] = [
    "lp",
    "lp_time",
    "volume",
    "bid",
    "ask",
    "ch",
    "chp",
    "open_price",
    "high_price",
    "low_price",
    "prev_close_price",
    "current_session",
    "update_mode",
];

/// What a feed that is told at the end of the day is late by.
const END_OF_DAY: Duration = Duration::from_hours(24);

/// What is read of the values.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Values<'a> {
    #[serde(deserialize_with = "number")]
    lp: Field<f64>,
    #[serde(deserialize_with = "time")]
    lp_time: Field<Timestamp>,
    #[serde(deserialize_with = "number")]
    volume: Field<f64>,
    #[serde(deserialize_with = "number")]
    bid: Field<f64>,
    #[serde(deserialize_with = "number")]
    ask: Field<f64>,
    #[serde(deserialize_with = "number")]
    ch: Field<f64>,
    #[serde(deserialize_with = "number")]
    chp: Field<f64>,
    #[serde(deserialize_with = "number")]
    open_price: Field<f64>,
    #[serde(deserialize_with = "number")]
    high_price: Field<f64>,
    #[serde(deserialize_with = "number")]
    low_price: Field<f64>,
    #[serde(deserialize_with = "number")]
    prev_close_price: Field<f64>,
    #[serde(deserialize_with = "in_session")]
    current_session: Field<SessionState>,
    #[serde(deserialize_with = "lateness")]
    update_mode: Field<Duration>,
    #[serde(borrow)]
    pub(super) alternative: Option<Text<'a>>,
}

impl Values<'_> {
    /// In the domain's terms.
    pub(super) fn update(&self) -> QuoteUpdate {
        QuoteUpdate {
            last_price: self.lp,
            last_time: self.lp_time,
            volume: self.volume,
            bid: self.bid,
            ask: self.ask,
            change: self.ch,
            change_percent: self.chp,
            open_price: self.open_price,
            high_price: self.high_price,
            low_price: self.low_price,
            prev_close: self.prev_close_price,
            session: self.current_session,
            delay: self.update_mode,
        }
    }
}

/// Whether this is the regular session. A word that is not known says nothing.
fn session_state(word: &str) -> Option<SessionState> {
    match word {
        "market" => Some(SessionState::InSession),
        "pre_market" | "post_market" | "out_of_session" | "holiday" => {
            Some(SessionState::OutOfSession)
        }
        _ => None,
    }
}

/// How late the quotes are: `streaming`, `delayed_streaming_<seconds>` or `endofday`.
fn delay(mode: &str) -> Option<Duration> {
    match mode {
        "streaming" => Some(Duration::ZERO),
        "endofday" => Some(END_OF_DAY),
        _ => mode.strip_prefix("delayed_streaming_")?.parse().ok().map(Duration::from_secs),
    }
}

/// A value of any type, as far as it is of use.
enum Scalar<'a> {
    Number(f64),
    Text(Cow<'a, str>),
    /// `null`, or a type that no field of ours has.
    Nothing,
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Field<f64>, D::Error> {
    Ok(match Scalar::deserialize(deserializer)? {
        Scalar::Number(number) if number.abs() < NO_VALUE => Field::Set(number),
        Scalar::Number(_) | Scalar::Text(_) | Scalar::Nothing => Field::Unset,
    })
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Field<Timestamp>, D::Error> {
    Ok(match Scalar::deserialize(deserializer)? {
        Scalar::Number(number) => seconds(number).map_or(Field::Unset, Field::Set),
        Scalar::Text(_) | Scalar::Nothing => Field::Unset,
    })
}

fn in_session<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Field<SessionState>, D::Error> {
    word(deserializer, session_state)
}

fn lateness<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Field<Duration>, D::Error> {
    word(deserializer, delay)
}

fn word<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    meaning: fn(&str) -> Option<T>,
) -> Result<Field<T>, D::Error> {
    Ok(match Scalar::deserialize(deserializer)? {
        Scalar::Text(word) => meaning(&word).map_or(Field::Unset, Field::Set),
        Scalar::Number(_) | Scalar::Nothing => Field::Unset,
    })
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyType;
        #[expect(clippy::cast_precision_loss, reason = "whole numbers are prices and sizes, too")]
        impl<'de> Visitor<'de> for AnyType {
            type Value = Scalar<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Scalar::Number(number))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Scalar::Number(number as f64))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Scalar::Number(number as f64))
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Scalar::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Scalar::Nothing)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Scalar::Nothing)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                IgnoredAny.visit_seq(seq).map(|_| Scalar::Nothing)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                IgnoredAny.visit_map(map).map(|_| Scalar::Nothing)
            }
        }
        deserializer.deserialize_any(AnyType)
    }
}
