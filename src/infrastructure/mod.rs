//! All external I/O: databases, cache, providers, web sites, webhooks.
pub mod http_client;
pub mod interfaces;
pub mod persistence;
pub mod scheduling;
pub mod spool;
pub mod tls;
pub mod tradingview;
pub mod webhooks;
