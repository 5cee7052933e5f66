//! What the feed's task does with one symbol, step by step, as its own files have it; without
//! sockets, streams and metrics.

use std::collections::VecDeque;

use jiff::Timestamp;

use super::super::fetch::{Fetched, Lookup, Resolved};
use super::super::followed::{Followed, Progress};
use super::super::seed::Wanted;
use super::store::Store;
use super::tasks::{Repairs, Resolving, Seeding};
use crate::domain::ohlcv::services::{
    BarChange, BarManager, BarRules, FeedClock, JoinPoint, RepairedBar, Seed,
};
use crate::domain::quote::{Quote, QuoteEffect, QuoteTick, QuoteUpdate};
use crate::domain::shared::{Interval, Symbol};
use crate::features::market_data::quote::feed_task::Rerolled;
use crate::features::market_data::quote::job::Job;
use crate::features::market_data::quote::snapshot_codec::Kept;
use crate::infrastructure::interfaces::UpdateKind;

/// What the connection brings.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Update(QuoteUpdate),
    /// A snapshot, from its begin to its end.
    Snapshot(QuoteUpdate),
    Connected,
    Lost,
}

/// All that a crash forgets.
pub(super) struct Feed {
    pub(super) symbol: Symbol,
    pub(super) manager: BarManager,
    pub(super) followed: Option<Followed>,
    lookups: u64,
    pub(super) rerolls: u64,
    /// What was not taken yet of what came.
    pub(super) link: VecDeque<Event>,
    /// Whether the provider is to follow the symbol.
    pub(super) is_added: bool,
    pub(super) fetched: VecDeque<Fetched>,
    pub(super) rerolled: VecDeque<Rerolled>,
    pub(super) repairs: Repairs,
    pub(super) seeding: Vec<Seeding>,
    pub(super) resolving: Vec<Resolving>,
    /// On the machine's clock, when it joined first; on the other, of the first trade.
    pub(super) first_join: Option<Timestamp>,
    heard_at: Option<Timestamp>,
    pub(super) changes: Vec<BarChange>,
    pub(super) is_told: bool,
}

impl Feed {
    pub(super) fn new(clock: FeedClock, is_told: bool) -> Self {
        Self {
            symbol: Symbol::parse("A:B").unwrap(),
            manager: BarManager::new(BarRules { clock, ..BarRules::default() }),
            followed: None,
            lookups: 0,
            rerolls: 0,
            link: VecDeque::new(),
            is_added: false,
            fetched: VecDeque::new(),
            rerolled: VecDeque::new(),
            repairs: Repairs::default(),
            seeding: Vec::new(),
            resolving: Vec::new(),
            first_join: None,
            heard_at: None,
            changes: Vec::new(),
            is_told,
        }
    }

    fn is_event(&self) -> bool {
        self.manager.rules().clock == FeedClock::Event
    }

    /// Somebody wants the symbol.
    pub(super) fn follow(&mut self, store: &Store) {
        let followed = self.followed.get_or_insert_default();
        followed.streams = 1;
        if followed.progress == Progress::Waiting {
            let lookup = followed.look_up(&mut self.lookups, &self.symbol);
            self.resolving.push(Resolving::new(lookup, store));
        }
    }

    /// Nobody wants it any more.
    pub(super) fn let_go(&mut self, now: Timestamp, store: &mut Store) {
        self.note_heard(now, store);
        self.save_symbol(now, store);
        self.flush_symbol(store);
        if let Some(id) = self.followed.take().and_then(|followed| followed.id) {
            self.manager.untrack(id);
        }
        self.repairs.forget();
        self.is_added = false;
    }

    /// The feed stops; what it follows stays known.
    pub(super) fn stop(&mut self, now: Timestamp, store: &mut Store) {
        self.link.clear();
        self.is_added = false;
        self.note_heard(now, store);
        self.save(now, store);
        self.flush_symbol(store);
        if let Some(id) = self.followed.as_mut().and_then(Followed::forget_progress) {
            self.manager.untrack(id);
        }
    }

