//! Connects to what the settings name; an error names the setting and the remedy, and no secret.

use std::net::SocketAddr;
use std::sync::Arc;

use secrecy::ExposeSecret as _;
use tokio::net::TcpListener;
use tracing::warn;

use super::StartError;
use super::guard::GuardFiles;
use super::telemetry::{self, Metrics};
use crate::common::config::{Settings, TradingViewAuth};
use crate::common::error::with_causes;
use crate::common::shutdown::Lifecycle;
use crate::infrastructure::persistence::{
    Cache, CacheConfig, Database, DatabaseConfig, DatabaseError,
};
use crate::infrastructure::spool::{SPOOL_FILE, Spool, SpoolError};
use crate::infrastructure::tradingview::{
    ConfigError, Credentials, DEFAULT_SEARCH_URL, TradingView, TradingViewConfig,
};

/// All that the settings name.
pub(super) struct Connected {
    pub(super) database: Database,
    pub(super) cache: Cache,
    pub(super) provider: Arc<TradingView>,
    pub(super) files: GuardFiles,
    pub(super) spool: Option<Spool>,
    pub(super) listener: TcpListener,
    pub(super) address: SocketAddr,
    pub(super) metrics: Option<Metrics>,
}

/// Connects to all at once, so that all mistakes are told together.
pub(super) async fn everything(
    settings: &Settings,
    lifecycle: &Lifecycle,
) -> Result<Connected, StartError> {
    let metrics = telemetry::metrics(settings.telemetry.metrics_addr).await;
    let (database, cache, provider, files, listener) = tokio::join!(
        database(settings, lifecycle),
        cache(settings),
        async { provider(settings, lifecycle) },
        GuardFiles::read(&settings.protection),
        listen(settings.grpc_addr),
    );
    let connected = all(database, cache, provider, files, listener);
    let ((database, cache, provider, files, (listener, address)), metrics) =
        both(connected, metrics)?;
    let spool = spool(settings, &database, lifecycle).await?;
    Ok(Connected { database, cache, provider, files, spool, listener, address, metrics })
}

pub(super) async fn database(
    settings: &Settings,
    lifecycle: &Lifecycle,
) -> Result<Database, String> {
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

/// Where closed bars wait while the database is away. A folder that cannot be used is no reason not
/// to start; bars that wait there, and could not be stored or wait for another database, are.
async fn spool(
    settings: &Settings,
    database: &Database,
    lifecycle: &Lifecycle,
) -> Result<Option<Spool>, StartError> {
    let (folder, tasks) = (&settings.data_dir, lifecycle.tracker().clone());
    let id = database.bar_log().id().await.map_err(|error| mistake(&error))?;
    let mut may_wait = Spool::may_hold(folder);
    let opened = async {
        let spool = Spool::open(folder, settings.spool_max_bytes, tasks).await?;
        may_wait = spool.count().await? > 0;
        spool.claim(id).await?;
        Ok(spool)
    };
    let file = folder.join(SPOOL_FILE);
    match opened.await {
        Ok(spool) => Ok(Some(spool)),
        Err(SpoolError::OfAnother) => Err(StartError {
            mistakes: vec![format!(
                "DATA_DIR: `{}` holds bars that wait for another database; start once with that one, or remove the file to give them up",
                file.display()
            )],
        }),
        Err(error) if may_wait => Err(StartError {
            mistakes: vec![format!(
                "DATA_DIR: `{}` may hold bars that wait for the database, and cannot be used: {error}; mend that, or stop the process that uses it, and start again; or move the file away to give them up",
                file.display()
            )],
        }),
        Err(error) => {
            warn!(
                %error,
                "no spool in DATA_DIR `{}`: while the database is away, bars wait in memory only",
                folder.display()
            );
            Ok(None)
        }
    }
}

fn mistake(error: &DatabaseError) -> StartError {
    StartError { mistakes: vec![with_causes(error)] }
}

pub(super) async fn cache(settings: &Settings) -> Result<Cache, String> {
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
        search_url: tradingview
            .search_url
            .as_ref()
            .map_or_else(|| DEFAULT_SEARCH_URL.to_owned(), ToString::to_string),
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

/// Both, or everything that is wrong with either.
fn both<A, B>(a: Result<A, StartError>, b: Result<B, String>) -> Result<(A, B), StartError> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Ok(_), Err(mistake)) => Err(StartError { mistakes: vec![mistake] }),
        (Err(error), Ok(_)) => Err(error),
        (Err(mut error), Err(mistake)) => {
            error.mistakes.push(mistake);
            Err(error)
        }
    }
}

/// All five, or everything that is wrong with any.
pub(super) fn all<A, B, C, D, E>(
    first: Result<A, String>,
    second: Result<B, String>,
    third: Result<C, String>,
    fourth: Result<D, String>,
    fifth: Result<E, String>,
) -> Result<(A, B, C, D, E), StartError> {
    match (first, second, third, fourth, fifth) {
        (Ok(first), Ok(second), Ok(third), Ok(fourth), Ok(fifth)) => {
            Ok((first, second, third, fourth, fifth))
        }
        (first, second, third, fourth, fifth) => {
            let wrong = [first.err(), second.err(), third.err(), fourth.err(), fifth.err()];
            Err(StartError { mistakes: wrong.into_iter().flatten().collect() })
        }
    }
}
