//! All external I/O: databases, cache, providers.
pub mod interfaces;
pub mod persistence;
pub mod scheduling;
pub mod spool;
pub mod tls;
pub mod tradingview;
