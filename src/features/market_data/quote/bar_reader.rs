//! One subscriber of bars: where it stands, and how it gets on from there.
//!
//! It catches up where it began in the past, and is then told what the hub keeps. Falling behind
//! takes it back to the bar log. Nothing is queued for it.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Interval as Timer, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::catch_up::{CatchUp, Found, Past};
use super::cursor::Cursor;
use super::feed_state::FeedWord;
use super::follow::Follow;
use super::hub::Hub;
use super::ring::{Ahead, LiveChange, RingEntry};
use super::stream_bars::{BarCursor, BarEvent, BarEventStream, BarNews, BarsFrom, StreamBars};
use super::{QuoteError, QuoteService, wire};
use crate::common::constants::{RETRY_AFTER_OUTAGE, STREAM_BATCH_EVERY};
use crate::common::error::InvalidFields;
use crate::common::metrics::table::STREAM_CATCH_UPS;
use crate::domain::shared::{Interval, Series, Symbol};
use crate::infrastructure::persistence::{DatabaseError, LogFilter, LogHead};

/// Live entries that are taken at a time.
const BATCH: usize = 512;
/// How long is waited for a database that is away before it is asked again.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// One subscriber.
pub(super) struct BarReader {
    hub: Hub,
    past: Past,
    wanted: HashSet<Symbol>,
    phase: Phase,
    bars: watch::Receiver<u64>,
    feed: watch::Receiver<FeedWord>,
    heartbeat: Timer,
    stopping: CancellationToken,
    ready: VecDeque<BarEvent>,
    /// The position up to which gaps were told.
    gaps_told: u64,
    /// Series whose forming bars are wanted, each with the version that was sent last.
    forming: Vec<(Series, u64)>,
    /// Which of them have something newer: what it is, is looked up when it is sent.
    due: VecDeque<usize>,
    refused: HashSet<Symbol>,
    last: Option<QuoteError>,
    ended: bool,
    _follow: Follow,
}

/// Where it reads.
enum Phase {
    /// What was stored and logged.
    Behind(Box<CatchUp>),
    /// What the hub keeps, from a position on; log entries up to the sequence were sent or do not
    /// concern this subscriber.
    Live { position: u64, sequence: u64 },
}

impl BarReader {
    /// Finds the place where `query` begins; follows its symbols from then on.
    pub(super) async fn start(
        service: &QuoteService,
        query: StreamBars,
    ) -> Result<Self, QuoteError> {
        let (hub, database) = (service.hub().clone(), service.database().clone());
        let filter =
            LogFilter { symbols: query.symbols.clone(), intervals: query.intervals.clone() };
        let phase = begin(query.from, &filter, &hub, &database.bar_log().head().await?)?;
        let follow = service.follow(query.symbols.clone()).await?;
        let (mut feed, mut bars) = (hub.feed_word(), hub.bars_changed());
        let first = BarNews::Feed(feed.borrow_and_update().clone());
        bars.mark_changed();
        let mut reader = Self {
            hub,
            wanted: query.symbols.into_iter().collect(),
            forming: if query.include_forming { unseen(&filter) } else { Vec::new() },
            past: Past { database, sessions: service.sessions().clone(), filter },
            phase,
            bars,
            feed,
            heartbeat: service.pace().heartbeats(),
            stopping: service.stopping(),
            ready: VecDeque::new(),
            gaps_told: 0,
            due: VecDeque::new(),
            refused: HashSet::new(),
            last: None,
            ended: false,
            _follow: follow,
        };
        reader.say(first);
        if let Phase::Behind(catch_up) = &reader.phase {
            let sequence = catch_up.sequence();
            reader.tell_gaps(reader.hub.newest().0, sequence);
        }
        Ok(reader)
    }

    pub(super) fn into_stream(self) -> BarEventStream {
        stream::unfold(Box::new(self), Self::next).boxed()
    }

