//! The symbol search, in both versions that are in use.

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{Page, comes_from_accepted_origin, json as json_page, query, text};
use crate::simulator::Shared;
use crate::simulator::world::Facts;

/// Results on a page.
const PAGE: usize = 50;

/// Version 1: an array, at most a page.
pub(super) fn first_version(request: &Page, shared: &Shared) -> Response<String> {
    answer(request, shared, |found, marked| {
        let rows = found.iter().take(PAGE).map(|facts| {
            json!({
                "symbol": marked(facts.symbol.code()), "description": marked(&facts.description),
                "type": facts.kind, "exchange": facts.symbol.exchange(),
                "currency_code": facts.currency, "provider_id": provider(facts),
            })
        });
        Value::Array(rows.collect())
    })
}

/// Version 3: a page, and how many are left.
pub(super) fn third_version(request: &Page, shared: &Shared) -> Response<String> {
    let start = query(request, "start").and_then(|start| start.parse().ok()).unwrap_or(0_usize);
    answer(request, shared, |found, marked| {
        let rows = found.iter().skip(start).take(PAGE).map(|facts| row(facts, &marked));
        let rows: Vec<Value> = rows.collect();
        let left = found.len().saturating_sub(start.saturating_add(rows.len()));
        json!({"symbols_remaining": left, "symbols": rows})
    })
}

/// `/symbols/NASDAQ:AAPL`: whether there is such a symbol.
pub(super) fn symbol_page(path: &str, shared: &Shared) -> Response<String> {
    let name = path.trim_start_matches("/symbols/").replacen("%3A", ":", 1);
    match shared.world.find(&name) {
        Some(_) => text(StatusCode::OK, "there it is"),
        None => text(StatusCode::NOT_FOUND, "there is no such symbol"),
    }
}

fn answer(
    request: &Page,
    shared: &Shared,
    write: impl FnOnce(&[&Facts], &dyn Fn(&str) -> String) -> Value,
) -> Response<String> {
    shared.stats.searches.add(1);
    if !comes_from_accepted_origin(request) {
        return text(StatusCode::FORBIDDEN, "forbidden");
    }
    let wanted = query(request, "text").unwrap_or_default().to_uppercase();
    let exchange = query(request, "exchange").unwrap_or_default();
    let kind = query(request, "search_type").or_else(|| query(request, "type"));
    let kind = kind.unwrap_or_default();
    let all = shared.world.instruments().map(|instrument| instrument.facts());
    let fitting = all.filter(|facts| {
        (exchange.is_empty() || facts.symbol.exchange().eq_ignore_ascii_case(&exchange))
            && is_of_type(facts, &kind)
    });
    let mut found: Vec<(u8, &Facts)> =
        fitting.filter_map(|facts| Some((rank(facts, &wanted)?, facts))).collect();
    found.sort_by_key(|(rank, _)| *rank);
    let found: Vec<&Facts> = found.into_iter().map(|(_, facts)| facts).collect();
    let marks = query(request, "hl").as_deref() == Some("1") && !wanted.is_empty();
    let marked = |text: &str| if marks { emphasised(text, &wanted) } else { text.to_owned() };
    json_page(StatusCode::OK, &write(&found, &marked))
}

/// How well an instrument fits: the same code, a code that begins so, then anything that holds it.
fn rank(facts: &Facts, wanted: &str) -> Option<u8> {
    let code = facts.symbol.code();
    match () {
        () if code == wanted || facts.symbol.as_str() == wanted => Some(0),
        () if code.starts_with(wanted) => Some(1),
        () if code.contains(wanted) || facts.symbol.as_str().contains(wanted) => Some(2),
        () if facts.description.to_uppercase().contains(wanted) => Some(3),
        () => None,
    }
}

/// `search_type` is in the plural where the type is not.
fn is_of_type(facts: &Facts, wanted: &str) -> bool {
    let kind = match wanted {
        "" | "undefined" => return true,
        "stocks" => "stock",
        "funds" => "fund",
        "crypto_spot" => "crypto",
        other => other,
    };
    facts.kind == kind
}

/// The first place where `wanted` (upper case) stands, in `<em>`.
fn emphasised(text: &str, wanted: &str) -> String {
    let upper = text.to_ascii_uppercase();
    let split = upper.find(wanted).and_then(|at| {
        let (before, rest) = text.split_at_checked(at)?;
        let (hit, after) = rest.split_at_checked(wanted.len())?;
        Some(format!("{before}<em>{hit}</em>{after}"))
    });
    split.unwrap_or_else(|| text.to_owned())
}

fn provider(facts: &Facts) -> String {
    facts.symbol.exchange().to_ascii_lowercase()
}

fn row(facts: &Facts, marked: &dyn Fn(&str) -> String) -> Value {
    let (code, exchange) = (facts.symbol.code(), facts.symbol.exchange());
    json!({
        "symbol": marked(code), "description": marked(&facts.description), "type": facts.kind,
        "exchange": exchange, "currency_code": facts.currency, "provider_id": provider(facts),
        "source_id": exchange, "logoid": code.to_ascii_lowercase(), "country": "US",
        "source2": {"id": exchange, "name": exchange, "description": exchange},
        "is_primary_listing": true, "typespecs": [],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_hit_is_emphasised() {
        assert_eq!(emphasised("Apple Inc.", "APPLE"), "<em>Apple</em> Inc.");
        assert_eq!(emphasised("国際商業機械 IBM", "IBM"), "国際商業機械 <em>IBM</em>");
        assert_eq!(emphasised("IBM", "AAPL"), "IBM");
    }
}
