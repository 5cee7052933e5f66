//! The task that owns the feed: it takes commands and updates, lets the bar manager decide, and
//! hands what is decided to the writer and the hub. Everything here happens one after the other.

mod changes;
mod fetch;
mod flow;
mod followed;
mod hold;
mod joining;
#[cfg(test)]
mod model;
mod owed;
mod presence;
mod repairs;
mod seed;
mod subscriptions;

use std::collections::{HashMap, HashSet};

use futures::StreamExt as _;
use futures::stream::{BoxStream, ReadyChunks};
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Duration, Instant, MissedTickBehavior, interval, sleep_until};
use tracing::{info, warn};

pub(super) use self::fetch::{Fetched, Rerolled};
use self::followed::Followed;
use self::presence::Noted;
use self::repairs::Repairs;
use super::QuoteError;
use super::copier::{self, Copies};
use super::feed_state::{Connection, FeedState, Subscription};
use super::hub::Hub;
use super::job::{Job, Safe};
use super::meter::{Meter, observe_queue, observe_ticks};
use super::quote_service::{FeedOptions, QuoteServiceParts};
use super::scribe::Scribe;
use super::writer::{Standing, Writer};
use crate::domain::ohlcv::Bar;
use crate::domain::ohlcv::services::{BarChange, BarManager};
use crate::domain::quote::SymbolId;
use crate::domain::shared::{Series, Symbol};
use crate::features::market_data::Live;
use crate::infrastructure::interfaces::{FeedCommand, FeedEvent, ProviderError};
use crate::infrastructure::persistence::{DatabaseError, Subscribed};

/// Updates that are taken at a time.
const BATCH: usize = 1_024;
/// Jobs that the writer has not done at most; the feed waits then.
const WRITER_JOBS: usize = 256;
/// Answers of background fetches that wait at most.
const FETCHED: usize = 1_024;
/// Between two looks for bars that are due.
const SHORTEST_WAIT: Duration = Duration::from_millis(5);
/// How often the newest quotes and forming bars are copied.
const COPY_EVERY: Duration = Duration::from_millis(250);
/// How often what a crash would cost is written down.
const SNAPSHOT_EVERY: Duration = Duration::from_millis(900);

/// What the feed's task is asked. Each is answered, until the service stops.
#[derive(Debug)]
pub(super) enum Command {
    Start(oneshot::Sender<(FeedState, bool)>),
    Stop(oneshot::Sender<(FeedState, bool)>),
    /// What is to be stored when the symbol is subscribed.
    Subscribing(Symbol, oneshot::Sender<Subscribed>),
    /// It is stored.
    Subscribe(Subscribed, oneshot::Sender<Subscription>),
    /// It is stored no longer.
    Unsubscribe(Symbol, oneshot::Sender<Result<Subscription, QuoteError>>),
    Subscriptions(oneshot::Sender<Vec<Subscription>>),
    /// A stream begins: each symbol's verdict is sent as it is known.
    Follow(Vec<Symbol>, mpsc::UnboundedSender<Verdict>),
    /// A stream ended.
    Release(Vec<Symbol>),
    IsFollowed(Symbol, oneshot::Sender<bool>),
    CurrentBar(Series, oneshot::Sender<Option<Bar>>),
    /// Answered once all that is decided by now is safe.
    Settle(oneshot::Sender<Safe>),
}

/// Whether the provider knows a symbol.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    Known,
    Refused(ProviderError),
}

/// The connection to the provider.
struct Link {
    commands: mpsc::Sender<FeedCommand>,
    events: ReadyChunks<BoxStream<'static, FeedEvent>>,
}

impl Link {
    fn new(commands: mpsc::Sender<FeedCommand>, events: BoxStream<'static, FeedEvent>) -> Self {
        Self { commands, events: events.ready_chunks(BATCH) }
    }
}

