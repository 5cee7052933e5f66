//! Bars in bulk: by columns, page after page, at flat memory.

use std::collections::VecDeque;

use futures::stream::{self, BoxStream, StreamExt as _};
use jiff::Timestamp;
use tokio::task::JoinHandle;

use super::{Bars, DatabaseError};
use crate::common::tracing::in_current_context;
use crate::domain::ohlcv::{BarState, StoredBar};
use crate::domain::shared::Series;

/// How many bars an export reads at a time, about.
const EXPORT_PAGE: u32 = 8_192;

/// Chunks of an export at most, in bars.
const MAX_EXPORT_CHUNK: u32 = 16_384;

/// Bars by columns, all of one length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BarColumns {
    /// Open times, milliseconds since 1970 UTC.
    pub open_time_ms: Vec<i64>,
    /// First prices.
    pub open: Vec<f64>,
    /// Highest prices.
    pub high: Vec<f64>,
    /// Lowest prices.
    pub low: Vec<f64>,
    /// Last prices.
    pub close: Vec<f64>,
    /// Volumes; not a number where the bar has none.
    pub volume: Vec<f64>,
    /// Never forming.
    pub state: Vec<BarState>,
}

/// Chunks of an export. Ends after the first error.
pub type BarStream = BoxStream<'static, Result<BarColumns, DatabaseError>>;

/// The final bars of `series` that open in `[start, end)`.
pub(super) fn start(
    bars: &Bars,
    series: &Series,
    start: Option<Timestamp>,
    end: Option<Timestamp>,
    chunk: u32,
) -> BarStream {
    let chunk = chunk.clamp(1, MAX_EXPORT_CHUNK);
    let page = chunk.saturating_mul(EXPORT_PAGE.div_ceil(chunk));
    let export = Export {
        bars: bars.clone(),
        series: series.clone(),
        from: start.map_or(i64::MIN, super::millisecond_from),
        before: end.map_or(i64::MAX, super::millisecond_from),
        page,
        chunk: usize::try_from(chunk).unwrap_or(usize::MAX),
        ready: VecDeque::new(),
        ahead: Ahead::NotStarted,
    };
    stream::unfold(export, Export::next).boxed()
}

/// An export under way.
struct Export {
    bars: Bars,
    series: Series,
    /// Where the next page starts, milliseconds.
    from: i64,
    before: i64,
    page: u32,
    chunk: usize,
    ready: VecDeque<BarColumns>,
    ahead: Ahead,
}

/// The page after the one at hand.
enum Ahead {
    NotStarted,
    Fetching(JoinHandle<Result<BarColumns, DatabaseError>>),
    None,
}

impl Export {
    async fn next(mut self) -> Option<(Result<BarColumns, DatabaseError>, Self)> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Some((Ok(chunk), self));
            }
            let fetching = match std::mem::replace(&mut self.ahead, Ahead::None) {
                Ahead::None => return None,
                Ahead::NotStarted => self.fetch(),
                Ahead::Fetching(fetching) => fetching,
            };
            let page = fetching.await.unwrap_or_else(|error| {
                Err(DatabaseError::unavailable("database", format!("a read was ended: {error}")))
            });
            match page {
                Ok(page) => self.take(page),
                Err(error) => return Some((Err(error), self)),
            }
        }
    }

    fn fetch(&self) -> JoinHandle<Result<BarColumns, DatabaseError>> {
        let (bars, series) = (self.bars.clone(), self.series.clone());
        let (from, before, limit) = (self.from, self.before, self.page);
        let page = async move { bars.page(&series, from, before, limit).await };
        self.bars.tasks.spawn(in_current_context(page))
    }

    fn take(&mut self, mut page: BarColumns) {
        let is_full = u32::try_from(page.len()).is_ok_and(|length| length >= self.page);
        if let Some(last) = page.open_time_ms.last().filter(|_| is_full) {
            self.from = last.saturating_add(1);
            self.ahead = Ahead::Fetching(self.fetch());
        }
        while page.len() > self.chunk {
            let rest = page.split_off(self.chunk);
            self.ready.push_back(std::mem::replace(&mut page, rest));
        }
        if !page.is_empty() {
            self.ready.push_back(page);
        }
    }
}

impl BarColumns {
    /// Empty columns with room for `bars`.
    pub fn with_capacity(bars: usize) -> Self {
        Self {
            open_time_ms: Vec::with_capacity(bars),
            open: Vec::with_capacity(bars),
            high: Vec::with_capacity(bars),
            low: Vec::with_capacity(bars),
            close: Vec::with_capacity(bars),
            volume: Vec::with_capacity(bars),
            state: Vec::with_capacity(bars),
        }
    }

    /// How many bars.
    pub fn len(&self) -> usize {
        self.open_time_ms.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.open_time_ms.is_empty()
    }

    pub(super) fn push(&mut self, bar: &StoredBar) {
        self.open_time_ms.push(bar.open_time.as_millisecond());
        self.open.push(bar.values.open());
        self.high.push(bar.values.high());
        self.low.push(bar.values.low());
        self.close.push(bar.values.close());
        self.volume.push(bar.values.volume().unwrap_or(f64::NAN));
        self.state.push(bar.state());
    }

    fn split_off(&mut self, at: usize) -> Self {
        Self {
            open_time_ms: self.open_time_ms.split_off(at),
            open: self.open.split_off(at),
            high: self.high.split_off(at),
            low: self.low.split_off(at),
            close: self.close.split_off(at),
            volume: self.volume.split_off(at),
            state: self.state.split_off(at),
        }
    }
}