    pub(super) fn take_events(&mut self, count: usize, now: Timestamp, store: &mut Store) {
        let mut ticks = Vec::new();
        for _ in 0..count {
            let Some(event) = self.link.pop_front() else { break };
            if !matches!(event, Event::Connected | Event::Lost) {
                self.heard_at = Some(now);
            }
            match event {
                Event::Update(update) => self.update(now, &update, UpdateKind::Change, &mut ticks),
                Event::Snapshot(update) => {
                    self.update(now, &update, UpdateKind::Snapshot, &mut ticks);
                    self.apply(now, &mut ticks);
                    self.joined(now, store);
                }
                Event::Connected => {}
                Event::Lost => self.link_lost(now, store),
            }
        }
        self.apply(now, &mut ticks);
        self.advance(now, store);
        if self.first_join.is_none() {
            let id = self.followed.as_ref().and_then(|followed| followed.id);
            self.first_join =
                id.and_then(|id| self.manager.snapshot(id)).and_then(|kept| kept.since);
        }
    }

    fn update(
        &mut self,
        now: Timestamp,
        update: &QuoteUpdate,
        kind: UpdateKind,
        ticks: &mut Vec<QuoteTick>,
    ) {
        let Some(followed) = &mut self.followed else { return };
        let Some(id) = followed.id else { return };
        match kind {
            UpdateKind::Snapshot if followed.snapshot_begins => {
                followed.snapshot_begins = false;
                followed.quote = Quote::snapshot(update);
            }
            UpdateKind::Snapshot => drop(followed.quote.merge_snapshot(update)),
            UpdateKind::Change if !followed.is_joined() => {}
            UpdateKind::Change => match followed.quote.apply(id, update) {
                QuoteEffect::Nothing | QuoteEffect::Changed => {}
                QuoteEffect::Tick(tick) => ticks.push(tick),
                QuoteEffect::Time(time) => {
                    let before = std::mem::take(ticks);
                    self.manager.ticks(now, &before);
                    self.manager.move_time(now, id, time);
                }
            },
        }
    }

    fn apply(&mut self, now: Timestamp, ticks: &mut Vec<QuoteTick>) {
        self.manager.ticks(now, ticks);
        ticks.clear();
    }

    fn link_lost(&mut self, now: Timestamp, store: &mut Store) {
        self.note_heard(now, store);
        if let Some(followed) = &mut self.followed {
            followed.cut_at = followed.cut_at.or(self.heard_at);
            followed.snapshot_begins = true;
            let away = followed.away_since(&self.manager).filter(|_| followed.is_joined());
            if let (Some(id), Some(from)) = (followed.id, away) {
                self.manager.cut(id, from);
            }
        }
    }

    fn note_heard(&mut self, now: Timestamp, store: &mut Store) {
        self.advance(now, store);
    }

    pub(super) fn resolved(
        &mut self,
        lookup: &Lookup,
        resolved: Resolved,
        now: Timestamp,
        store: &mut Store,
    ) {
        let Some(followed) = &mut self.followed else { return };
        if !followed.awaits(lookup) {
            return;
        }
        let (session, stored) = (&resolved.session, &resolved.stored);
        let id = match resolved.kept {
            Some(Kept { snapshot, owed, logged_from, .. }) => {
                let id = self.manager.restore(&snapshot, session, stored);
                for (interval, range) in owed {
                    self.manager.owe(id, interval, range, &mut self.changes);
                }
                followed.kept = self.manager.snapshot(id);
                followed.logged_from = followed.logged_from.or(logged_from);
                id
            }
            None => self.manager.track(&self.symbol, session),
        };
        followed.id = Some(id);
        followed.days = Some(resolved.days);
        followed.closed_before = resolved.newest;
        followed.progress = Progress::Joining;
        followed.snapshot_begins = true;
        self.hand_on(now, store);
        self.is_added = true;
    }

