//! The numbers of a bar.

use thiserror::Error;

/// Open, high, low, close and, where the instrument has one, volume: finite, with
/// `low <= open, close <= high` and `volume >= 0`. Prices may be negative (crude oil was, on
/// 2020-04-20). They are copied and compared, never accumulated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ohlcv {
    open: f64,
    high: f64,
    low: f64,
    close: f64,
    volume: Option<f64>,
}

/// Why five numbers are not a bar.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum OhlcvError {
    /// A price is infinite or not a number.
    #[error("a price is not finite")]
    PriceNotFinite,
    /// The low is above, or the high below, another price.
    #[error("low {low} and high {high} do not enclose open {open} and close {close}")]
    NotEnclosed {
        /// Open.
        open: f64,
        /// High.
        high: f64,
        /// Low.
        low: f64,
        /// Close.
        close: f64,
    },
    /// The volume is negative, infinite or not a number.
    #[error("`{0}` is no volume")]
    Volume(f64),
}

impl Ohlcv {
    /// Checks the invariants; the only way to make one.
    pub fn new(
        open: f64,
        high: f64,
        low: f64,
        close: f64,
        volume: Option<f64>,
    ) -> Result<Self, OhlcvError> {
        if ![open, high, low, close].into_iter().all(f64::is_finite) {
            return Err(OhlcvError::PriceNotFinite);
        }
        if low > open || low > close || high < open || high < close {
            return Err(OhlcvError::NotEnclosed { open, high, low, close });
        }
        if let Some(volume) = volume.filter(|volume| !volume.is_finite() || *volume < 0.0) {
            return Err(OhlcvError::Volume(volume));
        }
        Ok(Self { open, high, low, close, volume })
    }

    /// First price.
    pub const fn open(&self) -> f64 {
        self.open
    }

    /// Highest price.
    pub const fn high(&self) -> f64 {
        self.high
    }

    /// Lowest price.
    pub const fn low(&self) -> f64 {
        self.low
    }

    /// Last price.
    pub const fn close(&self) -> f64 {
        self.close
    }

    /// What was traded, in the instrument's own unit; absent where the instrument has no volume.
    pub const fn volume(&self) -> Option<f64> {
        self.volume
    }

    /// This bar followed by `next`: first open, highest high, lowest low, last close, sum of volumes.
    /// The volume is absent only where both are.
    #[must_use]
    pub fn followed_by(&self, next: &Self) -> Self {
        let volume = match (self.volume, next.volume) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
        Self {
            open: self.open,
            high: self.high.max(next.high),
            low: self.low.min(next.low),
            close: next.close,
            volume,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any valid bar.
    pub(crate) fn any_ohlcv() -> impl Strategy<Value = Ohlcv> {
        (
            proptest::array::uniform4(-1e6_f64..1e6),
            proptest::option::of(0_u32..1_000_000),
            any::<bool>(),
        )
            .prop_map(|(mut prices, volume, up)| {
                prices.sort_by(f64::total_cmp);
                let [low, a, b, high] = prices;
                let (open, close) = if up { (a, b) } else { (b, a) };
                Ohlcv::new(open, high, low, close, volume.map(f64::from)).unwrap()
            })
    }

    #[test]
    fn what_breaks_an_invariant_is_no_bar() {
        assert!(Ohlcv::new(1.0, 2.0, 0.5, 1.5, None).is_ok());
        assert!(Ohlcv::new(-37.63, -10.0, -40.32, -37.0, Some(0.0)).is_ok());
        for (open, high, low, close) in
            [(3.0, 2.0, 0.5, 1.5), (1.0, 2.0, 1.2, 1.5), (1.0, 2.0, 0.5, 2.5), (1.0, 2.0, 0.5, 0.4)]
        {
            assert!(matches!(
                Ohlcv::new(open, high, low, close, None),
                Err(OhlcvError::NotEnclosed { .. })
            ));
        }
        for price in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(Ohlcv::new(price, 1.0, 1.0, 1.0, None), Err(OhlcvError::PriceNotFinite));
            assert!(matches!(
                Ohlcv::new(1.0, 1.0, 1.0, 1.0, Some(price)),
                Err(OhlcvError::Volume(_))
            ));
        }
        assert_eq!(Ohlcv::new(1.0, 1.0, 1.0, 1.0, Some(-1.0)), Err(OhlcvError::Volume(-1.0)));
    }

    proptest! {
        #[test]
        fn bars_that_follow_one_another_make_a_valid_bar(a in any_ohlcv(), b in any_ohlcv()) {
            let both = a.followed_by(&b);
            prop_assert_eq!(
                Ohlcv::new(both.open, both.high, both.low, both.close, both.volume),
                Ok(both)
            );
        }
    }
}
