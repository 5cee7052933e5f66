//! The ledger of coverage: what the provider was asked for, and when the feed was there.
//!
//! Syncs and repairs write what was answered. The feed says, often and cheaply, until when it heard
//! each symbol; that is kept in memory and written down together, every few seconds. A crash costs
//! no more than that: what was not written down counts as an outage.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Announcer, Sessions};
use crate::common::error::with_causes;
use crate::domain::coverage::{CoverageFacts, FeedPresence, TimeRange};
use crate::domain::shared::{DomainEvent, EventPayload, Series, Symbol};
use crate::infrastructure::persistence::{CoverageRecord, Database, DatabaseError};

/// How often it is written down how far symbols were heard. That the feed came or went is, at once.
const HEARD_EVERY: Duration = Duration::from_secs(10);
/// How long is waited before a database that is away is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Symbols in one write.
const BATCH: usize = 500;
/// Outages of a symbol that wait to be told at most.
const GAPS: usize = 64;

/// Held over calls of the database, so that they come one after the other.
type TurnLock = tokio::sync::Mutex<()>;

/// The ledger. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CoverageLedger {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    database: Database,
    sessions: Sessions,
    announcer: Announcer,
    feeds: Mutex<HashMap<Symbol, Watched>>,
    /// The feed came or went.
    turned: Notify,
    /// Held by whoever writes down what the feed said.
    writing: TurnLock,
    /// Held by whoever changes what was asked for.
    asking: TurnLock,
}

/// A symbol that the feed follows, or did a moment ago.
#[derive(Debug, Default)]
struct Watched {
    presence: FeedPresence,
    /// Whether this process has said anything of it; else it is as it was kept at the start.
    is_ours: bool,
    /// Whether what was kept of it before is in `presence`.
    is_whole: bool,
    unwritten: Unwritten,
    /// Outages that are not told yet.
    gaps: Vec<TimeRange>,
}

/// How much of a symbol is not written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Unwritten {
    /// Nothing.
    #[default]
    Nothing,
    /// Only that it was heard on.
    Heard,
    /// That the feed came or went.
    Turn,
}

impl CoverageLedger {
    /// Keeps the ledger in `database`; tells `announcer` of outages while a market was open.
    pub fn new(database: Database, sessions: Sessions, announcer: Announcer) -> Self {
        let (feeds, writing, asking) = (Mutex::default(), TurnLock::default(), TurnLock::default());
        let turned = Notify::new();
        let shared = Shared { database, sessions, announcer, feeds, turned, writing, asking };
        Self { shared: Arc::new(shared) }
    }

    /// The provider has answered what it has of `series` in `range`; its bars are stored.
    pub async fn answered(&self, series: &Series, range: TimeRange) -> Result<(), DatabaseError> {
        let _turn = self.shared.asking.lock().await;
        let ledger = self.shared.database.coverage();
        let mut asked = ledger.asked(series).await?;
        if !asked.insert(range) {
            return Ok(());
        }
        asked.forget_oldest();
        ledger.put(&[CoverageRecord::Asked { series: series.clone(), asked }]).await
    }

    /// What is known of `series`, as of `now`. Read it before bars: what was answered is stored.
    pub async fn facts(
        &self,
        series: &Series,
        now: Timestamp,
    ) -> Result<CoverageFacts, DatabaseError> {
        let ledger = self.shared.database.coverage();
        let asked = ledger.asked(series).await?;
        let presence = self.presence(&series.symbol).await?;
        let (down, connected) = (presence.away(now), presence.connected().clone());
        Ok(CoverageFacts { asked, down, connected })
    }

    /// When the feed was there for `symbol`: this process's where it is there, else that of
    /// whichever process heard it last.
    async fn presence(&self, symbol: &Symbol) -> Result<FeedPresence, DatabaseError> {
        let own = self.feeds().get(symbol).filter(|watched| watched.is_ours).map(|watched| {
            let Watched { presence, is_whole, .. } = watched;
            (presence.clone(), *is_whole)
        });
        let own = match own {
            Some((presence, true)) if presence.is_there() => return Ok(presence),
            own => own,
        };
        let stored = self.shared.database.coverage().feed(symbol).await?.unwrap_or_default();
        match own {
            Some((mut presence, is_whole))
                if presence.is_there() || stored.heard_until() <= presence.heard_until() =>
            {
                if !is_whole {
                    presence.follow_on(&stored);
                }
                Ok(presence)
            }
            Some(_) | None => Ok(stored),
        }
    }

