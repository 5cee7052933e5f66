//! The fields of a quote that move, and what of them a client has not been told.

use std::collections::HashSet;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::snapshot::NO_VOLUME;
use crate::simulator::replay::Quote;

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Field {
    /// It is not told at all.
    Absent,
    Null,
    Number(f64),
    Whole(i64),
    Flag(bool),
    /// `current_session`, by whether it is open.
    Session(bool),
    /// `market-status`, likewise.
    Status(bool),
}

/// Reads a field of a quote; prices of it have so many parts in one.
type Getter = fn(&Quote, f64) -> Field;

const FIELDS: [(&str, Getter); 15] = [
    ("lp", |quote, _| last(quote).map_or(Field::Absent, |(price, _)| Field::Number(price))),
    ("lp_time", |quote, _| last(quote).map_or(Field::Absent, |(_, second)| Field::Whole(second))),
    ("volume", |quote, _| Field::Number(quote.volume.unwrap_or(NO_VOLUME))),
    ("ch", |quote, scale| change(quote).map_or(Field::Absent, |change| rounded(change, scale))),
    ("chp", |quote, _| percent(quote)),
    ("bid", |quote, _| number(quote.book.map(|book| book.bid))),
    ("ask", |quote, _| number(quote.book.map(|book| book.ask))),
    ("open_price", |quote, _| number(quote.day.map(|day| day.open))),
    ("high_price", |quote, _| number(quote.day.map(|day| day.high))),
    ("low_price", |quote, _| number(quote.day.map(|day| day.low))),
    ("open_time", |quote, _| quote.day.map_or(Field::Null, |day| Field::Whole(day.opened))),
    ("prev_close_price", |quote, _| number(quote.previous_close)),
    ("trade_loaded", |quote, _| Field::Flag(quote.last.is_some())),
    ("current_session", |quote, _| Field::Session(quote.market)),
    ("market-status", |quote, _| Field::Status(quote.market)),
];

fn last(quote: &Quote) -> Option<(f64, i64)> {
    quote.last.map(|last| (last.price, last.second))
}

fn number(number: Option<f64>) -> Field {
    number.map_or(Field::Null, Field::Number)
}

fn change(quote: &Quote) -> Option<f64> {
    Some(quote.last?.price - quote.previous_close?)
}

fn percent(quote: &Quote) -> Field {
    let before = quote.previous_close.filter(|before| *before != 0.0);
    match (change(quote), before) {
        (Some(change), Some(before)) => rounded(change / before.abs() * 100.0, 100.0),
        (None, _) | (_, None) => Field::Absent,
    }
}

fn rounded(number: f64, scale: f64) -> Field {
    Field::Number((number * scale).round() / scale)
}

/// Which of the fields a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted([bool; FIELDS.len()]);

impl Wanted {
    /// Those among `fields`; all where there are none.
    pub(super) fn of(fields: Option<&HashSet<String>>) -> Self {
        Self(FIELDS.map(|(name, _)| fields.is_none_or(|fields| fields.contains(name))))
    }
}

/// What of `quote` differs from what was told in `known`, as members of a JSON object; empty where
/// nothing does. `current_session` is told again where `says_session`.
pub(super) fn delta(
    known: Option<&Quote>,
    quote: &Quote,
    scale: f64,
    wanted: Wanted,
    says_session: bool,
) -> String {
    let mut members = String::new();
    for ((name, get), wanted) in FIELDS.into_iter().zip(wanted.0) {
        let field = get(quote, scale);
        let told = known.is_some_and(|known| get(known, scale) == field);
        let told = told && !(says_session && matches!(field, Field::Session(_)));
        if wanted && !told && field != Field::Absent {
            let comma = if members.is_empty() { "" } else { "," };
            // Writing to a string cannot fail.
            let _infallible = write!(members, "{comma}\"{name}\":");
            field.write(&mut members);
        }
    }
    members
}

/// All fields of `quote`, by name.
pub(super) fn all_fields(quote: &Quote, scale: f64) -> Map<String, Value> {
    let named = FIELDS.into_iter().map(|(name, get)| (name.to_owned(), get(quote, scale)));
    named
        .filter(|(_, field)| *field != Field::Absent)
        .map(|(name, field)| (name, field.json()))
        .collect()
}

impl Field {
    fn write(self, text: &mut String) {
        let _infallible = match self {
            Self::Number(number) => write!(text, "{number:?}"),
            Self::Whole(number) => write!(text, "{number}"),
            Self::Absent | Self::Null | Self::Flag(_) | Self::Session(_) | Self::Status(_) => {
                write!(text, "{}", self.json())
            }
        };
    }

    fn json(self) -> Value {
        match self {
            Self::Absent | Self::Null => Value::Null,
            Self::Number(number) => json!(number),
            Self::Whole(number) => json!(number),
            Self::Flag(flag) => json!(flag),
            Self::Session(true) => json!("market"),
            Self::Session(false) => json!("out_of_session"),
            Self::Status(true) => json!({"phase": "market"}),
            Self::Status(false) => json!({"phase": "out-of-session"}),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_told() {
        let before = Quote { volume: Some(5.0), market: true, ..Quote::default() };
        let after = Quote { volume: Some(1e21), ..before };
        let all = Wanted::of(None);
        assert_eq!(delta(Some(&before), &after, 100.0, all, false), r#""volume":1e21"#);
        assert_eq!(delta(Some(&after), &after, 100.0, all, false), "");
        let session = r#""current_session":"market""#;
        assert_eq!(delta(Some(&after), &after, 100.0, all, true), session);
        let price = HashSet::from(["lp".to_owned()]);
        assert_eq!(delta(None, &after, 100.0, Wanted::of(Some(&price)), true), "");
        let everything = format!("{{{}}}", delta(None, &after, 100.0, all, false));
        let everything: Map<String, Value> = serde_json::from_str(&everything).unwrap();
        assert_eq!(everything, all_fields(&after, 100.0));
        assert!(!everything.contains_key("lp"));
    }
}
