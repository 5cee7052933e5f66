//! What a quote tells at first: all there is to know.

use serde_json::{Map, Value, json};

use super::live_fields::all_fields;
use super::symbol_info::{country, typespecs};
use crate::simulator::replay::Quote;
use crate::simulator::world::{Facts, Instrument};

/// The sentinel of the provider for a volume that there is not.
pub(super) const NO_VOLUME: f64 = 1e100;

/// Every field of an instrument that stands still, by name.
pub(super) fn quote_fields(instrument: &Instrument, has_volume: bool) -> Map<String, Value> {
    let facts = instrument.facts();
    joined([naming(facts), units(facts), prices(instrument, has_volume)])
}

/// Every field of an instrument that moves and has come to `quote`, by name.
pub(super) fn moving_fields(facts: &Facts, quote: &Quote) -> Map<String, Value> {
    let nothing = json!({
        "bid_size": null, "ask_size": null,
        "rtc": null, "rtc_time": null, "rch": null, "rchp": null,
    });
    let moving = Value::Object(all_fields(quote, f64::from(facts.price_scale)));
    joined([naming(facts), units(facts), nothing, moving])
}

fn joined(parts: impl IntoIterator<Item = Value>) -> Map<String, Value> {
    let mut fields = Map::new();
    for part in parts {
        if let Value::Object(part) = part {
            fields.extend(part);
        }
    }
    fields
}

fn naming(facts: &Facts) -> Value {
    let (full, code) = (facts.symbol.as_str(), facts.symbol.code());
    let exchange = facts.symbol.exchange();
    json!({
        "pro_name": full, "original_name": full, "base_name": [full], "short_name": code,
        "exchange": exchange, "listed_exchange": exchange, "source_id": exchange,
        "provider_id": exchange.to_ascii_lowercase(), "country_code": country(facts),
        "description": facts.description, "short_description": facts.description,
        "local_description": facts.description, "language": "en",
        "type": facts.kind, "typespecs": typespecs(facts), "logoid": code.to_ascii_lowercase(),
    })
}

fn units(facts: &Facts) -> Value {
    json!({
        "currency_code": facts.currency, "currency_id": facts.currency, "measure": "price",
        "pricescale": facts.price_scale, "minmov": facts.minmov, "minmove2": 0,
        "fractional": false, "variable_tick_size": "", "format": "price", "pointvalue": 1.0,
        "session": facts.spec.session, "timezone": facts.spec.timezone,
        "subsession_id": "regular", "is_tradable": true, "update_mode": "streaming",
        "current_session": "out_of_session", "market-status": {"phase": "out-of-session"},
    })
}

/// Nothing is traded now: what only a market has is null, which is not zero.
fn prices(instrument: &Instrument, has_volume: bool) -> Value {
    let Some(newest) = instrument.snapshot() else { return json!({"trade_loaded": false}) };
    let volume = newest.day.and_then(|day| day.volume).filter(|_| has_volume);
    let day = |price: fn(&crate::simulator::world::WorldBar) -> f64| newest.day.as_ref().map(price);
    let change = newest.previous_close.map(|before| newest.price - before);
    let percent = newest.previous_close.filter(|before| *before != 0.0);
    let percent = percent.map(|before| (newest.price - before) / before.abs() * 100.0);
    let digits = f64::from(instrument.facts().price_scale);
    json!({
        "lp": newest.price, "lp_time": newest.time.as_second(),
        "ch": change.map(|change| (change * digits).round() / digits),
        "chp": percent.map(|percent| (percent * 100.0).round() / 100.0),
        "volume": volume.unwrap_or(NO_VOLUME),
        "open_price": day(|day| day.open), "high_price": day(|day| day.high),
        "low_price": day(|day| day.low), "prev_close_price": newest.previous_close,
        "open_time": newest.day.map(|day| day.open_time.as_second()),
        "regular_close": newest.price, "regular_close_time": newest.time.as_second(),
        "bid": null, "ask": null, "bid_size": null, "ask_size": null,
        "rtc": null, "rtc_time": null, "rch": null, "rchp": null, "trade_loaded": true,
    })
}