    /// Whether a feed of another process follows `symbol`, as far as is known at `now`: it has said
    /// so and not taken it back, and either was there lately or is to follow it on.
    pub async fn is_followed_elsewhere(
        &self,
        symbol: &Symbol,
        now: Timestamp,
    ) -> Result<bool, DatabaseError> {
        let is_ours = |watched: &Watched| watched.is_ours && watched.presence.is_followed();
        if !self.shared.database.is_shared() || self.feeds().get(symbol).is_some_and(is_ours) {
            return Ok(false);
        }
        let stored = self.shared.database.coverage().feed(symbol).await?;
        let Some(followed) = stored.filter(FeedPresence::is_followed) else { return Ok(false) };
        let subscriptions = self.shared.database.subscriptions();
        Ok(followed.is_believed(now) || subscriptions.get(symbol).await?.is_some())
    }

    /// A start: what an earlier one followed, and `is_followed` still says, is away until it is
    /// heard; all else was let go.
    pub async fn recover(
        &self,
        is_followed: impl Fn(&Symbol) -> bool,
    ) -> Result<(), DatabaseError> {
        let kept = self.shared.database.coverage().followed().await?;
        let mut feeds = self.feeds();
        for (symbol, mut presence) in kept {
            let (mut unwritten, mut is_ours) = (Unwritten::Nothing, false);
            if !is_followed(&symbol) {
                presence.let_go();
                (unwritten, is_ours) = (Unwritten::Turn, true);
            }
            let gaps = Vec::new();
            let watched = Watched { presence, is_ours, is_whole: true, unwritten, gaps };
            feeds.insert(symbol, watched);
        }
        Ok(())
    }

