//! What handlers hold of the feed: commands to its task, and what the hub says.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use thiserror::Error;
use tokio::sync::{Mutex, MutexGuard, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::backlog;
use super::feed_state::{FeedState, Subscription, SubscriptionState};
use super::feed_task::{Command, FeedTask, Verdict};
use super::follow::Follow;
use super::hub::Hub;
use super::job::Safe;
use super::ledger::Ledger;
use super::meter::{observe_feed, observe_queue};
use super::pace::StreamPace;
use super::queries::NamedQuote;
use super::shared_subscriptions::keep_up;
use super::snapshot_codec::{self, Kept};
use super::stream_quotes::SequencedQuote;
use super::watched::StreamWatch;
use super::{Connection, QuoteError, wire};
use crate::common::health::SwitchedOff;
use crate::common::shutdown::Lifecycle;
use crate::domain::ohlcv::Bar;
use crate::domain::ohlcv::services::{BarManager, BarRules};
use crate::domain::shared::{Series, Symbol};
use crate::features::market_data::{Announcer, CoverageLedger, FormingBars, LiveSeries, Sessions};
use crate::infrastructure::interfaces::{HistoryProvider, ProviderError, QuoteProvider};
use crate::infrastructure::persistence::cache::keys::latest_quote;
use crate::infrastructure::persistence::{Cache, Database, DatabaseError, SeriesCache, Subscribed};
use crate::infrastructure::spool::Spool;

/// Commands that wait for the feed's task at most.
const COMMANDS: usize = 1_024;
/// Subscriptions that are changed at a time, about.
const TURNS: usize = 64;
/// How long a stream waits to learn whether the provider knows its symbols.
const VERDICT_WITHIN: Duration = Duration::from_secs(10);
/// How long a reader of stored bars waits for the one that is forming.
const FORMING_WITHIN: Duration = Duration::from_secs(1);

/// How long somebody waits until all that the feed has decided is stored.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);

/// What health says of a feed that nobody started.
const STOPPED: &str = "the feed is stopped: FEED_AUTOSTART is false, or somebody called StopFeed; StartFeed starts it";

/// How the feed behaves.
#[derive(Clone, Copy, Debug)]
pub struct FeedOptions {
    /// Whether it is started with the service.
    pub autostart: bool,
    /// How bars close.
    pub rules: BarRules,
    /// How long entries of the bar log are kept.
    pub log_retention: Duration,
    /// How streams speak, and are listened to.
    pub streams: StreamPace,
}

/// What the feed works with.
#[derive(Clone, Debug)]
pub struct QuoteServiceParts {
    /// Where bars, subscriptions and snapshots are kept.
    pub database: Database,
    /// Where the newest values are copied to.
    pub cache: Cache,
    /// Where answers about bars are kept; forgotten when bars are written.
    pub series: SeriesCache,
    /// When symbols trade.
    pub sessions: Sessions,
    /// Where quotes come from.
    pub quotes: Arc<dyn QuoteProvider>,
    /// Where bars of the past come from.
    pub history: Arc<dyn HistoryProvider>,
    /// What syncs know of the feed, and the feed of syncs.
    pub live: LiveSeries,
    /// Where it is noted when the feed was there.
    pub ledger: CoverageLedger,
    /// Who is told of bars, and of how the feed is.
    pub announcer: Announcer,
    /// Where closed bars wait while the database is away; in memory where there is none.
    pub spool: Option<Spool>,
    /// When to stop, and where tasks run.
    pub lifecycle: Lifecycle,
}

/// The feed should deliver and does not.
#[derive(Clone, Debug, Error)]
#[error("the feed is down: {0}")]
pub struct FeedTrouble(String);

/// The feed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct QuoteService {
    hub: Hub,
    database: Database,
    cache: Cache,
    sessions: Sessions,
    commands: mpsc::Sender<Command>,
    released: mpsc::UnboundedSender<Command>,
    /// Held by whoever changes a subscription: one of these for each symbol.
    turns: Arc<[Mutex<()>; TURNS]>,
    stopping: CancellationToken,
    pace: StreamPace,
    watch: StreamWatch,
}

