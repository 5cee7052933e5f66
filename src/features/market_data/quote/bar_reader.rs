//! One subscriber of bars: where it stands, and how it gets on from there.
//!
//! It reads stored bars where it began with a time, then the bar log until it has caught up, then
//! what the hub keeps. Falling behind takes it back to the log. Nothing is queued for it.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, Interval as Timer, sleep};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::cursor::Cursor;
use super::feed_state::FeedState;
use super::follow::Follow;
use super::hub::{Ahead, Hub, LiveChange, RingEntry};
use super::pace::heartbeat;
use super::stored_bars::StoredBars;
use super::stream_bars::{BarCursor, BarEvent, BarNews, BarsFrom, StreamBars};
use super::{QuoteError, QuoteService};
use crate::common::constants::{RETRY_AFTER_OUTAGE, SLOW_CONSUMER_AFTER, STREAM_BATCH_EVERY};
use crate::common::metrics::table::{STREAM_CATCH_UPS, STREAM_SLOW_CONSUMERS};
use crate::domain::ohlcv::{Bar, StoredBar};
use crate::domain::shared::{Interval, Series, Symbol};
use crate::features::market_data::Sessions;
use crate::infrastructure::persistence::{Database, DatabaseError, LogFilter, LogHead};

/// Entries that are taken at a time.
const BATCH: usize = 512;
/// How long is waited for a database that is away before it is asked again.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// One subscriber.
pub(super) struct BarReader {
    hub: Hub,
    database: Database,
    sessions: Sessions,
    filter: LogFilter,
    symbols: Vec<Symbol>,
    intervals: Vec<Interval>,
    include_forming: bool,
    phase: Phase,
    /// Log entries up to this one were sent or do not concern this subscriber.
    sequence: u64,
    bars: watch::Receiver<u64>,
    feed: watch::Receiver<FeedState>,
    heartbeat: Timer,
    stopping: CancellationToken,
    ready: VecDeque<(BarNews, Cursor)>,
    forming_seen: HashMap<Series, u64>,
    refused: Vec<Symbol>,
    /// When the last event was handed over, while more was to come at once.
    handed_over_at: Option<Instant>,
    /// Behind the last event that was handed over.
    handed_over: Cursor,
    last: Option<QuoteError>,
    ended: bool,
    _follow: Follow,
}

/// Where it reads.
enum Phase {
    /// Stored bars, oldest first.
    Stored(Box<StoredBars>),
    /// The bar log.
    Log,
    /// What the hub keeps, from this position on.
    Live(u64),
}

impl BarReader {
    pub(super) async fn new(
        service: &QuoteService,
        query: StreamBars,
        follow: Follow,
    ) -> Result<Self, QuoteError> {
        let (hub, database) = (service.hub().clone(), service.database().clone());
        let head = database.bar_log().head().await?;
        let (phase, sequence) = begin(&query, &hub, &head)?;
        let mut feed = hub.feed();
        let mut bars = hub.bars_changed();
        let first = BarNews::Feed(feed.borrow_and_update().clone());
        bars.mark_changed();
        let filter =
            LogFilter { symbols: query.symbols.clone(), intervals: query.intervals.clone() };
        let mut reader = Self {
            hub,
            database,
            sessions: service.sessions().clone(),
            filter,
            symbols: query.symbols,
            intervals: query.intervals,
            include_forming: query.include_forming,
            phase,
            sequence,
            bars,
            feed,
            heartbeat: heartbeat(),
            stopping: service.stopping(),
            ready: VecDeque::new(),
            forming_seen: HashMap::new(),
            refused: Vec::new(),
            handed_over_at: None,
            handed_over: Cursor::at(sequence),
            last: None,
            ended: false,
            _follow: follow,
        };
        reader.say(first);
        Ok(reader)
    }

    pub(super) async fn next(mut self) -> Option<(Result<BarEvent, QuoteError>, Self)> {
        if let Some(waited) = self.waited().filter(|waited| *waited > SLOW_CONSUMER_AFTER) {
            let cursor = self.handed_over.encode();
            STREAM_SLOW_CONSUMERS.handle().increment(1);
            self.fail(QuoteError::SlowConsumer { cursor, waited });
        }
        loop {
            if let Some((news, cursor)) = self.ready.pop_front() {
                let event = BarEvent { news, cursor: cursor.encode() };
                self.handed_over = cursor;
                self.handed_over_at = (!self.ready.is_empty()).then(Instant::now);
                return Some((Ok(event), self));
            }
            if self.ended {
                let last = self.last.take()?;
                return Some((Err(last), self));
            }
            if self.stopping.is_cancelled() {
                self.say(BarNews::Draining(RETRY_AFTER_OUTAGE));
                (self.ended, self.last) = (true, Some(QuoteError::Draining));
                continue;
            }
            match self.advance().await {
                Ok(()) => {}
                Err(error) if error.is_transient() => self.wait_for_database(&error).await,
                Err(error) => self.fail(error.into()),
            }
        }
    }

    /// How long nothing was taken while there was something to take.
    fn waited(&self) -> Option<Duration> {
        self.handed_over_at.map(|at| at.elapsed())
    }

    fn fail(&mut self, error: QuoteError) {
        self.ready.clear();
        (self.ended, self.last) = (true, Some(error));
    }

