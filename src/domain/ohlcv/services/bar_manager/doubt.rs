//! Which bars are in doubt, and so are fetched again.

use jiff::Timestamp;

use super::change::BarChange;
use super::track::Track;
use crate::domain::ohlcv::BarRange;
use crate::domain::shared::Interval;

/// Stretches of closed bars that wait to be told as [`Refetch`](super::BarChange::Refetch); one
/// more is merged into the last.
const MAX_REFETCHES: usize = 64;

impl Track {
    /// The closed one-minute bars in `range` are to be fetched again.
    pub(super) fn refetch(&mut self, range: BarRange) {
        if self.refetches.contains(&range) {
            return;
        }
        let is_full = self.refetches.len() >= MAX_REFETCHES;
        match self.refetches.last_mut() {
            Some(last) if is_full => {
                let open = last.open().min(range.open());
                let close = last.close().max(range.close());
                *last = BarRange::new(open, close).unwrap_or(*last);
            }
            _ => self.refetches.push(range),
        }
    }

    /// Bars are to be fetched again.
    pub(super) fn ask_again(
        &mut self,
        interval: Interval,
        range: BarRange,
        out: &mut Vec<BarChange>,
    ) {
        if interval == Interval::M1 && !self.awaited.contains(&range) {
            self.awaited.push(range);
        }
        out.push(BarChange::Refetch { series: self.series(interval), range });
    }

    /// Bars of `interval` in `range` were still to be fetched again when the process ended: at once
    /// where they are closed, else after their close.
    pub(super) fn owe(&mut self, interval: Interval, range: BarRange, out: &mut Vec<BarChange>) {
        let closed = self.cursor.map_or(range.open(), |cursor| range.close().min(cursor));
        if let Some(closed) = BarRange::new(range.open(), closed) {
            self.ask_again(interval, closed, out);
        }
        if closed < range.close() && !self.owed.contains(&(interval, range)) {
            self.owed.push((interval, range));
            self.reroll_forming(interval, range, out);
            self.unsaved = true;
        }
    }

    /// Whether a bar of `range` overlaps an outage, was forming at a join, or is owed.
    pub(super) fn in_doubt(&self, interval: Interval, range: BarRange) -> bool {
        let overlaps =
            |(from, to): (Timestamp, Timestamp)| range.open() <= to && from < range.close();
        let is_it = |(of, owed): &(Interval, BarRange)| {
            *of == interval && range.open() < owed.close() && owed.open() < range.close()
        };
        self.doubt.is_some_and(overlaps) || self.owed.iter().any(is_it)
    }

    /// Notes that bars which overlap `[from, to]` are in doubt.
    pub(super) fn add_doubt(&mut self, from: Timestamp, to: Timestamp) {
        let old = self.doubt.unwrap_or((from, to));
        self.doubt = Some((old.0.min(from), old.1.max(to)));
        self.unsaved = true;
    }
}
