//! Turns the volume of a trading day so far into what each trade added to it.

use jiff::Timestamp;

use crate::domain::ohlcv::BarRange;

/// The last cumulative volume of an instrument and when it was told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LastVolume {
    /// What was traded on that day until then.
    pub cumulative: f64,
    /// When, by the provider; absent before the first trade of a day.
    pub time: Option<Timestamp>,
}

/// Follows the cumulative volume of one instrument.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CumulativeVolume {
    last: Option<LastVolume>,
}

/// What a cumulative volume says about its trade.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum VolumeStep {
    /// The trade moved the day's volume from `before` to `after`. A bar's volume is one
    /// subtraction over all of its steps, so that rounding does not add up.
    Traded {
        /// The day's volume before the trade; 0 at its start.
        before: f64,
        /// The day's volume after it.
        after: f64,
    },
    /// Told before, or out of order: it adds nothing.
    Repeated,
    /// The provider lowered the day's volume: it adds nothing, and the bar is in doubt.
    Restated,
    /// Nothing to compare with: it adds nothing, and the bar is in doubt.
    Baseline,
}

impl CumulativeVolume {
    /// Goes on from what was stored.
    pub const fn restored(last: Option<LastVolume>) -> Self {
        Self { last }
    }

    /// What to store.
    pub const fn last(&self) -> Option<LastVolume> {
        self.last
    }

    /// The snapshot after a (re)subscription is the new baseline. `before_first_trade`: the day
    /// has no trade yet, so that its volume starts at 0.
    pub fn rebase(
        &mut self,
        cumulative: Option<f64>,
        time: Option<Timestamp>,
        before_first_trade: bool,
    ) {
        self.last = match (cumulative, before_first_trade) {
            (_, true) => Some(LastVolume { cumulative: 0.0, time }),
            (Some(cumulative), false) => Some(LastVolume { cumulative, time }),
            (None, false) => None,
        };
    }

    /// Takes in the `cumulative` volume told with a trade at `time` on the trading day `day`.
    pub fn step(&mut self, cumulative: f64, time: Timestamp, day: BarRange) -> VolumeStep {
        let new = |time| Some(LastVolume { cumulative, time: Some(time) });
        let Some(last) = self.last else {
            self.last = new(time);
            return VolumeStep::Baseline;
        };
        let known = last.time.unwrap_or(day.open());
        if known < day.open() {
            self.last = new(time);
            return VolumeStep::Traded { before: 0.0, after: cumulative };
        }
        if known >= day.close() {
            return VolumeStep::Repeated;
        }
        if cumulative >= last.cumulative {
            self.last = new(last.time.map_or(time, |known| known.max(time)));
            return VolumeStep::Traded { before: last.cumulative, after: cumulative };
        }
        if last.time.is_some_and(|known| time <= known) {
            return VolumeStep::Repeated;
        }
        self.last = new(time);
        VolumeStep::Restated
    }
}
