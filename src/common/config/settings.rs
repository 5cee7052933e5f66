//! The settings, checked and typed.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::error::{ConfigError, Mistake};
use super::jobs::{JobsSettings, jobs};
use super::parse::{self, Reader};
use super::protection::{ProtectionSettings, protection};
use super::redact::redact_url;
use super::table as t;
use super::tradingview::{TradingViewSettings, tradingview};
use crate::common::constants::MAX_CONNECTIONS;
use crate::common::tracing::LogFormat;

/// All settings, valid. `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where gRPC is served; loopback unless calls are protected, or `allow_insecure`.
    pub grpc_addr: SocketAddr,
    /// Most connections from one address.
    pub connections_per_address: u32,
    /// Whether gRPC may be reachable from other machines unprotected.
    pub allow_insecure: bool,
    /// How calls are protected.
    pub protection: ProtectionSettings,
    /// What this installation is.
    pub environment: Environment,
    /// What is logged, and how.
    pub log: LogSettings,
    /// Where the embedded database keeps its files, and bars wait for one that is away.
    pub data_dir: PathBuf,
    /// Most bytes that bars may take while they wait.
    pub spool_max_bytes: u64,
    /// The MongoDB to use instead of the embedded database.
    pub mongodb: Option<MongoDbSettings>,
    /// The Redis to use as the cache instead of memory.
    pub redis_url: Option<SecretUrl>,
    /// The provider.
    pub tradingview: TradingViewSettings,
    /// Longest wait for the provider without progress.
    pub history_timeout: Duration,
    /// The live feed.
    pub feed: FeedSettings,
    /// The bars that are built from it.
    pub bars: BarSettings,
    /// What it does by itself, and when.
    pub jobs: JobsSettings,
    /// Networks besides the public internet that webhooks may be in.
    pub webhook_networks: Vec<IpNet>,
    /// What is told about the service while it runs.
    pub telemetry: TelemetrySettings,
}

/// What is told about the service while it runs, besides its log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TelemetrySettings {
    /// Where metrics can be fetched; none are kept where it is unset.
    pub metrics_addr: Option<SocketAddr>,
    /// The collector of traces; none are made where it is unset.
    pub collector: Option<Url>,
    /// Roots to trust for it besides the public ones.
    pub collector_roots: Option<PathBuf>,
}

/// What an installation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// Trying things out.
    Development,
    /// The real thing.
    Production,
}

/// How live quotes are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedSettings {
    /// Whether it connects by itself, once something is subscribed.
    pub autostart: bool,
    /// What time it is.
    pub clock: FeedClock,
}

/// What time it is to the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedClock {
    /// The machine's: quiet bars close by it, and ticks of the future are refused.
    Wall,
    /// Each symbol's newest tick: for replays, at whatever speed.
    Event,
}

/// How bars are built from ticks, and for how long they can be streamed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarSettings {
    /// How long after its end a bar waits for late ticks before it closes by the clock.
    pub grace: Duration,
    /// How late a tick may come and still correct its bar; `grace` at least.
    pub lateness: Duration,
    /// How long the bar log keeps entries.
    pub log_retention: Duration,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// How lines look.
    pub format: LogFormat,
    /// Which lines are written: a level or directives, valid.
    pub filter: String,
}

/// Which MongoDB, and how.
#[derive(Clone, Debug)]
pub struct MongoDbSettings {
    /// Where it is.
    pub url: SecretUrl,
    /// The database in it.
    pub database: String,
    /// Connections that are kept open; `max_pool_size` at most.
    pub min_pool_size: u32,
    /// Most connections.
    pub max_pool_size: u32,
}

/// A URL that may hold a password: shown without it.
#[derive(Clone)]
pub struct SecretUrl(SecretString);

impl SecretUrl {
    /// Keeps `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self(SecretString::from(url.into()))
    }

    /// All of it, for the driver only.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact_url(self.expose()))
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretUrl({self})")
    }
}

