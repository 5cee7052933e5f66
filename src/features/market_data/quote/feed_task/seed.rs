//! What makes the first bars after a join complete: minutes of the day, and the days before it.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::fetch::{Fetched, first_page, values};
use crate::domain::ohlcv::Ohlcv;
use crate::domain::ohlcv::services::BarClock;
use crate::domain::quote::SymbolId;
use crate::domain::shared::{Interval, Series, Symbol};
use crate::domain::symbol::TradingSession;
use crate::features::market_data::quote::quote_service::QuoteServiceParts;
use crate::infrastructure::interfaces::{HistoryPage, ProviderError};

/// Daily bars that a join asks for: the earlier of a week's and a month's first session.
pub(super) const DAYS: u32 = 32;
/// Minutes in the longest session, and some.
const MINUTES: u32 = 1_500;

/// The days that were over when the provider was asked.
#[derive(Clone, Debug)]
pub(in crate::features::market_data::quote) struct Days {
    pub(super) bars: Vec<(Timestamp, Ohlcv)>,
    /// When it was asked, by its own clock; none where it did not answer.
    asked: Option<Timestamp>,
    session: Arc<TradingSession>,
}

impl Days {
    /// Nothing is known.
    pub(super) const fn unknown(session: Arc<TradingSession>) -> Self {
        Self { bars: Vec::new(), asked: None, session }
    }

    /// The days of `page` that are over.
    pub(super) fn of(page: &HistoryPage, session: Arc<TradingSession>) -> Self {
        let mut clock = BarClock::new(Arc::clone(&session), Interval::D1);
        let mut bars = values(page);
        bars.retain(|(open, _)| clock.bounds_of(*open).is_over(page.server_time));
        Self { bars, asked: Some(page.server_time), session }
    }

    /// Whether these are all days before the one that `time` belongs to.
    pub(super) fn reach(&self, time: Timestamp) -> bool {
        let day = |time| self.session.trading_day_at(time);
        self.asked.and_then(day).is_some_and(|asked| day(time) == Some(asked))
    }
}

/// What the provider is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// The day is complete from its ticks where not.
    pub(super) minutes: bool,
    /// When the last trade before the join happened; none where that is not known.
    pub(super) since: Option<Timestamp>,
}

/// Fetches what is `wanted`, and the `days` again where they do not reach up to it. Where one is
/// not to be had, the other is of no use: then all is fetched again after its close.
pub(super) fn seed(
    parts: &QuoteServiceParts,
    symbol: Symbol,
    id: SymbolId,
    (wanted, days): (Wanted, Days),
    fetches: mpsc::Sender<Fetched>,
) {
    let parts = parts.clone();
    let lifecycle = parts.lifecycle.clone();
    let task = async move {
        let session = Arc::clone(&days.session);
        let seeded = fetch(&parts, &symbol, wanted, days).await;
        let (minutes, days) = seeded.unwrap_or_else(|error| {
            warn!(%symbol, %error, "no seed for {symbol}; its first bars are fetched after they close");
            (Vec::new(), Days::unknown(session))
        });
        debug!(%symbol, minutes = minutes.len(), days = days.bars.len(), "seeded {symbol}");
        drop(fetches.send(Fetched::Seeded { symbol, id, minutes, days }).await);
    };
    drop(lifecycle.spawn("seed symbol", Box::pin(task)));
}

type Seeded = (Vec<(Timestamp, Ohlcv)>, Days);

async fn fetch(
    parts: &QuoteServiceParts,
    symbol: &Symbol,
    wanted: Wanted,
    days: Days,
) -> Result<Seeded, ProviderError> {
    let minutes = if wanted.minutes {
        values(&first_page(parts, Series::new(symbol.clone(), Interval::M1), MINUTES).await?)
    } else {
        Vec::new()
    };
    if wanted.since.is_some_and(|since| days.reach(since)) {
        return Ok((minutes, days));
    }
    match first_page(parts, Series::new(symbol.clone(), Interval::D1), DAYS).await {
        Ok(page) => Ok((minutes, Days::of(&page, days.session))),
        // As in a replay that has just begun.
        Err(ProviderError::NoData { .. }) => Ok((minutes, Days::unknown(days.session))),
        Err(error) => Err(error),
    }
}
