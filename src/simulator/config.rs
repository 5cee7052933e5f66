//! What a simulator is told, and what it tells.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{FaultSpec, ReplayConfig};

/// The world to serve, and where. Start from [`SimulatorConfig::new`].
#[derive(Clone, Debug)]
pub struct SimulatorConfig {
    /// The folder of `<EXCHANGE>_<CODE>_<interval>.csv`, `symbols.json` and `ticks/`.
    pub data: PathBuf,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Listen elsewhere than on loopback. It has no authentication: off unless asked for.
    pub allow_remote: bool,
    /// Speak `wss` and `https` with a certificate that nobody signed but itself.
    pub tls: bool,
    /// History ends after that many bars with `data_completed: "limit"`.
    pub history_limit: Option<u32>,
    /// The world stands still at this time: later bars do not exist, and its clock starts here.
    /// What is replayed has its own time.
    pub now: Option<Timestamp>,
    /// Let the world move. Without it, it stands still.
    pub replay: Option<ReplayConfig>,
    /// Added to the world's clock, and to nothing else.
    pub clock_offset: SignedDuration,
    /// What goes wrong from the start.
    pub faults: Vec<FaultSpec>,
    /// Between two heartbeats; a connection ends when one stays without echo for twice as long.
    pub heartbeat: Duration,
    /// Chart and quote sessions that one connection may open in its life.
    pub sessions_per_connection: u32,
    /// Answer 403 to a handshake without an accepted `Origin`, as TradingView does.
    pub require_origin: bool,
}

impl SimulatorConfig {
    /// A simulator of the folder `data` on a free port of loopback, without faults or limits.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            allow_remote: false,
            tls: false,
            history_limit: None,
            now: None,
            replay: None,
            clock_offset: SignedDuration::ZERO,
            faults: Vec::new(),
            heartbeat: Duration::from_secs(10),
            sessions_per_connection: 200,
            require_origin: false,
        }
    }
}

/// Where a running simulator is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoints {
    /// The data socket.
    pub ws_url: String,
    /// Base of the pages: sign-in, tokens, and `/_sim/`. No slash at its end.
    pub http_url: String,
    /// Base of the symbol search. No slash at its end.
    pub search_url: String,
    /// The certificate to trust, in PEM; only with TLS. It is removed when the simulator ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

impl Endpoints {
    /// The line that says it is ready: one JSON object, without a line break.
    pub fn ready_line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_names_the_certificate_only_with_tls() {
        let text = |url: &str| url.to_owned();
        let mut endpoints = Endpoints {
            ws_url: text("ws://127.0.0.1:1/x"),
            http_url: text("http://127.0.0.1:1"),
            search_url: text("http://127.0.0.1:1"),
            ca_file: None,
        };
        let plain = r#"{"ws_url":"ws://127.0.0.1:1/x","http_url":"http://127.0.0.1:1","search_url":"http://127.0.0.1:1"}"#;
        assert_eq!(endpoints.ready_line(), plain);
        endpoints.ca_file = Some(PathBuf::from("/tmp/ca.pem"));
        assert!(endpoints.ready_line().ends_with(r#","ca_file":"/tmp/ca.pem"}"#));
    }
}
