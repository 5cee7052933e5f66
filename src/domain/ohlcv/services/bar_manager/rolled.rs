//! Bars put together, by the roll-up law.

use crate::domain::ohlcv::Ohlcv;

/// What a run of one-minute bars comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rolled {
    /// First open, highest high, lowest low, last close, sum of volume.
    pub values: Ohlcv,
    /// From how many ticks.
    pub ticks: u32,
    /// Whether one of them was repaired from the provider.
    pub repaired: bool,
}

impl Rolled {
    /// Bars as the provider said them before the feed joined.
    pub(super) const fn seeded(values: Ohlcv) -> Self {
        Self { values, ticks: 0, repaired: false }
    }

    /// This run followed by `next`.
    pub(super) fn followed_by(&self, next: &Self) -> Self {
        Self {
            values: self.values.followed_by(&next.values),
            ticks: self.ticks.saturating_add(next.ticks),
            repaired: self.repaired || next.repaired,
        }
    }
}

/// `first` followed by `next`, where there are any.
pub(super) fn joined(first: Option<Rolled>, next: Option<Rolled>) -> Option<Rolled> {
    match (first, next) {
        (Some(first), Some(next)) => Some(first.followed_by(&next)),
        (first, next) => first.or(next),
    }
}
