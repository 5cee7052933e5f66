//! Quotes: what a provider says about an instrument right now, and what of it is a trade.

mod cumulative_volume;
#[cfg(test)]
mod cumulative_volume_tests;
mod quote_state;
mod tick;
mod update;

pub use cumulative_volume::{CumulativeVolume, LastVolume, VolumeStep};
pub use quote_state::{Quote, QuoteEffect};
pub use tick::{QuoteTick, SymbolId};
pub use update::{Field, QuoteUpdate, SessionState};
