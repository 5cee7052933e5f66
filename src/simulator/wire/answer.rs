//! What the server says: `{"m": method, "p": [...]}`, with the server's time where the provider
//! gives it.

use jiff::Timestamp;
use serde::Serialize;

/// An answer, ready to be written. `t` (seconds) and `t_ms` come with messages about symbols,
/// series and studies; not with quotes, `series_timeframe` and errors of sessions.
#[derive(Debug, Serialize)]
pub(in crate::simulator) struct Answer<P> {
    #[serde(rename = "m")]
    method: &'static str,
    #[serde(rename = "p")]
    parameters: P,
    #[serde(skip_serializing_if = "Option::is_none")]
    t: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    t_ms: Option<i64>,
}

impl<P: Serialize> Answer<P> {
    /// An answer without the server's time.
    pub(in crate::simulator) const fn new(method: &'static str, parameters: P) -> Self {
        Self { method, parameters, t: None, t_ms: None }
    }

    /// An answer that tells the server's time.
    pub(in crate::simulator) fn at(method: &'static str, parameters: P, now: Timestamp) -> Self {
        Self { method, parameters, t: Some(now.as_second()), t_ms: Some(now.as_millisecond()) }
    }

    /// Its text.
    pub(in crate::simulator) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// The machine that says it worked, as the provider names its own.
pub(in crate::simulator) const fn node() -> &'static str {
    "loopback-series-charts-sim-1-runner-1"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_time_comes_in_seconds_and_milliseconds() {
        let now = Timestamp::from_millisecond(1_686_475_613_100).unwrap();
        assert_eq!(
            Answer::at("series_loading", ("cs_1", "sds_1", "s1"), now).text(),
            r#"{"m":"series_loading","p":["cs_1","sds_1","s1"],"t":1686475613,"t_ms":1686475613100}"#
        );
        assert_eq!(
            Answer::new("protocol_error", ["bad auth token"]).text(),
            r#"{"m":"protocol_error","p":["bad auth token"]}"#
        );
    }
}
