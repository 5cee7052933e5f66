//! What is received in a quote session, typed and borrowed: read in one pass, as there may be
//! thousands a second. Knows no socket and not who follows what.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::values::Values;
use crate::domain::quote::QuoteUpdate;
use crate::infrastructure::tradingview::message::texts;

/// A message from the server.
#[expect(clippy::large_enum_variant, reason = "nearly all are quotes; it lives for a moment")]
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Incoming<'a> {
    /// Values of one symbol, or why there are none.
    Quote {
        /// In which session.
        session: Cow<'a, str>,
        /// The values.
        quote: QuoteData<'a>,
    },
    /// The first values of a symbol were told.
    Completed {
        /// In which session.
        session: Cow<'a, str>,
        /// The symbol as it was asked for.
        name: Cow<'a, str>,
    },
    /// A command was refused: the session it concerns is dead.
    CriticalError {
        /// Which session.
        session: String,
        /// The reason, and details.
        said: Vec<String>,
    },
    /// Concerns the whole connection, which the server then closes.
    ProtocolError(String),
    /// Nothing that is listened to.
    Other,
}

/// One `qsd`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct QuoteData<'a> {
    /// The symbol as it was asked for.
    pub(super) name: Cow<'a, str>,
    /// `ok`, or why there are no values.
    pub(super) status: Cow<'a, str>,
    /// What was said of a status that is not `ok`.
    pub(super) reason: Option<Cow<'a, str>>,
    /// Another feed, or a group, that would have values.
    pub(super) alternative: Option<Cow<'a, str>>,
    /// What has changed.
    pub(super) update: QuoteUpdate,
}

/// Reads the JSON of one frame. An error of category data is a message of an unexpected shape;
/// all others are no JSON.
pub(super) fn parse(json: &str) -> Result<Incoming<'_>, serde_json::Error> {
    let message: Message<'_> = serde_json::from_str(json)?;
    let Some(Text(method)) = message.method else { return Ok(Incoming::Other) };
    match (method.as_ref(), message.quote, message.params) {
        ("qsd", Some(Pair(session, quote)), _) => Ok(quote_of(session, quote)),
        ("qsd", None, Some(params)) => {
            let Pair(session, quote) = serde_json::from_str(params.get())?;
            Ok(quote_of(session, quote))
        }
        ("quote_completed", _, Some(params)) => {
            let Pair(Text(session), Text(name)) = serde_json::from_str(params.get())?;
            Ok(Incoming::Completed { session, name })
        }
        ("critical_error", _, Some(params)) => {
            let mut said = texts(&serde_json::from_str::<Vec<&RawValue>>(params.get())?);
            let rest = said.split_off(said.len().min(1));
            Ok(Incoming::CriticalError { session: said.concat(), said: rest })
        }
        ("protocol_error", _, Some(params)) => {
            let said = texts(&serde_json::from_str::<Vec<&RawValue>>(params.get())?);
            Ok(Incoming::ProtocolError(said.join(" ")))
        }
        ("protocol_error", _, None) => Ok(Incoming::ProtocolError(String::new())),
        _ => Ok(Incoming::Other),
    }
}

fn quote_of<'a>(Text(session): Text<'a>, quote: RawQuote<'a>) -> Incoming<'a> {
    let text = |text: Option<Text<'a>>| text.map(|Text(text)| text);
    let values = quote.v.unwrap_or_default();
    Incoming::Quote {
        session,
        quote: QuoteData {
            name: quote.n.0,
            status: text(quote.s).unwrap_or(Cow::Borrowed("ok")),
            reason: text(quote.errmsg),
            update: values.update(),
            alternative: text(values.alternative),
        },
    }
}

/// What every message is made of. The parameters of a `qsd` are read on the way.
struct Message<'a> {
    method: Option<Text<'a>>,
    quote: Option<Pair<Text<'a>, RawQuote<'a>>>,
    params: Option<&'a RawValue>,
}

/// A text that is borrowed where it has no escapes, in an `Option`, too.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// The first two elements of an array; there may be more.
struct Pair<A, B>(A, B);

#[derive(Deserialize)]
struct RawQuote<'a> {
    #[serde(borrow)]
    n: Text<'a>,
    #[serde(borrow)]
    s: Option<Text<'a>>,
    #[serde(borrow)]
    errmsg: Option<Text<'a>>,
    #[serde(borrow)]
    v: Option<Values<'a>>,
}

impl<'de> Deserialize<'de> for Message<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Message<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a message")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut keys: A) -> Result<Self::Value, A::Error> {
                let mut message = Message { method: None, quote: None, params: None };
                while let Some(Text(key)) = keys.next_key()? {
                    match key.as_ref() {
                        "m" => message.method = keys.next_value()?,
                        "p" if message.method.as_ref().is_some_and(|method| method.0 == "qsd") => {
                            message.quote = Some(keys.next_value()?);
                        }
                        "p" => message.params = Some(keys.next_value()?),
                        _ => drop(keys.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(message)
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

impl<'de, A: Deserialize<'de>, B: Deserialize<'de>> Deserialize<'de> for Pair<A, B> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<A, B>(PhantomData<(A, B)>);
        impl<'de, A: Deserialize<'de>, B: Deserialize<'de>> Visitor<'de> for Elements<A, B> {
            type Value = Pair<A, B>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of two or more")
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Self::Value, S::Error> {
                let missing = |index| de::Error::invalid_length(index, &"two or more");
                let first = seq.next_element()?.ok_or_else(|| missing(0))?;
                let second = seq.next_element()?.ok_or_else(|| missing(1))?;
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Pair(first, second))
            }
        }
        deserializer.deserialize_seq(Elements(PhantomData))
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
