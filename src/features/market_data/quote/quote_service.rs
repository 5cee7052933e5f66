//! What handlers hold of the feed: commands to its task, and what the hub says.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{Mutex, MutexGuard, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::backlog;
use super::feed_state::{FeedState, Subscription};
use super::feed_task::{Command, FeedTask, Verdict};
use super::follow::Follow;
use super::hub::Hub;
use super::queries::NamedQuote;
use super::stream_quotes::SequencedQuote;
use super::{Connection, QuoteError};
use crate::common::messaging::EventBus;
use crate::common::shutdown::Lifecycle;
use crate::domain::ohlcv::Bar;
use crate::domain::ohlcv::services::BarRules;
use crate::domain::shared::{DomainEvent, Series, Symbol};
use crate::features::market_data::{LiveSeries, Sessions};
use crate::infrastructure::interfaces::{HistoryProvider, ProviderError, QuoteProvider};
use crate::infrastructure::persistence::{Cache, Database, DatabaseError};
use crate::infrastructure::spool::Spool;

/// Commands that wait for the feed's task at most.
const COMMANDS: usize = 1_024;
/// Subscriptions that are changed at a time, about.
const TURNS: usize = 64;
/// How long a stream waits to learn whether the provider knows its symbols.
const VERDICT_WITHIN: Duration = Duration::from_secs(10);

/// How the feed behaves.
#[derive(Clone, Copy, Debug)]
pub struct FeedOptions {
    /// Whether it is started with the service.
    pub autostart: bool,
    /// How bars close.
    pub rules: BarRules,
    /// How long entries of the bar log are kept.
    pub log_retention: Duration,
}

/// What the feed works with.
#[derive(Clone, Debug)]
pub struct QuoteServiceParts {
    /// Where bars, subscriptions and snapshots are kept.
    pub database: Database,
    /// Where the newest values are copied to.
    pub cache: Cache,
    /// When symbols trade.
    pub sessions: Sessions,
    /// Where quotes come from.
    pub quotes: Arc<dyn QuoteProvider>,
    /// Where bars of the past come from.
    pub history: Arc<dyn HistoryProvider>,
    /// What syncs know of the feed, and the feed of syncs.
    pub live: LiveSeries,
    /// Who is told of bars.
    pub events: EventBus<DomainEvent>,
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
    sessions: Sessions,
    commands: mpsc::Sender<Command>,
    released: mpsc::UnboundedSender<Command>,
    /// Held by whoever changes a subscription: one of these for each symbol.
    turns: Arc<[Mutex<()>; TURNS]>,
    stopping: CancellationToken,
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
            backlog::store_left(&database, spool).await?;
        }
        let hub = Hub::new(epoch, database.bar_log().head().await?.last());
        let (commands, received) = mpsc::channel(COMMANDS);
        let (released, given_up) = mpsc::unbounded_channel();
        let service = Self {
            hub: hub.clone(),
            database,
            sessions: parts.sessions.clone(),
            commands,
            released,
            turns: Arc::new([const { Mutex::const_new(()) }; TURNS]),
            stopping: parts.lifecycle.token(),
        };
        let lifecycle = parts.lifecycle.clone();
        let task = FeedTask::new(parts, options, hub, received, given_up).await?;
        drop(lifecycle.spawn("feed", Box::pin(task.run())));
        Ok(service)
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
        self.hub.feed().borrow().clone()
    }

    /// An error where the feed should deliver and does not.
    pub fn health(&self) -> Result<(), FeedTrouble> {
        let feed = self.status();
        let trouble = feed.refused || feed.connection == Connection::Reconnecting;
        if trouble { Err(FeedTrouble(feed.last_error.unwrap_or_default())) } else { Ok(()) }
    }

    /// Follows `symbol` until told otherwise.
    pub async fn subscribe(&self, symbol: Symbol) -> Result<Subscription, QuoteError> {
        let _turn = self.turn(&symbol).await;
        let row = self.ask(|answer| Command::Subscribing(symbol, answer)).await?;
        // Not by the feed's task: the feed does not wait for the database.
        self.database.subscriptions().put(&row).await?;
        self.ask(|answer| Command::Subscribe(row, answer)).await
    }

    /// Follows `symbol` no longer.
    pub async fn unsubscribe(&self, symbol: Symbol) -> Result<Subscription, QuoteError> {
        let _turn = self.turn(&symbol).await;
        if !self.subscriptions().await?.iter().any(|each| each.symbol == symbol) {
            return Err(QuoteError::NotSubscribed(symbol));
        }
        self.database.subscriptions().delete(&symbol).await?;
        self.ask(|answer| Command::Unsubscribe(symbol, answer)).await?
    }

    /// What is followed until told otherwise, by symbol.
    pub async fn subscriptions(&self) -> Result<Vec<Subscription>, QuoteError> {
        self.ask(Command::Subscriptions).await
    }

    /// The newest quote of `symbol`.
    pub async fn latest(&self, symbol: &Symbol) -> Result<NamedQuote, QuoteError> {
        match self.named(symbol) {
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
        let asked = series.clone();
        match self.ask(|answer| Command::CurrentBar(asked, answer)).await? {
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
        if self.status().connection == Connection::Stopped {
            return Ok(follow);
        }
        // All or none: one good symbol is enough to go on, and the others are told in the stream.
        let refused = async {
            let mut last = None;
            for _ in 0..count {
                match verdicts.recv().await {
                    Some(Verdict::Refused(error)) => last = Some(error),
                    Some(Verdict::Known) | None => return None,
                }
            }
            last
        };
        let refused = timeout(VERDICT_WITHIN, refused).await.ok().flatten();
        match refused {
            Some(error @ ProviderError::SymbolNotFound { .. }) => Err(error.into()),
            Some(_) | None => Ok(follow),
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

    pub(super) fn stopping(&self) -> CancellationToken {
        self.stopping.clone()
    }

    fn named(&self, symbol: &Symbol) -> Option<NamedQuote> {
        let latest = self.hub.quote(symbol).filter(|latest| latest.quote.last_price.is_some())?;
        let epoch = self.hub.epoch();
        let quote = SequencedQuote { quote: latest.quote, sequence: latest.sequence, epoch };
        Some(NamedQuote { symbol: symbol.clone(), quote })
    }

    /// Changes of one subscription happen one after the other.
    async fn turn(&self, symbol: &Symbol) -> Option<MutexGuard<'_, ()>> {
        let mut hash = DefaultHasher::new();
        symbol.hash(&mut hash);
        let place = usize::try_from(hash.finish() % TURNS as u64).ok()?;
        Some(self.turns.get(place)?.lock().await)
    }

    async fn is_followed(&self, symbol: &Symbol) -> Result<bool, QuoteError> {
        let symbol = symbol.clone();
        self.ask(|answer| Command::IsFollowed(symbol, answer)).await
    }

    async fn ask<T>(
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
