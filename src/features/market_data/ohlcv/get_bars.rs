//! Read a page of stored bars.

use bytes::Bytes;
use jiff::{Timestamp, ToSpan as _};

use super::{require_synced, wire};
use crate::common::mediator::{Handler, Request};
use crate::domain::ohlcv::services::BarClock;
use crate::domain::ohlcv::{Bar, StoredBar};
use crate::domain::shared::Series;
use crate::features::market_data::{LiveSeries, ReadError, Sessions};
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
    pub(super) live: LiveSeries,
}

impl Handler<GetBars> for GetBarsHandler {
    async fn handle(&self, query: GetBars) -> Result<BarPage, ReadError> {
        if query.include_forming
            && let Some(forming) = self.live.forming(&query.series).await
        {
            // What the feed builds is newer than anything that was kept.
            return self.read(query, Some(forming)).await;
        }
        let ticket = match self.cache.read(&query.series, &query.cache_key()).await {
            CacheRead::Hit(page) => return Ok(BarPage::Cached(page)),
            CacheRead::Miss(ticket) => ticket,
        };
        let page = self.read(query, None).await?;
        self.cache.fill(ticket, wire::encode(&page)).await;
        Ok(page)
    }
}

impl GetBarsHandler {
    /// A page of what is stored, and of `forming` in its place.
    async fn read(&self, query: GetBars, forming: Option<Bar>) -> Result<BarPage, ReadError> {
        let (start, end) = query.remaining();
        // One more than asked for tells whether there is a next page.
        let limit = query.limit.saturating_add(1);
        let (order, include_forming) = (query.order, query.include_forming);
        let wanted = BarQuery { start, end, order, limit, include_forming };
        let mut stored = self.database.bars().find(&query.series, &wanted).await?;
        if let Some(forming) = forming {
            put(&mut stored, forming.stored, &wanted);
        }
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

/// Puts the feed's forming bar where it belongs among the first bars of `query`: it replaces a
/// stored one that is forming, and gives way to one that is final.
fn put(stored: &mut Vec<StoredBar>, forming: StoredBar, query: &BarQuery) {
    let at = forming.open_time;
    let is_asked_for =
        query.start.is_none_or(|start| start <= at) && query.end.is_none_or(|end| at < end);
    if !is_asked_for {
        return;
    }
    let place = stored.binary_search_by(|bar| match query.order {
        BarOrder::OldestFirst => bar.open_time.cmp(&at),
        BarOrder::NewestFirst => at.cmp(&bar.open_time),
    });
    match place {
        Err(index) => stored.insert(index, forming),
        Ok(index) => stored
            .get_mut(index)
            .filter(|known| !known.is_final())
            .into_iter()
            .for_each(|known| *known = forming),
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
        // Where there is none is no time: 1970 is one, too.
        let position = self.after.map(|last| last.as_millisecond().to_string());
        let position = position.unwrap_or_default();
        let [_, start, end, order, forming] = self.binding();
        format!("{start}:{end}:{order}:{forming}:{}:{position}", self.limit)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::domain::ohlcv::{BarSource, Ohlcv};
    use crate::domain::shared::{Interval, Symbol};

    fn values() -> Ohlcv {
        Ohlcv::new(1.0, 1.0, 1.0, 1.0, None).unwrap()
    }

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(minute * 60).unwrap()
    }

    /// Open minutes and sources of closed bars at 1, 2, 3 and the feed's forming bar.
    fn page(order: BarOrder, forming: i64, end: Option<i64>) -> Vec<(i64, BarSource)> {
        let closed = |minute| StoredBar::closed(at(minute), values(), BarSource::Provider);
        let mut stored = [1, 2, 3].map(closed).to_vec();
        stored.push(StoredBar::forming(at(4), values(), BarSource::Provider));
        if order == BarOrder::NewestFirst {
            stored.reverse();
        }
        let end = end.map(at);
        let query = BarQuery { start: Some(at(1)), end, order, limit: 5, include_forming: true };
        put(&mut stored, StoredBar::forming(at(forming), values(), BarSource::Ticks), &query);
        stored.iter().map(|bar| (bar.open_time.as_second() / 60, bar.source)).collect()
    }

    #[test]
    fn every_page_is_kept_under_a_key_of_its_own() {
        let page = |after| GetBars {
            series: Series::new(Symbol::parse("A:B").unwrap(), Interval::M1),
            start: None,
            end: None,
            limit: 5,
            order: BarOrder::OldestFirst,
            include_forming: false,
            after,
        };
        let pages = [None, Some(at(-1)), Some(at(0)), Some(at(1))];
        let keys: HashSet<String> = pages.map(|after| page(after).cache_key()).into();
        assert_eq!(keys.len(), pages.len(), "{keys:?}");
    }

    #[test]
    fn the_feeds_forming_bar_replaces_a_stored_one_that_forms_and_no_final_one() {
        use BarSource::{Provider, Ticks};
        let stored = [(1, Provider), (2, Provider), (3, Provider), (4, Provider)];
        let replaced = [(1, Provider), (2, Provider), (3, Provider), (4, Ticks)];
        let newest_first: Vec<_> = replaced.into_iter().rev().collect();
        assert_eq!(page(BarOrder::OldestFirst, 4, None), replaced);
        assert_eq!(page(BarOrder::NewestFirst, 4, None), newest_first);
        assert_eq!(page(BarOrder::OldestFirst, 3, None), stored);
    }

    #[test]
    fn the_feeds_forming_bar_is_put_in_its_place_where_the_range_holds_it() {
        let minutes = |page: Vec<(i64, BarSource)>| {
            page.into_iter().map(|(minute, _)| minute).collect::<Vec<_>>()
        };
        assert_eq!(minutes(page(BarOrder::OldestFirst, 5, None)), [1, 2, 3, 4, 5]);
        assert_eq!(minutes(page(BarOrder::NewestFirst, 5, None)), [5, 4, 3, 2, 1]);
        assert_eq!(minutes(page(BarOrder::NewestFirst, 5, Some(5))), [4, 3, 2, 1]);
        assert_eq!(minutes(page(BarOrder::OldestFirst, 0, None)), [1, 2, 3, 4]);
    }
}
