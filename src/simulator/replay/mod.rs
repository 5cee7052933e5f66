//! Markets that move: recorded trades played again, one market an instrument, whoever listens.
//!
//! It knows nothing of connections and messages: it is read as a list of changes.

mod driver;
mod feed;
mod market;
mod minutes;
mod plan;
mod quote;
mod reader;
mod run;
mod tape;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

pub use plan::{Pace, PaceError, Rebase, RebaseError, ReplayConfig};

pub(super) use driver::drive;
pub(super) use feed::{Entry, Reading};
pub(super) use market::Opening;
pub(super) use quote::{Cause, Change, Quote};
pub(super) use reader::Reader;
pub(super) use tape::{Tape, Trade};

use super::stats::{Counter, ReplayStats};
use super::world::{Facts, WorldBar};
use crate::domain::shared::{Interval, Symbol};
use feed::Feed;
use market::Market;
use run::Run;

/// Tells connections that something happened, and the driver that it is wanted.
#[derive(Debug)]
pub(super) struct Pulse {
    happened: watch::Sender<u64>,
    wanted: Notify,
    /// Readers that were given up.
    pub(super) lost_readers: Counter,
    /// Readers that got the newest quote in place of many.
    pub(super) conflations: Counter,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            happened: watch::Sender::new(0),
            wanted: Notify::new(),
            lost_readers: Counter::default(),
            conflations: Counter::default(),
        }
    }
}

impl Pulse {
    /// Tells when something happened in any market.
    pub(super) fn happenings(&self) -> watch::Receiver<u64> {
        self.happened.subscribe()
    }

    fn tell(&self) {
        self.happened.send_modify(|count| *count = count.wrapping_add(1));
    }
}

/// The replay of one instrument. It starts with its first reader, and goes on whether there are
/// readers or not.
#[derive(Debug)]
pub(super) struct Replay {
    symbol: Symbol,
    pulse: Arc<Pulse>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    run: Run,
    market: Market,
    feed: Feed,
    /// How to begin again elsewhere, for a market that is moved to the time of its start.
    moved_at_start: Option<Beginning>,
}

#[derive(Debug)]
struct Beginning {
    tape: Tape,
    facts: Facts,
    looping: bool,
}

/// Why a trade is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TickError {
    /// The world stands still, or the symbol has nothing to replay.
    #[error("the symbol is not replayed: it needs trades, or --walk")]
    NotReplayed,
    /// There is no such symbol.
    #[error("there is no such symbol")]
    UnknownSymbol,
    /// Nobody has subscribed to the symbol so far.
    #[error("the symbol's replay has not started: it starts with the first subscription")]
    NotStarted,
    /// A price or a size that no trade has.
    #[error("the price is finite, and the size finite and not below 0")]
    Values,
}

impl Replay {
    /// A replay of `tape` that waits for its first reader. `shift` (microseconds) moves the tape.
    pub(super) fn new(
        tape: Tape,
        facts: &Facts,
        opening: Opening,
        shift: i64,
        config: ReplayConfig,
        pulse: Arc<Pulse>,
    ) -> Self {
        let looping = config.looping;
        let beginning = || Beginning { tape: tape.clone(), facts: facts.clone(), looping };
        let moved_at_start = (config.rebase == Some(Rebase::Now)).then(beginning);
        let market = Market::new(tape, facts, opening, shift, looping);
        let run = Run::new(config.pace, market.position());
        let state = State { run, market, feed: Feed::default(), moved_at_start };
        Self { symbol: facts.symbol.clone(), pulse, state: Mutex::new(state) }
    }

    /// Reads from now on: the quote as it is, and a reader of all that follows. Starts the replay.
    pub(super) fn subscribe(self: &Arc<Self>, now: Instant) -> (Quote, Reader) {
        let mut state = self.caught_up(now);
        state.start(now);
        let quote = state.market.quote();
        let number = state.feed.join(now);
        drop(state);
        self.pulse.wanted.notify_one();
        (quote, Reader::new(Arc::clone(self), number))
    }

