//! What a quote says at one moment of a replay.

use jiff::Timestamp;

/// Everything of a quote that moves.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::simulator) struct Quote {
    /// None before the first trade.
    pub(in crate::simulator) last: Option<Last>,
    /// Of the trading day so far; none for an instrument without volume.
    pub(in crate::simulator) volume: Option<f64>,
    pub(in crate::simulator) day: Option<DayPrices>,
    pub(in crate::simulator) previous_close: Option<f64>,
    pub(in crate::simulator) book: Option<Book>,
    /// Whether the session is open.
    pub(in crate::simulator) market: bool,
}

/// The newest trade.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::simulator) struct Last {
    pub(in crate::simulator) price: f64,
    /// Whole seconds since 1970.
    pub(in crate::simulator) second: i64,
}

/// The trading day so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::simulator) struct DayPrices {
    pub(in crate::simulator) open: f64,
    pub(in crate::simulator) high: f64,
    pub(in crate::simulator) low: f64,
    pub(in crate::simulator) opened: i64,
}

/// The best offers, as far as a trade tells them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::simulator) struct Book {
    pub(in crate::simulator) bid: f64,
    pub(in crate::simulator) ask: f64,
}

/// Why a quote changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::simulator) enum Cause {
    /// A trade.
    Trade,
    /// The session opened or closed.
    Session,
    /// The last trade is over: the time moves to the second minute boundary after it.
    End,
    /// Several at once, for a client that was too slow.
    Several,
}

/// A change, with the whole quote after it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::simulator) struct Change {
    pub(in crate::simulator) cause: Cause,
    pub(in crate::simulator) quote: Quote,
}

impl DayPrices {
    pub(super) fn opening(price: f64, opened: Timestamp) -> Self {
        Self { open: price, high: price, low: price, opened: opened.as_second() }
    }

    pub(super) fn add(&mut self, price: f64) {
        self.high = self.high.max(price);
        self.low = self.low.min(price);
    }
}

/// A sum whose rounding does not add up (Neumaier 1974).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    sum: f64,
    lost: f64,
}

impl Sum {
    pub(super) fn add(&mut self, number: f64) {
        let sum = self.sum + number;
        self.lost += if self.sum.abs() >= number.abs() {
            (self.sum - sum) + number
        } else {
            (number - sum) + self.sum
        };
        self.sum = sum;
    }

    pub(super) fn value(&self) -> f64 {
        self.sum + self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_small_parts_come_to_their_sum() {
        let mut sum = Sum::default();
        for _ in 0..1_000_000 {
            sum.add(0.1);
        }
        assert!((sum.value() - 100_000.0).abs() < 1e-9);
    }
}
