//! How a symbol is asked for, and what `symbol_resolved` says of it. Every field is optional,
//! and one of an unexpected type counts as absent.

use serde::Serialize;
use serde_json::Value;

use crate::domain::shared::{Interval, Symbol};
use crate::domain::symbol::{SessionError, SessionSpec, SymbolDescription, TradingSession};

#[derive(Serialize)]
struct Spec<'a> {
    adjustment: &'a str,
    session: &'a str,
    symbol: &'a str,
}

/// What `resolve_symbol` asks for: adjusted for splits, regular hours.
pub(super) fn symbol_spec(symbol: &Symbol) -> String {
    let spec = Spec { adjustment: "splits", session: "regular", symbol: symbol.as_str() };
    let json = serde_json::to_string(&spec);
    format!("={}", json.unwrap_or_else(|_| unreachable!("texts are JSON")))
}

/// The name of `interval` in `create_series`.
pub(super) const fn resolution(interval: Interval) -> &'static str {
    match interval {
        Interval::M1 => "1",
        Interval::M3 => "3",
        Interval::M5 => "5",
        Interval::M15 => "15",
        Interval::M30 => "30",
        Interval::M45 => "45",
        Interval::H1 => "60",
        Interval::H2 => "120",
        Interval::H3 => "180",
        Interval::H4 => "240",
        Interval::D1 => "1D",
        Interval::W1 => "1W",
        Interval::Mo1 => "1M",
    }
}

/// Reads the object in `symbol_resolved`; what is no object describes nothing.
pub(super) fn description(json: &str) -> SymbolDescription {
    let symbol: Value = serde_json::from_str(json).unwrap_or_default();
    SymbolDescription {
        name: text(&symbol, "name"),
        description: text(&symbol, "description"),
        asset_type: text(&symbol, "type"),
        currency: text(&symbol, "currency_code").or_else(|| text(&symbol, "currency_id")),
        session: session(&symbol),
        price_scale: field(&symbol, "pricescale").and_then(whole_number),
    }
}

/// The regular hours: those of the subsession of that name, else the symbol's.
fn session(symbol: &Value) -> Option<SessionSpec> {
    let regular = field(symbol, "subsessions")
        .and_then(Value::as_array)
        .and_then(|all| all.iter().find(|one| text(one, "id").as_deref() == Some("regular")));
    let of_regular = |key: &str| regular.and_then(|regular| text(regular, key));
    let corrections = of_regular("session_correction").or_else(|| text(symbol, "corrections"));
    Some(readable(SessionSpec {
        timezone: text(symbol, "timezone")?,
        session: of_regular("session").or_else(|| text(symbol, "session"))?,
        holidays: text(symbol, "session_holidays").unwrap_or_default(),
        corrections: corrections.unwrap_or_default(),
    }))
}

/// Drops holidays and corrections that cannot be read: without them the hours still hold.
fn readable(mut spec: SessionSpec) -> SessionSpec {
    if matches!(TradingSession::parse(&spec), Err(SessionError::Holiday(_))) {
        tracing::warn!(holidays = spec.holidays, "the provider's holidays cannot be read");
        spec.holidays.clear();
    }
    if matches!(TradingSession::parse(&spec), Err(SessionError::Correction(_))) {
        tracing::warn!(
            corrections = spec.corrections,
            "the provider's early closes cannot be read"
        );
        spec.corrections.clear();
    }
    spec
}

/// A field whose name may be written with `_` or with `-`.
fn field<'a>(object: &'a Value, key: &str) -> Option<&'a Value> {
    object.get(key).or_else(|| object.get(key.replace('_', "-")))
}

