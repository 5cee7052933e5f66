//! The TradingView data protocol, client side: history of bars over one multiplexed socket, quotes
//! over another, the symbol directory over HTTPS.
//!
//! `frame`, `message`, `resolve`, `errors` and `reply` are pure; `session` is the socket, `auth`
//! the log-in, `history`, `quotes` and `search` what is asked for, `client` what the rest of the service
//! sees.

mod auth;
mod client;
mod config;
mod errors;
mod frame;
mod history;
mod message;
mod quotes;
mod reply;
mod resolve;
mod search;
mod session;

pub use client::TradingView;
pub use config::{
    ConfigError, Credentials, DEFAULT_HTTP_URL, DEFAULT_SEARCH_URL, DEFAULT_WS_URL, FeedConfig,
    TradingViewConfig,
};

/// The provider's name in answers, storage and logs.
pub const PROVIDER: &str = "tradingview";

/// What a browser says it is; the site is less friendly to what is none.
const USER_AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36";

#[cfg(test)]
#[path = "../../../tests/fuzz/tradingview.rs"]
mod fuzz;