/// The feed and all that it follows.
pub(super) struct FeedTask {
    parts: QuoteServiceParts,
    options: FeedOptions,
    hub: Hub,
    received: mpsc::Receiver<Command>,
    releases: mpsc::UnboundedReceiver<Command>,
    fetched: mpsc::Receiver<Fetched>,
    rerolled: mpsc::UnboundedReceiver<Rerolled>,
    fetches: mpsc::Sender<Fetched>,
    repairs: Repairs,
    jobs: mpsc::Sender<Job>,
    notes: mpsc::UnboundedSender<Noted>,
    copies: mpsc::Sender<Copies>,
    standing: watch::Receiver<Standing>,
    manager: BarManager,
    symbols: HashMap<Symbol, Followed>,
    /// How often symbols were looked up.
    lookups: u64,
    /// How often bars were rolled up again.
    rerolls: u64,
    /// No symbol that was let go had a quote of a higher sequence: who comes back goes on there.
    last_sequence: u64,
    names: HashMap<SymbolId, Symbol>,
    link: Option<Link>,
    started: bool,
    /// Whether the provider was not asked to follow anything yet, or not any more.
    link_is_idle: bool,
    /// When the provider last said anything, while connected.
    heard_at: Option<Timestamp>,
    /// Whether it says when the feed was there. Where others share the database, only the process
    /// with the feed does: another one would take its word back.
    speaks: bool,
    /// Whether it was told last that the feed is up, or that it is down.
    told_up: Option<bool>,
    /// Symbols whose newest quote is not told yet.
    changed_quotes: HashSet<Symbol>,
    /// Symbols whose forming bars are not told yet.
    uncopied: HashSet<Symbol>,
    /// Symbols whose newest quote and forming bars are not in the cache yet.
    uncached: HashSet<Symbol>,
    changes: Vec<BarChange>,
    meter: Meter,
}

impl FeedTask {
    /// Reads what is subscribed; nothing is connected yet.
    pub(super) async fn new(
        parts: QuoteServiceParts,
        options: FeedOptions,
        hub: Hub,
        received: mpsc::Receiver<Command>,
        releases: mpsc::UnboundedReceiver<Command>,
    ) -> Result<Self, DatabaseError> {
        let (fetches, answers) = mpsc::channel(FETCHED);
        let (jobs, work) = mpsc::channel(WRITER_JOBS);
        let (copies, to_copy) = mpsc::channel(1);
        let (rerolls, rerolled) = mpsc::unbounded_channel();
        let (told, standing) = watch::channel(Standing::default());
        let meter = Meter::new();
        let scribe = Scribe::new(&parts, hub.clone(), rerolls, meter.clone());
        let writer = Writer::new(scribe, &parts, told);
        drop(parts.lifecycle.spawn("bar writer", Box::pin(writer.run(work))));
        drop(parts.lifecycle.spawn("copier", copier::run(parts.cache.clone(), to_copy)));
        let (notes, to_note) = mpsc::unbounded_channel();
        let noting = presence::take_notes(parts.ledger.clone(), to_note);
        drop(parts.lifecycle.spawn("coverage notes", Box::pin(noting)));
        let speaks = options.autostart || !parts.database.is_shared();
        let mut task = Self {
            manager: BarManager::new(options.rules),
            repairs: Repairs::new(&parts, fetches.clone()),
            parts,
            options,
            hub,
            received,
            releases,
            fetched: answers,
            rerolled,
            fetches,
            jobs,
            notes,
            copies,
            standing,
            symbols: HashMap::new(),
            lookups: 0,
            rerolls: 0,
            names: HashMap::new(),
            link: None,
            started: false,
            link_is_idle: false,
            heard_at: None,
            speaks,
            told_up: None,
            changed_quotes: HashSet::new(),
            uncopied: HashSet::new(),
            last_sequence: 0,
            uncached: HashSet::new(),
            changes: Vec::new(),
            meter,
        };
        task.read_subscriptions().await?;
        Ok(task)
    }

