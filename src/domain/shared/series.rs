//! A series of bars: one symbol at one interval.

use std::fmt;

use super::{Interval, Symbol};

/// The bars of one symbol at one interval: what is synced, stored and served as a unit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Series {
    /// Whose bars.
    pub symbol: Symbol,
    /// Of which length.
    pub interval: Interval,
}

impl Series {
    /// The series of `symbol` at `interval`.
    pub const fn new(symbol: Symbol, interval: Interval) -> Self {
        Self { symbol, interval }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.symbol, self.interval)
    }
}
