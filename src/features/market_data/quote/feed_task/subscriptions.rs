//! Which symbols are followed, from the first wish to the provider's word.

use jiff::Timestamp;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::fetch::{self, Fetched};
use super::followed::{Followed, Progress};
use super::{FeedTask, Verdict};
use crate::domain::ohlcv::services::{FeedClock, Seed};
use crate::domain::quote::SymbolId;
use crate::domain::shared::{Series, Symbol};
use crate::features::market_data::Live;
use crate::features::market_data::quote::QuoteError;
use crate::features::market_data::quote::feed_state::Subscription;
use crate::features::market_data::quote::snapshot_codec;
use crate::infrastructure::interfaces::{FeedCommand, ProviderError};
use crate::infrastructure::persistence::{DatabaseError, Subscribed};

/// Subscriptions that are read at a time.
const PAGE: u32 = 1_000;

impl FeedTask {
    pub(super) async fn read_subscriptions(&mut self) -> Result<(), DatabaseError> {
        let stored = self.parts.database.subscriptions();
        let mut after = None;
        loop {
            let page = stored.list(after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.symbol.clone());
            for Subscribed { symbol, created_at, logged_from } in page {
                self.parts.live.set(&symbol, Live { tracked: false, logged_from });
                let followed = self.symbols.entry(symbol).or_default();
                (followed.subscribed_at, followed.logged_from) = (Some(created_at), logged_from);
            }
        }
        self.count();
        Ok(())
    }

    pub(super) async fn subscribe(&mut self, symbol: Symbol) -> Result<Subscription, QuoteError> {
        let now = Timestamp::now();
        let known = self.symbols.get(&symbol);
        let created_at = known.and_then(|followed| followed.subscribed_at).unwrap_or(now);
        let logged_from = known.and_then(|followed| followed.logged_from);
        let row = Subscribed { symbol: symbol.clone(), created_at, logged_from };
        self.parts.database.subscriptions().put(&row).await?;
        self.symbols.entry(symbol.clone()).or_default().subscribed_at = Some(created_at);
        self.count();
        self.begin(&symbol);
        Ok(self.subscription(&symbol, created_at))
    }

    pub(super) async fn unsubscribe(&mut self, symbol: Symbol) -> Result<Subscription, QuoteError> {
        let subscribed = self.symbols.get(&symbol).and_then(|followed| followed.subscribed_at);
        let Some(created_at) = subscribed else { return Err(QuoteError::NotSubscribed(symbol)) };
        self.parts.database.subscriptions().delete(&symbol).await?;
        let last = self.subscription(&symbol, created_at);
        if let Some(followed) = self.symbols.get_mut(&symbol) {
            followed.subscribed_at = None;
        }
        self.let_go_unwanted(&symbol).await;
        Ok(last)
    }

    pub(super) fn subscriptions(&self) -> Vec<Subscription> {
        let subscribed = self.symbols.iter().filter_map(|(symbol, followed)| {
            Some(self.subscription(symbol, followed.subscribed_at?))
        });
        let mut subscribed: Vec<Subscription> = subscribed.collect();
        subscribed.sort_by(|a, b| a.symbol.cmp(&b.symbol));
        subscribed
    }

    pub(super) fn follow(
        &mut self,
        symbols: Vec<Symbol>,
        verdicts: &mpsc::UnboundedSender<Verdict>,
    ) {
        for symbol in symbols {
            let followed = self.symbols.entry(symbol.clone()).or_default();
            followed.streams += 1;
            followed.waiting.push(verdicts.clone());
            match (followed.progress, followed.error.clone()) {
                (Progress::Joined, _) => followed.decide(&Verdict::Known),
                (Progress::Refused, Some(error)) => followed.decide(&Verdict::Refused(error)),
                (_, _) => {}
            }
            self.begin(&symbol);
        }
        self.count();
    }

    pub(super) async fn release(&mut self, symbols: Vec<Symbol>) {
        for symbol in symbols {
            if let Some(followed) = self.symbols.get_mut(&symbol) {
                followed.streams = followed.streams.saturating_sub(1);
            }
            self.let_go_unwanted(&symbol).await;
        }
    }

    fn subscription(&self, symbol: &Symbol, created_at: Timestamp) -> Subscription {
        let followed = self.symbols.get(symbol);
        Subscription {
            symbol: symbol.clone(),
            state: followed.map_or(super::super::SubscriptionState::Pending, Followed::state),
            error: followed.and_then(|each| each.error.as_ref().map(ToString::to_string)),
            created_at,
        }
    }

    /// Asks for a symbol's session, where nothing is under way. No tick is taken before it is known.
    pub(super) fn begin(&mut self, symbol: &Symbol) {
        let running = self.started && self.link.is_some();
        let Some(followed) = self.symbols.get_mut(symbol) else { return };
        if !running || !matches!(followed.progress, Progress::Waiting) {
            return;
        }
        followed.progress = Progress::Resolving;
        let (symbol, fetches) = (symbol.clone(), self.fetches.clone());
        let parts = self.parts.clone();
        let task = async move {
            let outcome = fetch::resolve(&parts, &symbol).await;
            // The task may be gone: then nobody wants to know.
            drop(fetches.send(Fetched::Resolved(symbol, outcome)).await);
        };
        drop(self.parts.lifecycle.spawn("resolve symbol", Box::pin(task)));
        self.show_lookups();
    }

