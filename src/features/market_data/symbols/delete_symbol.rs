//! Remove an instrument from the registry, with or without its bars.

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::SymbolError;
use crate::common::constants::DELETE_BARS_BATCH;
use crate::common::mediator::{Handler, Request};
use crate::domain::shared::{Interval, Series, Symbol};
use crate::features::market_data::quote::{Connection, QuoteError, QuoteService};
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
        if delete_bars && self.is_followed_elsewhere(&symbol).await? {
            return Err(SymbolError::Followed(symbol));
        }
        self.unsubscribe(&symbol).await?;
        // What has a status is synced by schedule, and would be known again.
        self.database.sync_statuses().delete(&symbol).await?;
        if delete_bars {
            // What the feed wrote last may be on its way still, and would come back.
            self.quotes.settle().await?;
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

    /// Whether the bars would come back, from a process that nobody here can tell to let it go.
    async fn is_followed_elsewhere(&self, symbol: &Symbol) -> Result<bool, DatabaseError> {
        let has_feed = self.quotes.status().connection != Connection::Stopped;
        Ok(!has_feed && self.ledger.is_followed_elsewhere(symbol, Timestamp::now()).await?)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::error::{Coded as _, ErrorCode};
    use crate::domain::ohlcv::BarSource;
    use crate::domain::symbol::{SymbolAggregate, SymbolDescription};
    use crate::domain::sync::SyncDiff;
    use crate::features::market_data::quote::test_bench::{
        Bench, Safe, Settling, bar, hour, symbol,
    };
    use crate::features::market_data::sync::SyncServiceParts;

    fn handler(bench: &Bench) -> (DeleteSymbolHandler, Settling) {
        let (quotes, settling) = bench.held_feed();
        let parts = bench.parts.clone();
        let syncs = SyncService::new(SyncServiceParts {
            database: parts.database.clone(),
            cache: parts.series.clone(),
            provider: parts.history,
            sessions: parts.sessions.clone(),
            live: parts.live.clone(),
            ledger: parts.ledger.clone(),
            announcer: parts.announcer,
            lifecycle: parts.lifecycle.clone(),
        });
        let handler = DeleteSymbolHandler {
            database: parts.database,
            cache: parts.series,
            sessions: parts.sessions,
            live: parts.live,
            syncs,
            ledger: parts.ledger,
            quotes,
            stopping: parts.lifecycle.token(),
        };
        (handler, settling)
    }

    /// The feed has `safe`ly written what it built last, while the deletion waits for it.
    async fn deleted(bench: &Bench, safe: Safe) -> Result<(), SymbolError> {
        let (database, now) = (&bench.parts.database, Timestamp::now());
        let (info, _) =
            SymbolAggregate::new(&symbol(), None, now).observe(&SymbolDescription::default(), now);
        database.symbols().put(&info).await.unwrap();
        let (handler, mut settling) = handler(bench);
        let deletion = async move {
            handler.handle(DeleteSymbol { symbol: symbol(), delete_bars: true }).await
        };
        let last_write = async {
            let settled = settling.recv().await.expect("the deletion waits for the feed");
            let inserted = vec![bar(1.0, 0, BarSource::Ticks).stored];
            let diff = SyncDiff { inserted, ..SyncDiff::default() };
            database.bars().write(&hour(), &diff, now).await.unwrap();
            database.feed_state().save(&[(symbol(), "kept".into())], now).await.unwrap();
            settled.send(safe).unwrap();
        };
        tokio::join!(deletion, last_write).0
    }

    #[tokio::test]
    async fn what_the_feed_wrote_last_goes_too() {
        let bench = Bench::start().await;
        deleted(&bench, Safe::Stored).await.unwrap();
        let database = &bench.parts.database;
        assert_eq!(database.bars().newest(&hour()).await.unwrap(), None);
        assert_eq!(database.feed_state().get(&symbol()).await.unwrap(), None);
    }

    #[tokio::test]
    async fn while_what_the_feed_wrote_waits_on_disk_nothing_is_deleted() {
        let bench = Bench::start().await;
        let error = deleted(&bench, Safe::Spooled).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::DatabaseUnavailable);
        assert!(error.retry_after().is_some());
        let database = &bench.parts.database;
        assert!(database.bars().newest(&hour()).await.unwrap().is_some());
        assert!(database.symbols().get(&symbol()).await.unwrap().is_some());
    }
}
