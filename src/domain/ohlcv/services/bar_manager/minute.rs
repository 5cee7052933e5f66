//! A one-minute bar in memory.

use jiff::Timestamp;

use super::rolled::Rolled;
use crate::domain::ohlcv::{BarRange, BarSource, Ohlcv, StoredBar};
use crate::domain::quote::VolumeStep;

/// A bar's volume: sizes and finished stretches summed, and the stretch of the day's cumulative
/// volume that still goes on. A bar that nothing interrupts is one subtraction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BarVolume {
    /// What is summed; absent where nothing is known.
    pub sum: Option<f64>,
    /// The day's volume before the stretch and after it.
    pub stretch: Option<(f64, f64)>,
}

/// How a minute's bar stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MinuteBar {
    /// The time it covers.
    pub range: BarRange,
    /// First price.
    pub open: f64,
    /// Highest price.
    pub high: f64,
    /// Lowest price.
    pub low: f64,
    /// Last price.
    pub close: f64,
    /// When the first price was traded; [`Timestamp::MIN`] where the provider said the price, and not
    /// when.
    pub first_time: Timestamp,
    /// When the last price was traded.
    pub last_time: Timestamp,
    /// What was traded.
    pub volume: BarVolume,
    /// From how many ticks.
    pub ticks: u32,
    /// What the provider said of it, which ticks never change.
    pub fixed: Option<Ohlcv>,
    /// What was told of it, once it was closed.
    pub told: Option<StoredBar>,
    /// Whether it is to be fetched again after its close.
    pub doubtful: bool,
}

impl BarVolume {
    #[expect(clippy::float_cmp, reason = "the same number, copied")]
    fn trade(&mut self, before: f64, after: f64) {
        match &mut self.stretch {
            Some((_, end)) if *end == before => *end = after,
            stretch => {
                if let Some((start, end)) = stretch.replace((before, after)) {
                    self.add(end - start);
                }
            }
        }
    }

    fn add(&mut self, size: f64) {
        self.sum = Some(self.sum.unwrap_or(0.0) + size);
    }

    fn total(&self) -> Option<f64> {
        match (self.sum, self.stretch) {
            (sum, None) => sum,
            (None, Some((start, end))) => Some(end - start),
            (Some(sum), Some((start, end))) => Some(sum + (end - start)),
        }
    }
}

impl MinuteBar {
    /// A bar without a tick yet, at `price` from `time` on.
    pub(super) const fn at(range: BarRange, time: Timestamp, price: f64) -> Self {
        Self {
            range,
            open: price,
            high: price,
            low: price,
            close: price,
            first_time: time,
            last_time: time,
            volume: BarVolume { sum: None, stretch: None },
            ticks: 0,
            fixed: None,
            told: None,
            doubtful: false,
        }
    }

    /// The bar that the provider says.
    pub(super) fn known(range: BarRange, values: Ohlcv) -> Self {
        let mut bar = Self::at(range, range.open(), values.open());
        bar.seed(values);
        bar
    }

    /// Takes the provider's open, high and low; all of it where there is no tick yet.
    pub(super) fn seed(&mut self, values: Ohlcv) {
        self.open = values.open();
        self.first_time = Timestamp::MIN;
        if self.ticks == 0 {
            (self.high, self.low, self.close) = (values.high(), values.low(), values.close());
            self.volume = BarVolume { sum: values.volume(), stretch: None };
        } else {
            self.high = self.high.max(values.high());
            self.low = self.low.min(values.low());
        }
    }

    /// Whether only the provider knows if a trade at `time` was its first.
    pub(super) fn may_begin_with(&self, time: Timestamp) -> bool {
        self.first_time == Timestamp::MIN && time < self.last_time
    }

    /// A trade in it. One of the time of another comes after it.
    pub(super) fn trade(&mut self, time: Timestamp, price: f64) {
        self.doubtful |= self.may_begin_with(time);
        if time >= self.last_time {
            self.last_time = time;
            self.close = price;
        } else if time < self.first_time {
            self.first_time = time;
            self.open = price;
        }
        self.high = self.high.max(price);
        self.low = self.low.min(price);
        self.ticks = self.ticks.saturating_add(1);
    }

    /// The size of a single trade in it.
    pub(super) fn add_size(&mut self, size: f64) {
        self.volume.add(size);
    }

    /// What a trade in it did to the day's volume.
    pub(super) fn add_step(&mut self, step: VolumeStep) {
        match step {
            VolumeStep::Traded { before, after } => self.volume.trade(before, after),
            VolumeStep::Repeated => self.volume.sum = self.volume.sum.or_else(|| self.none_yet()),
            VolumeStep::Restated | VolumeStep::Baseline => {
                self.volume.sum = self.volume.sum.or_else(|| self.none_yet());
                self.doubtful = true;
            }
        }
    }

    /// 0 where there is no volume yet: what added nothing still says that there is one.
    fn none_yet(&self) -> Option<f64> {
        self.volume.stretch.is_none().then_some(0.0)
    }

    /// Its values; none where they are no bar, which prices checked on the way in exclude.
    pub(super) fn values(&self) -> Option<Ohlcv> {
        let volume = self.volume.total().map(|volume| volume.max(0.0));
        let own = || Ohlcv::new(self.open, self.high, self.low, self.close, volume).ok();
        self.fixed.or_else(own)
    }

    pub(super) fn rolled(&self) -> Option<Rolled> {
        let repaired = self.fixed.is_some();
        Some(Rolled { values: self.values()?, ticks: self.ticks, repaired })
    }

    /// Whether nothing but the provider's word before the join is known of it, so that it is not
    /// a bar of the feed.
    pub(super) const fn is_seed(&self) -> bool {
        self.ticks == 0 && self.fixed.is_none()
    }

    /// Whether ticks still go into it.
    pub(super) const fn is_open(&self) -> bool {
        self.told.is_none() && self.fixed.is_none()
    }

    pub(super) const fn source(&self) -> BarSource {
        if self.fixed.is_some() { BarSource::Repair } else { BarSource::Ticks }
    }
}
