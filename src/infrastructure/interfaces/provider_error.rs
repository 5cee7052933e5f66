//! How a provider can fail, in terms its callers can act on.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

use crate::common::error::{Coded, ErrorCode};
use crate::domain::shared::Symbol;

/// How far a conversation with the provider had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Reaching its host.
    Connect,
    /// Agreeing on encryption.
    Tls,
    /// Opening the WebSocket.
    Handshake,
    /// Waiting for its first message.
    Hello,
    /// Logging in.
    Login,
    /// Receiving bars.
    History,
    /// Receiving quotes.
    Quotes,
    /// Looking symbols up.
    Search,
}

impl Phase {
    /// The word in error metadata.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Handshake => "handshake",
            Self::Hello => "hello",
            Self::Login => "login",
            Self::History => "history",
            Self::Quotes => "quotes",
            Self::Search => "search",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a provider did not deliver. Texts carry no credentials.
#[derive(Clone, Debug, Error)]
pub enum ProviderError {
    /// It could not be reached, or broke off.
    #[error("{provider} is unavailable ({phase}): {detail}")]
    Unavailable {
        /// Which provider.
        provider: &'static str,
        /// How far it came.
        phase: Phase,
        /// What happened.
        detail: String,
        /// When to try again at the earliest.
        retry_after: Duration,
    },
    /// It went silent, or never finished its answer.
    #[error("{provider} did not answer within {waited:?} ({phase})")]
    Timeout {
        /// Which provider.
        provider: &'static str,
        /// How far it came.
        phase: Phase,
        /// How long it was waited for.
        waited: Duration,
        /// When to try again at the earliest.
        retry_after: Duration,
    },
    /// It refuses who we say we are. Trying again changes nothing.
    #[error("{provider} refused the log-in: {detail}; {remedy}")]
    AuthRequired {
        /// Which provider.
        provider: &'static str,
        /// What it said.
        detail: String,
        /// What to provide.
        remedy: &'static str,
    },
    /// The plan does not include what was asked for.
    #[error("{provider} does not grant this: {detail}")]
    NotEntitled {
        /// Which provider.
        provider: &'static str,
        /// What it said.
        detail: String,
        /// The group of data that is lacking, where it said so.
        group: Option<String>,
    },
    /// It asks us to slow down.
    #[error("{provider} limits our rate: {detail}")]
    RateLimited {
        /// Which provider.
        provider: &'static str,
        /// What it said.
        detail: String,
        /// When to try again at the earliest.
        retry_after: Duration,
    },
    /// It knows no such symbol.
    #[error("{provider} knows no symbol `{symbol}`")]
    SymbolNotFound {
        /// Which provider.
        provider: &'static str,
        /// Which symbol.
        symbol: Symbol,
        /// Symbols it may be confused with, where the provider names some.
        suggestions: Vec<String>,
    },
    /// It answered, and had no bars.
    #[error("{provider} has no bars of {symbol}{}", Because(detail.as_deref()))]
    NoData {
        /// Which provider.
        provider: &'static str,
        /// Of which symbol.
        symbol: Symbol,
        /// Why, where it said so.
        detail: Option<String>,
    },
}

/// A reason at the end of a text, where there is one.
struct Because<'a>(Option<&'a str>);

impl fmt::Display for Because<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |reason| write!(f, ": {reason}"))
    }
}

impl ProviderError {
    /// Which provider.
    pub const fn provider(&self) -> &'static str {
        match self {
            Self::Unavailable { provider, .. }
            | Self::Timeout { provider, .. }
            | Self::AuthRequired { provider, .. }
            | Self::NotEntitled { provider, .. }
            | Self::RateLimited { provider, .. }
            | Self::SymbolNotFound { provider, .. }
            | Self::NoData { provider, .. } => provider,
        }
    }
}

impl Coded for ProviderError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Unavailable { .. } => ErrorCode::ProviderUnavailable,
            Self::Timeout { .. } => ErrorCode::ProviderTimeout,
            Self::AuthRequired { .. } => ErrorCode::ProviderAuthRequired,
            Self::NotEntitled { .. } => ErrorCode::ProviderNotEntitled,
            Self::RateLimited { .. } => ErrorCode::ProviderRateLimited,
            Self::SymbolNotFound { .. } => ErrorCode::SymbolNotFound,
            Self::NoData { .. } => ErrorCode::ProviderNoData,
        }
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        let mut metadata = vec![("provider", self.provider().to_owned())];
        match self {
            Self::Unavailable { phase, .. } | Self::Timeout { phase, .. } => {
                metadata.push(("phase", phase.to_string()));
            }
            Self::AuthRequired { remedy, .. } => metadata.push(("remedy", (*remedy).to_owned())),
            Self::NotEntitled { group, .. } => {
                metadata.extend(group.clone().map(|group| ("group", group)));
            }
            Self::RateLimited { .. } => metadata.push(("scope", "upstream".to_owned())),
            Self::SymbolNotFound { suggestions, .. } if !suggestions.is_empty() => {
                metadata.push(("suggestions", suggestions.join(",")));
            }
            Self::SymbolNotFound { .. } | Self::NoData { .. } => {}
        }
        metadata
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. }
            | Self::Timeout { retry_after, .. }
            | Self::RateLimited { retry_after, .. } => Some(*retry_after),
            Self::AuthRequired { .. }
            | Self::NotEntitled { .. }
            | Self::SymbolNotFound { .. }
            | Self::NoData { .. } => None,
        }
    }

    fn resource(&self) -> Option<(&'static str, String)> {
        match self {
            Self::SymbolNotFound { symbol, .. } | Self::NoData { symbol, .. } => {
                Some(("symbol", symbol.to_string()))
            }
            Self::Unavailable { .. }
            | Self::Timeout { .. }
            | Self::AuthRequired { .. }
            | Self::NotEntitled { .. }
            | Self::RateLimited { .. } => None,
        }
    }
}
