//! One binary, one link: every test that needs the whole crate.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    unreachable_pub,
    missing_debug_implementations,
    reason = "tests may panic, and their tasks die with the runtime"
)]

mod cache;
mod database;
mod servers;
