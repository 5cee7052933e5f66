//! What the client is told: where, as whom, how patient.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use secrecy::SecretString;
use thiserror::Error;
use url::Url;

use super::{PROVIDER, USER_AGENT};
use crate::infrastructure::http_client::{HttpClient, HttpClientConfig};
use crate::infrastructure::tls::TlsError;

/// Where the data comes from, for accounts of all kinds.
pub const DEFAULT_WS_URL: &str =
    "wss://data.tradingview.com/socket.io/websocket?from=chart%2F&type=chart";

/// Where log-ins and tokens come from.
pub const DEFAULT_HTTP_URL: &str = "https://www.tradingview.com";

/// Where symbols are searched.
pub const DEFAULT_SEARCH_URL: &str = "https://symbol-search.tradingview.com";

/// The directory's page, version 3.
const SEARCH_PATH: &str = "/symbol_search/v3/";

/// Longest page of the web site that is read.
const MAX_BODY_BYTES: usize = 8 << 20;

/// As whom to log in. Secrets do not print.
#[derive(Clone, Debug, Default)]
pub enum Credentials {
    /// As nobody: delayed data, fewer bars.
    #[default]
    Anonymous,
    /// With a token that somebody took from a logged-in browser; lives for hours.
    Token(SecretString),
    /// With the cookies of a logged-in browser; live for weeks.
    Cookies {
        /// The cookie `sessionid`.
        sessionid: SecretString,
        /// The cookie `sessionid_sign`.
        sign: Option<SecretString>,
    },
    /// By name and password; a captcha or a second factor is often asked for.
    Password {
        /// The account's name.
        username: String,
        /// The account's password.
        password: SecretString,
    },
}

/// How to reach TradingView.
#[derive(Clone, Debug)]
pub struct TradingViewConfig {
    /// The WebSocket: `ws` or `wss`.
    pub ws_url: String,
    /// The web site: `http` or `https`.
    pub http_url: String,
    /// The symbol directory: `http` or `https`.
    pub search_url: String,
    /// As whom.
    pub credentials: Credentials,
    /// A PEM file of roots that are trusted besides the public web's.
    pub extra_roots: Option<PathBuf>,
    /// The `Origin` of the handshake; a foreign one is refused with 403.
    pub origin: String,
    /// The longest wait without progress for one page of history.
    pub history_timeout: Duration,
    /// The longest wait for the TCP connection.
    pub connect_timeout: Duration,
    /// The longest wait for TLS, and for the WebSocket's opening.
    pub handshake_timeout: Duration,
    /// The longest wait for the server's first message.
    pub hello_timeout: Duration,
    /// The longest wait for an answer of the web site.
    pub http_timeout: Duration,
    /// A connection on which nothing at all came for this long, heartbeats neither, is dead.
    pub dead_after: Duration,
    /// A connection that nobody used for this long is closed.
    pub idle_after: Duration,
    /// Chart sessions over a connection's life; the server takes about 200.
    pub sessions_per_connection: usize,
    /// How quotes are followed.
    pub feed: FeedConfig,
}

/// How patient the feed of quotes is.
#[derive(Clone, Debug)]
pub struct FeedConfig {
    /// The first pause after a failure; it doubles with each in a row.
    pub retry_first: Duration,
    /// The longest pause, unless the server asks for more.
    pub retry_longest: Duration,
    /// A connection that held this long makes the next pause the first again.
    pub stable_after: Duration,
    /// A snapshot whose end the server does not tell ends this long after its beginning.
    pub snapshot_timeout: Duration,
    /// Between two messages that add or remove symbols, 50 each.
    pub chunk_pause: Duration,
}

/// Why the client cannot be made.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// An address cannot be read.
    #[error("{what} must be a {schemes} address")]
    Url {
        /// Which setting.
        what: &'static str,
        /// What it must begin with.
        schemes: &'static str,
    },
    /// The origin cannot be sent.
    #[error("the origin must be printable ASCII")]
    Origin,
    /// Encryption cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The HTTP client cannot be set up.
    #[error("cannot set up the HTTP client")]
    Http(#[source] reqwest::Error),
}

