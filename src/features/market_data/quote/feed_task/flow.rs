//! Updates in, bars and quotes out.

use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::{Duration, timeout};
use tracing::warn;

use super::FeedTask;
use super::changes::forming_bars;
use crate::domain::ohlcv::services::TrackSnapshot;
use crate::domain::quote::{Quote, QuoteEffect, QuoteTick, QuoteUpdate};
use crate::domain::shared::{DomainEvent, EventPayload, Series, Symbol};
use crate::features::market_data::quote::copier::Copies;
use crate::features::market_data::quote::feed_state::Connection;
use crate::features::market_data::quote::hub::LatestQuote;
use crate::features::market_data::quote::job::Job;
use crate::features::market_data::quote::snapshot_codec::{self, Kept};
use crate::features::market_data::quote::wire;
use crate::infrastructure::interfaces::{FeedEvent, FeedState, ProviderError, UpdateKind};
use crate::infrastructure::persistence::cache::keys::{current_bar, latest_quote};

/// How long a stop waits until all bars are in the database, or on disk behind it.
const SAFE_WITHIN: Duration = Duration::from_secs(5);

impl FeedTask {
    /// Takes in what came, and tells what came of it once.
    pub(super) async fn take_events(&mut self, events: Vec<FeedEvent>) {
        let now = Timestamp::now();
        self.meter.heard(events.len());
        let mut ticks = Vec::with_capacity(events.len());
        for event in events {
            // That the connection is gone is noticed here, and long after its last message.
            if !matches!(event, FeedEvent::State(_)) {
                self.heard_at = Some(now);
            }
            match event {
                FeedEvent::Update { symbol, update, kind } => {
                    self.update(now, symbol, &update, kind, &mut ticks);
                }
                FeedEvent::SnapshotComplete { symbol } => {
                    self.apply(now, &mut ticks);
                    self.joined(&symbol, now).await;
                }
                FeedEvent::SymbolError { symbol, error } => self.refused(&symbol, error).await,
                FeedEvent::State(FeedState::Terminal { error }) => {
                    self.apply(now, &mut ticks);
                    self.give_up(now, error).await;
                }
                FeedEvent::State(state) => self.link_changed(now, state).await,
                FeedEvent::Alive => {}
            }
        }
        self.apply(now, &mut ticks);
        self.advance().await;
        self.tell_quotes();
        let heard = self.heard_at;
        self.hub.put_feed(|feed| feed.last_message_at = heard);
    }

    fn update(
        &mut self,
        now: Timestamp,
        symbol: Symbol,
        update: &QuoteUpdate,
        kind: UpdateKind,
        ticks: &mut Vec<QuoteTick>,
    ) {
        let Some(followed) = self.symbols.get_mut(&symbol) else { return };
        let Some(id) = followed.id else { return };
        let changed = match kind {
            UpdateKind::Snapshot if followed.snapshot_begins => {
                followed.snapshot_begins = false;
                followed.quote = Quote::snapshot(update);
                true
            }
            UpdateKind::Snapshot => followed.quote.merge_snapshot(update),
            UpdateKind::Change if !followed.is_joined() => false,
            UpdateKind::Change => match followed.quote.apply(id, update) {
                QuoteEffect::Nothing => false,
                QuoteEffect::Changed => true,
                QuoteEffect::Tick(tick) => {
                    ticks.push(tick);
                    true
                }
                QuoteEffect::Time(time) => {
                    let before = std::mem::take(ticks);
                    self.manager.ticks(now, &before);
                    self.manager.move_time(now, id, time);
                    true
                }
            },
        };
        if let Some(followed) = self.symbols.get_mut(&symbol).filter(|_| changed) {
            followed.sequence += 1;
            self.mark(symbol);
        }
    }

    fn apply(&mut self, now: Timestamp, ticks: &mut Vec<QuoteTick>) {
        self.manager.ticks(now, ticks);
        ticks.clear();
    }

    /// The provider refuses who we are: nothing is tried until someone acts, and what it said stays
    /// to be seen.
    pub(super) async fn give_up(&mut self, now: Timestamp, error: ProviderError) {
        warn!(%error, "the feed ended: {error}; StartFeed tries again");
        self.link_changed(now, FeedState::Terminal { error: error.clone() }).await;
        self.stop().await;
        for followed in self.symbols.values_mut() {
            followed.refuse(&error);
        }
    }

