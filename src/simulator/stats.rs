//! What a simulator has seen, for tests that count.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// Distinct tokens that are remembered; more are not counted.
const MAX_TOKENS: usize = 10_000;

/// The token of those who sign in as nobody.
pub(super) const ANONYMOUS_TOKEN: &str = "unauthorized_user_token";

/// Counters since the start, as `GET /_sim/stats` gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimulatorStats {
    /// WebSocket connections that were accepted.
    pub connections: u64,
    /// Of these, the ones that are open now.
    pub open_connections: u64,
    /// Handshakes that were refused.
    pub refused_handshakes: u64,
    /// Chart sessions created.
    pub chart_sessions: u64,
    /// Quote sessions created.
    pub quote_sessions: u64,
    /// `resolve_symbol` requests.
    pub resolve_requests: u64,
    /// `create_series` and `modify_series` requests.
    pub series_requests: u64,
    /// `request_more_data` requests.
    pub more_data_requests: u64,
    /// Bars sent, repeated ones included.
    pub bars_sent: u64,
    /// `set_auth_token` messages, anonymous ones included.
    pub tokens: u64,
    /// Different tokens among these, the anonymous one not counted.
    pub distinct_tokens: u64,
    /// Heartbeats that were echoed.
    pub heartbeats_echoed: u64,
    /// Sign-ins by password.
    pub sign_ins: u64,
    /// Symbol searches.
    pub searches: u64,
    /// Quote updates sent after the snapshots.
    #[serde(default)]
    pub updates_sent: u64,
    /// Times that a client was too slow and got the newest quote in place of many.
    #[serde(default)]
    pub conflations: u64,
    /// Clients that were cut because a replay at full speed could not wait for them any longer.
    #[serde(default)]
    pub lost_readers: u64,
    /// The replays, by symbol.
    #[serde(default)]
    pub replays: Vec<ReplayStats>,
}

/// How far a replay has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayStats {
    /// Of which symbol.
    pub symbol: String,
    /// Its world's time, RFC 3339.
    pub position: String,
    /// Whether anybody has subscribed to it so far.
    pub started: bool,
    /// Whether the last trade of the pass is over.
    pub ended: bool,
    /// Which pass it is, from 1.
    pub pass: u64,
    /// Trades of this pass so far.
    pub index: u64,
    /// Trades in a pass.
    pub trades: u64,
    /// Trades in all passes so far.
    pub updates: u64,
}

/// What is counted.
#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) connections: Counter,
    pub(super) closed_connections: Counter,
    pub(super) refused_handshakes: Counter,
    pub(super) chart_sessions: Counter,
    pub(super) quote_sessions: Counter,
    pub(super) resolve_requests: Counter,
    pub(super) series_requests: Counter,
    pub(super) more_data_requests: Counter,
    pub(super) bars_sent: Counter,
    pub(super) heartbeats_echoed: Counter,
    pub(super) sign_ins: Counter,
    pub(super) searches: Counter,
    pub(super) updates_sent: Counter,
    tokens: Counter,
    distinct_tokens: Mutex<HashSet<String>>,
}

/// A number that only rises.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Stats {
    pub(super) fn token_seen(&self, token: &str) {
        self.tokens.add(1);
        let mut tokens = self.distinct_tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if token != ANONYMOUS_TOKEN && tokens.len() < MAX_TOKENS {
            tokens.insert(token.to_owned());
        }
    }

    /// What is counted here; the replays count themselves.
    pub(super) fn counted(&self) -> SimulatorStats {
        let distinct = self.distinct_tokens.lock().unwrap_or_else(PoisonError::into_inner).len();
        let connections = self.connections.get();
        SimulatorStats {
            connections,
            open_connections: connections.saturating_sub(self.closed_connections.get()),
            refused_handshakes: self.refused_handshakes.get(),
            chart_sessions: self.chart_sessions.get(),
            quote_sessions: self.quote_sessions.get(),
            resolve_requests: self.resolve_requests.get(),
            series_requests: self.series_requests.get(),
            more_data_requests: self.more_data_requests.get(),
            bars_sent: self.bars_sent.get(),
            tokens: self.tokens.get(),
            distinct_tokens: distinct as u64,
            heartbeats_echoed: self.heartbeats_echoed.get(),
            sign_ins: self.sign_ins.get(),
            searches: self.searches.get(),
            updates_sent: self.updates_sent.get(),
            ..SimulatorStats::default()
        }
    }
}