    fn joined(&mut self, now: Timestamp, store: &mut Store) {
        let Some(followed) = &mut self.followed else { return };
        let Some(id) = followed.id else { return };
        let again = std::mem::replace(&mut followed.joined_before, true);
        followed.progress = Progress::Joined;
        followed.snapshot_begins = true;
        let point: JoinPoint = (&followed.quote).into();
        if let Some(delay) = followed.quote.delay {
            self.manager.set_delay(id, delay);
        }
        let missed = followed.missed(&self.manager, now).filter(|_| again);
        if let Some((from, to)) = missed {
            self.manager.outage(id, from, to, &mut self.changes);
            store.push(Job::Decided(Vec::new()));
        }
        self.manager.join(now, id, &point);
        self.outage_before(now);
        let Some(followed) = &mut self.followed else { return };
        followed.cut_at = None;
        if let Some(days) = followed.days.clone() {
            let minutes = !followed.quote.is_before_first_trade();
            let wanted = Wanted { minutes, since: followed.quote.last_time };
            self.seeding.push(Seeding::new(id, wanted, days));
        }
        self.save_symbol(now, store);
    }

    fn outage_before(&mut self, now: Timestamp) {
        let is_event = self.is_event();
        let Some(followed) = &mut self.followed else { return };
        let (Some(closed), Some(id)) = (followed.closed_before.take(), followed.id) else { return };
        let joined = if is_event { followed.quote.last_time } else { Some(now) };
        let is_told = self.manager.last_tick(id).is_some_and(|last| last >= closed);
        if let Some(joined) = joined.filter(|joined| !is_told && closed < *joined) {
            self.manager.outage(id, closed, joined, &mut self.changes);
        }
    }

    pub(super) fn advance(&mut self, now: Timestamp, store: &mut Store) {
        self.manager.advance(now, &mut self.changes);
        self.hand_on(now, store);
    }

    pub(super) fn take_fetched(&mut self, now: Timestamp, store: &mut Store) {
        let Some(fetched) = self.fetched.pop_front() else { return };
        if self.is_told {
            println!("    {fetched:?}");
        }
        match fetched {
            Fetched::Resolved(lookup, resolved) => {
                self.resolved(&lookup, *resolved.unwrap(), now, store);
            }
            Fetched::Retry(_) => {}
            Fetched::Seeded { id, minutes, days, .. } => {
                let followed = self.followed.as_mut().filter(|each| each.id == Some(id));
                let Some(followed) = followed else { return };
                self.manager.seed(id, &Seed { minutes: &minutes, days: &days.bars });
                followed.days = Some(days);
            }
            Fetched::Repaired { series, range, bars, done, .. } => {
                self.advance(now, store);
                if let Some(id) = self.manager.id_of(&series.symbol) {
                    self.manager.apply_repair(id, series.interval, &bars, &mut self.changes);
                }
                self.advance(now, store);
                if let Some(id) = self.manager.id_of(&series.symbol)
                    && done
                    && series.interval == Interval::M1
                {
                    self.manager.refetched(id, range);
                }
                let followed = self.followed.as_mut().filter(|_| done);
                if followed.is_some_and(|each| each.owed.refetched(series.interval, range)) {
                    self.changes.push(BarChange::Refetch { series, range });
                }
            }
        }
        self.advance(now, store);
    }

    pub(super) fn take_rerolled(&mut self, now: Timestamp, store: &mut Store) {
        let Some(rerolled) = self.rerolled.pop_front() else { return };
        let Rerolled { series, range, until, values, stored, number } = rerolled;
        let interval = series.interval;
        let Some(id) = self.manager.id_of(&series.symbol) else { return };
        let owed = self.followed.as_ref().map(|followed| &followed.owed);
        let is_last = owed.is_some_and(|owed| owed.is_last_reroll(interval, range, number));
        match values.filter(|_| is_last) {
            Some(values)
                if until >= range.close() && !self.manager.takes_head(id, interval, range) =>
            {
                let bar = RepairedBar { open_time: range.open(), values, stored };
                self.manager.apply_repair(id, interval, &[bar], &mut self.changes);
            }
            Some(values) => {
                self.manager.replace_head(id, interval, (range, until), values, &mut self.changes);
            }
            None => {}
        }
        self.advance(now, store);
        if let Some(followed) = &mut self.followed {
            followed.owed.rerolled(interval, range, number);
        }
    }

    /// What is still to be done about closed bars.
    pub(super) fn owes_nothing(&self) -> bool {
        self.followed.as_ref().is_none_or(|followed| followed.owed.list().is_empty())
    }
}
