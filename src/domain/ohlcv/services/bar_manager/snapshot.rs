//! A symbol's bars as plain data, to be kept over a crash.

use std::sync::Arc;

use jiff::Timestamp;

use super::lane::ParentBar;
use super::minute::{BarVolume, MinuteBar};
use super::rolled::Rolled;
use super::track::Track;
use crate::domain::ohlcv::{BarRange, BarSource, Ohlcv, StoredBar};
use crate::domain::quote::{CumulativeVolume, LastVolume, SymbolId};
use crate::domain::shared::{Interval, Symbol};
use crate::domain::symbol::TradingSession;

/// All that a symbol's bars need to go on after a restart as if there had been none.
#[derive(Clone, Debug, PartialEq)]
pub struct TrackSnapshot {
    /// Whose bars.
    pub symbol: Symbol,
    /// The newest time that the feed told.
    pub event_time: Option<Timestamp>,
    /// When the newest trade happened.
    pub last_tick: Option<Timestamp>,
    /// The day's volume so far.
    pub volume: Option<LastVolume>,
    /// All bars that closed by this are closed.
    pub cursor: Option<Timestamp>,
    /// Where tracking began.
    pub since: Option<Timestamp>,
    /// Trades before this are not taken.
    pub floor: Timestamp,
    /// The minute of the join.
    pub joined: Option<BarRange>,
    /// From where to where bars are in doubt.
    pub doubt: Option<(Timestamp, Timestamp)>,
    /// Since when the feed is away.
    pub cut: Option<Timestamp>,
    /// Bars that an earlier run was to fetch again, after their close.
    pub owed: Vec<(Interval, BarRange)>,
    /// Bars that closed by this are no longer here.
    pub forgotten: Timestamp,
    /// Daily bars before the join.
    pub days: Vec<(Timestamp, Ohlcv)>,
    /// One-minute bars that can still change.
    pub minutes: Vec<MinuteBar>,
    /// Longer bars that can still change.
    pub parents: Vec<(Interval, ParentBar)>,
    /// Closed one-minute bars that are still to be told as in doubt.
    pub refetches: Vec<BarRange>,
}

impl Track {
    pub(super) fn snapshot(&self) -> TrackSnapshot {
        let of = |lane: &super::lane::Lane| {
            let interval = lane.interval;
            lane.bars.iter().map(move |bar| (interval, *bar)).collect::<Vec<_>>()
        };
        TrackSnapshot {
            symbol: self.symbol.clone(),
            event_time: self.event_time,
            last_tick: self.last_tick,
            volume: self.volume.last(),
            cursor: self.cursor,
            since: self.since,
            floor: self.floor,
            joined: self.joined,
            doubt: self.doubt,
            cut: self.cut,
            owed: self.owed.clone(),
            forgotten: self.forgotten,
            days: self.days.clone(),
            minutes: self.minutes.iter().copied().collect(),
            parents: self.lanes.iter().flat_map(of).collect(),
            refetches: self.refetches.clone(),
        }
    }

    /// Goes on from `snapshot`. A bar that is final among `stored` is as it is there.
    pub(super) fn restored(
        id: SymbolId,
        session: Arc<TradingSession>,
        snapshot: &TrackSnapshot,
        stored: &[(Interval, StoredBar)],
    ) -> Self {
        let mut track = Self::new(id, snapshot.symbol.clone(), session);
        track.event_time = snapshot.event_time;
        track.last_tick = snapshot.last_tick;
        track.volume = CumulativeVolume::restored(snapshot.volume);
        track.cursor = snapshot.cursor;
        track.since = snapshot.since;
        track.floor = snapshot.floor;
        track.joined = snapshot.joined;
        track.doubt = snapshot.doubt;
        track.leap = snapshot.doubt.map_or(Timestamp::MIN, |(_, to)| to);
        track.cut = snapshot.cut;
        track.owed.clone_from(&snapshot.owed);
        track.forgotten = snapshot.forgotten;
        track.days.clone_from(&snapshot.days);
        track.refetches.clone_from(&snapshot.refetches);
        track.restored = true;
        track.late = true;
        let find = |interval: Interval, open: Timestamp, told: Option<StoredBar>| {
            let known = stored.iter().find(|(i, bar)| *i == interval && bar.open_time == open);
            let known = known.map(|(_, bar)| *bar).filter(StoredBar::is_final);
            known.filter(|known| told.is_none_or(|told| known.replaces(&told)))
        };
        for minute in &snapshot.minutes {
            let known = find(Interval::M1, minute.range.open(), minute.told);
            let minute = known.map_or(*minute, |known| stored_minute(minute, known));
            track.minutes.push_back(minute);
        }
        for (interval, parent) in &snapshot.parents {
            let lane = track.lanes.iter_mut().find(|lane| lane.interval == *interval);
            let Some(lane) = lane else { continue };
            let known = find(*interval, parent.range.open(), parent.told);
            lane.bars.push_back(known.map_or(*parent, |known| stored_parent(parent, known)));
        }
        track.reschedule();
        track
    }
}

/// The provider's word outranks ticks.
fn fixed(stored: &StoredBar) -> Option<Ohlcv> {
    (stored.source != BarSource::Ticks).then_some(stored.values)
}

/// The minute `kept`, as it is stored.
pub(super) fn stored_minute(kept: &MinuteBar, stored: StoredBar) -> MinuteBar {
    let range = kept.range;
    let mut minute = MinuteBar::known(range, stored.values);
    minute.doubtful = kept.doubtful;
    minute.volume = BarVolume { sum: stored.values.volume(), stretch: None };
    minute.ticks = stored.tick_count.unwrap_or(0);
    minute.last_time = range.close();
    minute.fixed = fixed(&stored);
    minute.told = Some(stored);
    minute
}

fn stored_parent(parent: &ParentBar, stored: StoredBar) -> ParentBar {
    let ticks = stored.tick_count.unwrap_or(0);
    let head = Rolled { values: stored.values, ticks, repaired: false };
    ParentBar {
        until: parent.range.close(),
        head: Some(head),
        tail: None,
        rerolling: None,
        fixed: fixed(&stored),
        changed: false,
        told: Some(stored),
        ..*parent
    }
}
