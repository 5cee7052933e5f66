//! What is still to be done about closed bars. It is written down before the bars that it is about,
//! so that a crash forgets none of it.

use jiff::Timestamp;
use tracing::warn;

use crate::domain::ohlcv::BarRange;
use crate::domain::shared::{Interval, Series};

/// Debts that a symbol has at most. A provider that corrects more at once is not followed there.
const MOST: usize = 4_096;

/// What is owed to a symbol's bars.
#[derive(Debug, Default)]
pub(super) struct Owed {
    debts: Vec<Debt>,
    /// Whether it changed since it was written down.
    pub(super) changed: bool,
}

#[derive(Debug)]
struct Debt {
    interval: Interval,
    range: BarRange,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Under way; asked for once more since where `again`.
    Refetch { again: bool },
    /// Asked for under this number.
    Reroll(u64),
}

impl Owed {
    /// Bars are to be fetched again; answers whether that is to be begun. What is under way may
    /// have read too early: it is begun once more when it is done.
    pub(super) fn refetch(&mut self, series: &Series, range: BarRange) -> bool {
        let known = self.debts.iter_mut().find(|debt| {
            debt.is_of(series.interval, range) && matches!(debt.kind, Kind::Refetch { .. })
        });
        match known {
            Some(debt) => {
                debt.kind = Kind::Refetch { again: true };
                false
            }
            None => self.add(series, range, Kind::Refetch { again: false }),
        }
    }

    /// Trades corrected the closed bar that opens at `open`. What is under way may not have them: it
    /// is begun once more when it is done.
    pub(super) fn corrected(&mut self, interval: Interval, open: Timestamp) {
        for debt in &mut self.debts {
            if debt.interval == interval && debt.range.contains(open) {
                debt.kind = match debt.kind {
                    Kind::Refetch { .. } => Kind::Refetch { again: true },
                    Kind::Reroll(number) => Kind::Reroll(number),
                };
            }
        }
    }

    /// Fetching again is done; answers whether it is to be begun once more.
    pub(super) fn refetched(&mut self, interval: Interval, range: BarRange) -> bool {
        let is_it =
            |debt: &Debt| debt.is_of(interval, range) && matches!(debt.kind, Kind::Refetch { .. });
        let Some(index) = self.debts.iter().position(is_it) else { return false };
        self.changed = true;
        self.debts.swap_remove(index).kind == Kind::Refetch { again: true }
    }

    /// A bar is to be rolled up again, as the roll-up of this `number`, higher than all before.
    pub(super) fn reroll(&mut self, series: &Series, range: BarRange, number: u64) -> bool {
        self.add(series, range, Kind::Reroll(number))
    }

    /// Whether this is the roll-up of the bar that was asked for last: those before have not seen
    /// all of its children, and who was let go meanwhile has not asked.
    pub(super) fn is_last_reroll(&self, interval: Interval, range: BarRange, number: u64) -> bool {
        let of_bar = self.debts.iter().filter(|debt| debt.is_of(interval, range));
        let last = of_bar.filter_map(|debt| match debt.kind {
            Kind::Reroll(number) => Some(number),
            Kind::Refetch { .. } => None,
        });
        last.max() == Some(number)
    }

    /// A roll-up was answered.
    pub(super) fn rerolled(&mut self, interval: Interval, range: BarRange, number: u64) {
        let is_it = |debt: &Debt| debt.is_of(interval, range) && debt.kind == Kind::Reroll(number);
        if let Some(index) = self.debts.iter().position(is_it) {
            self.changed = true;
            self.debts.swap_remove(index);
        }
    }

    /// All of it, each once.
    pub(super) fn list(&self) -> Vec<(Interval, BarRange)> {
        let mut list: Vec<_> = self.debts.iter().map(|debt| (debt.interval, debt.range)).collect();
        list.sort_unstable();
        list.dedup();
        list
    }

    fn add(&mut self, series: &Series, range: BarRange, kind: Kind) -> bool {
        if self.debts.len() >= MOST {
            warn!(%series, open_time = %range.open(), "too many bars of {series} are in doubt");
            return false;
        }
        self.changed = true;
        self.debts.push(Debt { interval: series.interval, range, kind });
        true
    }
}

impl Debt {
    fn is_of(&self, interval: Interval, range: BarRange) -> bool {
        (self.interval, self.range) == (interval, range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::shared::Symbol;

    fn hour() -> (Series, BarRange) {
        let range = BarRange::new(Timestamp::UNIX_EPOCH, Timestamp::from_second(3_600).unwrap());
        (Series::new(Symbol::parse("A:B").unwrap(), Interval::H1), range.unwrap())
    }

    #[test]
    fn what_is_asked_for_while_it_is_under_way_is_done_once_more() {
        let (mut owed, (series, range)) = (Owed::default(), hour());
        assert!(owed.refetch(&series, range));
        assert!(!owed.refetch(&series, range), "one at a time");
        assert!(owed.refetched(Interval::H1, range), "it may have read too early");
        assert!(owed.refetch(&series, range));
        assert!(!owed.refetched(Interval::H1, range));
        assert_eq!(owed.list(), []);
    }

    #[test]
    fn what_trades_corrected_meanwhile_is_fetched_once_more() {
        let (mut owed, (series, range)) = (Owed::default(), hour());
        assert!(owed.refetch(&series, range));
        owed.corrected(Interval::M30, range.open());
        owed.corrected(Interval::H1, range.close());
        assert!(!owed.refetched(Interval::H1, range), "another bar");
        assert!(owed.refetch(&series, range) && owed.reroll(&series, range, 1));
        owed.corrected(Interval::H1, range.open());
        assert!(owed.refetched(Interval::H1, range));
        assert!(owed.is_last_reroll(Interval::H1, range, 1), "that is made of what is stored");
    }

    #[test]
    fn of_several_roll_ups_the_last_one_counts() {
        let (mut owed, (series, range)) = (Owed::default(), hour());
        assert!(owed.reroll(&series, range, 7) && owed.reroll(&series, range, 8));
        assert!(owed.refetch(&series, range), "something else");
        assert_eq!(owed.list(), [(Interval::H1, range)]);
        assert!(!owed.is_last_reroll(Interval::H1, range, 7));
        owed.rerolled(Interval::H1, range, 7);
        assert!(owed.is_last_reroll(Interval::H1, range, 8));
        assert!(!owed.is_last_reroll(Interval::H1, range, 6), "asked for before it was let go");
        owed.rerolled(Interval::H1, range, 6);
        owed.rerolled(Interval::H1, range, 8);
        assert_eq!(owed.list().len(), 1, "the fetch is still owed");
        assert!(!owed.is_last_reroll(Interval::H1, range, 8), "once");
    }

    #[test]
    fn debts_are_bounded() {
        let (mut owed, (series, range)) = (Owed::default(), hour());
        assert!((0..MOST).all(|_| owed.reroll(&series, range, 1)));
        assert!(!owed.reroll(&series, range, 2));
    }
}
