//! The bars that are not closed.

use super::lane::ParentBar;
use super::minute::MinuteBar;
use super::track::Track;
use crate::domain::ohlcv::{Bar, BarSource, StoredBar};
use crate::domain::shared::Interval;

impl Track {
    /// The bar of `interval` that is forming; none where there is no trade in it.
    pub(super) fn forming(&self, interval: Interval) -> Option<Bar> {
        if interval == Interval::M1 {
            return self.minutes.back().and_then(forming_minute);
        }
        let lane = self.lanes.iter().find(|lane| lane.interval == interval)?;
        self.forming_parent(lane.bars.back()?)
    }

    /// Every bar that is not closed, shortest first: those within the grace too.
    pub(super) fn unclosed(&self) -> Vec<(Interval, Bar)> {
        let minutes = self.minutes.iter().filter_map(forming_minute);
        let minutes = minutes.map(|bar| (Interval::M1, bar));
        let parents = self.lanes.iter().flat_map(|lane| {
            let bars = lane.bars.iter().filter_map(|parent| self.forming_parent(parent));
            bars.map(|bar| (lane.interval, bar))
        });
        minutes.chain(parents).collect()
    }

    fn forming_parent(&self, parent: &ParentBar) -> Option<Bar> {
        if parent.told.is_some() {
            return None;
        }
        let rolled = parent.rolled(&self.minutes)?;
        let source = parent.source(&rolled);
        let mut stored = StoredBar::forming(parent.range.open(), rolled.values, source);
        stored.tick_count = (rolled.ticks > 0).then_some(rolled.ticks);
        Some(Bar { range: parent.range, stored })
    }
}

fn forming_minute(minute: &MinuteBar) -> Option<Bar> {
    if minute.told.is_some() {
        return None;
    }
    let open = minute.range.open();
    let mut stored = StoredBar::forming(open, minute.values()?, BarSource::Ticks);
    stored.tick_count = (minute.ticks > 0).then_some(minute.ticks);
    Some(Bar { range: minute.range, stored })
}
