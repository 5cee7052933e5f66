//! The composition root: settings to infrastructure to handlers to a server, and back down again.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use jiff::Timestamp;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::common::config::{FeedClock as FeedClockSetting, Settings};
use crate::common::error::with_causes;
use crate::common::grpc::transport::{Transport, raise_descriptor_limit};
use crate::common::health::HealthCoordinator;
use crate::common::idempotency::Idempotency;
use crate::common::mediator::Mediator;
use crate::common::metrics::MetricsServer;
use crate::common::shutdown::{Lifecycle, spawn_tracked};
use crate::domain::ohlcv::services::{BarRules, FeedClock};
use crate::features::market_data::coverage::GapRepairs;
use crate::features::market_data::jobs as job_slice;
use crate::features::market_data::quote::{
    FeedOptions, QuoteService, QuoteServiceParts, StreamPace,
};
use crate::features::market_data::status::ServerInfo;
use crate::features::market_data::symbols::SymbolParts;
use crate::features::market_data::sync::{SyncService, SyncServiceParts};
use crate::features::market_data::takeover::{self, TakeoverReport};
use crate::features::market_data::webhooks::{WebhookPace, WebhookService};
use crate::features::market_data::{
    Announcer, CoverageLedger, LiveSeries, Sessions, coverage, ohlcv, quote, status, symbols, sync,
    webhooks,
};
use crate::infrastructure::interfaces::{HistoryProvider, SymbolDirectory};
use crate::infrastructure::persistence::{Cache, Database, IdempotencyRecords, SeriesCache};

mod access;
mod certificates;
mod connect;
mod guard;
mod health;
mod jobs;
mod server;
mod stop;
mod telemetry;

pub use access::{Method, access_table, methods};

use connect::Connected;
use guard::Guard;

/// Why the service cannot start: everything that is wrong, with its remedy and without a secret.
#[derive(Debug, Error)]
#[error("cannot start:\n{}", .mistakes.iter().map(|each| format!("  - {each}")).collect::<Vec<_>>().join("\n"))]
pub struct StartError {
    /// Each thing that is wrong.
    pub mistakes: Vec<String>,
}

impl StartError {
    fn of(error: &impl std::error::Error) -> Self {
        Self { mistakes: vec![error.to_string()] }
    }
}

/// A service that is connected and bound, and does not serve yet.
#[derive(Debug)]
pub struct App {
    listener: TcpListener,
    address: SocketAddr,
    mediator: Mediator,
    idempotency: Idempotency,
    health: HealthCoordinator,
    syncs: SyncService,
    /// What runs by schedule, where anything does.
    jobs: Option<jobs::Scheduled>,
    ledger: CoverageLedger,
    database: Database,
    lifecycle: Lifecycle,
    transport: Transport,
    guard: Guard,
    metrics: Option<(MetricsServer, TcpListener)>,
}

/// What settings do not say, and tests do.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    /// How streams speak, and are listened to.
    pub streams: StreamPace,
    /// How events are sent to webhooks.
    pub webhooks: WebhookPace,
}

