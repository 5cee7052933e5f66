//! The time a bar covers.

use jiff::Timestamp;

/// The time of a bar, right-open: `[open, close)`, with `open < close`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BarRange {
    open: Timestamp,
    close: Timestamp,
}

impl BarRange {
    /// `[open, close)`; none where that would be empty.
    pub fn new(open: Timestamp, close: Timestamp) -> Option<Self> {
        (open < close).then_some(Self { open, close })
    }

    /// When the bar opens; its key.
    pub const fn open(&self) -> Timestamp {
        self.open
    }

    /// The first instant after the bar.
    pub const fn close(&self) -> Timestamp {
        self.close
    }

    /// Whether `time` lies in it.
    pub fn contains(&self, time: Timestamp) -> bool {
        self.open <= time && time < self.close
    }

    /// Whether its time is over at `at`.
    pub fn is_over(&self, at: Timestamp) -> bool {
        self.close <= at
    }

    /// The cell that holds `time` where this range is cut, from its open, into cells of `minutes`;
    /// the last one ends with the range. None where `time` lies outside of it.
    pub fn cell(&self, minutes: u32, time: Timestamp) -> Option<Self> {
        if !self.contains(time) {
            return None;
        }
        let length = i64::from(minutes) * 60_000;
        let start = self.open.as_millisecond();
        let passed = (time.as_millisecond() - start).checked_div_euclid(length)?;
        let open = Timestamp::from_millisecond(start + passed * length).ok()?;
        let close = Timestamp::from_millisecond(start + (passed + 1) * length).ok()?;
        Self::new(open, close.min(self.close))
    }
}
