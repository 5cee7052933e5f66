//! What the live side and the syncs must know of each other.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::domain::ohlcv::Bar;
use crate::domain::shared::{Series, Symbol};
use crate::infrastructure::persistence::DatabaseError;

/// Which symbols the feed tracks, and word of bars that others put into the log. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct LiveSeries {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    symbols: RwLock<HashMap<Symbol, Live>>,
    logged: Notify,
    forming: OnceLock<Box<dyn FormingBars>>,
}

/// Who builds bars, and knows those that are not over.
pub trait FormingBars: Debug + Send + Sync {
    /// The bar of `series` that is forming, as of now.
    fn forming<'a>(&'a self, series: &'a Series) -> BoxFuture<'a, Option<Bar>>;

    /// The bar of `series` that is forming, as whichever process builds it kept it last.
    fn kept<'a>(&'a self, series: &'a Series) -> BoxFuture<'a, Result<Option<Bar>, DatabaseError>>;

    /// From where on whichever process follows `symbol`, or did, logs its closed bars.
    fn logged_from<'a>(
        &'a self,
        symbol: &'a Symbol,
    ) -> BoxFuture<'a, Result<Option<Timestamp>, DatabaseError>>;
}

/// How a symbol is live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Whether the feed builds its bars right now: then its forming bars are the feed's.
    pub tracked: bool,
    /// From where on its closed bars go into the bar log, as far as this process knows by itself.
    pub logged_from: Option<Timestamp>,
}

impl LiveSeries {
    /// How `symbol` is live; by default not at all.
    pub fn of(&self, symbol: &Symbol) -> Live {
        let symbols = self.shared.symbols.read().unwrap_or_else(PoisonError::into_inner);
        symbols.get(symbol).copied().unwrap_or_default()
    }

    /// `symbol` is live like this from now on.
    pub fn set(&self, symbol: &Symbol, live: Live) {
        let mut symbols = self.shared.symbols.write().unwrap_or_else(PoisonError::into_inner);
        if live == Live::default() {
            symbols.remove(symbol);
        } else {
            symbols.insert(symbol.clone(), live);
        }
    }

    /// From where on the closed bars of `symbol` go into the bar log, whichever process follows it.
    pub async fn logged_from(&self, symbol: &Symbol) -> Result<Option<Timestamp>, DatabaseError> {
        match (self.of(symbol).logged_from, self.shared.forming.get()) {
            (None, Some(source)) => source.logged_from(symbol).await,
            (known, _) => Ok(known),
        }
    }

    /// From now on `source` is asked for forming bars; the first one stays.
    pub fn set_forming(&self, source: impl FormingBars + 'static) {
        self.shared.forming.get_or_init(|| Box::new(source));
    }

    /// The feed's forming bar of `series`, where it tracks it and has one.
    pub async fn forming(&self, series: &Series) -> Option<Bar> {
        let source = self.shared.forming.get().filter(|_| self.of(&series.symbol).tracked)?;
        source.forming(series).await
    }

    /// The forming bar of `series`, as whichever process builds it kept it last: about a second ago
    /// where its feed is there, any time ago where it has gone.
    pub async fn kept(&self, series: &Series) -> Result<Option<Bar>, DatabaseError> {
        match self.shared.forming.get() {
            Some(source) => source.kept(series).await,
            None => Ok(None),
        }
    }

    /// Bars were put into the log: streams are to be told.
    pub fn logged(&self) {
        self.shared.logged.notify_one();
    }

    /// Waits for the next word of bars in the log.
    pub async fn until_logged(&self) {
        self.shared.logged.notified().await;
    }
}
