//! Cross-cutting building blocks; knows no feature and no vendor.

pub mod config;
pub mod constants;
pub mod error;
pub mod grpc;
pub mod health;
pub mod idempotency;
pub mod identity;
pub mod mediator;
pub mod messaging;
pub mod metrics;
pub mod rate_limit;
pub mod schedule;
pub mod shutdown;
pub mod tracing;
