//! The composition root: settings to infrastructure to handlers to a server, and back down again.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::time::timeout_at;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tracing::{info, warn};

use crate::common::config::{FeedClock as FeedClockSetting, Settings, TradingViewAuth};
use crate::common::constants::{
    HEALTH_CACHE, HEALTH_DATABASE, HEALTH_FEED, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, SHUTDOWN_GRACE,
};
use crate::common::error::with_causes;
use crate::common::grpc::CallLayer;
use crate::common::health::{Check, HealthCoordinator};
use crate::common::mediator::Mediator;
use crate::common::messaging::EventBus;
use crate::common::shutdown::Lifecycle;
use crate::domain::ohlcv::services::{BarRules, FeedClock};
use crate::domain::sync::SyncStatus;
use crate::features::market_data::grpc::{MarketDataGrpc, QuoteStreamGrpc, SystemGrpc};
use crate::features::market_data::quote::{FeedOptions, QuoteService, QuoteServiceParts};
use crate::features::market_data::status::ServerInfo;
use crate::features::market_data::sync::SyncService;
use crate::features::market_data::takeover::{self, TakeoverReport};
use crate::features::market_data::{LiveSeries, Sessions, ohlcv, quote, status, symbols, sync};
use crate::infrastructure::interfaces::HistoryProvider;
use crate::infrastructure::persistence::{
    Cache, CacheConfig, Database, DatabaseConfig, SeriesCache,
};
use crate::infrastructure::tradingview::{
    ConfigError, Credentials, TradingView, TradingViewConfig,
};
use crate::proto::FILE_DESCRIPTOR_SET;
use crate::proto::v1::market_data_server::MarketDataServer;
use crate::proto::v1::quote_stream_server::QuoteStreamServer;
use crate::proto::v1::system_server::SystemServer;

/// Calls that one connection may have in flight.
const STREAMS_PER_CONNECTION: u32 = 256;
/// Streams that a client may reset before its connection is closed.
const RESETS_PER_CONNECTION: usize = 256;
/// How often a silent connection is asked whether it lives, and how long it may take to say so.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// Why the service cannot start: everything that is wrong, with its remedy and without a secret.
#[derive(Debug, Error)]
#[error("cannot start:\n{}", .mistakes.iter().map(|each| format!("  - {each}")).collect::<Vec<_>>().join("\n"))]
pub struct StartError {
    /// Each thing that is wrong.
    pub mistakes: Vec<String>,
}

/// A service that is connected and bound, and does not serve yet.
#[derive(Debug)]
pub struct App {
    listener: TcpListener,
    address: SocketAddr,
    mediator: Mediator,
    health: HealthCoordinator,
    database: Database,
    lifecycle: Lifecycle,
}