/// A text that is not empty.
pub(super) fn text(object: &Value, key: &str) -> Option<String> {
    let text = field(object, key)?.as_str()?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn whole_number(value: &Value) -> Option<u32> {
    if let Some(number) = value.as_u64() {
        return u32::try_from(number).ok().filter(|number| *number > 0);
    }
    let number = value
        .as_f64()
        .filter(|number| number.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(number))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole and in range"
    )]
    Some(number as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUSSELL: &str = r#"{"currency_code":"USD","session_holidays":"20000117,20000221","subsession_id":"extended","provider_id":"tvc","currency_id":"USD","country":"US","pro_perm":"","allowed_adjustment":"none","short_description":"RUSSELL 2000","variable_tick_size":"","language":"en","name":"RUT","full_name":"TVC:RUT","pro_name":"TVC:RUT","base_name":["TVC:RUT"],"description":"RUSSELL 2000","exchange":"TVC","pricescale":10000,"pointvalue":1.0,"minmov":1,"session":"0900-1615","session_display":"0900-1615","subsessions":[{"description":"Regular Trading Hours","id":"regular","private":false,"session":"0930-1615","session-display":"0930-1615"},{"description":"Extended Trading Hours","id":"extended","private":false,"session":"0900-1615","session-display":"0900-1615"},{"description":"Premarket","id":"premarket","private":true,"session":"0900-0930","session-display":"0900-0930"}],"type":"index","typespecs":["cfd"],"resolutions":[],"has_intraday":true,"fractional":false,"listed_exchange":"TVC","legs":["TVC:RUT"],"is_tradable":true,"minmove2":0,"timezone":"America/New_York","visible_plots_set":"ohlc"}"#;

    fn spec_of(json: &str) -> SessionSpec {
        description(json).session.unwrap()
    }

    #[test]
    fn regular_hours_are_preferred() {
        let expected = SymbolDescription {
            name: Some("RUT".to_owned()),
            description: Some("RUSSELL 2000".to_owned()),
            asset_type: Some("index".to_owned()),
            currency: Some("USD".to_owned()),
            session: Some(SessionSpec {
                timezone: "America/New_York".to_owned(),
                session: "0930-1615".to_owned(),
                holidays: "20000117,20000221".to_owned(),
                corrections: String::new(),
            }),
            price_scale: Some(10_000),
        };
        assert_eq!(description(RUSSELL), expected);
    }

    #[test]
    fn corrections_are_read_from_either_place() {
        let top =
            r#"{"timezone":"Etc/UTC","session":"0930-1600","corrections":"0930-1300:20121123"}"#;
        assert_eq!(spec_of(top).corrections, "0930-1300:20121123");
        let sub = r#"{"timezone":"Etc/UTC","session":"0400-2000","corrections":"0400-1700:20121123","subsessions":[{"id":"regular","session":"0930-1600","session-correction":"0930-1300:20121123"}]}"#;
        assert_eq!(spec_of(sub).corrections, "0930-1300:20121123");
    }

    #[test]
    fn unreadable_holidays_and_corrections_do_not_cost_the_hours() {
        let json = r#"{"timezone":"America/New_York","session":"0930-1600","session_holidays":"soon","corrections":"early:20121123"}"#;
        let spec = spec_of(json);
        assert_eq!((spec.session.as_str(), spec.holidays.as_str()), ("0930-1600", ""));
        assert!(TradingSession::parse(&spec).is_ok());
    }

    #[test]
    fn unexpected_types_count_as_absent() {
        let json = r#"{"name":7,"description":"","pricescale":"100","session":"24x7","type":null}"#;
        assert_eq!(description(json), SymbolDescription::default());
        assert_eq!(description("[]"), SymbolDescription::default());
        assert_eq!(description(r#"{"pricescale":100.0}"#).price_scale, Some(100));
        assert_eq!(description(r#"{"pricescale":0}"#).price_scale, None);
    }

    #[test]
    fn a_symbol_is_asked_for_split_adjusted_in_regular_hours() {
        let symbol = Symbol::parse("NASDAQ:AAPL").unwrap();
        assert_eq!(
            symbol_spec(&symbol),
            r#"={"adjustment":"splits","session":"regular","symbol":"NASDAQ:AAPL"}"#
        );
    }
}
