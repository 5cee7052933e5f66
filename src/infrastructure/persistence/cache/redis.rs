//! Redis, 6 and newer, and what speaks its protocol.
//!
//! Every default of the client is set: it would wait without limit for a server that is gone.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fred::clients::{Client, WithOptions};
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike as _, EventInterface as _, KeysInterface as _};
use fred::types::config::{
    Config, ConnectionConfig, Options, PerformanceConfig, ReconnectPolicy, Server,
    UnresponsiveConfig,
};
use fred::types::{Builder, ClusterHash, CustomCommand, Expiration, FromValue, SetOptions, Value};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::broadcast::{self, error::TryRecvError};
use tokio::time::timeout;

use super::buckets::RedisBuckets;
use super::{CacheError, MAX_VALUE_BYTES};

/// The engine's name in answers and logs.
pub(super) const ENGINE: &str = "redis";

/// How long a command may take.
const COMMAND_TIMEOUT: Duration = Duration::from_millis(250);

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the start waits for the server.
const START_TIMEOUT: Duration = Duration::from_secs(4);

/// A connection that owes an answer for so long is replaced.
const UNRESPONSIVE_AFTER: Duration = Duration::from_secs(1);

/// Commands that wait at most.
const QUEUE: usize = 10_000;

/// Waits between attempts to reconnect, in milliseconds.
const RECONNECT: (u32, u32) = (50, 5_000);

/// A connection that mends itself. Cheap to clone.
#[derive(Clone)]
pub(super) struct Redis {
    client: Client,
    connections: Arc<Mutex<Connections>>,
}

/// The connections that were made.
struct Connections {
    /// The client says each before it sends anything over it.
    news: broadcast::Receiver<Server>,
    made: u64,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis").finish_non_exhaustive()
    }
}

impl Redis {
    pub(super) async fn connect(url: &SecretString) -> Result<Self, CacheError> {
        let config = Config::from_url(url.expose_secret()).map_err(|_| CacheError::Config {
            // The client quotes what it cannot read, and there may be a password in it.
            message: "REDIS_URL cannot be read".to_owned(),
            remedy: "write it as redis://HOST:PORT or rediss://HOST:PORT".to_owned(),
        })?;
        let hosts: Vec<String> = config
            .server
            .hosts()
            .iter()
            .map(|server| format!("{}:{}", server.host, server.port))
            .collect();
        let hosts = hosts.join(", ");
        let client = builder(config).build().map_err(|error| start_error(&hosts, &error))?;
        let connections = Connections { news: client.reconnect_rx(), made: 0 };
        match timeout(START_TIMEOUT, client.init()).await {
            Ok(Ok(_)) => Ok(Self { client, connections: Arc::new(Mutex::new(connections)) }),
            Ok(Err(error)) => Err(start_error(&hosts, &error)),
            Err(_) => {
                let waited =
                    Error::new(ErrorKind::Timeout, format!("no answer in {START_TIMEOUT:?}"));
                Err(start_error(&hosts, &waited))
            }
        }
    }

    pub(super) fn buckets(&self) -> Arc<RedisBuckets> {
        Arc::new(RedisBuckets::new(self.clone()))
    }

    pub(super) async fn ping(&self) -> Result<(), CacheError> {
        self.commands().ping::<()>(None).await.map_err(cache_error)
    }

