//! One binary, one link: every test that needs the whole crate.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "tests may panic, and their tasks die with the runtime"
)]

mod tradingview;
