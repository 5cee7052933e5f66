//! A symbol begins to be followed: its session is known, then the provider has confirmed it.

use jiff::Timestamp;
use tracing::info;

use super::fetch::{self, Lookup};
use super::followed::Progress;
use super::seed::{self, Wanted};
use super::{FeedTask, Verdict};
use crate::domain::ohlcv::services::FeedClock;
use crate::domain::quote::SymbolId;
use crate::domain::shared::Symbol;
use crate::features::market_data::Live;
use crate::features::market_data::quote::job::Job;
use crate::features::market_data::quote::snapshot_codec::Kept;
use crate::infrastructure::interfaces::{FeedCommand, ProviderError};

impl FeedTask {
    /// The session is known: the bars go on where they were kept, and the provider is asked to
    /// follow the symbol.
    pub(super) async fn resolved(
        &mut self,
        lookup: Lookup,
        outcome: Result<fetch::Resolved, ProviderError>,
    ) {
        let followed = self.symbols.get_mut(&lookup.symbol);
        let Some(followed) = followed.filter(|each| each.awaits(&lookup)) else { return };
        let symbol = lookup.symbol;
        match outcome {
            Ok(resolved) => {
                let (session, stored) = (&resolved.session, &resolved.stored);
                let id = match resolved.kept {
                    Some(Kept { snapshot, owed, logged_from, .. }) => {
                        let id = self.manager.restore(&snapshot, session, stored);
                        for (interval, range) in owed {
                            self.manager.owe(id, interval, range, &mut self.changes);
                        }
                        // With what is owed in it: the process may end before the join, too.
                        followed.kept = self.manager.snapshot(id);
                        followed.logged_from = followed.logged_from.or(logged_from);
                        id
                    }
                    None => self.manager.track(&symbol, session),
                };
                followed.id = Some(id);
                followed.days = Some(resolved.days);
                followed.closed_before = resolved.newest;
                followed.heard_before = resolved.heard;
                followed.progress = Progress::Joining;
                followed.error = None;
                followed.snapshot_begins = true;
                self.names.insert(id, symbol.clone());
                self.hand_on().await;
                self.tell_provider(FeedCommand::Add(symbol)).await;
            }
            Err(error) => self.refused(&symbol, error).await,
        }
    }

    /// The provider has sent all of a symbol's snapshot.
    pub(super) async fn joined(&mut self, symbol: &Symbol, now: Timestamp) {
        let Some(followed) = self.symbols.get_mut(symbol) else { return };
        let Some(id) = followed.id else { return };
        let again = std::mem::replace(&mut followed.joined_before, true);
        followed.progress = Progress::Joined;
        followed.error = None;
        followed.snapshot_begins = true;
        followed.decide(&Verdict::Known);
        let point = (&followed.quote).into();
        if let Some(delay) = followed.quote.delay {
            self.manager.set_delay(id, delay);
        }
        if let Some((from, to)) = followed.missed(&self.manager, now).filter(|_| again) {
            let on_clock = self.options.rules.clock == FeedClock::Wall;
            let heard = followed.heard().filter(|_| on_clock);
            self.note_cut_of(symbol).await;
            self.manager.outage(id, from, to, &mut self.changes);
            self.gap(symbol.clone(), heard.unwrap_or(from).min(to), to).await;
        }
        self.gap_before(symbol, now).await;
        self.manager.join(now, id, &point);
        self.note_back(symbol, id).await;
        self.outage_before(symbol, id, now);
        self.hub.accept(symbol);
        let Some(followed) = self.symbols.get_mut(symbol) else { return };
        followed.cut_at = None;
        if let Some(days) = followed.days.clone() {
            let minutes = !followed.quote.is_before_first_trade();
            let wanted = Wanted { minutes, since: followed.quote.last_time };
            let fetches = self.fetches.clone();
            seed::seed(&self.parts, symbol.clone(), id, (wanted, days), fetches);
        }
        if followed.logged_from.is_none() {
            let first = followed.quote.last_time.unwrap_or(now);
            followed.logged_from = Some(first);
            if followed.subscribed_at.is_some() {
                self.write(Job::LoggedFrom(symbol.clone(), first)).await;
            }
        }
        let logged_from = self.symbols.get(symbol).and_then(|each| each.logged_from);
        self.parts.live.set(symbol, Live { tracked: true, logged_from });
        // Before any bar of it is stored: what is in doubt from here on must outlive a crash.
        self.save_symbol(symbol).await;
        info!(%symbol, "following {symbol}");
        self.mark(symbol.clone());
    }

    /// An earlier run has heard the symbol, or this one before the feed was stopped: all since then
    /// was missed.
    async fn gap_before(&mut self, symbol: &Symbol, now: Timestamp) {
        let Some(followed) = self.symbols.get_mut(symbol) else { return };
        let heard = followed.heard_before.take();
        let joined = followed.joined_at(self.options.rules.clock, now);
        if let Some((from, to)) = heard.zip(joined).filter(|(from, to)| from < to) {
            self.gap(symbol.clone(), from, to).await;
        }
    }

    /// An earlier run has closed bars that what was kept of it does not tell of, as it ended before
    /// that was written: all since then was missed.
    fn outage_before(&mut self, symbol: &Symbol, id: SymbolId, now: Timestamp) {
        let Some(followed) = self.symbols.get_mut(symbol) else { return };
        let Some(closed) = followed.closed_before.take() else { return };
        let event = self.options.rules.clock == FeedClock::Event;
        let joined = if event { followed.quote.last_time } else { Some(now) };
        let is_told = self.manager.last_tick(id).is_some_and(|last| last >= closed);
        if let Some(joined) = joined.filter(|joined| !is_told && closed < *joined) {
            self.manager.outage(id, closed, joined, &mut self.changes);
        }
    }
}
