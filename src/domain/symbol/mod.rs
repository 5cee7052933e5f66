//! Instruments: what is known about them, and when they trade.

mod info;
mod session;
mod session_grammar;
#[cfg(test)]
mod session_tests;

pub use info::{CustomFields, SymbolAggregate, SymbolChange, SymbolDescription, SymbolInfo};
pub use session::{AROUND_THE_CLOCK, TradingSession};
pub use session_grammar::{SessionError, SessionSpec};
