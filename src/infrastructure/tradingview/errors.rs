//! What the server says when it refuses, in terms of [`ProviderError`].

use std::time::Duration;

use http::StatusCode;

use super::PROVIDER;
use crate::domain::shared::Symbol;
use crate::infrastructure::http_client::HttpError;
use crate::infrastructure::interfaces::{Phase, ProviderError};

/// When to try again after network trouble, unless somebody knows better.
const RETRY_SOON: Duration = Duration::from_secs(1);
/// When to try again after a silence.
const RETRY_LATER: Duration = Duration::from_secs(5);
/// When to try again after being told to slow down.
pub(super) const RETRY_SLOWLY: Duration = Duration::from_mins(1);

/// Longest text of the server that is passed on, in characters.
const MAX_DETAIL: usize = 300;

const REMEDY: &str = "set a valid TRADINGVIEW_AUTH_TOKEN, or TRADINGVIEW_SESSIONID and TRADINGVIEW_SESSIONID_SIGN of a logged-in browser";

pub(super) fn unavailable(phase: Phase, detail: &str) -> ProviderError {
    let detail = bounded(detail);
    ProviderError::Unavailable { provider: PROVIDER, phase, detail, retry_after: RETRY_SOON }
}

pub(super) fn timeout(phase: Phase, waited: Duration) -> ProviderError {
    // People read it: nobody needs the nanoseconds.
    let waited = Duration::from_millis(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX));
    ProviderError::Timeout { provider: PROVIDER, phase, waited, retry_after: RETRY_LATER }
}

pub(super) fn auth_required(detail: &str) -> ProviderError {
    ProviderError::AuthRequired { provider: PROVIDER, detail: bounded(detail), remedy: REMEDY }
}

pub(super) fn rate_limited(detail: &str, retry_after: Option<Duration>) -> ProviderError {
    let retry_after = retry_after.unwrap_or(RETRY_SLOWLY);
    ProviderError::RateLimited { provider: PROVIDER, detail: bounded(detail), retry_after }
}

/// The web site did not answer, or not well; it was waited for this long at most.
pub(super) fn http_error(error: &HttpError, phase: Phase, waited: Duration) -> ProviderError {
    match error {
        HttpError::Connect { detail, .. } => unavailable(Phase::Connect, detail),
        HttpError::Tls { detail, .. } => unavailable(Phase::Tls, detail),
        HttpError::Timeout { connecting: true, .. } => timeout(Phase::Connect, waited),
        HttpError::Timeout { connecting: false, .. } => timeout(phase, waited),
        HttpError::Status { status, retry_after, .. }
            if *status == StatusCode::TOO_MANY_REQUESTS =>
        {
            rate_limited(&format!("the web site answered {status}"), *retry_after)
        }
        HttpError::Status { status, retry_after, .. } => {
            let error = unavailable(phase, &format!("the web site answered {status}"));
            with_retry_after(error, retry_after.unwrap_or(RETRY_LATER))
        }
        HttpError::BreakerOpen { retry_after, .. } => {
            with_retry_after(unavailable(phase, &error.to_string()), *retry_after)
        }
        HttpError::Broken { .. }
        | HttpError::TooLarge { .. }
        | HttpError::Malformed { .. }
        | HttpError::AddressRefused { .. }
        | HttpError::Redirect { .. }
        | HttpError::Request { .. } => unavailable(phase, &error.to_string()),
    }
}

/// `symbol_error`: the reason, perhaps `group` and its name.
pub(super) fn symbol_error(symbol: &Symbol, said: &[String]) -> ProviderError {
    let reason = said.first().map(String::as_str).unwrap_or_default();
    let group = said.iter().skip_while(|word| *word != "group").nth(1).cloned();
    refusal(symbol, reason, group)
        .unwrap_or_else(|| unavailable(Phase::History, &format!("symbol refused: {reason}")))
}

/// `series_error`: its reason.
pub(super) fn series_error(symbol: &Symbol, reason: &str) -> ProviderError {
    refusal(symbol, reason, None)
        .unwrap_or_else(|| unavailable(Phase::History, &format!("series refused: {reason}")))
}

/// `qsd` of a status that is not `ok`: the status, its reason, and the feed that is lacking.
pub(super) fn quote_error(
    symbol: &Symbol,
    status: &str,
    reason: &str,
    group: Option<String>,
) -> ProviderError {
    let said = if reason.is_empty() { status } else { reason };
    if normal(status).contains("permission denied") {
        let detail = bounded(said);
        return ProviderError::NotEntitled { provider: PROVIDER, detail, group };
    }
    refusal(symbol, said, group)
        .unwrap_or_else(|| unavailable(Phase::Quotes, &format!("quote refused: {said}")))
}

/// `critical_error`: the kind and its details.
pub(super) fn critical_error(said: &[String], phase: Phase) -> ProviderError {
    let text = said.join(": ");
    whole_connection(&text)
        .unwrap_or_else(|| unavailable(phase, &format!("command refused: {text}")))
}

/// `protocol_error`: after it the server closes the connection.
pub(super) fn protocol_error(text: &str, phase: Phase) -> ProviderError {
    whole_connection(text)
        .unwrap_or_else(|| unavailable(phase, &format!("connection refused: {text}")))
}

