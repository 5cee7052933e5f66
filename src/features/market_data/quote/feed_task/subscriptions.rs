//! Which symbols are followed, from the first wish to the provider's word.

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, timeout};
use tracing::warn;

use super::fetch::{self, Fetched};
use super::followed::{Followed, Progress};
use super::{FeedTask, Verdict};
use crate::domain::shared::Symbol;
use crate::features::market_data::Live;
use crate::features::market_data::quote::QuoteError;
use crate::features::market_data::quote::feed_state::Subscription;
use crate::features::market_data::quote::job::Job;
use crate::features::market_data::quote::snapshot_codec::{self, Kept};
use crate::infrastructure::interfaces::{FeedCommand, ProviderError};
use crate::infrastructure::persistence::{DatabaseError, Subscribed};

/// How long what was kept of a symbol is waited for. Older, it only makes for more to fetch.
const KEPT_WITHIN: Duration = Duration::from_secs(5);
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
        self.read_kept().await?;
        let is_followed = |symbol: &Symbol| !self.speaks || self.symbols.contains_key(symbol);
        self.parts.ledger.recover(is_followed).await?;
        self.count();
        Ok(())
    }

    /// Where the log of symbols begins that only streams followed; they may come back with a
    /// cursor. What is older than the log is of no use to them.
    async fn read_kept(&mut self) -> Result<(), DatabaseError> {
        let states = self.parts.database.feed_state();
        let oldest = Timestamp::now().saturating_sub(self.options.log_retention);
        let oldest = oldest.unwrap_or(Timestamp::MIN);
        let mut old = Vec::new();
        for (symbol, bytes) in states.load_all().await? {
            if self.symbols.contains_key(&symbol) {
                continue;
            }
            match snapshot_codec::decode(&bytes).filter(|kept| kept.saved_at >= oldest) {
                Some(Kept { logged_from, .. }) => {
                    self.parts.live.set(&symbol, Live { tracked: false, logged_from });
                }
                None => old.push(symbol),
            }
        }
        states.delete(&old).await
    }

    /// A symbol that is, or begins to be, followed.
    fn entry(&mut self, symbol: &Symbol) -> &mut Followed {
        let (live, sequence) = (&self.parts.live, self.last_sequence);
        self.symbols.entry(symbol.clone()).or_insert_with(|| Followed {
            logged_from: live.of(symbol).logged_from,
            sequence,
            ..Followed::default()
        })
    }

    /// What is to be stored when `symbol` is subscribed.
    pub(super) fn subscribing(&self, symbol: Symbol) -> Subscribed {
        let known = self.symbols.get(&symbol).and_then(|followed| followed.subscribed_at);
        let created_at = known.unwrap_or_else(Timestamp::now);
        let logged_from = self.parts.live.of(&symbol).logged_from;
        Subscribed { symbol, created_at, logged_from }
    }

    /// A subscription is stored.
    pub(super) fn subscribe(&mut self, stored: &Subscribed) -> Subscription {
        let Subscribed { symbol, created_at, logged_from } = stored;
        let followed = self.entry(symbol);
        followed.subscribed_at = Some(*created_at);
        followed.logged_from = followed.logged_from.or(*logged_from);
        let logged_from = followed.logged_from;
        let tracked = self.parts.live.of(symbol).tracked;
        self.parts.live.set(symbol, Live { tracked, logged_from });
        self.count();
        self.begin(symbol);
        self.subscription(symbol, *created_at)
    }

    /// A subscription is no longer stored.
    pub(super) async fn unsubscribe(&mut self, symbol: Symbol) -> Result<Subscription, QuoteError> {
        let subscribed = self.symbols.get(&symbol).and_then(|followed| followed.subscribed_at);
        let Some(created_at) = subscribed else { return Err(QuoteError::NotSubscribed(symbol)) };
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
            let followed = self.entry(&symbol);
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
        let lookup = followed.look_up(&mut self.lookups, symbol);
        let fetches = self.fetches.clone();
        if self.standing.borrow().is_behind {
            // What was kept of it last is not in the database yet.
            fetch::resolve_later(&self.parts, lookup, fetches);
            return;
        }
        let (parts, jobs) = (self.parts.clone(), self.jobs.clone());
        let task = async move {
            // Where it was let go a moment ago, what was kept of it then is still to be written.
            let (safe, written) = oneshot::channel();
            let behind = async {
                if jobs.send(Job::Barrier(safe)).await.is_ok() {
                    drop(written.await);
                }
            };
            drop(timeout(KEPT_WITHIN, behind).await);
            let outcome = fetch::resolve(&parts, &lookup.symbol).await;
            // The task may be gone: then nobody wants to know.
            drop(fetches.send(Fetched::Resolved(lookup, outcome.map(Box::new))).await);
        };
        drop(self.parts.lifecycle.spawn("resolve symbol", Box::pin(task)));
        self.show_lookups();
    }

    /// The provider does not give this symbol. One that may come later is tried again.
    pub(super) async fn refused(&mut self, symbol: &Symbol, error: ProviderError) {
        self.note_cut_of(symbol).await;
        let Some(followed) = self.symbols.get_mut(symbol) else { return };
        if is_passing(&error) {
            let lookup = followed.look_up(&mut self.lookups, symbol);
            followed.error = Some(error.clone());
            self.hub.put_feed(|feed| feed.last_error = Some(error.to_string()));
            fetch::resolve_later(&self.parts, lookup, self.fetches.clone());
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

    /// Nobody wants a symbol any more: it costs nothing from here on. What is forming is kept, and
    /// where it stood: who comes back gets what was missed in between.
    async fn let_go_unwanted(&mut self, symbol: &Symbol) {
        if self.symbols.get(symbol).is_none_or(Followed::is_wanted) {
            self.count();
            return;
        }
        self.note_heard().await;
        self.save_symbol(symbol).await;
        self.flush_symbol(symbol).await;
        if self.speaks {
            self.note_let_go(symbol).await;
        }
        if let Some(followed) = self.symbols.remove(symbol) {
            let logged_from = followed.logged_from;
            self.last_sequence = self.last_sequence.max(followed.sequence);
            self.parts.live.set(symbol, Live { tracked: false, logged_from });
            if let Some(id) = followed.id {
                self.names.remove(&id);
                self.manager.untrack(id);
            }
        }
        self.changed_quotes.remove(symbol);
        self.uncopied.remove(symbol);
        self.repairs.forget(symbol);
        self.hub.forget(symbol);
        self.tell_provider(FeedCommand::Remove(symbol.clone())).await;
        self.show_lookups();
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
