//! Bars: their values, their time, whether they are final, and how a series changes.

mod aggregate;
mod bar;
mod range;
pub mod services;
mod values;

pub use aggregate::{FetchedBar, OhlcvAggregate};
pub use bar::{Bar, BarSource, BarState, StoredBar, UnknownBarWord};
pub use range::BarRange;
pub use values::{Ohlcv, OhlcvError};
