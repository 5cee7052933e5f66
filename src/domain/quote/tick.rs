//! A trade, as far as a quote shows one.

use jiff::Timestamp;

/// The number that a [`BarManager`](crate::domain::ohlcv::services::BarManager) gave a symbol
/// when it began to track it. Not used again after the symbol was let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SymbolId {
    pub(in crate::domain) index: u32,
    pub(in crate::domain) generation: u32,
}

/// A trade. Two of equal time, price and size are two trades.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuoteTick {
    /// Whose trade.
    pub symbol: SymbolId,
    /// When it happened, by the provider.
    pub time: Timestamp,
    /// At what price.
    pub price: f64,
    /// What was traded, where the provider tells single trades.
    pub size: Option<f64>,
    /// What was traded so far on this trading day, where the provider tells that instead.
    pub cumulative: Option<f64>,
}