impl App {
    /// Connects to all that `settings` name and binds the address.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        Self::start_paced(settings, Pace::default()).await
    }

    /// The same at another pace.
    pub async fn start_paced(settings: Settings, pace: Pace) -> Result<Self, StartError> {
        raise_descriptor_limit();
        Box::pin(Self::wire(settings, pace, Lifecycle::new())).await
    }

    async fn wire(
        settings: Settings,
        pace: Pace,
        lifecycle: Lifecycle,
    ) -> Result<Self, StartError> {
        let Connected { database, cache, provider, files, spool, listener, address, metrics } =
            connect::everything(&settings, &lifecycle).await?;
        let transport =
            Transport::new(settings.connections_per_address).with_tls(files.encryption());
        let guard = files.guard(&settings, &cache, &lifecycle);
        let (series_cache, live) = (cached_series(&cache, &lifecycle), LiveSeries::default());
        let sessions = Sessions::new(database.clone());
        let (announcer, untold) = Announcer::new(database.clone());
        let ledger = CoverageLedger::new(database.clone(), sessions.clone(), announcer.clone());
        let parts = QuoteServiceParts {
            database: database.clone(),
            cache: cache.clone(),
            series: series_cache.clone(),
            sessions: sessions.clone(),
            quotes: Arc::clone(&provider) as _,
            history: Arc::clone(&provider) as _,
            live: live.clone(),
            ledger: ledger.clone(),
            announcer: announcer.clone(),
            spool,
            lifecycle: lifecycle.clone(),
        };
        let syncs = sync_service(&parts);
        let repairs = gap_repairs(&parts, &syncs);
        let symbols = symbol_parts(&parts, &syncs, Arc::clone(&provider) as _);
        let hooks = webhook_service(&parts, &settings, pace.webhooks)?;
        let jobs = jobs::service(&settings, &parts, &syncs, &repairs);
        let scheduled = jobs::Scheduled::start(&settings, &jobs, &announcer).await?;
        let quotes = Box::pin(start_quotes(parts, &settings, pace.streams)).await?;
        let records = IdempotencyRecords::new(&database, &cache);
        let idempotency = Idempotency::new(Arc::new(records), &lifecycle);
        hooks.start(untold, &lifecycle);
        syncs.recover().await.map_err(|error| StartError::of(&error))?;
        let watched = scheduled.as_ref().map(|_| &jobs);
        let health = health::coordinator(&database, &cache, &quotes, watched).await;
        let metrics = metrics.map(|metrics| metrics.of(&database, &cache, &quotes, &jobs));
        let builder = sync::register(Mediator::builder(), &syncs);
        let builder = ohlcv::register(builder, &database, &series_cache, &sessions, &live);
        let info = server_info(&settings, &database, &cache, &*provider);
        let builder = status::register(builder, &database, &health, info);
        let builder = symbols::register(builder, symbols, &quotes);
        let builder = coverage::register(webhooks::register(builder, &hooks), &repairs);
        let mediator = quote::register(job_slice::register(builder, &jobs), &quotes).build();
        Ok(Self {
            listener,
            address,
            mediator,
            idempotency,
            health,
            syncs,
            jobs: scheduled,
            ledger,
            database,
            lifecycle,
            transport,
            guard,
            metrics,
        })
    }

    /// Where it listens; the real port where port 0 was asked for.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` completes, then stops as [`stop`] says.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let Self {
            listener,
            address,
            mediator,
            idempotency,
            health,
            syncs,
            jobs,
            ledger,
            database,
            lifecycle,
            transport,
            guard,
            metrics,
        } = self;
        let load = server::load();
        let service =
            server::service(&mediator, &idempotency, &health, &lifecycle, &guard, load.clone())?;
        health.check_now().await;
        let checking = health.clone();
        let stopping = lifecycle.token();
        drop(lifecycle.spawn("health", async move { checking.run(stopping).await }));
        if let Some(metrics) = metrics {
            telemetry::serve(metrics, &lifecycle);
        }
        drop(lifecycle.spawn("syncs", syncs.look_after()));
        if let Some(jobs) = jobs {
            jobs.run(&lifecycle);
        }
        drop(lifecycle.spawn("coverage ledger", ledger.run(lifecycle.token())));
        drop(lifecycle.spawn("takeover", report_takeover(database.clone())));
        let (draining, closing) = (transport.draining(), transport.closing());
        // Apart from the tasks of calls: it ends before them, or is cut after them.
        let serving = TaskTracker::new();
        let mut server = spawn_tracked(&serving, "grpc", transport.serve(listener, service));
        info!(%address, "serving gRPC on {address}");
        tokio::select! {
            () = shutdown => {}
            ended = &mut server => {
                ended?.context("the server ended by itself")?;
            }
        }
        let stopping =
            stop::Stopping { health, draining, load, lifecycle, closing, server, database };
        stopping.stop().await;
        Ok(())
    }
}

