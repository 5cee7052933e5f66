//! Reads a page of the directory, version 3. Every field is optional, and one of an unexpected
//! type counts as absent.

use serde_json::Value;

use crate::domain::shared::Symbol;
use crate::infrastructure::interfaces::SymbolMatch;
use crate::infrastructure::tradingview::resolve::text;

/// Longest text that is taken over, in characters.
const MAX_TEXT: usize = 300;

/// A page of matches.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// Symbols that history can be asked for; rows may be none, or several.
    pub(super) matches: Vec<SymbolMatch>,
    /// How many rows there were.
    pub(super) rows: usize,
    /// How many come after them.
    pub(super) remaining: u64,
}

/// The page in `json`; none where it is no page.
pub(super) fn read(json: &Value) -> Option<Page> {
    let rows = json.get("symbols")?.as_array()?;
    let remaining = json.get("symbols_remaining").and_then(Value::as_u64).unwrap_or_default();
    let matches = rows.iter().flat_map(matches).collect();
    Some(Page { matches, rows: rows.len(), remaining })
}

/// The symbol of a row, or its contracts: the root of futures has no bars of its own.
fn matches(row: &Value) -> Vec<SymbolMatch> {
    let contracts = row.get("contracts").and_then(Value::as_array);
    match contracts.filter(|contracts| !contracts.is_empty()) {
        Some(contracts) => contracts.iter().filter_map(|one| read_match(one, row)).collect(),
        None => read_match(row, row).into_iter().collect(),
    }
}

/// `row`, with what it does not say taken from its `root`.
fn read_match(row: &Value, root: &Value) -> Option<SymbolMatch> {
    let said = |key: &str| text(row, key).or_else(|| text(root, key));
    let plain = |key: &str| said(key).map(|text| unmarked(&text)).unwrap_or_default();
    let name = plain("exchange");
    let prefix = said("prefix").unwrap_or_default();
    let exchange = if prefix.is_empty() { name.split(' ').next()? } else { &prefix };
    let symbol = Symbol::new(exchange, &unmarked(&text(row, "symbol")?)).ok()?;
    let long_name = row.get("source2").or_else(|| root.get("source2"));
    let long_name = long_name.and_then(|source| text(source, "name"));
    Some(SymbolMatch {
        symbol,
        description: plain("description"),
        asset_type: plain("type"),
        currency: plain("currency_code"),
        exchange_name: long_name.map_or(name, |name| unmarked(&name)),
        country: plain("country"),
    })
}

/// Without the tags around what was searched for, and not longer than anybody reads.
fn unmarked(text: &str) -> String {
    text.replace("<em>", "").replace("</em>", "").chars().take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn symbols(page: &Page) -> Vec<&str> {
        page.matches.iter().map(|one| one.symbol.as_str()).collect()
    }

    #[test]
    fn a_row_is_read_as_the_directory_writes_it() {
        let json = json!({"symbols_remaining": 137, "symbols": [{
            "symbol": "<em>AAPL</em>", "description": "<em>Apple</em> Inc.", "type": "stock",
            "exchange": "NASDAQ", "country": "US", "currency_code": "USD", "isin": "US0378331005",
            "provider_id": "ice", "source_id": "NASDAQ",
            "source2": {"id": "NASDAQ", "name": "Nasdaq Stock Market", "description": "x"},
            "is_primary_listing": true, "typespecs": ["common"],
        }]});
        let expected = SymbolMatch {
            symbol: Symbol::parse("NASDAQ:AAPL").unwrap(),
            description: "Apple Inc.".to_owned(),
            asset_type: "stock".to_owned(),
            currency: "USD".to_owned(),
            exchange_name: "Nasdaq Stock Market".to_owned(),
            country: "US".to_owned(),
        };
        let page = read(&json).unwrap();
        assert_eq!(page, Page { matches: vec![expected], rows: 1, remaining: 137 });
    }

    #[test]
    fn the_exchange_is_the_prefix_or_the_first_word() {
        let json = json!({"symbols": [
            {"symbol": "A", "exchange": "CBOE BZX"},
            {"symbol": "B", "exchange": "Binance Futures", "prefix": "BINANCE"},
        ]});
        assert_eq!(symbols(&read(&json).unwrap()), ["CBOE:A", "BINANCE:B"]);
    }

    #[test]
    fn the_contracts_of_futures_stand_for_their_root() {
        let json = json!({"symbols": [{
            "symbol": "ES", "exchange": "CME", "prefix": "CME_MINI", "type": "futures",
            "description": "E-mini S&P 500", "currency_code": "USD",
            "contracts": [
                {"symbol": "ES1!", "description": "E-mini S&P 500 (current)"},
                {"symbol": "ESZ2026"},
            ],
        }]});
        let page = read(&json).unwrap();
        assert_eq!(symbols(&page), ["CME_MINI:ES1!", "CME_MINI:ESZ2026"]);
        assert_eq!(page.matches[0].description, "E-mini S&P 500 (current)");
        assert_eq!(page.matches[1].description, "E-mini S&P 500");
        assert_eq!((page.matches[1].currency.as_str(), page.rows), ("USD", 1));
    }

    #[test]
    fn what_is_no_symbol_is_left_out_and_what_is_no_page_is_none() {
        let json = json!({"symbols_remaining": "many", "symbols": [
            {"symbol": "NO SUCH", "exchange": "NYSE"}, {"exchange": "NYSE"}, 7, null,
            {"symbol": "IBM", "exchange": "NYSE", "description": 7},
        ]});
        let page = read(&json).unwrap();
        assert_eq!((symbols(&page), page.rows, page.remaining), (vec!["NYSE:IBM"], 5, 0));
        for no_page in [json!([]), json!({"symbols": 7}), json!({"error": "x"}), json!(null)] {
            assert_eq!(read(&no_page), None, "{no_page}");
        }
    }
}