    async fn link_changed(&mut self, now: Timestamp, state: FeedState) {
        let connected = matches!(state, FeedState::Connected);
        self.link_is_idle = matches!(state, FeedState::Idle);
        self.tell(&state);
        if !connected {
            self.lost().await;
        }
        self.hub.put_feed(|feed| {
            let before = feed.connection;
            match state {
                // How the look-ups go says more: see `show_lookups`.
                FeedState::Idle => {}
                FeedState::Connecting => feed.connection = Connection::Connecting,
                FeedState::Connected => {
                    feed.connection = Connection::Connected;
                    feed.connected_since = feed.connected_since.or(Some(now));
                    if before == Connection::Reconnecting {
                        feed.reconnects += 1;
                    }
                    feed.last_error = None;
                }
                FeedState::Reconnecting { error, .. } => {
                    feed.connection = Connection::Reconnecting;
                    feed.last_error = Some(error.to_string());
                }
                FeedState::Terminal { error } => {
                    feed.connection = Connection::Stopped;
                    feed.last_error = Some(terminal(&error));
                    feed.refused = true;
                }
            }
            if !connected {
                feed.connected_since = None;
            }
        });
        self.show_lookups();
    }

    /// There is no connection: from here to the next snapshot, nothing is known.
    pub(super) async fn lost(&mut self) {
        self.note_cut().await;
        for followed in self.symbols.values_mut() {
            followed.cut_at = followed.cut_at.or(self.heard_at);
            followed.snapshot_begins = true;
            let away = followed.away_since(&self.manager).filter(|_| followed.is_joined());
            if let (Some(id), Some(from)) = (followed.id, away) {
                self.manager.cut(id, from);
            }
        }
    }

    /// Tells that the feed is up, or down: each once, until it is the other.
    fn tell(&mut self, state: &FeedState) {
        match state {
            FeedState::Connected if self.told_up != Some(true) => {
                self.told_up = Some(true);
                let (time, payload) = (Timestamp::now(), EventPayload::FeedConnected);
                self.parts.announcer.tell(DomainEvent { time, payload });
            }
            FeedState::Reconnecting { error, .. } | FeedState::Terminal { error } => {
                self.tell_down(error.to_string());
            }
            // Nobody wants anything of it.
            FeedState::Idle => self.told_up = None,
            FeedState::Connected | FeedState::Connecting => {}
        }
    }

    pub(super) fn tell_down(&mut self, error: String) {
        if self.told_up.replace(false) != Some(false) {
            let (time, payload) = (Timestamp::now(), EventPayload::FeedLost { error });
            self.parts.announcer.tell(DomainEvent { time, payload });
        }
    }

    /// While the provider is asked to follow nothing, looking symbols up is all of the connection
    /// that there is to see.
    pub(super) fn show_lookups(&self) {
        if !self.link_is_idle {
            return;
        }
        let lookups = || self.symbols.values().filter(|each| each.is_resolving());
        let connection = if lookups().any(|each| each.error.is_some()) {
            Connection::Reconnecting
        } else if lookups().next().is_some() {
            Connection::Connecting
        } else {
            Connection::Idle
        };
        self.hub.put_feed(|feed| feed.connection = connection);
    }

    pub(super) fn mark(&mut self, symbol: Symbol) {
        self.uncopied.insert(symbol.clone());
        self.changed_quotes.insert(symbol);
    }

    /// Wakes the streams of quotes, once for all that changed.
    fn tell_quotes(&mut self) {
        let latest = |symbol: Symbol| {
            let followed = self.symbols.get(&symbol)?;
            let latest = LatestQuote { quote: followed.quote, sequence: followed.sequence };
            Some((symbol, latest))
        };
        let changed = std::mem::take(&mut self.changed_quotes);
        let quotes: Vec<_> = changed.into_iter().filter_map(latest).collect();
        self.hub.put_quotes(&quotes);
    }

    /// Tells streams the forming bars that changed, and copies them and the newest quotes to the
    /// cache, coalesced.
    pub(super) fn copy(&mut self) {
        let symbols = std::mem::take(&mut self.uncopied);
        let mut forming = Vec::new();
        for symbol in &symbols {
            let Some(id) = self.symbols.get(symbol).and_then(|each| each.id) else { continue };
            for (interval, bar) in forming_bars(&self.manager, id) {
                forming.push((Series::new(symbol.clone(), interval), bar));
            }
        }
        self.hub.put_forming(forming);
        self.uncached.extend(symbols);
        self.copy_to_cache();
    }

