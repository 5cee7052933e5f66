//! The rules of market data: pure, no I/O, no runtime, no clock, no randomness.
//!
//! Times and ids come in as arguments. A type that exists is valid: nothing downstream checks
//! again. It knows no provider, no database and no wire format.

pub mod coverage;
pub mod job;
pub mod ohlcv;
pub mod quote;
pub mod shared;
pub mod symbol;
pub mod sync;