/// The same error, with the time at which trying again makes sense.
pub(super) fn with_retry_after(mut error: ProviderError, wait: Duration) -> ProviderError {
    match &mut error {
        ProviderError::Unavailable { retry_after, .. }
        | ProviderError::Timeout { retry_after, .. }
        | ProviderError::RateLimited { retry_after, .. } => *retry_after = wait,
        ProviderError::AuthRequired { .. }
        | ProviderError::NotEntitled { .. }
        | ProviderError::SymbolNotFound { .. }
        | ProviderError::NoData { .. } => {}
    }
    error
}

/// Says who we are to the server, or how often we come, is what it minds.
fn whole_connection(text: &str) -> Option<ProviderError> {
    let says = normal(text);
    if says.contains("max sessions rate") {
        return Some(rate_limited(text, None));
    }
    let unwelcome = ["auth token", "unauthorized", "banned"];
    unwelcome.iter().any(|word| says.contains(word)).then(|| auth_required(text))
}

/// Why a symbol or a series is refused. Texts vary in case and in `_` for spaces.
fn refusal(symbol: &Symbol, reason: &str, group: Option<String>) -> Option<ProviderError> {
    let says = normal(reason);
    let any = |words: &[&str]| words.iter().any(|word| says.contains(word));
    if any(&["invalid symbol", "no such symbol", "resolve error"]) {
        let (symbol, suggestions) = (symbol.clone(), Vec::new());
        return Some(ProviderError::SymbolNotFound { provider: PROVIDER, symbol, suggestions });
    }
    if any(&["permission denied", "not entitled", "study not auth", "custom resolution"]) {
        let detail = bounded(reason);
        return Some(ProviderError::NotEntitled { provider: PROVIDER, detail, group });
    }
    if any(&["unsupported resolution"]) {
        let (symbol, detail) = (symbol.clone(), Some(bounded(reason)));
        return Some(ProviderError::NoData { provider: PROVIDER, symbol, detail });
    }
    whole_connection(reason)
}

fn normal(text: &str) -> String {
    text.to_ascii_lowercase().replace('_', " ")
}

fn bounded(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(MAX_DETAIL).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol() -> Symbol {
        Symbol::parse("NASDAQ:AAPL").unwrap()
    }

    fn said(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn an_unknown_symbol_is_told_by_any_of_its_names() {
        for reason in ["invalid symbol", "no_such_symbol", "Invalid_Symbol"] {
            let error = symbol_error(&symbol(), &said(&[reason]));
            assert!(matches!(error, ProviderError::SymbolNotFound { .. }), "{error}");
        }
        let error = series_error(&symbol(), "resolve error");
        assert!(matches!(error, ProviderError::SymbolNotFound { .. }), "{error}");
    }

    #[test]
    fn what_the_plan_lacks_names_its_group() {
        let error =
            symbol_error(&symbol(), &said(&["permission denied", "group", "economics_paid"]));
        let ProviderError::NotEntitled { group, detail, .. } = error else { panic!("{error}") };
        assert_eq!(
            (group.as_deref(), detail.as_str()),
            (Some("economics_paid"), "permission denied")
        );
        for reason in [
            "custom_resolution",
            "resolution_not_entitled",
            "seconds_not_entitled",
            "ticks_not_entitled",
            "study_not_auth:BarSetRenko@tv-prostudies-40",
        ] {
            let error = series_error(&symbol(), reason);
            assert!(matches!(error, ProviderError::NotEntitled { .. }), "{error}");
        }
    }

    #[test]
    fn an_unsupported_resolution_has_no_bars() {
        let error = series_error(&symbol(), "unsupported resolution: INDEX:NDFI, 5");
        assert!(matches!(error, ProviderError::NoData { .. }), "{error}");
        assert!(error.to_string().contains("INDEX:NDFI, 5"), "{error}");
    }

    #[test]
    fn refused_commands_keep_their_text() {
        for kind in [
            "invalid timezone",
            "invalid_parameters",
            "exceed limit of series in the session",
            "duplicate id",
        ] {
            let error = critical_error(&said(&[kind, "method: create_series"]), Phase::History);
            let ProviderError::Unavailable { phase: Phase::History, detail, .. } = error else {
                panic!("{error}")
            };
            assert!(detail.contains(kind), "{detail}");
        }
        let error = critical_error(&said(&["max sessions rate reached"]), Phase::Quotes);
        assert!(matches!(error, ProviderError::RateLimited { .. }), "{error}");
        let error = critical_error(&said(&["unauthorized_access"]), Phase::History);
        assert!(matches!(error, ProviderError::AuthRequired { .. }), "{error}");
    }

    #[test]
    fn a_refused_token_says_what_to_provide() {
        let error = protocol_error("bad auth token", Phase::History);
        let ProviderError::AuthRequired { remedy, .. } = error else { panic!("{error}") };
        assert!(remedy.contains("TRADINGVIEW_AUTH_TOKEN"));
        let error = protocol_error("you were banned", Phase::Hello);
        assert!(matches!(error, ProviderError::AuthRequired { .. }), "{error}");
        let error = protocol_error("wrong data", Phase::Hello);
        assert!(matches!(error, ProviderError::Unavailable { phase: Phase::Hello, .. }), "{error}");
    }

    #[test]
    fn a_silence_is_told_in_milliseconds() {
        let error = timeout(Phase::History, Duration::from_nanos(2_001_716_956));
        assert_eq!(error.to_string(), "tradingview did not answer within 2.001s (history)");
    }

    #[test]
    fn long_texts_are_cut() {
        let error = unavailable(Phase::History, &"x\n".repeat(10_000));
        assert!(error.to_string().len() < 400);
    }
}