    /// The session is known: the bars go on where they were kept, and the provider is asked to
    /// follow the symbol.
    pub(super) async fn resolved(
        &mut self,
        symbol: Symbol,
        outcome: Result<fetch::Resolved, ProviderError>,
    ) {
        let Some(followed) = self.symbols.get_mut(&symbol) else { return };
        if followed.progress != Progress::Resolving {
            return;
        }
        match outcome {
            Ok(resolved) => {
                let kept = resolved.kept.as_deref().and_then(snapshot_codec::decode);
                let kept = kept.filter(|(snapshot, _)| snapshot.symbol == symbol);
                let (id, repairs) = match kept {
                    Some((snapshot, repairs)) => {
                        let (session, stored) = (&resolved.session, &resolved.stored);
                        (self.manager.restore(&snapshot, session, stored), repairs)
                    }
                    None => (self.manager.track(&symbol, &resolved.session), Vec::new()),
                };
                followed.id = Some(id);
                followed.days = resolved.days;
                followed.closed_before = resolved.newest;
                followed.progress = Progress::Joining;
                followed.error = None;
                followed.snapshot_begins = true;
                self.names.insert(id, symbol.clone());
                for (interval, range) in repairs {
                    self.repair(Series::new(symbol.clone(), interval), range);
                }
                self.tell_provider(FeedCommand::Add(symbol)).await;
            }
            Err(error) => self.refused(&symbol, error).await,
        }
    }

    /// The provider does not give this symbol. One that may come later is tried again.
    pub(super) async fn refused(&mut self, symbol: &Symbol, error: ProviderError) {
        let Some(followed) = self.symbols.get_mut(symbol) else { return };
        if is_passing(&error) {
            followed.progress = Progress::Resolving;
            followed.error = Some(error.clone());
            self.hub.put_feed(|feed| feed.last_error = Some(error.to_string()));
            fetch::resolve_later(&self.parts, symbol.clone(), self.fetches.clone());
        } else if self.link_is_idle && matches!(error, ProviderError::AuthRequired { .. }) {
            return self.give_up(Timestamp::now(), error).await;
        } else {
            warn!(%symbol, %error, "the provider refused {symbol}");
            followed.refuse(&error);
            self.hub.refuse(symbol, error);
        }
        // Without this, asking for it again would change nothing.
        self.tell_provider(FeedCommand::Remove(symbol.clone())).await;
        self.show_lookups();
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
        if again {
            let event = self.options.rules.clock == FeedClock::Event;
            let from = if event { self.manager.last_tick(id) } else { followed.cut_at };
            let to = if event { followed.quote.last_time } else { Some(now) };
            if let (Some(from), Some(to)) = (from, to) {
                self.manager.outage(id, from, to.max(from), &mut self.changes);
                self.gap(symbol.clone(), from, to.max(from)).await;
            }
        }
        self.manager.join(now, id, &point);
        self.outage_before(symbol, id, now);
        self.hub.accept(symbol);
        let Some(followed) = self.symbols.get_mut(symbol) else { return };
        followed.cut_at = None;
        if followed.quote.is_before_first_trade() {
            let days = std::mem::take(&mut followed.days);
            self.manager.seed(id, &Seed { minutes: &[], days: &days });
        } else {
            let since = followed.quote.last_time.unwrap_or(now);
            fetch::seed(&self.parts, symbol.clone(), id, since, self.fetches.clone());
        }
        if followed.logged_from.is_none() {
            let first = followed.quote.last_time.unwrap_or(now);
            followed.logged_from = Some(first);
            self.keep_logged_from(symbol).await;
        }
        let logged_from = self.symbols.get(symbol).and_then(|each| each.logged_from);
        self.parts.live.set(symbol, Live { tracked: true, logged_from });
        info!(%symbol, "following {symbol}");
        self.mark(symbol.clone());
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

    async fn keep_logged_from(&mut self, symbol: &Symbol) {
        let Some(followed) = self.symbols.get(symbol) else { return };
        let Some(created_at) = followed.subscribed_at else { return };
        let logged_from = followed.logged_from;
        let row = Subscribed { symbol: symbol.clone(), created_at, logged_from };
        if let Err(error) = self.parts.database.subscriptions().put(&row).await {
            warn!(%symbol, %error, "where the log of {symbol} begins could not be kept");
        }
    }

    /// Nobody wants a symbol any more: what is forming is kept, and it costs nothing from here on.
    async fn let_go_unwanted(&mut self, symbol: &Symbol) {
        if self.symbols.get(symbol).is_none_or(Followed::is_wanted) {
            self.count();
            return;
        }
        self.flush_symbol(symbol).await;
        if let Some(followed) = self.symbols.remove(symbol)
            && let Some(id) = followed.id
        {
            self.names.remove(&id);
            self.manager.untrack(id);
        }
        self.changed_quotes.remove(symbol);
        self.uncopied.remove(symbol);
        self.hub.forget(symbol);
        self.parts.live.set(symbol, Live::default());
        self.tell_provider(FeedCommand::Remove(symbol.clone())).await;
        self.show_lookups();
        if let Err(error) =
            self.parts.database.feed_state().delete(std::slice::from_ref(symbol)).await
        {
            warn!(%symbol, %error, "what was kept of {symbol} could not be removed");
        }
        self.count();
    }

    pub(super) async fn tell_provider(&mut self, command: FeedCommand) {
        if let Some(link) = &self.link {
            // A provider that ended hears nothing; its end is noticed by itself.
            drop(link.commands.send(command).await);
        }
    }
}

/// Whether trying again later may help, without anybody doing anything.
pub(super) const fn is_passing(error: &ProviderError) -> bool {
    match error {
        ProviderError::Unavailable { .. }
        | ProviderError::Timeout { .. }
        | ProviderError::RateLimited { .. } => true,
        ProviderError::AuthRequired { .. }
        | ProviderError::NotEntitled { .. }
        | ProviderError::SymbolNotFound { .. }
        | ProviderError::NoData { .. } => false,
    }
}