    /// Gets something ready, or waits until there is something to look at.
    async fn advance(&mut self) -> Result<(), DatabaseError> {
        match &mut self.phase {
            Phase::Stored(stored) => {
                let bars = stored.next(&self.database, &self.sessions).await?;
                if bars.is_empty() {
                    self.phase = Phase::Log;
                }
                for (series, bar, position) in bars {
                    let cursor = Cursor { sequence: self.sequence, stored: Some(position) };
                    self.ready.push_back((BarNews::Bar(series, bar), cursor));
                }
                Ok(())
            }
            Phase::Log => self.read_log().await,
            Phase::Live(position) => {
                let position = *position;
                match self.hub.entries(position, BATCH) {
                    Ahead::Gone => {
                        STREAM_CATCH_UPS.handle().increment(1);
                        self.phase = Phase::Log;
                    }
                    Ahead::Entries(entries) if entries.is_empty() => {
                        self.look_around();
                        if self.ready.is_empty() {
                            self.wait().await;
                        }
                    }
                    Ahead::Entries(entries) => self.take(entries).await?,
                }
                Ok(())
            }
        }
    }

    /// Reads on in the log; at its end, goes over to what the hub keeps.
    async fn read_log(&mut self) -> Result<(), DatabaseError> {
        let limit = u32::try_from(BATCH).unwrap_or(u32::MAX);
        let page = self.database.bar_log().read(self.sequence, &self.filter, limit).await?;
        if page.first > self.sequence.saturating_add(1) {
            // Trimmed away while it was waited for: the reader was slower than the retention.
            let earliest = Cursor::at(page.first.saturating_sub(1)).encode();
            self.fail(QuoteError::CursorExpired { earliest });
            return Ok(());
        }
        let caught_up = page.entries.is_empty();
        for (sequence, entry) in page.entries {
            self.sequence = sequence;
            self.say_bar(entry.series, entry.bar).await?;
        }
        self.sequence = self.sequence.max(page.examined);
        if caught_up && let Some(position) = self.hub.position_after(self.sequence) {
            self.phase = Phase::Live(position);
        }
        Ok(())
    }

    async fn take(&mut self, entries: Vec<RingEntry>) -> Result<(), DatabaseError> {
        for entry in entries {
            self.phase = Phase::Live(entry.position + 1);
            self.sequence = entry.sequence;
            match entry.change {
                LiveChange::Stored(series, bar) if self.wants(&series) => {
                    self.say_bar(series, bar).await?;
                }
                LiveChange::IntervalClosed(series, close_time) if self.wants(&series) => {
                    self.say(BarNews::IntervalClosed(series, close_time));
                }
                LiveChange::Gap(symbol, start, end) if self.symbols.contains(&symbol) => {
                    self.say(BarNews::Gap(symbol, start, end));
                }
                LiveChange::Stored(..) | LiveChange::IntervalClosed(..) | LiveChange::Gap(..) => {}
            }
        }
        Ok(())
    }

    /// Forming bars and refusals: newest value only.
    fn look_around(&mut self) {
        for symbol in self.symbols.clone() {
            if let Some(error) = self.hub.refusal(&symbol)
                && !self.refused.contains(&symbol)
            {
                self.refused.push(symbol.clone());
                self.say(BarNews::Refused(symbol.clone(), error));
            }
            if !self.include_forming {
                continue;
            }
            for interval in self.intervals.clone() {
                let series = Series::new(symbol.clone(), interval);
                let Some((version, bar)) = self.hub.forming(&series) else { continue };
                if self.forming_seen.insert(series.clone(), version) != Some(version) {
                    self.say(BarNews::Bar(series, bar));
                }
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
                    Err(_) => self.fail(QuoteError::Draining),
                }
            }
            _ = self.heartbeat.tick() => self.say(BarNews::Heartbeat(Timestamp::now())),
            changed = self.bars.changed() => match changed {
                Ok(()) => sleep(STREAM_BATCH_EVERY).await,
                Err(_) => self.fail(QuoteError::Draining),
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
        self.symbols.contains(&series.symbol) && self.intervals.contains(&series.interval)
    }

    async fn say_bar(&mut self, series: Series, stored: StoredBar) -> Result<(), DatabaseError> {
        let session = self.sessions.of(&series.symbol).await?;
        let range = session.bounds_of(series.interval, stored.open_time);
        self.say(BarNews::Bar(series, Bar { range, stored }));
        Ok(())
    }

    fn say(&mut self, news: BarNews) {
        let stored = match &self.phase {
            Phase::Stored(stored) => stored.position(),
            Phase::Log | Phase::Live(_) => None,
        };
        self.ready.push_back((news, Cursor { sequence: self.sequence, stored }));
    }
}

/// Where a subscriber begins, and behind which entry of the log.
fn begin(query: &StreamBars, hub: &Hub, head: &LogHead) -> Result<(Phase, u64), QuoteError> {
    let stored = |start, position| {
        let stored = StoredBars::new(&query.symbols, &query.intervals, start, position);
        Phase::Stored(Box::new(stored))
    };
    match &query.from {
        BarsFrom::Now => {
            let (position, sequence) = hub.newest();
            Ok((Phase::Live(position), sequence))
        }
        BarsFrom::Time(start) => Ok((stored(*start, None), head.last())),
        BarsFrom::Cursor(BarCursor(cursor)) => {
            if cursor.sequence.saturating_add(1) < head.first {
                let earliest = Cursor::at(head.first.saturating_sub(1)).encode();
                return Err(QuoteError::CursorExpired { earliest });
            }
            let phase = match cursor.stored.clone() {
                Some(at) => stored(at.start_time, Some(at)),
                None => Phase::Log,
            };
            Ok((phase, cursor.sequence))
        }
    }
}