impl App {
    /// Connects to all that `settings` name and binds the address.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let lifecycle = Lifecycle::new();
        let (database, cache, provider, listener) = tokio::join!(
            connect_database(&settings, &lifecycle),
            connect_cache(&settings),
            async { provider(&settings, &lifecycle) },
            listen(settings.grpc_addr),
        );
        let (database, cache, provider, (listener, address)) =
            all(database, cache, provider, listener)?;
        recover(&database).await?;
        let live = LiveSeries::default();
        let sessions = Sessions::new(database.clone());
        let events = EventBus::new();
        let parts = QuoteServiceParts {
            database: database.clone(),
            cache: cache.clone(),
            sessions: sessions.clone(),
            quotes: Arc::clone(&provider) as _,
            history: Arc::clone(&provider) as _,
            live: live.clone(),
            events: events.clone(),
            lifecycle: lifecycle.clone(),
        };
        let epoch = Timestamp::now().as_microsecond();
        let quotes = QuoteService::start_up(parts, feed_options(&settings), epoch).await;
        let quotes = quotes.map_err(|error| StartError { mistakes: vec![error.to_string()] })?;
        let health = health(&database, &cache, &quotes).await;
        let server = ServerInfo {
            environment: settings.environment.as_str(),
            database: database.engine(),
            cache: cache.engine(),
            provider: HistoryProvider::name(&*provider),
        };
        let series_cache = SeriesCache::new(cache);
        let syncs = SyncService::new(
            database.clone(),
            series_cache.clone(),
            provider,
            sessions.clone(),
            live,
            events,
            lifecycle.clone(),
        );
        let builder = sync::register(Mediator::builder(), &syncs);
        let builder = ohlcv::register(builder, &database, &series_cache, &sessions);
        let builder = status::register(builder, &database, &health, server);
        let builder = symbols::register(builder, &database);
        let mediator = quote::register(builder, &quotes).build();
        Ok(Self { listener, address, mediator, health, database, lifecycle })
    }

    /// Where it listens; the real port where port 0 was asked for.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` completes, then stops within [`SHUTDOWN_GRACE`]: no longer ready,
    /// accepts nothing, interrupts syncs, waits for what is under way, closes the database.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let Self { listener, address, mediator, health, database, lifecycle } = self;
        let router = router(&mediator, &health, &lifecycle)?;
        health.check_now().await;
        let checking = health.clone();
        let stopping = lifecycle.token();
        drop(lifecycle.spawn("health", async move { checking.run(stopping).await }));
        drop(lifecycle.spawn("takeover", report_takeover(database.clone())));
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let server =
            router.serve_with_incoming_shutdown(incoming, lifecycle.token().cancelled_owned());
        // The server runs as a task of its own, so that it can be left when it does not end.
        let mut server = lifecycle.spawn("grpc", server);
        info!(%address, "serving gRPC on {address}");
        tokio::select! {
            () = shutdown => {}
            ended = &mut server => {
                ended?.context("the server ended by itself")??;
            }
        }
        let deadline = tokio::time::Instant::now() + SHUTDOWN_GRACE;
        health.drain().await;
        lifecycle.stop();
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        if lifecycle.wait(left.mul_f64(0.9)).await.is_err() {
            warn!("stopping without waiting for the calls that are left");
        }
        if timeout_at(deadline, database.close()).await.is_err() {
            warn!("the database did not close in time");
        }
        info!("stopped");
        Ok(())
    }
}

/// Removes what an older version left double, or says what would be removed.
pub async fn migrate(settings: &Settings, apply: bool) -> Result<TakeoverReport, StartError> {
    let lifecycle = Lifecycle::new();
    let (database, cache) =
        tokio::join!(connect_database(settings, &lifecycle), connect_cache(settings));
    let (database, cache, (), ()) = all(database, cache, Ok(()), Ok(()))?;
    let report = takeover::migrate(&database, &SeriesCache::new(cache), apply).await;
    database.close().await;
    report.map_err(|error| StartError { mistakes: vec![with_causes(&error)] })
}

async fn connect_database(settings: &Settings, lifecycle: &Lifecycle) -> Result<Database, String> {
    let config = match &settings.mongodb {
        Some(mongodb) => DatabaseConfig::MongoDb {
            url: mongodb.url.expose().into(),
            database: mongodb.database.clone(),
            min_pool: mongodb.min_pool_size,
            max_pool: mongodb.max_pool_size,
        },
        None => DatabaseConfig::Sqlite { data_dir: settings.data_dir.clone() },
    };
    let database = Database::connect(config, lifecycle.tracker().clone()).await;
    database.map_err(|error| error.to_string())
}

async fn connect_cache(settings: &Settings) -> Result<Cache, String> {
    let config = match &settings.redis_url {
        Some(url) => CacheConfig::Redis { url: url.expose().into() },
        None => CacheConfig::Memory,
    };
    Cache::connect(config).await.map_err(|error| error.to_string())
}

fn provider(settings: &Settings, lifecycle: &Lifecycle) -> Result<Arc<TradingView>, String> {
    let tradingview = &settings.tradingview;
    let config = TradingViewConfig {
        ws_url: tradingview.ws_url.to_string(),
        http_url: tradingview.http_url.to_string(),
        credentials: credentials(&tradingview.auth),
        extra_roots: tradingview.ca_file.clone(),
        history_timeout: settings.history_timeout,
        ..TradingViewConfig::default()
    };
    let client = TradingView::new(config, lifecycle.tracker().clone(), lifecycle.token());
    client.map(Arc::new).map_err(|error| match (&error, &tradingview.ca_file) {
        (ConfigError::Tls(_), Some(_)) => format!(
            "TRADINGVIEW_CA_FILE: {}; give a file of PEM certificates, or unset it to do without",
            with_causes(&error)
        ),
        (
            ConfigError::Tls(_)
            | ConfigError::Url { .. }
            | ConfigError::Origin
            | ConfigError::Http(_),
            _,
        ) => with_causes(&error),
    })
}

