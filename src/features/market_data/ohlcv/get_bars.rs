//! Read a page of stored bars.

use bytes::Bytes;
use jiff::{Timestamp, ToSpan as _};

use super::{require_synced, wire};
use crate::common::mediator::{Handler, Request};
use crate::domain::ohlcv::Bar;
use crate::domain::ohlcv::services::BarClock;
use crate::domain::shared::Series;
use crate::features::market_data::{ReadError, Sessions};
use crate::infrastructure::persistence::{BarOrder, BarQuery, CacheRead, Database, SeriesCache};

/// Read at most `limit` bars of a series, from where the page before ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GetBars {
    /// Which series.
    pub series: Series,
    /// Only bars that open at or after it.
    pub start: Option<Timestamp>,
    /// Only bars that open before it.
    pub end: Option<Timestamp>,
    /// Bars a page.
    pub limit: u32,
    /// Newest or oldest first.
    pub order: BarOrder,
    /// Whether a bar whose time is not over is wanted.
    pub include_forming: bool,
    /// The last bar of the page before.
    pub after: Option<Timestamp>,
}

/// A page of bars.
#[derive(Clone, Debug, PartialEq)]
pub enum BarPage {
    /// As read from the database.
    Read {
        /// What was asked.
        query: Box<GetBars>,
        /// In the order asked for.
        bars: Vec<Bar>,
        /// Whether there are more.
        more: bool,
    },
    /// As it was sent before: an encoded answer.
    Cached(Bytes),
}

impl Request for GetBars {
    type Output = BarPage;
    type Error = ReadError;
    const NAME: &'static str = "market_data.get_bars";
}

pub(super) struct GetBarsHandler {
    pub(super) database: Database,
    pub(super) cache: SeriesCache,
    pub(super) sessions: Sessions,
}

impl Handler<GetBars> for GetBarsHandler {
    async fn handle(&self, query: GetBars) -> Result<BarPage, ReadError> {
        let ticket = match self.cache.read(&query.series, &query.cache_key()).await {
            CacheRead::Hit(page) => return Ok(BarPage::Cached(page)),
            CacheRead::Miss(ticket) => ticket,
        };
        let page = self.read(query).await?;
        self.cache.fill(ticket, wire::encode(&page)).await;
        Ok(page)
    }
}

impl GetBarsHandler {
    async fn read(&self, query: GetBars) -> Result<BarPage, ReadError> {
        let (start, end) = query.remaining();
        // One more than asked for tells whether there is a next page.
        let limit = query.limit.saturating_add(1);
        let (order, include_forming) = (query.order, query.include_forming);
        let wanted = BarQuery { start, end, order, limit, include_forming };
        let mut stored = self.database.bars().find(&query.series, &wanted).await?;
        if stored.is_empty() && query.after.is_none() {
            require_synced(&self.database, &query.series).await?;
        }
        let asked = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let more = stored.len() > asked;
        stored.truncate(asked);
        let session = self.sessions.of(&query.series.symbol).await?;
        let mut clock = BarClock::new(session, query.series.interval);
        let bars = stored
            .into_iter()
            .map(|stored| Bar { range: clock.bounds_of(stored.open_time), stored })
            .collect();
        Ok(BarPage::Read { query: Box::new(query), bars, more })
    }
}

impl GetBars {
    /// The part of the range that the pages before have not covered.
    fn remaining(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        match (self.after, self.order) {
            (None, _) => (self.start, self.end),
            (Some(last), BarOrder::NewestFirst) => (self.start, Some(last)),
            (Some(last), BarOrder::OldestFirst) => {
                let next = last.saturating_add(1.millisecond()).unwrap_or(Timestamp::MAX);
                (Some(next), self.end)
            }
        }
    }

    /// What a page token is bound to: the query without its position and page length.
    pub(super) fn binding(&self) -> [String; 5] {
        let time = |time: Option<Timestamp>| time.map_or(String::new(), |time| time.to_string());
        [
            self.series.to_string(),
            time(self.start),
            time(self.end),
            format!("{:?}", self.order),
            self.include_forming.to_string(),
        ]
    }

    fn cache_key(&self) -> String {
        let position = self.after.map_or(0, Timestamp::as_millisecond);
        let [_, start, end, order, forming] = self.binding();
        format!("{start}:{end}:{order}:{forming}:{}:{position}", self.limit)
    }
}
