//! What was decided, on its way to the writer; and what a crash would cost.

use super::super::changes::forming_bars;
use super::feed::Feed;
use super::store::Store;
use crate::domain::ohlcv::BarSource;
use crate::domain::ohlcv::services::{BarChange, TrackSnapshot};
use crate::domain::shared::Series;
use crate::features::market_data::quote::job::{Decided, Job};
use crate::features::market_data::quote::snapshot_codec::{self, Kept};
use jiff::Timestamp;

impl Feed {
    pub(super) fn hand_on(&mut self, now: Timestamp, store: &mut Store) {
        if self.changes.is_empty() {
            return;
        }
        let (mut decided, mut refetches, mut owing) = (Vec::new(), Vec::new(), false);
        for change in std::mem::take(&mut self.changes) {
            if self.is_told
                && !matches!(
                    change,
                    BarChange::FormingChanged { .. } | BarChange::IntervalClosed { .. }
                )
            {
                println!("    {}", brief(&change));
            }
            match change {
                BarChange::Closed { series, bar } => {
                    decided.push(Decided::Bar { series, bar, old: None });
                }
                BarChange::Revised { series, old, bar } => {
                    if let Some(each) =
                        self.followed.as_mut().filter(|_| bar.stored.source == BarSource::Ticks)
                    {
                        each.owed.corrected(series.interval, bar.range.open());
                    }
                    decided.push(Decided::Bar { series, bar, old: Some(old) });
                }
                BarChange::Refetch { series, range } => {
                    if self.followed.as_mut().is_some_and(|each| each.owed.refetch(&series, range))
                    {
                        owing = true;
                        refetches.push((series, range));
                    }
                }
                BarChange::Reroll { series, range, until } => {
                    self.rerolls += 1;
                    let number = self.rerolls;
                    if self
                        .followed
                        .as_mut()
                        .is_some_and(|each| each.owed.reroll(&series, range, number))
                    {
                        owing = true;
                        decided.push(Decided::Reroll { series, range, until, number });
                    }
                }
                BarChange::IntervalClosed { .. } | BarChange::FormingChanged { .. } => {}
            }
        }
        let kept = self.followed.as_ref().filter(|_| owing).and_then(|each| each.kept.clone());
        if let Some(kept) = kept {
            self.keep(kept, now, store);
        }
        if !decided.is_empty() {
            store.push(Job::Decided(decided));
        }
        for (series, range) in refetches {
            self.repairs.ask(series.interval, range);
        }
    }

    pub(super) fn save(&mut self, now: Timestamp, store: &mut Store) {
        self.hand_on(now, store);
        let mut snapshots = self.manager.take_snapshot();
        if let Some(followed) = &mut self.followed
            && std::mem::take(&mut followed.owed.changed)
            && snapshots.is_empty()
        {
            snapshots.extend(followed.id.and_then(|id| self.manager.snapshot(id)));
        }
        for snapshot in snapshots {
            if let Some(followed) = &mut self.followed {
                followed.kept = Some(snapshot.clone());
            }
            self.keep(snapshot, now, store);
        }
    }

    pub(super) fn save_symbol(&mut self, now: Timestamp, store: &mut Store) {
        self.hand_on(now, store);
        let Some(followed) = &mut self.followed else { return };
        let Some(snapshot) = followed.id.and_then(|id| self.manager.snapshot(id)) else { return };
        followed.kept = Some(snapshot.clone());
        self.keep(snapshot, now, store);
    }

    fn keep(&self, snapshot: TrackSnapshot, now: Timestamp, store: &mut Store) {
        let Some(followed) = &self.followed else { return };
        let owed = followed.owed.list();
        let kept = Kept { snapshot, owed, logged_from: None, saved_at: now };
        store.push(Job::Keep(vec![(self.symbol.clone(), snapshot_codec::encode(&kept))]));
    }

    pub(super) fn flush_symbol(&self, store: &mut Store) {
        let Some(id) = self.followed.as_ref().and_then(|followed| followed.id) else { return };
        for (interval, bar) in forming_bars(&self.manager, id) {
            store.push(Job::Forming(Series::new(self.symbol.clone(), interval), bar.stored));
        }
    }
}

fn brief(change: &BarChange) -> String {
    match change {
        BarChange::Closed { series, bar } => {
            format!(
                "closed {} {} {:?} {}",
                series.interval,
                bar.range.open(),
                bar.stored.values,
                bar.stored.source
            )
        }
        BarChange::Revised { series, bar, .. } => {
            format!(
                "revised {} {} {:?} {} {}",
                series.interval,
                bar.range.open(),
                bar.stored.values,
                bar.stored.source,
                bar.stored.revision()
            )
        }
        BarChange::Refetch { series, range } => {
            format!("refetch {} {} {}", series.interval, range.open(), range.close())
        }
        BarChange::Reroll { series, range, until } => {
            format!("reroll {} {} {} until {until}", series.interval, range.open(), range.close())
        }
        BarChange::IntervalClosed { .. } | BarChange::FormingChanged { .. } => String::new(),
    }
}