    /// A cache that is not done with the last copy gets the next one later.
    fn copy_to_cache(&mut self) {
        let Some(place) = self.copies.try_reserve().ok().filter(|_| !self.uncached.is_empty())
        else {
            return;
        };
        let mut copies = Copies::default();
        for symbol in std::mem::take(&mut self.uncached) {
            let Some(followed) = self.symbols.get(&symbol) else { continue };
            let latest = LatestQuote { quote: followed.quote, sequence: followed.sequence };
            if latest.quote.last_price.is_some() {
                let value = wire::encode_quote(&symbol, &latest, self.hub.epoch());
                copies.quotes.push((latest_quote(&symbol), value));
            }
            let Some(id) = followed.id else { continue };
            for (interval, bar) in forming_bars(&self.manager, id) {
                let series = Series::new(symbol.clone(), interval);
                copies.bars.push((current_bar(&series), wire::encode_bar(&bar)));
            }
        }
        place.send(copies);
    }

    /// Writes down what a crash would cost, behind all bars that are decided by now.
    pub(super) async fn save(&mut self) {
        self.hand_on().await;
        let mut snapshots = self.manager.take_snapshot();
        for (symbol, followed) in &mut self.symbols {
            let is_taken = snapshots.iter().any(|snapshot| snapshot.symbol == *symbol);
            if std::mem::take(&mut followed.owed.changed) && !is_taken {
                snapshots.extend(followed.id.and_then(|id| self.manager.snapshot(id)));
            }
        }
        for snapshot in &snapshots {
            if let Some(followed) = self.symbols.get_mut(&snapshot.symbol) {
                followed.kept = Some(snapshot.clone());
            }
        }
        let kept: Vec<_> = snapshots.into_iter().filter_map(|each| self.kept(each)).collect();
        if !kept.is_empty() {
            self.write(Job::Keep(kept)).await;
        }
    }

    /// The same for one symbol.
    pub(super) async fn save_symbol(&mut self, symbol: &Symbol) {
        self.hand_on().await;
        let Some(followed) = self.symbols.get_mut(symbol) else { return };
        let Some(snapshot) = followed.id.and_then(|id| self.manager.snapshot(id)) else { return };
        followed.kept = Some(snapshot.clone());
        if let Some(kept) = self.kept(snapshot) {
            self.write(Job::Keep(vec![kept])).await;
        }
    }

    /// What is kept of a symbol, with its bars as of `snapshot`.
    pub(super) fn kept(&self, snapshot: TrackSnapshot) -> Option<(Symbol, Bytes)> {
        let followed = self.symbols.get(&snapshot.symbol)?;
        let symbol = snapshot.symbol.clone();
        let (owed, logged_from) = (followed.owed.list(), followed.logged_from);
        let kept = Kept { snapshot, owed, logged_from, saved_at: Timestamp::now() };
        Some((symbol, snapshot_codec::encode(&kept)))
    }

    /// Keeps every bar that is not over, as forming.
    pub(super) async fn flush(&mut self) {
        let symbols: Vec<Symbol> = self.symbols.keys().cloned().collect();
        for symbol in symbols {
            self.flush_symbol(&symbol).await;
        }
        let (done, finished) = tokio::sync::oneshot::channel();
        self.write(Job::Barrier(done)).await;
        if !matches!(timeout(SAFE_WITHIN, finished).await, Ok(Ok(_))) {
            warn!("the feed stops while bars wait to be written");
        }
    }

    pub(super) async fn flush_symbol(&mut self, symbol: &Symbol) {
        let Some(id) = self.symbols.get(symbol).and_then(|followed| followed.id) else { return };
        for (interval, bar) in forming_bars(&self.manager, id) {
            let series = Series::new(symbol.clone(), interval);
            self.write(Job::Forming(series, bar.stored)).await;
        }
    }

    pub(super) async fn write(&mut self, job: Job) {
        if self.jobs.send(job).await.is_err() {
            warn!("the writer is gone; what was decided is not written");
        }
    }
}

/// What was said, and what to do.
fn terminal(error: &ProviderError) -> String {
    format!("{error}; correct the settings and restart, or call StartFeed to try again")
}