    /// The bars of `interval` that the replay has made, whether older ones were forgotten, and the
    /// time at which this is all there is.
    pub(super) fn history(
        &self,
        interval: Interval,
        now: Instant,
    ) -> (Vec<WorldBar>, bool, Timestamp) {
        let state = self.caught_up(now);
        let (bars, trimmed) = state.market.bars(interval);
        (bars, trimmed, state.position(now))
    }

    /// The time it has come to.
    pub(super) fn position(&self, now: Instant) -> Timestamp {
        let state = self.caught_up(now);
        state.position(now)
    }

    /// Adds a trade that was not recorded; its time, which is now where none is given.
    pub(super) fn inject(
        &self,
        time: Option<Timestamp>,
        price: f64,
        size: Option<f64>,
        now: Instant,
    ) -> Result<(Timestamp, Quote), TickError> {
        let sound = size.is_none_or(|size| size.is_finite() && size >= 0.0);
        if !price.is_finite() || !sound {
            return Err(TickError::Values);
        }
        let mut state = self.caught_up(now);
        if !state.run.has_started() {
            return Err(TickError::NotStarted);
        }
        let time = time.unwrap_or_else(|| state.position(now));
        let change = state.market.inject(time, price, size);
        state.feed.push(Entry::Change(change));
        drop(state);
        self.pulse.tell();
        self.pulse.wanted.notify_one();
        Ok((time, change.quote))
    }

    /// Sends every reader fields that somebody made up; no trade, and no part of the quote.
    pub(super) fn invent(&self, fields: Map<String, Value>) {
        self.lock().feed.push(Entry::Fields(Arc::new(fields)));
        self.pulse.tell();
    }

    /// How far it has come.
    pub(super) fn stats(&self, now: Instant) -> ReplayStats {
        let state = self.caught_up(now);
        let (index, trades) = state.market.trades_in_pass();
        ReplayStats {
            symbol: self.symbol.to_string(),
            position: state.position(now).to_string(),
            started: state.run.has_started(),
            ended: state.market.has_ended() && index == trades,
            pass: state.market.pass(),
            index: index as u64,
            trades: trades as u64,
            updates: state.market.trades(),
        }
    }

    /// Lets happen what is due; when there is more.
    fn advance(&self, now: Instant) -> Option<Instant> {
        let mut state = self.lock();
        let waits = state.run.waits_for_readers();
        let dead = if waits { state.feed.drop_dead(now) } else { 0 };
        let (happened, wake) = state.advance(now);
        drop(state);
        self.pulse.lost_readers.add(dead);
        if happened > 0 || dead > 0 {
            self.pulse.tell();
        }
        wake
    }

    /// As it is now. Whoever looks first at what is due lets it happen: all who read are told.
    fn caught_up(&self, now: Instant) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        if state.catch_up(now) > 0 {
            self.pulse.tell();
        }
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn start(&mut self, now: Instant) {
        if self.run.has_started() {
            return;
        }
        if let Some(Beginning { tape, facts, looping }) = self.moved_at_start.take() {
            let shift = tape.shift_to(Timestamp::now());
            // What was before lies in another day, except where it is the same moment still.
            let before = self.market.quote().previous_close;
            let opening = Opening { day: None, previous_close: before };
            self.market = Market::new(tape, &facts, opening, shift, looping);
        }
        self.run.start(now, self.market.position());
    }

    /// Lets happen all that is due; how much that was. At full speed that is for the driver to do.
    fn catch_up(&mut self, now: Instant) -> u64 {
        let mut happened = 0;
        while !self.run.waits_for_readers() {
            let (more, wake) = self.advance(now);
            happened += more;
            if wake.is_none_or(|wake| wake > now) {
                break;
            }
        }
        happened
    }

    /// Lets some of what is due happen; how much that was, and when there is more.
    fn advance(&mut self, now: Instant) -> (u64, Option<Instant>) {
        self.run.advance(&mut self.market, &mut self.feed, now)
    }

    fn position(&self, now: Instant) -> Timestamp {
        if self.moved_at_start.is_some() {
            return Timestamp::now();
        }
        self.run.position(&self.market, now)
    }
}

#[cfg(test)]
mod tests;