impl QuoteService {
    /// Repairs what a crash left in the bar log, stores what waits in the spool, restores
    /// subscriptions and forming bars, and starts the feed's task. `epoch` tells this start of the server from others.
    pub async fn start_up(
        parts: QuoteServiceParts,
        options: FeedOptions,
        epoch: i64,
    ) -> Result<Self, DatabaseError> {
        let database = parts.database.clone();
        database.bar_log().recover().await?;
        if let Some(spool) = &parts.spool {
            let ledger = Ledger::new(database.clone(), parts.series.clone());
            backlog::store_left(&ledger, spool).await?;
        }
        let hub = Hub::new(epoch, database.bar_log().head().await?.last());
        let (commands, received) = mpsc::channel(COMMANDS);
        let (released, given_up) = mpsc::unbounded_channel();
        let service = Self::new(&parts, options.streams, hub.clone(), (commands, released));
        let watch = service.watch.clone().run(parts.lifecycle.token());
        drop(parts.lifecycle.spawn("stream watch", watch));
        parts.live.set_forming(service.clone());
        let lifecycle = parts.lifecycle.clone();
        let mut task = FeedTask::new(parts, options, hub, received, given_up).await?;
        if options.autostart {
            // Before anybody can ask how the feed is.
            task.start();
        }
        drop(lifecycle.spawn("feed", Box::pin(task.run())));
        if service.database.is_shared() {
            let others = keep_up(service.clone(), lifecycle.token());
            drop(lifecycle.spawn("shared subscriptions", others));
        }
        Ok(service)
    }

    /// What asks a feed's task by its `commands`, and tells it of streams that ended.
    pub(super) fn new(
        parts: &QuoteServiceParts,
        pace: StreamPace,
        hub: Hub,
        (commands, released): (mpsc::Sender<Command>, mpsc::UnboundedSender<Command>),
    ) -> Self {
        Self {
            hub,
            database: parts.database.clone(),
            cache: parts.cache.clone(),
            sessions: parts.sessions.clone(),
            commands,
            released,
            turns: Arc::new([const { Mutex::const_new(()) }; TURNS]),
            stopping: parts.lifecycle.draining(),
            pace,
            watch: StreamWatch::new(pace.slow_after),
        }
    }

    /// Starts the feed; true where it was started before.
    pub async fn start(&self) -> Result<(FeedState, bool), QuoteError> {
        self.ask(Command::Start).await
    }

    /// Stops the feed; true where it was stopped before.
    pub async fn stop(&self) -> Result<(FeedState, bool), QuoteError> {
        self.ask(Command::Stop).await
    }

    /// How the feed is.
    pub fn status(&self) -> FeedState {
        self.hub.feed()
    }

    /// Tells metrics how the feed is.
    pub fn observe(&self) {
        observe_feed(&self.status(), self.hub.newest().1);
        let commands = &self.commands;
        observe_queue("feed_commands", commands.max_capacity(), commands.capacity());
    }

    /// An error where the feed should deliver and does not; a reason where it is stopped.
    pub fn health(&self) -> Result<SwitchedOff, FeedTrouble> {
        let feed = self.status();
        if feed.refused || feed.connection == Connection::Reconnecting {
            return Err(FeedTrouble(feed.last_error.unwrap_or_default()));
        }
        Ok((feed.connection == Connection::Stopped).then_some(STOPPED))
    }

    /// Follows `symbol` until told otherwise.
    pub async fn subscribe(&self, symbol: Symbol) -> Result<Subscription, QuoteError> {
        let _turn = self.turn(&symbol).await;
        let row = self.ask(|answer| Command::Subscribing(symbol, answer)).await?;
        // Not by the feed's task: the feed does not wait for the database.
        let subscriptions = self.database.subscriptions();
        let row = match subscriptions.get(&row.symbol).await? {
            // Another process may follow it, which knows more of it.
            Some(known) => {
                Subscribed { logged_from: known.logged_from.or(row.logged_from), ..known }
            }
            None => row,
        };
        subscriptions.put(&row).await?;
        self.ask(|answer| Command::Subscribe(row, answer)).await
    }

