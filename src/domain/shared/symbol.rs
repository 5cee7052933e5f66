//! The name of an instrument: `EXCHANGE:CODE`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// Longest accepted symbol, in characters, the colon included.
pub const MAX_SYMBOL_LENGTH: usize = 64;

/// An instrument on an exchange, such as `NASDAQ:AAPL`: upper case, at most 64 characters,
/// `[A-Z0-9_]+:[A-Z0-9][A-Z0-9._!&+/-]*`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Symbol {
    text: Arc<str>,
    colon: usize,
}

/// Why a text is not a [`Symbol`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SymbolError {
    /// There is no text.
    #[error("a symbol is required, such as `NASDAQ:AAPL`")]
    Empty,
    /// It is longer than [`MAX_SYMBOL_LENGTH`].
    #[error("a symbol has at most {MAX_SYMBOL_LENGTH} characters, not {0}")]
    TooLong(usize),
    /// It does not follow the grammar.
    #[error(
        "`{0}` is not a symbol: write EXCHANGE:CODE, such as `NASDAQ:AAPL` (letters, digits and _ before the colon; letters, digits and . _ ! & + / - after it)"
    )]
    Malformed(String),
}

impl Symbol {
    /// The symbol of `exchange` and `code`, upper-cased.
    pub fn new(exchange: &str, code: &str) -> Result<Self, SymbolError> {
        Self::parse(&format!("{exchange}:{code}"))
    }

    /// Reads `EXCHANGE:CODE`, upper-casing it.
    pub fn parse(text: &str) -> Result<Self, SymbolError> {
        if text.is_empty() {
            return Err(SymbolError::Empty);
        }
        let length = text.chars().count();
        if length > MAX_SYMBOL_LENGTH {
            return Err(SymbolError::TooLong(length));
        }
        let upper = text.to_ascii_uppercase();
        let malformed = || SymbolError::Malformed(text.escape_debug().to_string());
        let (exchange, code) = upper.split_once(':').ok_or_else(malformed)?;
        let alphanumeric = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit();
        let exchange_fits =
            !exchange.is_empty() && exchange.chars().all(|c| alphanumeric(c) || c == '_');
        let code_fits = code.starts_with(alphanumeric)
            && code.chars().all(|c| alphanumeric(c) || "._!&+/-".contains(c));
        if !exchange_fits || !code_fits {
            return Err(malformed());
        }
        Ok(Self { colon: exchange.len(), text: upper.into() })
    }

    /// The whole name, `EXCHANGE:CODE`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part before the colon.
    pub fn exchange(&self) -> &str {
        self.text.get(..self.colon).unwrap_or_default()
    }

    /// The part after the colon.
    pub fn code(&self) -> &str {
        self.text.get(self.colon + 1..).unwrap_or_default()
    }
}

impl FromStr for Symbol {
    type Err = SymbolError;

    fn from_str(text: &str) -> Result<Self, SymbolError> {
        Self::parse(text)
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_symbol_is_upper_cased_and_split_at_its_colon() {
        let symbol = Symbol::parse("nasdaq:aapl").unwrap();
        assert_eq!(
            (symbol.as_str(), symbol.exchange(), symbol.code()),
            ("NASDAQ:AAPL", "NASDAQ", "AAPL")
        );
    }

    #[test]
    fn the_grammar_is_kept() {
        for good in
            ["CME_MINI:ES1!", "NYSE:BRK.B", "A:B", "NSE:M&M", "FX:EUR/USD", "X:1-2", "X:A+B"]
        {
            assert!(Symbol::parse(good).is_ok(), "{good}");
        }
        for bad in
            ["AAPL", ":AAPL", "NASDAQ:", "NASDAQ:.A", "NAS DAQ:A", "A:B:C", "Ä:B", "A:ß", "A:B\n"]
        {
            assert!(matches!(Symbol::parse(bad), Err(SymbolError::Malformed(_))), "{bad}");
        }
        assert_eq!(Symbol::parse(""), Err(SymbolError::Empty));
        assert_eq!(Symbol::parse(&format!("A:{}", "B".repeat(63))), Err(SymbolError::TooLong(65)));
        assert!(Symbol::parse(&format!("A:{}", "B".repeat(62))).is_ok());
    }

    proptest! {
        #[test]
        fn what_was_parsed_parses_again(text in "\\PC{0,70}") {
            if let Ok(symbol) = Symbol::parse(&text) {
                prop_assert_eq!(Symbol::new(symbol.exchange(), symbol.code()), Ok(symbol.clone()));
                prop_assert_eq!(Symbol::parse(symbol.as_str()), Ok(symbol));
            }
        }
    }
}
