//! Reads the children of a bar back from the database, and says what they come to.

use jiff::Timestamp;

use super::feed_task::Rerolled;
use super::quote_service::QuoteServiceParts;
use crate::domain::ohlcv::{BarRange, Ohlcv, StoredBar};
use crate::domain::shared::{Interval, Series};
use crate::features::market_data::Sessions;
use crate::infrastructure::persistence::{BarOrder, BarQuery, Database, DatabaseError};

/// Where children are read.
pub(super) struct Children {
    database: Database,
    sessions: Sessions,
}

impl Children {
    pub(super) fn new(parts: &QuoteServiceParts) -> Self {
        Self { database: parts.database.clone(), sessions: parts.sessions.clone() }
    }

    /// What the children of the bar of `series` in `range` come to as far as `until`, and what is
    /// stored of the bar itself.
    pub(super) async fn reroll(
        &self,
        series: &Series,
        range: BarRange,
        until: Timestamp,
    ) -> Result<Rerolled, DatabaseError> {
        let stored = self.database.bars().stretch(series, range.open(), range.open()).await?;
        let (series, stored) = (series.clone(), stored.first().copied());
        let values = self.total(&series, range, until).await?;
        Ok(Rerolled { series, range, until, values, stored, number: 0 })
    }

    async fn total(
        &self,
        series: &Series,
        range: BarRange,
        until: Timestamp,
    ) -> Result<Option<Ohlcv>, DatabaseError> {
        let session = self.sessions.of(&series.symbol).await?;
        let (mut total, mut from) = (None, range.open());
        let add = |total: Option<Ohlcv>, bar: &StoredBar| {
            Some(total.map_or(bar.values, |total: Ohlcv| total.followed_by(&bar.values)))
        };
        let periods = !series.interval.is_intraday() && series.interval != Interval::D1;
        for interval in [Interval::D1, Interval::M1] {
            if interval == Interval::D1 && !periods {
                continue;
            }
            let children = Series::new(series.symbol.clone(), interval);
            for bar in self.all(&children, from, until).await? {
                let bounds = session.bounds_of(interval, bar.open_time);
                if bounds.close() <= until {
                    total = add(total, &bar);
                    from = bounds.close();
                }
            }
        }
        Ok(total)
    }

    /// Every final bar that opens in `[from, until)`.
    async fn all(
        &self,
        series: &Series,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<Vec<StoredBar>, DatabaseError> {
        let query = BarQuery {
            start: Some(from),
            end: Some(until),
            order: BarOrder::OldestFirst,
            // The longest bar made of minutes is a day, of days a month.
            limit: 2_000,
            include_forming: false,
        };
        if from >= until {
            return Ok(Vec::new());
        }
        self.database.bars().find(series, &query).await
    }
}