impl Environment {
    /// Its name: `development` or `production`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Production => "production",
        }
    }
}

impl Settings {
    /// Reads every setting through `lookup`; names that it knows besides are ignored, and an empty
    /// value is an unset one. The error holds every mistake.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(&lookup);
        let settings = read(&mut reader);
        reader.finish(settings)
    }
}

/// Every setting is read before the first missing one matters, so that all mistakes are noted.
fn read(reader: &mut Reader<'_>) -> Option<Settings> {
    let allow_insecure = reader.read(&t::ALLOW_INSECURE, parse::boolean);
    let protection = protection(reader);
    let allowed = allow_insecure == Some(true)
        || protection.as_ref().is_none_or(ProtectionSettings::knows_callers);
    let grpc_addr = grpc_addr(reader, allowed);
    let connections_per_address =
        reader.read(&t::CONNECTIONS_PER_ADDRESS, parse::number(1, MAX_CONNECTIONS));
    let environment = reader.read(&t::ENVIRONMENT, |value| match value {
        "development" => Ok(Environment::Development),
        "production" => Ok(Environment::Production),
        _ => Err(None),
    });
    let log = log(reader);
    let data_dir = reader.read(&t::DATA_DIR, parse::path);
    let spool_max_bytes = reader.read(&t::SPOOL_MAX_SIZE, parse::size(64 << 10, 1 << 40));
    let mongodb = mongodb(reader);
    let redis = parse::driver_url(&["redis", "rediss"]);
    let redis_url = reader.read(&t::REDIS_URL, redis).map(SecretUrl::new);
    let tradingview = tradingview(reader);
    let bounds = (Duration::from_millis(100), Duration::from_mins(10));
    let history_timeout = reader.read(&t::HISTORY_TIMEOUT, parse::duration(bounds.0, bounds.1));
    let feed = feed(reader);
    let bars = bars(reader);
    let jobs = jobs(reader);
    let webhook_networks = reader.read(&t::WEBHOOK_ALLOWED_NETWORKS, parse::networks);
    let telemetry = telemetry(reader);
    Some(Settings {
        grpc_addr: grpc_addr?,
        connections_per_address: connections_per_address?,
        allow_insecure: allow_insecure?,
        protection: protection?,
        environment: environment?,
        log: log?,
        data_dir: data_dir?,
        spool_max_bytes: spool_max_bytes?,
        mongodb: mongodb?,
        redis_url,
        tradingview: tradingview?,
        history_timeout: history_timeout?,
        feed: feed?,
        bars: bars?,
        jobs: jobs?,
        // One that is wrong is a mistake that is noted.
        webhook_networks: webhook_networks.unwrap_or_default(),
        telemetry,
    })
}

fn grpc_addr(reader: &mut Reader<'_>, allowed: bool) -> Option<SocketAddr> {
    let address = reader.read(&t::GRPC_ADDR, parse::address)?;
    if address.ip().to_canonical().is_loopback() || allowed {
        return Some(address);
    }
    let message = format!(
        "`{address}` can be reached from other machines, and whoever reaches it can do everything: \
         there are neither API keys (API_KEYS_FILE) nor client certificates (TLS_CLIENT_CA); give \
         one of these, use a loopback address, or set ALLOW_INSECURE=true if something else \
         protects it"
    );
    reader.note(Mistake { name: t::GRPC_ADDR.name.to_owned(), message });
    None
}

fn log(reader: &mut Reader<'_>) -> Option<LogSettings> {
    let format = reader.read(&t::LOG_FORMAT, |value| match value {
        "console" => Ok(LogFormat::Console),
        "json" => Ok(LogFormat::Json),
        _ => Err(None),
    });
    let filter = reader.read(&t::LOG_LEVEL, parse::log_filter);
    Some(LogSettings { format: format?, filter: filter? })
}

