//! A stretch of a series, and what fetched bars do to it.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{BarRange, BarSource, Ohlcv, StoredBar};
use crate::domain::shared::{DomainEvent, EventPayload, Series};
use crate::domain::sync::SyncDiff;

/// A bar as the provider reports it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FetchedBar {
    /// The time it covers.
    pub range: BarRange,
    /// Its values.
    pub values: Ohlcv,
    /// Whether its time was over by the provider's own clock, in the reply that carried it.
    pub finished: bool,
}

/// The stored bars of a stretch of one series. Takes in fetched bars and answers what to write.
#[derive(Clone, Debug)]
pub struct OhlcvAggregate {
    series: Series,
    bars: BTreeMap<Timestamp, StoredBar>,
}

impl OhlcvAggregate {
    /// The stretch of `series` that `stored` covers.
    pub fn new(series: Series, stored: impl IntoIterator<Item = StoredBar>) -> Self {
        let bars = stored.into_iter().map(|bar| (bar.open_time, bar)).collect();
        Self { series, bars }
    }

    /// Takes in `fetched` and answers the difference. A final bar that is reported with other
    /// values becomes its next revision; one that is reported unfinished stays, unless it was
    /// stored without finality.
    pub fn merge(&mut self, fetched: &[FetchedBar]) -> SyncDiff {
        let mut diff = SyncDiff::default();
        for bar in fetched {
            let key = bar.range.open();
            let old = self.bars.get(&key).copied();
            match replacement(old.as_ref(), bar) {
                None => diff.unchanged += 1,
                Some(new) => {
                    self.bars.insert(key, new);
                    match old {
                        None => diff.inserted.push(new),
                        Some(old) => {
                            diff.updated.push(new);
                            if old.is_final() && new.is_final() && old.revision() < new.revision() {
                                diff.revised.push((old, new));
                            }
                        }
                    }
                }
            }
        }
        diff
    }

    /// What is to be told, once `diff` is stored at `at`.
    pub fn events(&self, diff: &SyncDiff, at: Timestamp) -> Vec<DomainEvent> {
        let revised = diff.revised.iter().map(|(old, new)| DomainEvent {
            time: at,
            payload: EventPayload::BarRevised { series: self.series.clone(), old: *old, new: *new },
        });
        revised.collect()
    }
}

/// What is stored instead of `old` after `fetched` was seen; none where nothing changes.
fn replacement(old: Option<&StoredBar>, fetched: &FetchedBar) -> Option<StoredBar> {
    let (open, values) = (fetched.range.open(), fetched.values);
    let Some(old) = old else {
        return Some(if fetched.finished {
            StoredBar::closed(open, values, BarSource::Provider)
        } else {
            StoredBar::forming(open, values, BarSource::Provider)
        });
    };
    let same = old.values == values;
    match (old.is_final(), fetched.finished) {
        (false, true) => Some(StoredBar::closed(open, values, BarSource::Provider)),
        (false, false) | (true, true) if same => None,
        (true, true) => Some(old.revised(values, BarSource::Provider)),
        // Final stays final, unless nobody ever said that it was.
        (true, false) if !old.finality_unknown => None,
        (_, false) => Some(StoredBar::forming(open, values, BarSource::Provider)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::ohlcv::BarState;
    use crate::domain::ohlcv::values::tests::any_ohlcv;
    use crate::domain::shared::{Interval, Symbol};

    fn series() -> Series {
        Series::new(Symbol::parse("A:B").unwrap(), Interval::M1)
    }

    fn values(close: f64) -> Ohlcv {
        Ohlcv::new(1.0, 9.0, 0.0, close, None).unwrap()
    }

    fn fetched(minute: i64, values: Ohlcv, finished: bool) -> FetchedBar {
        let time = |minute: i64| Timestamp::from_second(minute * 60).unwrap();
        let range = BarRange::new(time(minute), time(minute + 1)).unwrap();
        FetchedBar { range, values, finished }
    }

    #[test]
    fn an_unfinished_bar_is_forming_until_it_is_seen_finished() {
        let mut bars = OhlcvAggregate::new(series(), []);
        let first = bars.merge(&[fetched(0, values(1.0), false)]);
        assert_eq!(first.inserted[0].state(), BarState::Forming);
        assert_eq!(bars.merge(&[fetched(0, values(1.0), false)]).unchanged, 1);
        let closed = bars.merge(&[fetched(0, values(1.0), true)]);
        assert_eq!(
            (closed.updated[0].state(), closed.updated[0].revision()),
            (BarState::Closed, 1)
        );
        assert!(closed.revised.is_empty(), "to be closed is no correction");
        assert_eq!(bars.merge(&[fetched(0, values(2.0), false)]).unchanged, 1, "final stays final");
    }

    #[test]
    fn a_final_bar_with_other_values_becomes_its_next_revision() {
        let mut bars = OhlcvAggregate::new(series(), []);
        bars.merge(&[fetched(0, values(1.0), true)]);
        for revision in 2..4 {
            let diff = bars.merge(&[fetched(0, values(f64::from(revision)), true)]);
            assert_eq!(diff.updated[0].revision(), revision);
            let events = bars.events(&diff, Timestamp::UNIX_EPOCH);
            let EventPayload::BarRevised { old, new, .. } = &events[0].payload else { panic!() };
            assert_eq!((old.revision(), new.revision()), (revision - 1, revision));
        }
    }

    #[test]
    fn a_bar_stored_without_finality_can_turn_out_unfinished() {
        let bar = fetched(0, values(1.0), true);
        let mut old = StoredBar::closed(bar.range.open(), values(1.0), BarSource::Provider);
        old.finality_unknown = true;
        let mut bars = OhlcvAggregate::new(series(), [old]);
        assert_eq!(bars.merge(&[bar]).unchanged, 1);
        let diff = bars.merge(&[fetched(0, values(2.0), false)]);
        assert_eq!(diff.updated[0].state(), BarState::Forming);
    }

    proptest! {
        #[test]
        fn merging_the_same_bars_twice_changes_nothing(
            values in prop::collection::vec(any_ohlcv(), 0..20),
            finished in any::<bool>(),
        ) {
            let page: Vec<_> =
                (0..).zip(values).map(|(minute, values)| fetched(minute, values, finished)).collect();
            let mut bars = OhlcvAggregate::new(series(), []);
            let first = bars.merge(&page);
            prop_assert_eq!(first.inserted.len(), page.len());
            let second = bars.merge(&page);
            prop_assert!(second.is_empty());
            prop_assert_eq!(second.unchanged, page.len() as u64);
        }
    }
}
