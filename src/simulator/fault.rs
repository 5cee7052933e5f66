//! What can be made to go wrong.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::fault_kind::{Arg, FaultKind};
use crate::domain::shared::{Symbol, SymbolError};

/// One fault that is switched on: `KIND[=ARG][@SYMBOL]`. Without a symbol it concerns everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultSpec {
    kind: FaultKind,
    arg: Option<String>,
    symbol: Option<Symbol>,
}

/// Why a text is no [`FaultSpec`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FaultSpecError {
    /// There is no such kind.
    #[error("unknown fault `{0}`: use one of {names}", names = names())]
    Kind(String),
    /// The argument does not fit the kind.
    #[error("fault `{kind}` takes {expected}, not `{given}`")]
    Arg {
        /// Which kind.
        kind: FaultKind,
        /// What it takes.
        expected: &'static str,
        /// What it was given.
        given: String,
    },
    /// The kind is about connections, not about one symbol.
    #[error("fault `{0}` concerns every connection and takes no symbol")]
    NotBySymbol(FaultKind),
    /// The symbol is none.
    #[error(transparent)]
    Symbol(#[from] SymbolError),
}

fn names() -> String {
    FaultKind::ALL.map(FaultKind::as_str).join(" ")
}

impl FaultSpec {
    /// A fault from its parts.
    pub fn new(
        kind: &str,
        arg: Option<&str>,
        symbol: Option<&str>,
    ) -> Result<Self, FaultSpecError> {
        let unknown = || FaultSpecError::Kind(kind.escape_debug().to_string());
        let kind = FaultKind::named(kind).ok_or_else(unknown)?;
        if let Some(given) = arg {
            let expected = match kind.arg() {
                Arg::Nothing => Some("no argument"),
                Arg::Number if given.parse::<u32>().is_err() => Some("a whole number"),
                Arg::Text if given.is_empty() || given.len() > 1_024 => Some("a text"),
                Arg::Number | Arg::Text => None,
            };
            if let Some(expected) = expected {
                return Err(FaultSpecError::Arg { kind, expected, given: given.to_owned() });
            }
        }
        let symbol = symbol.map(Symbol::parse).transpose()?;
        if symbol.is_some() && !kind.is_by_symbol() {
            return Err(FaultSpecError::NotBySymbol(kind));
        }
        Ok(Self { kind, arg: arg.map(str::to_owned), symbol })
    }

    /// What goes wrong.
    pub fn kind(&self) -> FaultKind {
        self.kind
    }

    /// The argument, as given.
    pub fn arg(&self) -> Option<&str> {
        self.arg.as_deref()
    }

    /// For whom; none is everybody.
    pub fn symbol(&self) -> Option<&Symbol> {
        self.symbol.as_ref()
    }

    /// The argument as a number, where there is one.
    pub(super) fn number(&self) -> Option<u32> {
        self.arg.as_deref()?.parse().ok()
    }
}

impl FromStr for FaultSpec {
    type Err = FaultSpecError;

    fn from_str(text: &str) -> Result<Self, FaultSpecError> {
        let (rest, symbol) = match text.rsplit_once('@') {
            Some((rest, symbol)) => (rest, Some(symbol)),
            None => (text, None),
        };
        match rest.split_once('=') {
            Some((kind, arg)) => Self::new(kind, Some(arg), symbol),
            None => Self::new(rest, None, symbol),
        }
    }
}

impl fmt::Display for FaultSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())?;
        if let Some(arg) = &self.arg {
            write!(f, "={arg}")?;
        }
        match &self.symbol {
            Some(symbol) => write!(f, "@{symbol}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_by_its_name() {
        for kind in FaultKind::ALL {
            assert_eq!(kind.as_str().parse::<FaultSpec>().unwrap().kind(), kind);
            assert!(!kind.help().is_empty());
        }
    }

    #[test]
    fn a_fault_has_an_argument_and_a_symbol() {
        let fault: FaultSpec = "cut-mid-history=7@nasdaq:aapl".parse().unwrap();
        assert_eq!((fault.kind(), fault.number()), (FaultKind::CutMidHistory, Some(7)));
        assert_eq!(fault.to_string(), "cut-mid-history=7@NASDAQ:AAPL");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let error = |text: &str| text.parse::<FaultSpec>().unwrap_err().to_string();
        assert!(error("cutt").starts_with("unknown fault `cutt`: use one of handshake-403 "));
        assert_eq!(error("slow=fast"), "fault `slow` takes a whole number, not `fast`");
        assert_eq!(error("dead=1"), "fault `dead` takes no argument, not `1`");
        assert!(error("handshake-403@A:B").ends_with("takes no symbol"));
        assert!(error("slow@AAPL").contains("is not a symbol"));
    }
}
