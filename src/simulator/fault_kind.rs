//! The ways to go wrong.

use std::fmt;

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
    HttpHtml,
    HttpHuge,
    HttpHang,
}

/// What may follow the `=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arg {
    Nothing,
    Number,
    Text,
}

use Arg::{Nothing, Number, Text};

/// Kind, name, argument, whether it may be bound to a symbol, help.
type Row = (FaultKind, &'static str, Arg, bool, &'static str);

const TABLE: [Row; 33] = [
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
        "the connection ends at a request or update, or ARG ms after it; switched on at run time without \
         a symbol, all end, and with ARG nobody gets in for ARG ms, after which it is off again",
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
    (FaultKind::Garbage, "garbage", Nothing, true, "answers with data and updates are no frames"),
    (
        FaultKind::TruncatedFrame,
        "truncated-frame",
        Nothing,
        true,
        "bars and updates come in a frame that ends too soon",
    ),
    (FaultKind::Duplicates, "duplicates", Nothing, true, "every bar and every update comes twice"),
    (
        FaultKind::Reorder,
        "reorder",
        Nothing,
        true,
        "bars come out of order; of two updates the second comes first",
    ),
    (
        FaultKind::Late,
        "late",
        Number,
        true,
        "the first update and then every tenth has an lp_time ARG s (60) before its own",
    ),
    (
        FaultKind::SessionReset,
        "session-reset",
        Number,
        true,
        "from the ARGth (10) update on, a quote's day volume counts from there",
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
        "pages, tokens and searches are answered with the status ARG (500); 429 with Retry-After: 60",
    ),
    (
        FaultKind::HttpHtml,
        "http-html",
        Nothing,
        false,
        "pages, tokens and searches are answered with a page that asks for a captcha",
    ),
    (
        FaultKind::HttpHuge,
        "http-huge",
        Number,
        false,
        "pages, tokens and searches are answered with ARG bytes (20000000)",
    ),
    (
        FaultKind::HttpHang,
        "http-hang",
        Nothing,
        false,
        "pages, tokens and searches are not answered",
    ),
];

impl FaultKind {
    /// Every kind; those that are fixed by design first.
    pub const ALL: [Self; 33] = {
        let mut all = [Self::Slow; 33];
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

    /// The kind that is called `name`.
    pub(super) fn named(name: &str) -> Option<Self> {
        TABLE.into_iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// What may follow its name.
    pub(super) fn arg(self) -> Arg {
        self.row().2
    }

    /// Whether it may be bound to a symbol.
    pub(super) fn is_by_symbol(self) -> bool {
        self.row().3
    }

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