    async fn next(mut self: Box<Self>) -> Option<(Result<BarEvent, QuoteError>, Box<Self>)> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some((Ok(event), self));
            }
            if self.ended {
                let last = self.last.take()?;
                return Some((Err(last), self));
            }
            if self.stopping.is_cancelled() {
                self.drain();
                continue;
            }
            match self.advance().await {
                Ok(()) => {}
                Err(error) if error.is_transient() => self.wait_for_database(&error).await,
                Err(error) => self.fail(error.into()),
            }
        }
    }

    fn drain(&mut self) {
        self.say(BarNews::Draining(RETRY_AFTER_OUTAGE));
        self.fail(QuoteError::Draining);
    }

    fn fail(&mut self, error: QuoteError) {
        (self.ended, self.last) = (true, Some(error));
    }

    /// Gets something ready, or waits until there is something to look at.
    async fn advance(&mut self) -> Result<(), DatabaseError> {
        let (position, sequence) = match &mut self.phase {
            Phase::Behind(catch_up) => {
                let found = catch_up.next(&self.past).await?;
                self.catch_up(found);
                return Ok(());
            }
            Phase::Live { position, sequence } => (*position, *sequence),
        };
        match self.hub.entries(position, BATCH) {
            Ahead::Gone => {
                STREAM_CATCH_UPS.handle().increment(1);
                self.phase = Phase::Behind(Box::new(CatchUp::after(sequence)));
                self.gaps_told = position;
                self.tell_gaps(self.hub.newest().0, 0);
            }
            Ahead::Entries(entries) if entries.is_empty() => {
                self.look_around();
                if self.ready.is_empty() {
                    self.wait().await;
                }
            }
            Ahead::Entries(entries) => {
                for entry in entries {
                    self.take(&entry).await?;
                }
            }
        }
        Ok(())
    }

    fn catch_up(&mut self, found: Found) {
        match found {
            Found::Bars(bars) => {
                let event = |(series, bar, cursor)| BarEvent {
                    news: BarNews::Bar(series, bar),
                    cursor: BarCursor(cursor),
                };
                self.ready.extend(bars.into_iter().map(event));
            }
            // The reader was slower than the retention.
            Found::Expired(earliest) => {
                self.fail(QuoteError::CursorExpired { earliest: earliest.encode() });
            }
            // Where the hub does not keep what follows, the log has more by now.
            Found::End => {
                if let Phase::Behind(catch_up) = &self.phase {
                    let sequence = catch_up.sequence();
                    if let Some(position) = self.hub.position_after(sequence) {
                        self.tell_gaps(position, 0);
                        self.phase = Phase::Live { position, sequence };
                    }
                }
            }
        }
    }

    /// Tells of the gaps up to `position` that followed the log's entry `sequence`, as the log knows
    /// of none.
    fn tell_gaps(&mut self, position: u64, sequence: u64) {
        for gap in self.hub.gaps(&(self.gaps_told..position), sequence) {
            if let LiveChange::Gap(symbol, start, end) = &gap.change
                && self.wanted.contains(symbol)
            {
                self.say(BarNews::Gap(symbol.clone(), *start, *end));
            }
        }
        self.gaps_told = position;
    }

    /// Takes in what happened, and only then moves on: an error loses nothing.
    async fn take(&mut self, entry: &Arc<RingEntry>) -> Result<(), DatabaseError> {
        let Phase::Live { sequence, .. } = self.phase else { return Ok(()) };
        let is_wanted = match &entry.change {
            // The log may have been read on from here already.
            LiveChange::Stored(series, _) => self.wants(series) && entry.sequence > sequence,
            LiveChange::IntervalClosed(series, _) => self.wants(series),
            LiveChange::Gap(symbol, ..) => self.wanted.contains(symbol),
        };
        let told = if is_wanted { Some(self.told(entry).await?) } else { None };
        let sequence = sequence.max(entry.sequence);
        self.phase = Phase::Live { position: entry.position + 1, sequence };
        if let Some(told) = told {
            self.say(BarNews::Told(told));
        }
        Ok(())
    }

    /// The event of an entry, as all are sent it.
    async fn told(&self, entry: &RingEntry) -> Result<Bytes, DatabaseError> {
        if let Some(event) = entry.event.get() {
            return Ok(event.clone());
        }
        let news = match entry.change.clone() {
            LiveChange::Stored(series, stored) => {
                let bar = self.past.bar(&series, stored).await?;
                BarNews::Bar(series, bar)
            }
            LiveChange::IntervalClosed(series, time) => BarNews::IntervalClosed(series, time),
            LiveChange::Gap(symbol, start, end) => BarNews::Gap(symbol, start, end),
        };
        let cursor = BarCursor(Cursor::at(entry.sequence));
        let event = || wire::encode_bar_event(BarEvent { news, cursor });
        Ok(entry.event.get_or_init(event).clone())
    }

    /// Refusals, then one forming bar at a time: closed bars go before the next.
    fn look_around(&mut self) {
        for (symbol, error) in self.hub.refusals(&self.past.filter.symbols) {
            if self.refused.insert(symbol.clone()) {
                self.say(BarNews::Refused(symbol, error));
            }
        }
        if self.due.is_empty() {
            self.due = self.hub.newer_forming(&self.forming).into();
        }
        while let Some(index) = self.due.pop_front() {
            let Some((series, seen)) = self.forming.get_mut(index) else { continue };
            if let Some((version, event)) = self.hub.newer_forming_bar(series, *seen) {
                *seen = version;
                self.say(BarNews::Forming(event));
                return;
            }
        }
    }

    /// Waits for news, then a moment longer, so that a burst wakes it once.
    async fn wait(&mut self) {
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => {}
            changed = self.feed.changed() => {
                let feed = self.feed.borrow_and_update().clone();
                match changed {
                    Ok(()) => self.say(BarNews::Feed(feed)),
                    Err(_) => self.drain(),
                }
            }
            _ = self.heartbeat.tick() => self.say(BarNews::Heartbeat(Timestamp::now())),
            changed = self.bars.changed() => match changed {
                Ok(()) => sleep(STREAM_BATCH_EVERY).await,
                Err(_) => self.drain(),
            },
        }
    }

    async fn wait_for_database(&mut self, error: &DatabaseError) {
        warn!(%error, "a subscriber waits for the database");
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => {}
            _ = self.heartbeat.tick() => self.say(BarNews::Heartbeat(Timestamp::now())),
            () = sleep(RETRY_EVERY) => {}
        }
    }

    fn wants(&self, series: &Series) -> bool {
        self.wanted.contains(&series.symbol)
            && self.past.filter.intervals.contains(&series.interval)
    }

    fn say(&mut self, news: BarNews) {
        let cursor = match &self.phase {
            Phase::Behind(catch_up) => catch_up.cursor(),
            Phase::Live { sequence, .. } => Cursor::at(*sequence),
        };
        self.ready.push_back(BarEvent { news, cursor: BarCursor(cursor) });
    }
}