    /// Follows `symbol` no longer, whichever process subscribed it.
    pub async fn unsubscribe(&self, symbol: Symbol) -> Result<Subscription, QuoteError> {
        let _turn = self.turn(&symbol).await;
        let rows = self.database.subscriptions();
        let row = rows.get(&symbol).await?;
        if row.is_some() {
            rows.delete(&symbol).await?;
        }
        match self.ask(|answer| Command::Unsubscribe(symbol, answer)).await? {
            // Another process has subscribed it a moment ago.
            Err(QuoteError::NotSubscribed(symbol)) if let Some(row) = row => {
                let (state, error) = (SubscriptionState::Pending, None);
                Ok(Subscription { symbol, state, error, created_at: row.created_at })
            }
            outcome => outcome,
        }
    }

    /// Waits until all that the feed has decided by now is in the database, and fails where the
    /// database is behind.
    pub async fn settle(&self) -> Result<(), QuoteError> {
        match timeout(SETTLED_WITHIN, self.ask(Command::Settle)).await {
            Ok(Ok(Safe::Stored)) => Ok(()),
            Ok(Ok(Safe::Spooled)) | Err(_) => Err(QuoteError::Unsettled),
            Ok(Err(error)) => Err(error),
        }
    }

    /// What is followed until told otherwise, by symbol.
    pub async fn subscriptions(&self) -> Result<Vec<Subscription>, QuoteError> {
        self.ask(Command::Subscriptions).await
    }

    /// The newest quote of `symbol`: the feed's, or what the cache has of it.
    pub async fn latest(&self, symbol: &Symbol) -> Result<NamedQuote, QuoteError> {
        let known = match self.named(symbol) {
            Some(known) => Some(known),
            None => self.cached(symbol).await,
        };
        match known {
            Some(quote) => Ok(quote),
            None if self.is_followed(symbol).await? => Err(QuoteError::NoQuote(symbol.clone())),
            None => Err(QuoteError::NotSubscribed(symbol.clone())),
        }
    }

    /// The newest quotes of `symbols`, or of all that are subscribed; those that have one.
    pub async fn newest(&self, symbols: Vec<Symbol>) -> Result<Vec<NamedQuote>, QuoteError> {
        let symbols = if symbols.is_empty() {
            self.subscriptions().await?.into_iter().map(|each| each.symbol).collect()
        } else {
            symbols
        };
        Ok(symbols.iter().filter_map(|symbol| self.named(symbol)).collect())
    }

    /// The bar of `series` that is forming.
    pub async fn current_bar(&self, series: Series) -> Result<Bar, QuoteError> {
        match self.forming_bar(series.clone()).await? {
            Some(bar) => Ok(bar),
            None if self.is_followed(&series.symbol).await? => {
                Err(QuoteError::NoFormingBar(series))
            }
            None => Err(QuoteError::NotSubscribed(series.symbol)),
        }
    }

    /// Follows `symbols` until the answer is dropped. Fails where the provider knows none of them.
    pub(super) async fn follow(&self, symbols: Vec<Symbol>) -> Result<Follow, QuoteError> {
        let (sender, mut verdicts) = mpsc::unbounded_channel();
        self.send(Command::Follow(symbols.clone(), sender)).await?;
        let count = symbols.len();
        let follow = Follow::new(symbols, self.released.clone());
        // Without a connection nobody knows; the stream says so, and tells what is refused later.
        let state = self.status().connection;
        if matches!(state, Connection::Stopped | Connection::Reconnecting) {
            return Ok(follow);
        }
        // One symbol that is known, or that cannot be had for another reason, is enough to go on:
        // the others are told in the stream.
        let all_unknown = async {
            let mut last = None;
            for _ in 0..count {
                match verdicts.recv().await {
                    Some(Verdict::Refused(error @ ProviderError::SymbolNotFound { .. })) => {
                        last = Some(error);
                    }
                    Some(Verdict::Refused(_) | Verdict::Known) | None => return None,
                }
            }
            last
        };
        match timeout(VERDICT_WITHIN, all_unknown).await.ok().flatten() {
            Some(unknown) => Err(unknown.into()),
            None => Ok(follow),
        }
    }

    pub(super) const fn hub(&self) -> &Hub {
        &self.hub
    }

    pub(super) const fn database(&self) -> &Database {
        &self.database
    }