/// Removes what an older version left double, or says what would be removed.
pub async fn migrate(settings: &Settings, apply: bool) -> Result<TakeoverReport, StartError> {
    let lifecycle = Lifecycle::new();
    let (database, cache) =
        tokio::join!(connect::database(settings, &lifecycle), connect::cache(settings));
    let (database, cache, (), (), ()) = connect::all(database, cache, Ok(()), Ok(()), Ok(()))?;
    let report = takeover::migrate(&database, &SeriesCache::new(cache), apply).await;
    database.close().await;
    report.map_err(|error| StartError { mistakes: vec![with_causes(&error)] })
}

fn cached_series(cache: &Cache, lifecycle: &Lifecycle) -> SeriesCache {
    let series = SeriesCache::new(cache.clone());
    drop(lifecycle.spawn("series cache", series.clone().look_after(lifecycle.token())));
    series
}

fn server_info(
    settings: &Settings,
    database: &Database,
    cache: &Cache,
    provider: &dyn HistoryProvider,
) -> ServerInfo {
    ServerInfo {
        environment: settings.environment.as_str(),
        database: database.engine(),
        cache: cache.engine(),
        provider: provider.name(),
    }
}

async fn start_quotes(
    parts: QuoteServiceParts,
    settings: &Settings,
    streams: StreamPace,
) -> Result<QuoteService, StartError> {
    let epoch = Timestamp::now().as_microsecond();
    let quotes = QuoteService::start_up(parts, feed_options(settings, streams), epoch);
    quotes.await.map_err(|error| StartError::of(&error))
}

/// Syncs with what the feed works with.
fn sync_service(parts: &QuoteServiceParts) -> SyncService {
    SyncService::new(SyncServiceParts {
        database: parts.database.clone(),
        cache: parts.series.clone(),
        provider: Arc::clone(&parts.history),
        sessions: parts.sessions.clone(),
        live: parts.live.clone(),
        ledger: parts.ledger.clone(),
        announcer: parts.announcer.clone(),
        lifecycle: parts.lifecycle.clone(),
    })
}

/// Repairs with what the feed works with.
fn gap_repairs(parts: &QuoteServiceParts, syncs: &SyncService) -> GapRepairs {
    let (database, sessions) = (parts.database.clone(), parts.sessions.clone());
    GapRepairs::new(database, sessions, parts.live.clone(), parts.ledger.clone(), syncs.clone())
}

fn webhook_service(
    parts: &QuoteServiceParts,
    settings: &Settings,
    pace: WebhookPace,
) -> Result<WebhookService, StartError> {
    let made = WebhookService::new(
        parts.database.clone(),
        parts.announcer.clone(),
        parts.sessions.clone(),
        &settings.webhook_networks,
        pace,
        &parts.lifecycle,
    );
    made.map_err(|error| StartError::of(&error))
}

fn symbol_parts(
    parts: &QuoteServiceParts,
    syncs: &SyncService,
    directory: Arc<dyn SymbolDirectory>,
) -> SymbolParts {
    SymbolParts {
        database: parts.database.clone(),
        cache: parts.series.clone(),
        sessions: parts.sessions.clone(),
        live: parts.live.clone(),
        syncs: syncs.clone(),
        ledger: parts.ledger.clone(),
        directory,
        stopping: parts.lifecycle.token(),
    }
}

fn feed_options(settings: &Settings, streams: StreamPace) -> FeedOptions {
    let clock = match settings.feed.clock {
        FeedClockSetting::Wall => FeedClock::Wall,
        FeedClockSetting::Event => FeedClock::Event,
    };
    let (grace, lateness) = (settings.bars.grace, settings.bars.lateness);
    FeedOptions {
        autostart: settings.feed.autostart,
        rules: BarRules { clock, grace, lateness },
        log_retention: settings.bars.log_retention,
        streams,
    }
}

/// Says what an older version left behind, once, while the service serves.
async fn report_takeover(database: Database) {
    match takeover::survey(&database).await {
        Ok(report) => report.log(),
        Err(error) => {
            warn!(error = with_causes(&error), "what an older version left could not be surveyed");
        }
    }
}