/// Every series of `filter`; nothing of them was sent.
fn unseen(filter: &LogFilter) -> Vec<(Series, u64)> {
    let series = |symbol: &Symbol| {
        let symbol = symbol.clone();
        filter
            .intervals
            .iter()
            .map(move |interval: &Interval| Series::new(symbol.clone(), *interval))
    };
    filter.symbols.iter().flat_map(series).map(|series| (series, 0)).collect()
}

/// Where a subscriber begins.
fn begin(
    from: BarsFrom,
    filter: &LogFilter,
    hub: &Hub,
    head: &LogHead,
) -> Result<Phase, QuoteError> {
    let behind = |catch_up| Ok(Phase::Behind(Box::new(catch_up)));
    let Cursor { sequence, stored } = match from {
        BarsFrom::Now => {
            let (position, sequence) = hub.newest();
            return Ok(Phase::Live { position, sequence });
        }
        BarsFrom::Time(start) => {
            return behind(CatchUp::stored(filter, start, None, head.last()));
        }
        BarsFrom::Cursor(BarCursor(cursor)) => cursor,
    };
    if sequence.saturating_add(1) < head.first {
        let earliest = Cursor::at(head.first.saturating_sub(1)).encode();
        return Err(QuoteError::CursorExpired { earliest });
    }
    if sequence > head.last() {
        let unknown = "is ahead of all that was ever logged here: it comes from another database";
        return Err(InvalidFields::new("resume_cursor", unknown).into());
    }
    match (stored, hub.position_after(sequence)) {
        (Some(at), _) => behind(CatchUp::stored(filter, at.start_time, Some(at), sequence)),
        (None, Some(position)) => Ok(Phase::Live { position, sequence }),
        (None, None) => behind(CatchUp::after(sequence)),
    }
}

#[cfg(test)]
#[path = "bar_reader_tests.rs"]
mod tests;