    pub(super) const fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    pub(super) const fn pace(&self) -> StreamPace {
        self.pace
    }

    pub(super) const fn watch(&self) -> &StreamWatch {
        &self.watch
    }

    pub(super) fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    async fn forming_bar(&self, series: Series) -> Result<Option<Bar>, QuoteError> {
        self.ask(|answer| Command::CurrentBar(series, answer)).await
    }

    /// What the feed kept of `symbol`, in whichever process.
    async fn kept_of(&self, symbol: &Symbol) -> Result<Option<Kept>, DatabaseError> {
        let bytes = self.database.feed_state().get(symbol).await?;
        let kept = bytes.as_deref().and_then(snapshot_codec::decode);
        Ok(kept.filter(|kept| kept.snapshot.symbol == *symbol))
    }

    fn named(&self, symbol: &Symbol) -> Option<NamedQuote> {
        let latest = self.hub.quote(symbol).filter(|latest| latest.quote.last_price.is_some())?;
        let epoch = self.hub.epoch();
        let quote = SequencedQuote { quote: latest.quote, sequence: latest.sequence, epoch };
        Some(NamedQuote { symbol: symbol.clone(), quote })
    }

    /// Changes of one subscription happen one after the other.
    pub(super) async fn turn(&self, symbol: &Symbol) -> Option<MutexGuard<'_, ()>> {
        let mut hash = DefaultHasher::new();
        symbol.hash(&mut hash);
        let place = usize::try_from(hash.finish() % TURNS as u64).ok()?;
        Some(self.turns.get(place)?.lock().await)
    }

    /// What was copied to the cache, by whoever follows `symbol` or did a moment ago.
    async fn cached(&self, symbol: &Symbol) -> Option<NamedQuote> {
        match self.cache.get(&latest_quote(symbol)).await {
            Ok(bytes) => wire::decode_quote(symbol, bytes?),
            Err(error) => {
                debug!(%symbol, %error, "the cache was not asked for the quote of {symbol}");
                None
            }
        }
    }

    async fn is_followed(&self, symbol: &Symbol) -> Result<bool, QuoteError> {
        let symbol = symbol.clone();
        self.ask(|answer| Command::IsFollowed(symbol, answer)).await
    }

    pub(super) async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, QuoteError> {
        let (sender, answer) = oneshot::channel();
        self.send(command(sender)).await?;
        // The task answers every command until the service stops.
        answer.await.map_err(|_| QuoteError::Draining)
    }

    async fn send(&self, command: Command) -> Result<(), QuoteError> {
        self.commands.send(command).await.map_err(|_| QuoteError::Draining)
    }
}

impl FormingBars for QuoteService {
    fn forming<'a>(&'a self, series: &'a Series) -> BoxFuture<'a, Option<Bar>> {
        let ask = timeout(FORMING_WITHIN, self.forming_bar(series.clone()));
        // A feed that has no time to answer, or stops, has none to tell.
        async { ask.await.ok()?.ok().flatten() }.boxed()
    }

    fn kept<'a>(&'a self, series: &'a Series) -> BoxFuture<'a, Result<Option<Bar>, DatabaseError>> {
        let symbol = &series.symbol;
        let kept = async {
            let Some(kept) = self.kept_of(symbol).await? else { return Ok(None) };
            let session = self.sessions.of(symbol).await?;
            let mut manager = BarManager::new(BarRules::default());
            let id = manager.restore(&kept.snapshot, &session, &[]);
            Ok(manager.forming(id, series.interval))
        };
        kept.boxed()
    }

    fn logged_from<'a>(
        &'a self,
        symbol: &'a Symbol,
    ) -> BoxFuture<'a, Result<Option<Timestamp>, DatabaseError>> {
        let logged_from = async {
            let subscribed = self.database.subscriptions().get(symbol).await?;
            match subscribed.and_then(|row| row.logged_from) {
                Some(from) => Ok(Some(from)),
                // Only streams followed it, or what was written of the subscription is not there yet.
                None => Ok(self.kept_of(symbol).await?.and_then(|kept| kept.logged_from)),
            }
        };
        logged_from.boxed()
    }
}

#[cfg(test)]
#[path = "quote_service_tests.rs"]
mod tests;
