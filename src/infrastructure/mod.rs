//! All external I/O: databases, cache, providers, webhooks.
pub mod interfaces;
pub mod persistence;
pub mod spool;
pub mod tls;
pub mod tradingview;
pub mod webhooks;
