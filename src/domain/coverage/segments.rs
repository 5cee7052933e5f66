//! Each cell's reason, and neighbours of one reason merged.

use std::collections::VecDeque;

use jiff::Timestamp;

use super::{Cell, RangeSet, TimeRange};
use crate::domain::ohlcv::BarRange;
use crate::domain::shared::Interval;

/// Why there are bars in a stretch of time, or none. In the order in which they are decided: the
/// first that fits is the one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CoverageReason {
    /// There are bars.
    Data,
    /// The market was closed.
    MarketClosed,
    /// The provider was asked, and had none.
    ProviderEmpty,
    /// The feed was away, and nobody has asked the provider since.
    FeedDown,
    /// The feed was there, and nothing was traded.
    NoTrades,
    /// Nobody has asked.
    NotSynced,
}

impl CoverageReason {
    /// Whether asking the provider may bring bars.
    pub const fn is_gap(self) -> bool {
        matches!(self, Self::FeedDown | Self::NotSynced)
    }
}

/// What is known of a series besides its bars and its calendar.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CoverageFacts {
    /// What the provider was asked for, and answered.
    pub asked: RangeSet,
    /// When the feed followed the symbol and was away.
    pub down: RangeSet,
    /// When the feed followed the symbol and was there.
    pub connected: RangeSet,
}

/// A stretch of time with one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its time.
    pub range: TimeRange,
    /// Why there are bars, or none.
    pub reason: CoverageReason,
    /// Bars that open in it.
    pub bar_count: u64,
}

/// Takes cells in order, with the bars that open in them, and cuts a stretch of time into segments:
/// they cover it, do not overlap, and no two neighbours have one reason, but for cuts.
#[derive(Clone, Debug)]
pub struct Segments {
    asked_for: TimeRange,
    interval: Interval,
    facts: CoverageFacts,
    /// Where neighbours are not merged.
    cuts: VecDeque<Timestamp>,
    found: Vec<Segment>,
}

impl Segments {
    /// Nothing yet of `asked_for`.
    pub const fn new(asked_for: TimeRange, interval: Interval, facts: CoverageFacts) -> Self {
        Self { asked_for, interval, facts, cuts: VecDeque::new(), found: Vec::new() }
    }

    /// At `cuts`, which rise and are bounds of cells, a segment ends in any case.
    #[must_use]
    pub fn cut_at(mut self, cuts: VecDeque<Timestamp>) -> Self {
        self.cuts = cuts;
        self
    }

    /// Takes the next cell, and out of `bars`, which rise, those that open in it.
    pub fn take(&mut self, cell: &Cell, bars: &mut VecDeque<Timestamp>) {
        let mut opens = Vec::new();
        while let Some(open) = bars.pop_front_if(|open| *open < cell.range.close()) {
            if cell.range.open() <= open {
                opens.push(open);
            }
        }
        if opens.is_empty() {
            self.add(cell.range, self.reason(cell), 0);
        } else if cell.bar.is_none() && self.interval.is_intraday() {
            self.take_closed(cell.range, &opens);
        } else {
            self.add_data(cell.range, &opens);
        }
    }

    /// How many there are so far.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The segments, oldest first.
    pub fn finish(self) -> Vec<Segment> {
        self.found
    }

    /// The reason of a cell without bars.
    fn reason(&self, cell: &Cell) -> CoverageReason {
        let Some(bar) = cell.bar else { return CoverageReason::MarketClosed };
        if self.facts.asked.covers(bar) {
            CoverageReason::ProviderEmpty
        } else if self.facts.down.overlaps(bar) {
            CoverageReason::FeedDown
        } else if self.facts.connected.covers(bar) {
            CoverageReason::NoTrades
        } else {
            CoverageReason::NotSynced
        }
    }

    /// A bar while the market is closed covers its own length, and no more: the closed time around
    /// it is closed.
    fn take_closed(&mut self, closed: TimeRange, opens: &[Timestamp]) {
        let mut from = closed.open();
        let nexts = opens.iter().skip(1).copied().chain([closed.close()]);
        for (open, next) in opens.iter().copied().zip(nexts) {
            if let Some(before) = BarRange::new(from, open) {
                self.add(before, CoverageReason::MarketClosed, 0);
            }
            let length = self.interval.nominal_length();
            let close = open.saturating_add(length).unwrap_or(Timestamp::MAX).min(next);
            if let Some(bar) = BarRange::new(open, close) {
                self.add_data(bar, &[open]);
            }
            from = close;
        }
        if let Some(after) = BarRange::new(from, closed.close()) {
            self.add(after, CoverageReason::MarketClosed, 0);
        }
    }

    fn add_data(&mut self, range: TimeRange, opens: &[Timestamp]) {
        let count = opens.iter().filter(|open| self.asked_for.contains(**open)).count();
        self.add(range, CoverageReason::Data, u64::try_from(count).unwrap_or(u64::MAX));
    }

    fn add(&mut self, range: TimeRange, reason: CoverageReason, bar_count: u64) {
        let begun = self.found.last().map_or(self.asked_for.open(), |last| last.range.close());
        let open = range.open().max(begun);
        let close = range.close().min(self.asked_for.close());
        let Some(range) = BarRange::new(open, close) else { return };
        while self.cuts.pop_front_if(|cut| *cut < range.open()).is_some() {}
        let is_cut = self.cuts.front() == Some(&range.open());
        let last = self.found.last_mut().filter(|last| last.reason == reason && !is_cut);
        if let Some(last) = last
            && let Some(merged) = BarRange::new(last.range.open(), range.close())
        {
            last.range = merged;
            last.bar_count += bar_count;
            return;
        }
        self.found.push(Segment { range, reason, bar_count });
    }
}
