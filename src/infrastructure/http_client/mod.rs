//! The one HTTP client: whatever we ask of web sites, and tell them, goes through it.
//!
//! It waits no longer than it is told, reads no more than it is told, repeats only what can do no
//! harm twice, leaves a host alone that fails, and carries the caller's correlation id and trace.
//! What it tells about failures names the host and nothing that may be secret. It knows no site.

mod address;
mod answer;
mod breaker;
mod client;
mod config;
mod error;
mod request;
mod retry;

pub use address::AddressFilter;
pub use answer::HttpAnswer;
pub use client::HttpClient;
pub use config::{BreakerRules, HttpClientConfig, RetryRules};
pub use error::HttpError;
pub use request::HttpRequest;
pub use reqwest::dns;
pub use retry::retry_after;
