//! What a reader of bars reads before it is live: stored bars from a time on, then the bar log.

use jiff::Timestamp;

use super::cursor::{Cursor, StoredPosition};
use super::stored_bars::StoredBars;
use crate::domain::ohlcv::{Bar, StoredBar};
use crate::domain::shared::Series;
use crate::features::market_data::Sessions;
use crate::infrastructure::persistence::{Database, DatabaseError, LogBar, LogFilter, LogPage};

/// Entries of the log that are read at a time.
const BATCH: u32 = 512;

/// Where bars of the past come from, and which are wanted.
pub(super) struct Past {
    pub(super) database: Database,
    pub(super) sessions: Sessions,
    pub(super) filter: LogFilter,
}

/// How far a reader has caught up.
pub(super) struct CatchUp {
    /// Log entries up to this one were handed out, or do not concern this reader.
    sequence: u64,
    /// Stored bars that come before the log.
    stored: Option<StoredBars>,
    /// The last stored bar, as long as the log is behind what was read as stored.
    last_stored: Option<StoredPosition>,
    /// The end of the log when the last stored bar was read: a revision that is logged up to here
    /// may be older than the one that was handed out.
    settled: u64,
}

/// What was found.
pub(super) enum Found {
    /// Bars, in order, each with the place behind it; perhaps none of those that were looked at.
    Bars(Vec<(Series, Bar, Cursor)>),
    /// All that is logged was handed out.
    End,
    /// What comes next was removed meanwhile; this is the first place that is left.
    Expired(Cursor),
}

impl CatchUp {
    /// With what follows the entry `sequence` of the log.
    pub(super) const fn after(sequence: u64) -> Self {
        Self { sequence, stored: None, last_stored: None, settled: 0 }
    }

    /// With stored bars that open at or after `start`, behind `position`, and then with what
    /// follows the entry `sequence` of the log.
    pub(super) fn stored(
        filter: &LogFilter,
        start: Timestamp,
        position: Option<StoredPosition>,
        sequence: u64,
    ) -> Self {
        let stored = StoredBars::new(&filter.symbols, &filter.intervals, start, position);
        Self { stored: Some(stored), ..Self::after(sequence) }
    }

    pub(super) const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Resumes behind what was handed out.
    pub(super) fn cursor(&self) -> Cursor {
        let Cursor { sequence, stored } = self.cursor_at(self.sequence);
        let reading = self.stored.as_ref().and_then(StoredBars::position);
        Cursor { sequence, stored: reading.or(stored) }
    }

    /// Reads on. An error loses nothing: the next call goes on where this one stopped.
    pub(super) async fn next(&mut self, past: &Past) -> Result<Found, DatabaseError> {
        let Some(stored) = &mut self.stored else { return self.read_log(past).await };
        let bars = stored.next(&past.database, &past.sessions).await?;
        if bars.is_empty() {
            self.settled = past.database.bar_log().head().await?.last();
            self.last_stored = stored.position();
            self.stored = None;
        }
        let placed = |(series, bar, position)| {
            (series, bar, Cursor { sequence: self.sequence, stored: Some(position) })
        };
        Ok(Found::Bars(bars.into_iter().map(placed).collect()))
    }

    async fn read_log(&mut self, past: &Past) -> Result<Found, DatabaseError> {
        let page = past.database.bar_log().read(self.sequence, &past.filter, BATCH).await?;
        if page.first > self.sequence.saturating_add(1) {
            return Ok(Found::Expired(Cursor::at(page.first.saturating_sub(1))));
        }
        let LogPage { entries, examined, .. } = page;
        let is_end = entries.is_empty() && (examined >= self.settled || examined <= self.sequence);
        let mut bars = Vec::with_capacity(entries.len());
        for (sequence, LogBar { series, bar }) in entries {
            if sequence > self.settled || !past.is_superseded(&series, &bar).await? {
                let bar = past.bar(&series, bar).await?;
                bars.push((series, bar, self.cursor_at(sequence)));
            }
        }
        self.sequence = self.sequence.max(examined);
        Ok(if is_end { Found::End } else { Found::Bars(bars) })
    }

    /// Until the log is past what was read as stored, the stored bars are read again by whoever
    /// resumes: they tell which entries are older than what was sent.
    fn cursor_at(&self, sequence: u64) -> Cursor {
        let stored = self.last_stored.clone().filter(|_| sequence < self.settled);
        Cursor { sequence, stored }
    }
}

impl Past {
    /// `stored` with the time it closes.
    pub(super) async fn bar(
        &self,
        series: &Series,
        stored: StoredBar,
    ) -> Result<Bar, DatabaseError> {
        let session = self.sessions.of(&series.symbol).await?;
        Ok(Bar { range: session.bounds_of(series.interval, stored.open_time), stored })
    }

    /// Whether a higher revision of a logged bar is stored: it is in the log as well.
    async fn is_superseded(&self, series: &Series, bar: &StoredBar) -> Result<bool, DatabaseError> {
        let stored = self.database.bars().stretch(series, bar.open_time, bar.open_time).await?;
        Ok(stored.iter().any(|stored| stored.revision() > bar.revision()))
    }
}

#[cfg(test)]
#[path = "catch_up_tests.rs"]
mod tests;
