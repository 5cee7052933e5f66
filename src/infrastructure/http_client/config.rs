//! How patient the client is, and with whom it may talk.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::AddressFilter;
use super::dns::Resolve;

/// How an [`HttpClient`](super::HttpClient) behaves.
#[derive(Clone)]
pub struct HttpClientConfig {
    /// Whom it talks to, as a word for metrics: `tradingview`, `webhook`.
    pub target: &'static str,
    /// The `User-Agent`.
    pub user_agent: String,
    /// Whom it trusts.
    pub tls: Arc<rustls::ClientConfig>,
    /// The longest wait for a connection, its TLS included.
    pub connect_timeout: Duration,
    /// The longest silence while an answer is awaited or read.
    pub read_timeout: Duration,
    /// The longest time for one try, its whole answer included.
    pub attempt_timeout: Duration,
    /// The longest time for a request with all its tries, pauses and redirects.
    pub total_timeout: Duration,
    /// The longest answer that is read, in bytes.
    pub max_body_bytes: usize,
    /// How failures of repeatable requests are tried again.
    pub retry: RetryRules,
    /// When a host is left alone.
    pub breaker: BreakerRules,
    /// Which addresses it may connect to; all where there is none. With a filter it uses no proxy,
    /// which would connect in its place.
    pub addresses: Option<AddressFilter>,
    /// Who finds the addresses of names; the system where there is none.
    pub resolver: Option<Arc<dyn Resolve>>,
}

/// How failures are tried again.
#[derive(Clone, Copy, Debug)]
pub struct RetryRules {
    /// Tries besides the first.
    pub times: usize,
    /// The first pause, before jitter; it doubles with each.
    pub first: Duration,
    /// The longest pause, before jitter, and the longest `Retry-After` that is waited out. Who
    /// asks for more is not asked again.
    pub longest: Duration,
}

/// When a host is left alone.
#[derive(Clone, Copy, Debug)]
pub struct BreakerRules {
    /// Failures in a row that open the breaker.
    pub failures: u32,
    /// For how long; then one request at a time finds out whether the host is back.
    pub pause: Duration,
}

impl HttpClientConfig {
    /// The usual patience: seconds, one megabyte, two more tries.
    pub fn new(target: &'static str, tls: Arc<rustls::ClientConfig>) -> Self {
        Self {
            target,
            user_agent: concat!("pocketquant/", env!("CARGO_PKG_VERSION")).to_owned(),
            tls,
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(10),
            attempt_timeout: Duration::from_secs(10),
            total_timeout: Duration::from_secs(20),
            max_body_bytes: 1 << 20,
            retry: RetryRules::default(),
            breaker: BreakerRules::default(),
            addresses: None,
            resolver: None,
        }
    }
}

impl Default for RetryRules {
    fn default() -> Self {
        Self { times: 2, first: Duration::from_millis(200), longest: Duration::from_secs(5) }
    }
}

impl Default for BreakerRules {
    fn default() -> Self {
        Self { failures: 5, pause: Duration::from_secs(30) }
    }
}

impl fmt::Debug for HttpClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClientConfig")
            .field("target", &self.target)
            .field("retry", &self.retry)
            .field("breaker", &self.breaker)
            .finish_non_exhaustive()
    }
}
