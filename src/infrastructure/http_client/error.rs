//! Why a request failed.

use std::error::Error;
use std::time::Duration;

use http::StatusCode;
use thiserror::Error;

use super::address::AddressRefused;
use crate::common::error::cause;

/// Why there is no answer, or not the one that was wanted. Names the host, and of the URL nothing
/// else: paths and queries hold secrets.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HttpError {
    /// The host cannot be reached.
    #[error("cannot connect to `{host}`: {detail}")]
    Connect {
        /// Which host.
        host: String,
        /// What happened.
        detail: String,
    },
    /// No encryption could be agreed on, or the host is not who it should be.
    #[error("cannot agree on encryption with `{host}`: {detail}")]
    Tls {
        /// Which host.
        host: String,
        /// What happened.
        detail: String,
    },
    /// It took too long.
    #[error("`{host}` did not {} in time", if *.connecting { "let us connect" } else { "answer" })]
    Timeout {
        /// Which host.
        host: String,
        /// Whether there was no connection yet.
        connecting: bool,
    },
    /// The connection broke off.
    #[error("the connection to `{host}` broke off: {detail}")]
    Broken {
        /// Which host.
        host: String,
        /// What happened.
        detail: String,
    },
    /// The answer has a status that is none of success.
    #[error("`{host}` answered {status}")]
    Status {
        /// Which host.
        host: String,
        /// With what.
        status: StatusCode,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// The host failed too often; it was not asked.
    #[error("`{host}` failed too often and is left alone for now")]
    BreakerOpen {
        /// Which host.
        host: String,
        /// When it will be asked again at the earliest.
        retry_after: Duration,
    },
    /// The answer is longer than we read.
    #[error("the answer of `{host}` is longer than {limit} bytes")]
    TooLarge {
        /// Which host.
        host: String,
        /// What we read.
        limit: usize,
    },
    /// The answer cannot be read.
    #[error("the answer of `{host}` is not {expected}")]
    Malformed {
        /// Which host.
        host: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The host has no address that we may connect to; it was not asked.
    #[error("`{host}` has no address that is allowed")]
    AddressRefused {
        /// Which host.
        host: String,
    },
    /// Redirected too often, or to somebody else.
    #[error("`{host}` redirects {to}")]
    Redirect {
        /// Which host.
        host: String,
        /// Where to.
        to: &'static str,
    },
    /// The request is none.
    #[error("the request to `{host}` cannot be made: {detail}")]
    Request {
        /// Which host.
        host: String,
        /// What is wrong.
        detail: String,
    },
}

impl HttpError {
    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Timeout { .. }
            | Self::Broken { .. }
            | Self::BreakerOpen { .. } => true,
            Self::Status { status, .. } => is_transient_status(*status),
            Self::Tls { .. }
            | Self::TooLarge { .. }
            | Self::Malformed { .. }
            | Self::AddressRefused { .. }
            | Self::Redirect { .. }
            | Self::Request { .. } => false,
        }
    }

    /// How long to wait, where that is known.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::BreakerOpen { retry_after, .. } => Some(*retry_after),
            Self::Connect { .. }
            | Self::Tls { .. }
            | Self::Timeout { .. }
            | Self::Broken { .. }
            | Self::TooLarge { .. }
            | Self::Malformed { .. }
            | Self::AddressRefused { .. }
            | Self::Redirect { .. }
            | Self::Request { .. } => None,
        }
    }

    /// A word for metrics and traces.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Tls { .. } => "tls",
            Self::Timeout { .. } => "timeout",
            Self::Broken { .. } => "broken",
            Self::Status { .. } => "status",
            Self::BreakerOpen { .. } => "breaker_open",
            Self::TooLarge { .. } => "too_large",
            Self::Malformed { .. } => "malformed",
            Self::AddressRefused { .. } => "address_refused",
            Self::Redirect { .. } => "redirect",
            Self::Request { .. } => "request",
        }
    }

    /// Whether the host is to blame, in a way that asking it less often helps.
    pub(super) const fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Connect { .. } | Self::Tls { .. } | Self::Timeout { .. } | Self::Broken { .. }
        )
    }
}

/// Whether an answer of this status may be another one next time.
pub(super) fn is_transient_status(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::INTERNAL_SERVER_ERROR
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// What reqwest says, without the URL that it says it of.
pub(super) fn from_reqwest(host: &str, error: &reqwest::Error) -> HttpError {
    let host = host.to_owned();
    let detail = root_cause(error).to_string();
    if cause::<AddressRefused>(error).is_some() {
        HttpError::AddressRefused { host }
    } else if error.is_timeout() {
        HttpError::Timeout { host, connecting: error.is_connect() }
    } else if error.is_builder() {
        HttpError::Request { host, detail: "it is malformed".to_owned() }
    } else if !error.is_connect() {
        HttpError::Broken { host, detail }
    } else if cause::<rustls::Error>(error).is_some() {
        HttpError::Tls { host, detail }
    } else {
        HttpError::Connect { host, detail }
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The innermost cause: reqwest's own texts, which name the URL, are outside of it.
fn root_cause(error: &reqwest::Error) -> &(dyn Error + 'static) {
    causes(error).last().unwrap_or(error)
}