impl Default for TradingViewConfig {
    fn default() -> Self {
        Self {
            ws_url: DEFAULT_WS_URL.to_owned(),
            http_url: DEFAULT_HTTP_URL.to_owned(),
            search_url: DEFAULT_SEARCH_URL.to_owned(),
            credentials: Credentials::default(),
            extra_roots: None,
            origin: "https://www.tradingview.com".to_owned(),
            history_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(5),
            hello_timeout: Duration::from_secs(5),
            http_timeout: Duration::from_secs(10),
            dead_after: Duration::from_secs(30),
            idle_after: Duration::from_mins(3),
            sessions_per_connection: 190,
            feed: FeedConfig::default(),
        }
    }
}

impl Default for FeedConfig {
    fn default() -> Self {
        Self {
            retry_first: Duration::from_secs(1),
            retry_longest: Duration::from_mins(1),
            stable_after: Duration::from_mins(1),
            snapshot_timeout: Duration::from_secs(10),
            chunk_pause: Duration::from_millis(100),
        }
    }
}

impl TradingViewConfig {
    /// The client for the web site and the directory. A request has one answer's time for all its
    /// tries: connections wait for log-ins.
    pub(super) fn http_client(
        &self,
        tls: &Arc<rustls::ClientConfig>,
    ) -> Result<HttpClient, ConfigError> {
        let patience = self.http_patience();
        let config = HttpClientConfig {
            user_agent: USER_AGENT.to_owned(),
            connect_timeout: self.connect_timeout.min(patience),
            read_timeout: patience,
            attempt_timeout: patience,
            total_timeout: patience,
            max_body_bytes: MAX_BODY_BYTES,
            ..HttpClientConfig::new(PROVIDER, Arc::clone(tls))
        };
        HttpClient::new(config).map_err(ConfigError::Http)
    }

    /// The longest wait for the web site.
    pub(super) fn http_patience(&self) -> Duration {
        self.http_timeout.min(self.history_timeout)
    }

    /// The origin as a header.
    pub(super) fn origin_header(&self) -> Result<HeaderValue, ConfigError> {
        HeaderValue::from_str(&self.origin).map_err(|_| ConfigError::Origin)
    }

    pub(super) fn parsed_ws_url(&self) -> Result<Url, ConfigError> {
        address(&self.ws_url, ["ws", "wss"])
            .ok_or(ConfigError::Url { what: "TRADINGVIEW_WS_URL", schemes: "ws:// or wss://" })
    }

    pub(super) fn parsed_http_url(&self) -> Result<Url, ConfigError> {
        address(&self.http_url, ["http", "https"]).ok_or(ConfigError::Url {
            what: "TRADINGVIEW_HTTP_URL",
            schemes: "http:// or https://",
        })
    }

    /// The directory's page; the setting may hold all of its address, or its beginning.
    pub(super) fn parsed_search_url(&self) -> Result<Url, ConfigError> {
        let mut url = address(&self.search_url, ["http", "https"]).ok_or(ConfigError::Url {
            what: "TRADINGVIEW_SEARCH_URL",
            schemes: "http:// or https://",
        })?;
        let path = url.path().trim_end_matches('/');
        let path = path.strip_suffix("/v3").unwrap_or(path);
        let path = path.strip_suffix("/symbol_search").unwrap_or(path);
        let path = format!("{path}{SEARCH_PATH}");
        url.set_path(&path);
        url.set_query(None);
        Ok(url)
    }
}

fn address(text: &str, schemes: [&str; 2]) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    (schemes.contains(&url.scheme()) && url.host_str().is_some()).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_is_found_by_any_part_of_its_address() {
        for (given, page) in [
            ("https://a.example", "https://a.example/symbol_search/v3/"),
            ("https://a.example/", "https://a.example/symbol_search/v3/"),
            ("https://a.example/symbol_search", "https://a.example/symbol_search/v3/"),
            ("https://a.example/symbol_search/v3/?x=1", "https://a.example/symbol_search/v3/"),
            ("http://a.example:1/proxy/", "http://a.example:1/proxy/symbol_search/v3/"),
        ] {
            let search_url = given.to_owned();
            let config = TradingViewConfig { search_url, ..TradingViewConfig::default() };
            assert_eq!(config.parsed_search_url().unwrap().as_str(), page);
        }
        let search_url = "ftp://a.example".to_owned();
        let config = TradingViewConfig { search_url, ..TradingViewConfig::default() };
        assert!(config.parsed_search_url().is_err());
    }
}
