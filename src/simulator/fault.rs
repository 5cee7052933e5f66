//! What can be made to go wrong.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::domain::shared::{Symbol, SymbolError};

/// A way to go wrong. See [`FaultKind::help`] for what each does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "`help` says what each does, for people on the command line too")]
pub enum FaultKind {
    Handshake403,
    Handshake429,
    BadToken,
    Silence,
    Dead,
    Cut,
    CutMidHistory,
    NoCompleted,
    Garbage,
    TruncatedFrame,
    Duplicates,
    Reorder,
    Late,
    SessionReset,
    Slow,
    ExceedSeries,
    DuplicateId,
    MaxSessions,
    PermissionDenied,
    InvalidSymbol,
    SeriesError,
    ProtocolError,
    NoHello,
    NoHeartbeat,
    Huge,
    NoVolume,
    NullVolume,
    InvalidBars,
    Revise,
    HttpStatus,
}

/// What may follow the `=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arg {
    Nothing,
    Number,
    Text,
}

use Arg::{Nothing, Number, Text};

/// Kind, name, argument, whether it may be bound to a symbol, help.
type Row = (FaultKind, &'static str, Arg, bool, &'static str);

const TABLE: [Row; 30] = [
    (FaultKind::Handshake403, "handshake-403", Nothing, false, "handshakes are answered with 403"),
    (FaultKind::Handshake429, "handshake-429", Nothing, false, "handshakes are answered with 429"),
    (
        FaultKind::BadToken,
        "bad-token",
        Text,
        false,
        "every token, or only the token ARG, is bad: protocol_error, then the end",
    ),
    (FaultKind::Silence, "silence", Nothing, true, "requests are not answered; heartbeats go on"),
    (
        FaultKind::Dead,
        "dead",
        Nothing,
        true,
        "nothing is sent at all; with a symbol, from its first request on",
    ),
    (
        FaultKind::Cut,
        "cut",
        Number,
        true,
        "the connection ends at a request, or ARG ms after it; open ones end when it is switched on",
    ),
    (
        FaultKind::CutMidHistory,
        "cut-mid-history",
        Number,
        true,
        "the connection ends after ARG bars of a series, or halfway through a page",
    ),
    (
        FaultKind::NoCompleted,
        "no-completed",
        Nothing,
        true,
        "series_completed and quote_completed never come",
    ),
    (FaultKind::Garbage, "garbage", Nothing, true, "answers with data are no frames"),
    (
        FaultKind::TruncatedFrame,
        "truncated-frame",
        Nothing,
        true,
        "bars come in a frame that ends too soon",
    ),
    (FaultKind::Duplicates, "duplicates", Nothing, true, "every bar comes twice"),
    (FaultKind::Reorder, "reorder", Nothing, true, "bars come out of order"),
    (FaultKind::Late, "late", Number, true, "quotes come late; history is not concerned"),
    (
        FaultKind::SessionReset,
        "session-reset",
        Nothing,
        true,
        "a quote's day volume starts again; history is not concerned",
    ),
    (FaultKind::Slow, "slow", Number, true, "each answer waits ARG ms (1000)"),
    (
        FaultKind::ExceedSeries,
        "exceed-series",
        Nothing,
        true,
        "series are refused: exceed limit of series in the session",
    ),
    (
        FaultKind::DuplicateId,
        "duplicate-id",
        Nothing,
        true,
        "symbols are not resolved: duplicate id",
    ),
    (
        FaultKind::MaxSessions,
        "max-sessions",
        Number,
        false,
        "after ARG sessions (0) of a connection: max sessions rate reached",
    ),
    (
        FaultKind::PermissionDenied,
        "permission-denied",
        Text,
        true,
        "symbols need the paid group ARG (economics_paid)",
    ),
    (FaultKind::InvalidSymbol, "invalid-symbol", Nothing, true, "symbols do not exist"),
    (
        FaultKind::SeriesError,
        "series-error",
        Text,
        true,
        "series are refused with the reason ARG (resolution_not_entitled)",
    ),
    (
        FaultKind::ProtocolError,
        "protocol-error",
        Text,
        false,
        "a token is answered with protocol_error ARG (banned), then the end",
    ),
    (FaultKind::NoHello, "no-hello", Nothing, false, "connections are not greeted"),
    (FaultKind::NoHeartbeat, "no-heartbeat", Nothing, false, "no heartbeats are sent"),
    (FaultKind::Huge, "huge", Number, true, "pages of bars are padded to ARG bytes (2000000)"),
    (FaultKind::NoVolume, "no-volume", Nothing, true, "bars have five elements"),
    (
        FaultKind::NullVolume,
        "null-volume",
        Nothing,
        true,
        "a bar's volume is null, a quote's 1e+100",
    ),
    (
        FaultKind::InvalidBars,
        "invalid-bars",
        Number,
        true,
        "the high of the newest ARG bars (1) of a page is below their low",
    ),
    (
        FaultKind::Revise,
        "revise",
        Number,
        true,
        "the newest ARG bars (1) of a series have other prices than before",
    ),
    (
        FaultKind::HttpStatus,
        "http-status",
        Number,
        false,
        "pages, tokens and searches are answered with the status ARG (500)",
    ),
];

impl FaultKind {
    /// Every kind; those that are fixed by design first.
    pub const ALL: [Self; 30] = {
        let mut all = [Self::Slow; 30];
        let mut at = 0;
        while at < all.len() {
            #[expect(clippy::indexing_slicing, reason = "evaluated at compile time")]
            {
                all[at] = TABLE[at].0;
            }
            at += 1;
        }
        all
    };

    fn row(self) -> Row {
        let row = TABLE.into_iter().find(|row| row.0 == self);
        row.unwrap_or_else(|| unreachable!("the table has a row for every kind"))
    }

    /// The word on the command line and over HTTP.
    pub fn as_str(self) -> &'static str {
        self.row().1
    }

    /// What it does, in a line.
    pub fn help(self) -> &'static str {
        self.row().4
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

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
    TABLE.map(|row| row.1).join(" ")
}

impl FaultSpec {
    /// A fault from its parts.
    pub fn new(
        kind: &str,
        arg: Option<&str>,
        symbol: Option<&str>,
    ) -> Result<Self, FaultSpecError> {
        let row = TABLE.into_iter().find(|row| row.1 == kind);
        let (kind, _, takes, by_symbol, _) =
            row.ok_or_else(|| FaultSpecError::Kind(kind.escape_debug().to_string()))?;
        if let Some(given) = arg {
            let expected = match takes {
                Nothing => Some("no argument"),
                Number if given.parse::<u32>().is_err() => Some("a whole number"),
                Text if given.is_empty() || given.len() > 1_024 => Some("a text"),
                Number | Text => None,
            };
            if let Some(expected) = expected {
                return Err(FaultSpecError::Arg { kind, expected, given: given.to_owned() });
            }
        }
        let symbol = symbol.map(Symbol::parse).transpose()?;
        if symbol.is_some() && !by_symbol {
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
