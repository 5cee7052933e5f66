//! Which bars are in doubt, and so are fetched again.

use jiff::Timestamp;

use super::track::Track;
use crate::domain::ohlcv::BarRange;

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

    /// Whether a bar of `range` overlaps an outage or was forming at a join.
    pub(super) fn in_doubt(&self, range: BarRange) -> bool {
        let overlaps =
            |(from, to): (Timestamp, Timestamp)| range.open() <= to && from < range.close();
        self.doubt.is_some_and(overlaps)
    }

    /// Notes that bars which overlap `[from, to]` are in doubt.
    pub(super) fn add_doubt(&mut self, from: Timestamp, to: Timestamp) {
        let old = self.doubt.unwrap_or((from, to));
        self.doubt = Some((old.0.min(from), old.1.max(to)));
        self.unsaved = true;
    }
}