fn feed(reader: &mut Reader<'_>) -> Option<FeedSettings> {
    let autostart = reader.read(&t::FEED_AUTOSTART, parse::boolean);
    let clock = reader.read(&t::FEED_CLOCK, |value| match value {
        "wall" => Ok(FeedClock::Wall),
        "event" => Ok(FeedClock::Event),
        _ => Err(None),
    });
    Some(FeedSettings { autostart: autostart?, clock: clock? })
}

fn bars(reader: &mut Reader<'_>) -> Option<BarSettings> {
    let minute = Duration::from_mins(1);
    let grace = reader.read(&t::BAR_GRACE, parse::duration(Duration::ZERO, minute));
    let hour = Duration::from_hours(1);
    let lateness = reader.read(&t::BAR_LATENESS, parse::duration(Duration::ZERO, hour));
    let year = Duration::from_hours(365 * 24);
    let log_retention =
        reader.read(&t::BAR_LOG_RETENTION, parse::duration(Duration::from_secs(1), year));
    let (grace, lateness) = (grace?, lateness?);
    if lateness < grace {
        let given = reader.given(&t::BAR_LATENESS).unwrap_or_default();
        let problem = format!("`{given}` is less than BAR_GRACE");
        reader.note(Mistake::new(&t::BAR_LATENESS, &problem));
    }
    Some(BarSettings { grace, lateness, log_retention: log_retention? })
}

fn telemetry(reader: &mut Reader<'_>) -> TelemetrySettings {
    let metrics_addr = reader.read(&t::METRICS_ADDR, parse::address);
    let collector =
        reader.read(&t::OTEL_EXPORTER_OTLP_ENDPOINT, parse::plain_url(&["http", "https"]));
    let collector_roots = reader.read(&t::OTEL_EXPORTER_OTLP_CERTIFICATE, parse::readable_file);
    let disabled = reader.read(&t::OTEL_SDK_DISABLED, parse::boolean);
    for setting in [
        t::OTEL_SERVICE_NAME,
        t::OTEL_RESOURCE_ATTRIBUTES,
        t::OTEL_TRACES_SAMPLER,
        t::OTEL_TRACES_SAMPLER_ARG,
        t::OTEL_EXPORTER_OTLP_HEADERS,
        t::OTEL_EXPORTER_OTLP_TIMEOUT,
        t::OTEL_BSP_SCHEDULE_DELAY,
        t::OTEL_BSP_MAX_QUEUE_SIZE,
        t::OTEL_BSP_MAX_EXPORT_BATCH_SIZE,
    ] {
        reader.read_by_others(&setting);
    }
    let collector = collector.filter(|_| disabled != Some(true));
    TelemetrySettings { metrics_addr, collector, collector_roots }
}

/// Checked also where `MONGODB_URL` is unset: a mistake does not wait for the day it matters.
#[expect(clippy::option_option, reason = "outside: is it right; inside: is it set")]
fn mongodb(reader: &mut Reader<'_>) -> Option<Option<MongoDbSettings>> {
    let url = reader.read(&t::MONGODB_URL, parse::driver_url(&["mongodb", "mongodb+srv"]));
    let database = reader.read(&t::MONGODB_DATABASE, parse::database_name);
    let min_pool_size = reader.read(&t::MONGODB_MIN_POOL_SIZE, parse::number(0, 1_000));
    let max_pool_size = reader.read(&t::MONGODB_MAX_POOL_SIZE, parse::number(1, 1_000));
    let (database, min_pool_size, max_pool_size) = (database?, min_pool_size?, max_pool_size?);
    if min_pool_size > max_pool_size {
        let problem = format!(
            "`{min_pool_size}` is more than MONGODB_MAX_POOL_SIZE, which is {max_pool_size}"
        );
        reader.note(Mistake::new(&t::MONGODB_MIN_POOL_SIZE, &problem));
    }
    Some(url.map(|url| {
        let url = SecretUrl::new(url);
        MongoDbSettings { url, database, min_pool_size, max_pool_size }
    }))
}
