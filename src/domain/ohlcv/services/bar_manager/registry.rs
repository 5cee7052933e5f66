//! Which symbols are tracked, and how they come and go.

use std::sync::Arc;

use jiff::Timestamp;

use super::manager::{BarManager, Slot};
use super::rules::FeedClock;
use super::snapshot::TrackSnapshot;
use super::track::Track;
use crate::domain::ohlcv::StoredBar;
use crate::domain::quote::SymbolId;
use crate::domain::shared::{Interval, Symbol};
use crate::domain::symbol::TradingSession;

impl BarManager {
    /// Begins to track `symbol`, whose session is known. A symbol that is tracked goes on, on
    /// `session` from its next bars on.
    pub fn track(&mut self, symbol: &Symbol, session: &Arc<TradingSession>) -> SymbolId {
        if let Some(id) = self.id_of(symbol) {
            if let Some(track) = self.track_mut(id) {
                track.change_session(session);
            }
            self.mark_pending(id.index);
            return id;
        }
        self.place(symbol, |id| Track::new(id, symbol.clone(), Arc::clone(session)))
    }

    /// Tracks a symbol as it was persisted. Bars that are final among `stored`, what the database
    /// holds under the snapshot's keys, are as they are there. All from its last tick to the
    /// [`join`](Self::join) that must follow counts as an outage.
    pub fn restore(
        &mut self,
        snapshot: &TrackSnapshot,
        session: &Arc<TradingSession>,
        stored: &[(Interval, StoredBar)],
    ) -> SymbolId {
        if let Some(id) = self.id_of(&snapshot.symbol) {
            self.untrack(id);
        }
        let session = Arc::clone(session);
        self.place(&snapshot.symbol, |id| Track::restored(id, session, snapshot, stored))
    }

    /// What changed since the last time, as plain data to be persisted; one a symbol.
    pub fn take_snapshot(&mut self) -> Vec<TrackSnapshot> {
        let tracks = self.slots.iter_mut().filter_map(|slot| slot.track.as_mut());
        tracks
            .filter_map(|track| std::mem::take(&mut track.unsaved).then(|| track.snapshot()))
            .collect()
    }

    /// A symbol's bars as plain data.
    pub fn snapshot(&self, id: SymbolId) -> Option<TrackSnapshot> {
        self.find(id).map(Track::snapshot)
    }

    /// Lets go of a symbol; its ticks count as untracked from now on. Answers its bars, so that
    /// they can be kept.
    pub fn untrack(&mut self, id: SymbolId) -> Option<TrackSnapshot> {
        let slot = self.slots.get_mut(id.index as usize)?;
        let track = slot.track.take_if(|track| track.id == id)?;
        slot.generation = slot.generation.wrapping_add(1);
        slot.is_pending = false;
        self.pending.retain(|index| *index != id.index);
        self.touched.retain(|index| *index != id.index);
        self.ids.remove(&track.symbol);
        self.free.push(id.index);
        self.next_deadline = self.earliest_deadline();
        Some(track.snapshot())
    }

    /// The number of a tracked symbol.
    pub fn id_of(&self, symbol: &Symbol) -> Option<SymbolId> {
        self.ids.get(symbol).copied()
    }

    /// The symbol of a number, while it is tracked.
    pub fn symbol_of(&self, id: SymbolId) -> Option<&Symbol> {
        self.find(id).map(|track| &track.symbol)
    }

    /// When a symbol's newest trade happened; where the outage of a restart begins.
    pub fn last_tick(&self, id: SymbolId) -> Option<Timestamp> {
        self.find(id)?.last_tick
    }

    /// How far a symbol's own time has come: its newest trade, or what moved it on without one.
    pub fn event_time(&self, id: SymbolId) -> Option<Timestamp> {
        self.find(id)?.event_time
    }

    fn place(&mut self, symbol: &Symbol, make: impl FnOnce(SymbolId) -> Track) -> SymbolId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, track: None, is_pending: false });
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let generation = self.slots.get(index as usize).map_or(0, |slot| slot.generation);
        let id = SymbolId { index, generation };
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.track = Some(make(id));
        }
        self.ids.insert(symbol.clone(), id);
        self.mark_pending(index);
        id
    }

    pub(super) fn find(&self, id: SymbolId) -> Option<&Track> {
        let slot = self.slots.get(id.index as usize)?;
        slot.track.as_ref().filter(|track| track.id == id)
    }

    pub(super) fn track_mut(&mut self, id: SymbolId) -> Option<&mut Track> {
        let slot = self.slots.get_mut(id.index as usize)?;
        slot.track.as_mut().filter(|track| track.id == id)
    }

    pub(super) fn mark_pending(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(index as usize)
            && slot.track.is_some()
            && !slot.is_pending
        {
            slot.is_pending = true;
            self.pending.push(index);
        }
    }

    pub(super) fn mark_touched(&mut self, index: u32) {
        let track = self.slots.get_mut(index as usize).and_then(|slot| slot.track.as_mut());
        if let Some(track) = track.filter(|track| !track.touched) {
            track.touched = true;
            self.touched.push(index);
        }
    }

    pub(super) fn earliest_deadline(&self) -> Option<Timestamp> {
        if self.rules().clock == FeedClock::Event {
            return None;
        }
        let tracks = self.slots.iter().filter_map(|slot| slot.track.as_ref());
        tracks.filter_map(|track| track.deadline(&self.rules())).min()
    }
}

impl Slot {
    /// Its mark and its track.
    pub(super) fn split(&mut self) -> Option<(&mut bool, &mut Track)> {
        Some((&mut self.is_pending, self.track.as_mut()?))
    }
}