fn credentials(auth: &TradingViewAuth) -> Credentials {
    match auth.clone() {
        TradingViewAuth::Anonymous => Credentials::Anonymous,
        TradingViewAuth::Token(token) => Credentials::Token(token),
        TradingViewAuth::Session { id, sign } => Credentials::Cookies { sessionid: id, sign },
        TradingViewAuth::Password { username, password } => {
            Credentials::Password { username: username.expose_secret().to_owned(), password }
        }
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), String> {
    let bound = match TcpListener::bind(address).await {
        Ok(listener) => listener.local_addr().map(|address| (listener, address)),
        Err(error) => Err(error),
    };
    bound.map_err(|error| {
        format!("GRPC_ADDR: cannot listen on `{address}`: {error}; stop what uses it, or choose another port")
    })
}

/// All four, or everything that is wrong with any.
fn all<A, B, C, D>(
    a: Result<A, String>,
    b: Result<B, String>,
    c: Result<C, String>,
    d: Result<D, String>,
) -> Result<(A, B, C, D), StartError> {
    match (a, b, c, d) {
        (Ok(a), Ok(b), Ok(c), Ok(d)) => Ok((a, b, c, d)),
        (a, b, c, d) => {
            let mistakes = [a.err(), b.err(), c.err(), d.err()].into_iter().flatten().collect();
            Err(StartError { mistakes })
        }
    }
}

/// A sync that a crash cut off is no longer under way.
async fn recover(database: &Database) -> Result<(), StartError> {
    let statuses = database.sync_statuses();
    let recovered = statuses.fail_unfinished(SyncStatus::INTERRUPTED, Timestamp::now()).await;
    match recovered {
        Ok(0) => Ok(()),
        Ok(count) => {
            warn!(count, "{count} syncs were interrupted when the service stopped");
            Ok(())
        }
        Err(error) => Err(StartError { mistakes: vec![error.to_string()] }),
    }
}

async fn health(database: &Database, cache: &Cache, quotes: &QuoteService) -> HealthCoordinator {
    let (database, cache, quotes) = (database.clone(), cache.clone(), quotes.clone());
    HealthCoordinator::builder()
        .service("pocketquant.v1.MarketData")
        .service("pocketquant.v1.QuoteStream")
        .service("pocketquant.v1.System")
        .check(Check::required(HEALTH_DATABASE, move || {
            let database = database.clone();
            async move { database.ping().await }
        }))
        .check(Check::optional(HEALTH_CACHE, move || {
            let cache = cache.clone();
            async move { cache.ping().await }
        }))
        .check(Check::optional(HEALTH_FEED, move || std::future::ready(quotes.health())))
        .build()
        .await
}

fn feed_options(settings: &Settings) -> FeedOptions {
    let clock = match settings.feed.clock {
        FeedClockSetting::Wall => FeedClock::Wall,
        FeedClockSetting::Event => FeedClock::Event,
    };
    let (grace, lateness) = (settings.feed.bar_grace, settings.feed.bar_lateness);
    FeedOptions {
        autostart: settings.feed.autostart,
        rules: BarRules { clock, grace, lateness },
        log_retention: settings.feed.bar_log_retention,
    }
}

fn router(
    mediator: &Mediator,
    health: &HealthCoordinator,
    lifecycle: &Lifecycle,
) -> anyhow::Result<
    tonic::transport::server::Router<
        tower::layer::util::Stack<CallLayer, tower::layer::util::Identity>,
    >,
> {
    let market_data = MarketDataGrpc::new(mediator.clone(), lifecycle.tracker().clone());
    let market_data = MarketDataServer::new(market_data)
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(MAX_RESPONSE_BYTES);
    let quotes = QuoteStreamGrpc::new(mediator.clone(), lifecycle.tracker().clone());
    let quotes = QuoteStreamServer::new(quotes)
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(MAX_RESPONSE_BYTES);
    let system = SystemServer::new(SystemGrpc::new(mediator.clone()))
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(MAX_RESPONSE_BYTES);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // Without it grpcurl cannot print error details.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_max_local_error_reset_streams(Some(RESETS_PER_CONNECTION))
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .layer(CallLayer)
        .add_service(health.server())
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(market_data)
        .add_service(quotes)
        .add_service(system))
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