    /// Each symbol was heard until the time beside it, without a hole since it was heard last.
    pub fn heard<'a>(&self, symbols: impl IntoIterator<Item = (&'a Symbol, Timestamp)>) {
        let mut feeds = self.feeds();
        for (symbol, until) in symbols {
            if !feeds.contains_key(symbol) {
                feeds.insert(symbol.clone(), Watched::default());
            }
            let Some(watched) = feeds.get_mut(symbol) else { continue };
            watched.is_ours = true;
            let was_there = watched.presence.is_there();
            let gap = watched.presence.heard(until);
            watched.gaps.extend(gap.filter(|_| watched.gaps.len() < GAPS));
            let news = if was_there { Unwritten::Heard } else { Unwritten::Turn };
            watched.unwritten = watched.unwritten.max(news);
            if news == Unwritten::Turn {
                self.shared.turned.notify_one();
            }
        }
    }

    /// The feed is away from `symbol`.
    pub fn cut(&self, symbol: &Symbol) {
        self.turn(symbol, FeedPresence::cut);
    }

    /// Nobody wants `symbol` any more.
    pub fn let_go(&self, symbol: &Symbol) {
        self.turn(symbol, FeedPresence::let_go);
    }

    /// Forgets all that is known of `symbol`, whose bars are gone. A feed that follows it goes on.
    pub async fn forget(&self, symbol: &Symbol) -> Result<(), DatabaseError> {
        let _turn = self.shared.asking.lock().await;
        let _turn = self.shared.writing.lock().await;
        self.shared.database.coverage().delete(symbol).await?;
        let mut feeds = self.feeds();
        if let Some(watched) = feeds.get_mut(symbol) {
            let presence = FeedPresence::default();
            *watched = Watched { presence, is_ours: true, is_whole: true, ..Watched::default() };
        }
        Ok(())
    }

    /// Writes down all that the feed has said.
    pub async fn settle(&self) -> Result<(), DatabaseError> {
        self.write_down(Unwritten::Heard).await
    }

    /// Writes down what the feed says, until the service stops. What it says last is settled by
    /// whoever speaks for it.
    pub async fn run(self, stopping: CancellationToken) {
        let mut heard = interval(HEARD_EVERY);
        heard.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_away = false;
        loop {
            let least = tokio::select! {
                () = stopping.cancelled() => return,
                () = self.shared.turned.notified() => Unwritten::Turn,
                () = sleep(RETRY_AFTER), if is_away => Unwritten::Turn,
                _ = heard.tick() => Unwritten::Heard,
            };
            let was_away = is_away;
            is_away = match self.write_down(least).await {
                Ok(()) => false,
                Err(error) => {
                    if !was_away {
                        let error = with_causes(&error);
                        warn!(error, "the ledger of coverage cannot be written; trying on");
                    }
                    true
                }
            };
        }
    }

    /// Writes down all symbols of which at least `least` is unwritten, and tells their outages.
    async fn write_down(&self, least: Unwritten) -> Result<(), DatabaseError> {
        let _turn = self.shared.writing.lock().await;
        let due: Vec<Symbol> = {
            let feeds = self.feeds();
            let due = feeds.iter().filter(|(_, watched)| watched.unwritten >= least);
            due.map(|(symbol, _)| symbol.clone()).collect()
        };
        for batch in due.chunks(BATCH) {
            for symbol in batch {
                self.complete(symbol).await?;
            }
            let (records, gaps) = self.take(batch);
            if let Err(error) = self.shared.database.coverage().put(&records).await {
                self.put_back(batch, gaps);
                return Err(error);
            }
            for (symbol, gap) in gaps {
                self.tell(symbol, gap).await;
            }
            self.feeds().retain(|_, watched| {
                watched.presence.is_followed() || watched.unwritten > Unwritten::Nothing
            });
        }
        Ok(())
    }

    /// Reads what was kept of `symbol` when it was followed before.
    async fn complete(&self, symbol: &Symbol) -> Result<(), DatabaseError> {
        if self.feeds().get(symbol).is_none_or(|watched| watched.is_whole) {
            return Ok(());
        }
        let earlier = self.shared.database.coverage().feed(symbol).await?.unwrap_or_default();
        if let Some(watched) = self.feeds().get_mut(symbol).filter(|watched| !watched.is_whole) {
            watched.presence.follow_on(&earlier);
            watched.is_whole = true;
        }
        Ok(())
    }

    fn take(&self, symbols: &[Symbol]) -> (Vec<CoverageRecord>, Vec<(Symbol, TimeRange)>) {
        let (mut records, mut gaps, now) = (Vec::new(), Vec::new(), Timestamp::now());
        let mut feeds = self.feeds();
        for symbol in symbols {
            let Some(watched) = feeds.get_mut(symbol) else { continue };
            watched.unwritten = Unwritten::Nothing;
            gaps.extend(watched.gaps.drain(..).map(|gap| (symbol.clone(), gap)));
            let vouched = watched.presence.is_there().then_some(now);
            let presence = watched.presence.clone().vouched_for(vouched);
            records.push(CoverageRecord::Feed { symbol: symbol.clone(), presence });
        }
        (records, gaps)
    }

    fn put_back(&self, symbols: &[Symbol], gaps: Vec<(Symbol, TimeRange)>) {
        let mut feeds = self.feeds();
        for symbol in symbols {
            if let Some(watched) = feeds.get_mut(symbol) {
                watched.unwritten = Unwritten::Turn;
            }
        }
        for (symbol, gap) in gaps {
            if let Some(watched) = feeds.get_mut(&symbol) {
                watched.gaps.push(gap);
            }
        }
    }

    /// An outage is news where the market was open.
    async fn tell(&self, symbol: Symbol, gap: TimeRange) {
        let traded = match self.shared.sessions.of(&symbol).await {
            Ok(session) => {
                let next = session.next_hours(gap.open());
                session.hours_at(gap.open()).is_some()
                    || next.is_some_and(|hours| hours.open() < gap.close())
            }
            // Better one too many than one too few.
            Err(_) => true,
        };
        if !traded {
            return;
        }
        let (start, end) = (gap.open(), gap.close());
        info!(%symbol, since = %start, "the feed was away from {symbol} until {end}");
        let payload = EventPayload::GapDetected { symbol, start, end };
        self.shared.announcer.tell(DomainEvent { time: Timestamp::now(), payload });
    }

    fn turn(&self, symbol: &Symbol, turn: impl FnOnce(&mut FeedPresence)) {
        if let Some(watched) = self.feeds().get_mut(symbol) {
            let before = (watched.presence.is_followed(), watched.presence.is_there());
            turn(&mut watched.presence);
            if before != (watched.presence.is_followed(), watched.presence.is_there()) {
                watched.is_ours = true;
                watched.unwritten = Unwritten::Turn;
                self.shared.turned.notify_one();
            }
        }
    }

    fn feeds(&self) -> MutexGuard<'_, HashMap<Symbol, Watched>> {
        self.shared.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
