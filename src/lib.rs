//! PocketQuant: market data over gRPC that says whether it is final.
//!
//! Read it in this order: what the service is about ([`domain`]), what every part leans on
//! ([`common`]), the outside world ([`infrastructure`]), what it does ([`features`]), how it is
//! put together ([`app`], [`cli`]). [`simulator`] is the provider's side, for tests and the demo.

pub mod app;
pub mod cli;
pub mod common;
pub mod domain;
pub mod features;
pub mod infrastructure;
pub mod proto;
pub mod simulator;

#[cfg(test)]
#[path = "../tests/fuzz/mod.rs"]
mod fuzz;
