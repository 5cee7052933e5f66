//! The first thing a client hears.

use jiff::Timestamp;
use serde::Serialize;

/// Unprompted, without a method. As of 2025: `javastudies` is a list, `release` names a build.
#[derive(Serialize)]
struct Hello {
    session_id: String,
    timestamp: i64,
    #[serde(rename = "timestampMs")]
    timestamp_ms: i64,
    release: &'static str,
    studies_metadata_hash: &'static str,
    auth_scheme_vsn: u8,
    protocol: &'static str,
    via: &'static str,
    javastudies: [&'static str; 1],
}

/// The greeting on the connection `number` at `now`.
pub(super) fn hello(number: u64, now: Timestamp) -> String {
    let hello = Hello {
        session_id: format!("0.{number}.1_sim-charts-free-1-tvbs-loopback-1"),
        timestamp: now.as_second(),
        timestamp_ms: now.as_millisecond(),
        release: "release_210-6",
        studies_metadata_hash: "e2f4a1c0b7d93c5586a0f1e2d3c4b5a697887766",
        auth_scheme_vsn: 2,
        protocol: "json",
        via: "127.0.0.1:443",
        javastudies: ["3.66"],
    };
    serde_json::to_string(&hello).unwrap_or_default()
}
