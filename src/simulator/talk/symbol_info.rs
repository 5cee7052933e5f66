//! What `symbol_resolved` tells of an instrument: every key of real messages of 2023, with the
//! additions of 2026.

use serde_json::{Value, json};

use crate::simulator::world::{Facts, Instrument};

/// The third parameter of `symbol_resolved`.
pub(super) fn symbol_info(instrument: &Instrument, has_volume: bool) -> Value {
    let facts = instrument.facts();
    let mut info = identity(facts);
    for (key, value) in trading(instrument, has_volume).into_iter().chain(additions(facts)) {
        info.insert(key, value);
    }
    Value::Object(info)
}

type Object = serde_json::Map<String, Value>;

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Object::new()
        }
    }
}

fn identity(facts: &Facts) -> Object {
    let (full, code) = (facts.symbol.as_str(), facts.symbol.code());
    object(json!({
        "name": code, "full_name": full, "pro_name": full, "base_name": [full], "legs": [full],
        "description": facts.description, "short_description": facts.description,
        "local_description": facts.description, "language": "en",
        "exchange": facts.symbol.exchange(), "listed_exchange": facts.symbol.exchange(),
        "provider_id": facts.symbol.exchange().to_ascii_lowercase(),
        "type": facts.kind, "typespecs": typespecs(facts),
        "currency_code": facts.currency, "currency_id": facts.currency, "country": country(facts),
        "aliases": [], "alternatives": [], "pro_perm": "", "resolutions": [],
    }))
}

fn trading(instrument: &Instrument, has_volume: bool) -> Object {
    let facts = instrument.facts();
    let (session, corrections) = (&facts.spec.session, &facts.spec.corrections);
    object(json!({
        "session": session, "session_display": session, "session_holidays": facts.spec.holidays,
        "corrections": corrections, "timezone": facts.spec.timezone, "subsession_id": "regular",
        "subsessions": [{
            "description": "Regular Trading Hours", "id": "regular", "private": false,
            "session": session, "session-display": session, "session-correction": corrections,
        }],
        "pricescale": facts.price_scale, "minmov": facts.minmov, "minmove2": 0,
        "pointvalue": 1.0, "fractional": false, "variable_tick_size": "",
        "has_intraday": instrument.has_intraday(), "has_adjustment": facts.kind == "stock",
        "allowed_adjustment": if facts.kind == "stock" { "any" } else { "none" },
        "has_extended_hours": false, "is_tradable": true, "is_replayable": true,
        "bar_source": "trade", "bar_transform": "none", "bar_fillgaps": false,
        "visible_plots_set": if has_volume { "ohlcv" } else { "ohlc" },
    }))
}

fn additions(facts: &Facts) -> Object {
    let exchange = facts.symbol.exchange();
    let mut added = object(json!({
        "source_id": exchange, "exchange_listed_name": exchange, "format": "price",
        "formatter": "price", "measure": "price", "volume_type": "base",
        "is-tickbars-available": false, "has_backadjustment": false,
        "source2": {
            "country": country(facts), "description": exchange, "exchange-type": "exchange",
            "id": exchange, "name": exchange, "url": "",
        },
    }));
    let base = facts.symbol.code().strip_suffix(&facts.currency);
    if let Some(base) = base.filter(|base| facts.kind == "crypto" && !base.is_empty()) {
        added.insert("base_currency".to_owned(), json!(base));
        added.insert("base_currency_id".to_owned(), json!(format!("XTV{base}")));
    }
    added
}

/// Tags of the type.
pub(super) fn typespecs(facts: &Facts) -> Vec<&'static str> {
    match facts.kind.as_str() {
        "stock" => vec!["common"],
        "crypto" => vec!["crypto"],
        _ => Vec::new(),
    }
}

/// Two letters where the instrument is one of a country's.
pub(super) fn country(facts: &Facts) -> &'static str {
    if facts.currency == "USD" && facts.kind != "crypto" { "US" } else { "" }
}
