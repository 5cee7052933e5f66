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
        return Some(match fetched.finished {
            true => StoredBar::closed(open, values, BarSource::Provider),
            false => StoredBar::forming(open, values, BarSource::Provider),
        });
    };
    let same = old.values == values;
    match (old.is_final(), fetched.finished) {
        (false, true) => Some(StoredBar::closed(open, values, BarSource::Provider)),
        (false, false) if same => None,
        (false, false) => Some(StoredBar::forming(open, values, BarSource::Provider)),
        (true, true) if same => None,
        (true, true) => Some(old.revised(values, BarSource::Provider)),
        (true, false) if old.finality_unknown => {
            Some(StoredBar::forming(open, values, BarSource::Provider))
        }
        (true, false) => None,
    }
}
