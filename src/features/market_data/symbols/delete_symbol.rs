//! Remove an instrument from the registry, with or without its bars.

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::SymbolError;
use crate::common::constants::DELETE_BARS_BATCH;
use crate::common::mediator::{Handler, Request};
use crate::domain::shared::{Interval, Series, Symbol};
use crate::features::market_data::quote::{QuoteError, QuoteService};
use crate::features::market_data::sync::SyncService;
use crate::features::market_data::{CoverageLedger, Live, LiveSeries, Sessions};
use crate::infrastructure::persistence::{Database, DatabaseError, SeriesCache};

/// Remove `symbol`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteSymbol {
    /// Which instrument.
    pub symbol: Symbol,
    /// Whether its bars go too.
    pub delete_bars: bool,
}

impl Request for DeleteSymbol {
    type Output = ();
    type Error = SymbolError;
    const NAME: &'static str = "market_data.delete_symbol";
}

pub(super) struct DeleteSymbolHandler {
    pub(super) database: Database,
    pub(super) cache: SeriesCache,
    pub(super) sessions: Sessions,
    pub(super) live: LiveSeries,
    pub(super) syncs: SyncService,
    pub(super) ledger: CoverageLedger,
    pub(super) quotes: QuoteService,
    pub(super) stopping: CancellationToken,
}

impl Handler<DeleteSymbol> for DeleteSymbolHandler {
    /// The registry's row goes last: whatever fails before it, the call can be made again.
    async fn handle(&self, command: DeleteSymbol) -> Result<(), SymbolError> {
        let DeleteSymbol { symbol, delete_bars } = command;
        let symbols = self.database.symbols();
        let known = if delete_bars {
            // Its bars may be left of an earlier deletion.
            symbols.last_known(&symbol).await?
        } else {
            symbols.get(&symbol).await?
        };
        let held = self.syncs.hold(&symbol).await?;
        let _held = held.ok_or_else(|| SymbolError::Busy(symbol.clone()))?;
        if known.is_none() {
            return self.forget_attempts(symbol).await;
        }
        self.unsubscribe(&symbol).await?;
        // What has a status is synced by schedule, and would be known again.
        self.database.sync_statuses().delete(&symbol).await?;
        if delete_bars {
            let bars = self.delete_bars(&symbol).await?;
            self.ledger.forget(&symbol).await?;
            self.forget_feed(&symbol).await?;
            symbols.forget(&symbol).await?;
            info!(%symbol, bars, "deleted {symbol} and its {bars} bars");
        } else {
            symbols.delete(&symbol, Timestamp::now()).await?;
            info!(%symbol, "deleted {symbol}; its bars stay");
        }
        self.sessions.forget(&symbol).await;
        Ok(())
    }
}

impl DeleteSymbolHandler {
    /// A symbol that never became known: syncs of it have failed, and all that is left of them is
    /// what their statuses say.
    async fn forget_attempts(&self, symbol: Symbol) -> Result<(), SymbolError> {
        if self.database.sync_statuses().delete(&symbol).await? == 0 {
            return Err(SymbolError::Unknown(symbol));
        }
        info!(%symbol, "deleted what was said of failed syncs of {symbol}");
        Ok(())
    }

    async fn unsubscribe(&self, symbol: &Symbol) -> Result<(), SymbolError> {
        match self.quotes.unsubscribe(symbol.clone()).await {
            Ok(_) | Err(QuoteError::NotSubscribed(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes the bars of all intervals, a batch at a time, so that others can write in between
    /// and a service that stops need not wait for the last one.
    async fn delete_bars(&self, symbol: &Symbol) -> Result<u64, SymbolError> {
        let mut deleted = 0;
        for interval in Interval::ALL {
            let series = Series::new(symbol.clone(), interval);
            loop {
                if self.stopping.is_cancelled() {
                    return Err(SymbolError::Draining);
                }
                self.cache.begin_write(&series).await;
                let batch = self.database.bars().delete_oldest(&series, DELETE_BARS_BATCH).await;
                self.cache.finish_write(&series).await;
                let batch = batch?;
                deleted += batch;
                if batch == 0 {
                    break;
                }
            }
        }
        Ok(deleted)
    }

    /// What the feed knew of the bars. Open streams keep it: their symbol goes on.
    async fn forget_feed(&self, symbol: &Symbol) -> Result<(), DatabaseError> {
        if self.live.of(symbol).tracked {
            return Ok(());
        }
        self.database.feed_state().delete(std::slice::from_ref(symbol)).await?;
        self.live.set(symbol, Live::default());
        Ok(())
    }
}
