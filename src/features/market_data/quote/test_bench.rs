//! For tests: the parts of a feed on a database of their own, and a provider that says nothing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};

use super::feed_task::Command;
use super::hub::Hub;
pub(in crate::features::market_data) use super::job::Safe;
use super::quote_service::{FeedOptions, QuoteService, QuoteServiceParts};
use crate::common::shutdown::Lifecycle;
use crate::domain::ohlcv::services::{BarRules, FeedClock};
use crate::domain::ohlcv::{Bar, BarRange, BarSource, Ohlcv, StoredBar};
use crate::domain::shared::{Interval, Series, Symbol};
use crate::features::market_data::quote::{QuoteError, StreamPace};
use crate::features::market_data::{Announced, Announcer, CoverageLedger, LiveSeries, Sessions};
use crate::infrastructure::interfaces::{
    FeedCommand, FeedEvent, HistoryProvider, HistoryRequest, HistoryStream, QuoteProvider,
};
use crate::infrastructure::persistence::{
    Cache, CacheConfig, Database, DatabaseConfig, SeriesCache,
};

/// What a feed works with.
pub(in crate::features::market_data) struct Bench {
    pub(in crate::features::market_data) parts: QuoteServiceParts,
    pub(in crate::features::market_data) provider: Arc<Silent>,
    pub(in crate::features::market_data) folder: TempDir,
}

/// Who waits until a feed has settled.
pub(in crate::features::market_data) type Settling = mpsc::UnboundedReceiver<oneshot::Sender<Safe>>;

/// A provider that says nothing, and keeps what it is told.
#[derive(Debug, Default)]
pub(in crate::features::market_data) struct Silent {
    feeds: Mutex<Vec<mpsc::Receiver<FeedCommand>>>,
    asked: Mutex<usize>,
}

impl Bench {
    pub(in crate::features::market_data) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lifecycle = Lifecycle::new();
        let config = DatabaseConfig::Sqlite { data_dir: folder.path().to_owned() };
        let database = Database::connect(config, lifecycle.tracker().clone()).await.unwrap();
        let cache = Cache::connect(CacheConfig::Memory).await.unwrap();
        let sessions = Sessions::new(database.clone());
        let (announcer, _) = Announcer::new(database.clone());
        let provider = Arc::<Silent>::default();
        let parts = QuoteServiceParts {
            series: SeriesCache::new(cache.clone()),
            ledger: CoverageLedger::new(database.clone(), sessions.clone(), announcer.clone()),
            database,
            cache,
            sessions,
            quotes: Arc::clone(&provider) as _,
            history: Arc::clone(&provider) as _,
            live: LiveSeries::default(),
            announcer,
            spool: None,
            lifecycle,
        };
        Self { parts, provider, folder }
    }

    /// A feed that follows nothing, and one by one who waits until it has settled.
    pub(in crate::features::market_data) fn held_feed(&self) -> (QuoteService, Settling) {
        let (commands, mut received) = mpsc::channel(8);
        let (settling, waiting) = mpsc::unbounded_channel();
        let sender = (commands, mpsc::unbounded_channel().0);
        let service = QuoteService::new(&self.parts, StreamPace::default(), Hub::new(1, 0), sender);
        let task = async move {
            while let Some(command) = received.recv().await {
                // Nothing else is asked of it; who asks is told that it is gone.
                if let Command::Settle(answer) = command {
                    drop(settling.send(answer));
                } else if let Command::Unsubscribe(symbol, answer) = command {
                    drop(answer.send(Err(QuoteError::NotSubscribed(symbol))));
                }
            }
        };
        drop(self.parts.lifecycle.spawn("held feed", task));
        (service, waiting)
    }

    /// What was told, the newest first.
    pub(in crate::features::market_data) fn told(&self) -> Vec<Arc<Announced>> {
        self.parts.announcer.newest(10)
    }
}

impl Silent {
    /// What the newest feed was told so far.
    pub(in crate::features::market_data) fn commands(&self) -> Vec<FeedCommand> {
        let mut feeds = self.feeds.lock().unwrap();
        let feed = feeds.last_mut().unwrap();
        std::iter::from_fn(|| feed.try_recv().ok()).collect()
    }

    /// How often it was asked for history.
    pub(in crate::features::market_data) fn asked(&self) -> usize {
        *self.asked.lock().unwrap()
    }
}

impl QuoteProvider for Silent {
    fn name(&self) -> &'static str {
        "silent"
    }

    fn feed(&self, commands: mpsc::Receiver<FeedCommand>) -> BoxStream<'static, FeedEvent> {
        self.feeds.lock().unwrap().push(commands);
        stream::pending().boxed()
    }
}

impl HistoryProvider for Silent {
    fn name(&self) -> &'static str {
        "silent"
    }

    fn history(&self, _: HistoryRequest) -> HistoryStream {
        *self.asked.lock().unwrap() += 1;
        stream::pending().boxed()
    }
}

/// On the event clock, started by hand.
pub(in crate::features::market_data) fn options() -> FeedOptions {
    FeedOptions {
        autostart: false,
        rules: BarRules { clock: FeedClock::Event, ..BarRules::default() },
        log_retention: Duration::from_hours(24),
        streams: StreamPace::default(),
    }
}

pub(in crate::features::market_data) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub(in crate::features::market_data) fn symbol() -> Symbol {
    Symbol::parse("CME:ES").unwrap()
}

pub(in crate::features::market_data) fn hour() -> Series {
    Series::new(symbol(), Interval::H1)
}

/// The first hour of 1970, at one price.
pub(in crate::features::market_data) fn bar(price: f64, revision: u32, source: BarSource) -> Bar {
    let values = Ohlcv::new(price, price, price, price, Some(1.0)).unwrap();
    let stored = StoredBar::with_revision(at(0), values, revision, source);
    Bar { range: first_hour(), stored }
}

pub(in crate::features::market_data) fn first_hour() -> BarRange {
    BarRange::new(at(0), at(3_600)).unwrap()
}
