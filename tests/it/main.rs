//! One binary, one link: every test that needs the whole crate.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    unreachable_pub,
    missing_debug_implementations,
    reason = "tests may panic, and their tasks die with the runtime"
)]

mod access;
mod architecture;
mod binary;
mod cache;
mod calls;
mod certificates;
mod cli;
mod cli_live;
mod coverage;
mod crash;
mod database;
mod deploy;
mod disk;
mod docs;
mod engines;
mod examples;
mod faults;
mod feed_faults;
mod full_spool;
mod grpcurl;
mod health;
mod history;
mod http_client;
mod idempotency;
mod jobs;
mod limits;
mod live;
mod live_clock;
mod live_crash;
mod market;
mod one_key;
mod outage;
mod processes;
mod python;
mod replicas;
mod requests;
mod secrets;
mod servers;
mod sharing;
mod shutdown;
mod simulator;
mod streams;
mod support;
mod symbols;
mod sync_service;
mod syncs;
mod takeover;
mod telemetry;
mod tradingview;
mod transport;
mod webhooks;