    /// How many connections were made; one counts before anything goes over it.
    pub(super) fn connections(&self) -> u64 {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            connections.made += match connections.news.try_recv() {
                Ok(_) => 1,
                Err(TryRecvError::Lagged(missed)) => missed,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return connections.made,
            };
        }
    }

    pub(super) async fn close(&self) {
        let closed = timeout(CONNECT_TIMEOUT, self.client.quit()).await;
        if !matches!(closed, Ok(Ok(()))) {
            tracing::debug!("the connection to Redis was not closed cleanly");
        }
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Bytes>, CacheError> {
        self.commands().get(key).await.map_err(cache_error)
    }

    pub(super) async fn get_both(
        &self,
        one: &str,
        other: &str,
    ) -> Result<(Option<Bytes>, Option<Bytes>), CacheError> {
        self.commands().mget((one, other)).await.map_err(cache_error)
    }

    pub(super) async fn set(
        &self,
        key: &str,
        value: Bytes,
        ttl: Duration,
    ) -> Result<(), CacheError> {
        let set = self.commands().set(key, value, expiry(ttl), None, false).await;
        set.map_err(cache_error)
    }

    /// One round trip for all.
    pub(super) async fn set_many(
        &self,
        values: &[(String, Bytes)],
        ttl: Duration,
    ) -> Result<(), CacheError> {
        if values.is_empty() {
            return Ok(());
        }
        let pipeline = self.client.pipeline().with_options(&one_attempt(COMMAND_TIMEOUT));
        for (key, value) in values {
            // Queued, not sent.
            let queued = if value.len() > MAX_VALUE_BYTES {
                pipeline.del::<(), _>(key.as_str()).await
            } else {
                pipeline.set(key.as_str(), value.clone(), expiry(ttl), None, false).await
            };
            queued.map_err(cache_error)?;
        }
        let done: Vec<Result<Value, Error>> = pipeline.try_all().await;
        done.into_iter().find_map(Result::err).map_or(Ok(()), |error| Err(cache_error(error)))
    }

    pub(super) async fn set_if_absent(
        &self,
        key: &str,
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, CacheError> {
        let options = Some(SetOptions::NX);
        let set: Result<Option<String>, Error> =
            self.commands().set(key, value, expiry(ttl), options, false).await;
        set.map(|set| set.is_some()).map_err(cache_error)
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), CacheError> {
        self.commands().del::<(), _>(key).await.map_err(cache_error)
    }

    /// What `script` answers for `key`, within `timeout`.
    ///
    /// The client's own `eval` takes no options, without a word: it would wait for a connection,
    /// and hold back every command behind it until it is answered.
    pub(super) async fn script<T: FromValue>(
        &self,
        script: &str,
        key: &str,
        arguments: Vec<Bytes>,
        timeout: Duration,
    ) -> Result<T, Error> {
        let client = self.client.with_options(&one_attempt(timeout));
        // The key is behind the script and the number of keys.
        let eval = CustomCommand::new_static("EVAL", ClusterHash::Offset(2), false);
        let mut values: Vec<Value> = vec![script.into(), 1.into(), key.into()];
        values.extend(arguments.into_iter().map(Value::from));
        client.custom(eval, values).await
    }

    fn commands(&self) -> WithOptions<Client> {
        self.client.with_options(&one_attempt(COMMAND_TIMEOUT))
    }
}

/// One attempt, and none where there is no connection.
fn one_attempt(timeout: Duration) -> Options {
    Options { max_attempts: Some(1), timeout: Some(timeout), fail_fast: true, ..Options::default() }
}

fn builder(config: Config) -> Builder {
    let mut builder = Builder::from_config(Config { fail_fast: true, ..config });
    let (least, most) = RECONNECT;
    builder.set_policy(ReconnectPolicy::new_exponential(0, least, most, 2));
    builder.set_performance_config(PerformanceConfig {
        default_command_timeout: COMMAND_TIMEOUT,
        broadcast_channel_capacity: 65_536,
        ..PerformanceConfig::default()
    });
    builder.set_connection_config(ConnectionConfig {
        connection_timeout: CONNECT_TIMEOUT,
        internal_command_timeout: CONNECT_TIMEOUT,
        max_command_attempts: 1,
        max_command_buffer_len: QUEUE,
        reconnect_on_auth_error: true,
        unresponsive: UnresponsiveConfig {
            max_timeout: Some(UNRESPONSIVE_AFTER),
            interval: UNRESPONSIVE_AFTER / 4,
        },
        ..ConnectionConfig::default()
    });
    builder
}

#[expect(clippy::unnecessary_wraps, reason = "what the client takes")]
fn expiry(ttl: Duration) -> Option<Expiration> {
    Some(Expiration::PX(milliseconds(ttl)))
}

pub(super) fn milliseconds(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX).max(1)
}

fn start_error(hosts: &str, error: &Error) -> CacheError {
    let (what, remedy) = if *error.kind() == ErrorKind::Auth {
        ("refused the log-in".to_owned(), "check the user and the password in REDIS_URL")
    } else {
        (
            format!("did not answer: {error}"),
            "check that it runs and that REDIS_URL names it, or unset REDIS_URL to cache in memory",
        )
    };
    CacheError::Config { message: format!("Redis at {hosts} {what}"), remedy: remedy.to_owned() }
}

pub(super) fn cache_error(error: Error) -> CacheError {
    let detail = error.to_string();
    CacheError::Unavailable { engine: ENGINE, detail, cause: Some(Arc::new(error)) }
}