    /// Serves until the service stops; then keeps what is forming.
    pub(super) async fn run(mut self) {
        let stopping = self.parts.lifecycle.token();
        let mut copy = interval(COPY_EVERY);
        let mut snapshot = interval(SNAPSHOT_EVERY);
        for timer in [&mut copy, &mut snapshot] {
            timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        loop {
            let due = self.due();
            let has_room = self.standing.borrow_and_update().has_room;
            self.hold(has_room).await;
            tokio::select! {
                biased;
                () = stopping.cancelled() => break,
                Some(command) = self.received.recv() => self.carry_out(command).await,
                Some(release) = self.releases.recv() => self.carry_out(release).await,
                Ok(()) = self.standing.changed() => {}
                _ = copy.tick() => {
                    self.copy();
                    self.observe();
                }
                _ = snapshot.tick(), if has_room => {
                    self.note_heard().await;
                    self.save().await;
                }
                Some(rerolled) = self.rerolled.recv(), if has_room => {
                    self.take_rerolled(rerolled).await;
                }
                Some(fetched) = self.fetched.recv(), if has_room => self.take_fetched(fetched).await,
                events = next_events(&mut self.link) => match events {
                    Some(events) => self.take_events(events).await,
                    None => self.link_ended().await,
                },
                () = sleep_until(due), if has_room => self.advance().await,
            }
        }
        self.stop().await;
        info!("the feed stopped");
    }

    async fn carry_out(&mut self, command: Command) {
        // Who asked may be gone: then nobody hears the answer.
        match command {
            Command::Start(answer) => {
                let before = self.started;
                self.start();
                drop(answer.send((self.status(), before)));
            }
            Command::Stop(answer) => {
                let before = !self.started;
                self.stop().await;
                drop(answer.send((self.status(), before)));
            }
            Command::Subscribing(symbol, answer) => drop(answer.send(self.subscribing(symbol))),
            Command::Subscribe(stored, answer) => drop(answer.send(self.subscribe(&stored))),
            Command::Unsubscribe(symbol, answer) => {
                let outcome = self.unsubscribe(symbol).await;
                drop(answer.send(outcome));
            }
            Command::Subscriptions(answer) => drop(answer.send(self.subscriptions())),
            Command::Follow(symbols, verdicts) => self.follow(symbols, &verdicts),
            Command::Release(symbols) => self.release(symbols).await,
            Command::IsFollowed(symbol, answer) => {
                let _heard = answer.send(self.symbols.contains_key(&symbol));
            }
            Command::CurrentBar(series, answer) => {
                let id = self.manager.id_of(&series.symbol);
                let bar = id.and_then(|id| self.manager.forming(id, series.interval));
                let _heard = answer.send(bar);
            }
            Command::Settle(answer) => self.settle(answer).await,
        }
    }

    /// Connects once something is followed. Starting after a refusal tries again.
    pub(super) fn start(&mut self) {
        if self.started && self.link.is_some() {
            return;
        }
        (self.started, self.speaks) = (true, true);
        self.connect();
        self.hub.put_feed(|feed| {
            feed.connection = Connection::Idle;
            (feed.last_error, feed.refused) = (None, false);
        });
        self.symbols.values_mut().for_each(Followed::forget_refusal);
        self.begin_all();
        info!("the feed started");
    }

    /// Lets the connection go and keeps what is forming.
    async fn stop(&mut self) {
        self.link = None;
        self.link_is_idle = false;
        if !self.started {
            return;
        }
        self.started = false;
        self.note_cut().await;
        self.save().await;
        self.flush().await;
        for (symbol, followed) in &mut self.symbols {
            let logged_from = followed.logged_from;
            self.parts.live.set(symbol, Live { tracked: false, logged_from });
            if let Some(id) = followed.forget_progress() {
                self.names.remove(&id);
                self.manager.untrack(id);
            }
            self.hub.accept(symbol);
        }
        self.hub.put_feed(|feed| {
            feed.connection = Connection::Stopped;
            feed.connected_since = None;
        });
        if self.told_up == Some(true) && !self.parts.lifecycle.is_stopping() {
            self.tell_down("it was stopped".to_owned());
        }
        self.told_up = None;
    }

    /// The provider ended the feed by itself, without a word: the service stops.
    async fn link_ended(&mut self) {
        warn!("the feed ended; StartFeed tries again");
        self.stop().await;
    }

    /// Tells metrics what has happened so far.
    fn observe(&self) {
        observe_ticks(&self.manager.counts());
        for (name, capacity, free) in [
            ("writer_jobs", self.jobs.max_capacity(), self.jobs.capacity()),
            ("feed_fetches", self.fetches.max_capacity(), self.fetches.capacity()),
        ] {
            observe_queue(name, capacity, free);
        }
    }

    fn status(&self) -> FeedState {
        self.hub.feed()
    }

    /// When the next bar is due to close.
    fn due(&self) -> Instant {
        let far = Duration::from_hours(1);
        let deadline = self.manager.next_deadline();
        let left = deadline.map(|deadline| deadline.duration_since(Timestamp::now()));
        let left = left.map(|left| Duration::try_from(left).unwrap_or(Duration::ZERO));
        Instant::now() + left.unwrap_or(far).clamp(SHORTEST_WAIT, far)
    }

    fn count(&self) {
        let subscribed = self.symbols.values().filter(|each| each.subscribed_at.is_some()).count();
        let active = self.symbols.len();
        self.hub.put_feed(|feed| {
            feed.subscriptions = subscribed.try_into().unwrap_or(u32::MAX);
            feed.active_symbols = active.try_into().unwrap_or(u32::MAX);
        });
    }
}

/// The next events; for ever nothing where there is no connection.
async fn next_events(link: &mut Option<Link>) -> Option<Vec<FeedEvent>> {
    match link {
        Some(link) => link.events.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
