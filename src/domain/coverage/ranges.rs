//! Sets of stretches of time, merged and bounded.

use jiff::Timestamp;

use crate::domain::ohlcv::BarRange;

/// A stretch of time, right-open: `[open, close)`.
pub type TimeRange = BarRange;

/// Stretches of time, in order; none touches another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    ranges: Vec<TimeRange>,
}

impl RangeSet {
    /// Stretches that a set has at most.
    pub const MOST: usize = 1_024;

    /// The stretches, oldest first.
    pub fn ranges(&self) -> &[TimeRange] {
        &self.ranges
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The end of the newest stretch.
    pub fn end(&self) -> Option<Timestamp> {
        self.ranges.last().map(BarRange::close)
    }

    /// Adds a stretch, merging it with those that it overlaps or touches. Answers whether that
    /// changed anything.
    pub fn insert(&mut self, range: TimeRange) -> bool {
        let from = self.ranges.partition_point(|each| each.close() < range.open());
        let to = self.ranges.partition_point(|each| each.open() <= range.close());
        let touched = self.ranges.get(from..to).unwrap_or_default();
        if touched == [range] || touched.iter().any(|each| holds(each, range)) {
            return false;
        }
        let open = touched.first().map_or(range.open(), |first| first.open().min(range.open()));
        let close = touched.last().map_or(range.close(), |last| last.close().max(range.close()));
        let merged = BarRange::new(open, close).unwrap_or(range);
        self.ranges.splice(from..to, [merged]);
        true
    }

    /// Keeps at most [`Self::MOST`] stretches by giving up the oldest: of what is known, less is
    /// claimed.
    pub fn forget_oldest(&mut self) {
        let surplus = self.ranges.len().saturating_sub(Self::MOST);
        self.ranges.drain(..surplus);
    }

    /// Keeps at most [`Self::MOST`] stretches by joining the oldest ones, with what lies between:
    /// of what is in doubt, more is.
    pub fn join_oldest(&mut self) {
        let surplus = self.ranges.len().saturating_sub(Self::MOST);
        if let (Some(first), Some(last)) = (self.ranges.first(), self.ranges.get(surplus))
            && let Some(joined) = BarRange::new(first.open(), last.close())
        {
            self.ranges.splice(..=surplus, [joined]);
        }
    }

    /// Whether one stretch holds all of `range`.
    pub fn covers(&self, range: TimeRange) -> bool {
        let at = self.ranges.partition_point(|each| each.close() < range.close());
        self.ranges.get(at).is_some_and(|each| holds(each, range))
    }

    /// Whether any of `range` lies in a stretch.
    pub fn overlaps(&self, range: TimeRange) -> bool {
        let at = self.ranges.partition_point(|each| each.close() <= range.open());
        self.ranges.get(at).is_some_and(|each| each.open() < range.close())
    }
}

impl FromIterator<TimeRange> for RangeSet {
    fn from_iter<I: IntoIterator<Item = TimeRange>>(ranges: I) -> Self {
        let mut set = Self::default();
        for range in ranges {
            set.insert(range);
        }
        set
    }
}

fn holds(outer: &TimeRange, inner: TimeRange) -> bool {
    outer.open() <= inner.open() && inner.close() <= outer.close()
}
