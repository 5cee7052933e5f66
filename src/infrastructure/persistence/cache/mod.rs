//! Short-lived copies in front of the database: Redis, or this process's memory.
//!
//! Never the only copy of anything. It does not know what is in them.

mod buckets;
pub mod keys;
mod memory;
mod redis;
mod redis_idempotency;
mod series_cache;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use secrecy::SecretString;
use thiserror::Error;

use self::memory::Memory;
use self::redis::Redis;
pub(super) use self::redis_idempotency::RedisIdempotency;
pub use self::series_cache::{CacheRead, ReadTicket, SeriesCache};
use super::Cause;
use crate::common::error::ErrorCode;
use crate::common::metrics::table::{CACHE_DURATION, CACHE_OPERATIONS};
use crate::common::metrics::{outcome_of, timed};
use crate::common::rate_limit::SharedBuckets;
use crate::common::tracing::{database_span, traced};

/// Values that are larger are not kept.
pub const MAX_VALUE_BYTES: usize = 4 << 20;

/// Values that are sent to a server at once.
const BATCH: usize = 500;

/// Which engine, and where.
#[derive(Clone, Debug)]
pub enum CacheConfig {
    /// This process's memory, bounded in bytes.
    Memory,
    /// A server.
    Redis {
        /// Its address, `redis://` or `rediss://`.
        url: SecretString,
    },
}

/// Why the cache did not do what it was asked. Texts carry hosts, never credentials.
#[derive(Clone, Debug, Error)]
pub enum CacheError {
    /// It cannot be reached or is too slow. It heals by itself.
    #[error("the {engine} cache is unavailable: {detail}")]
    Unavailable {
        /// Which engine.
        engine: &'static str,
        /// What happened.
        detail: String,
        /// What the engine said.
        #[source]
        cause: Option<Cause>,
    },
    /// It cannot be used as it is set up. Only at start.
    #[error("{message}; {remedy}")]
    Config {
        /// What is wrong.
        message: String,
        /// What to do.
        remedy: String,
    },
}

/// A cache of bytes by name. Cheap to clone. Every call has a deadline well under a second.
#[derive(Clone, Debug)]
pub struct Cache {
    engine: Engine,
}

#[derive(Clone, Debug)]
enum Engine {
    Redis(Redis),
    Memory(Arc<Memory>),
}

impl Cache {
    /// Connects. A server that does not answer at start is a [`CacheError::Config`]; one that
    /// goes away later is `Unavailable` until it returns.
    pub async fn connect(config: CacheConfig) -> Result<Self, CacheError> {
        let engine = match config {
            CacheConfig::Memory => Engine::Memory(Arc::new(Memory::new())),
            CacheConfig::Redis { url } => Engine::Redis(Redis::connect(&url).await?),
        };
        Ok(Self { engine })
    }

    /// `redis` or `memory`.
    pub const fn engine(&self) -> &'static str {
        match self.engine {
            Engine::Redis(_) => redis::ENGINE,
            Engine::Memory(_) => memory::ENGINE,
        }
    }

    /// Rate limits that all share who use this cache; none where it is this process's own.
    pub fn shared_buckets(&self) -> Option<Arc<dyn SharedBuckets>> {
        match &self.engine {
            Engine::Redis(engine) => Some(engine.buckets()),
            Engine::Memory(_) => None,
        }
    }

    /// Whether it answers.
    pub async fn ping(&self) -> Result<(), CacheError> {
        match &self.engine {
            Engine::Redis(engine) => engine.ping().await,
            Engine::Memory(_) => Ok(()),
        }
    }

    /// How many connections to the server were made; one counts before anything goes over it.
    /// None where there is no server.
    pub fn connections(&self) -> Option<u64> {
        match &self.engine {
            Engine::Redis(engine) => Some(engine.connections()),
            Engine::Memory(_) => None,
        }
    }

    /// Ends all connections.
    pub async fn close(&self) {
        match &self.engine {
            Engine::Redis(engine) => engine.close().await,
            Engine::Memory(_) => {}
        }
    }

    /// What became of idempotency keys, where this is a server: memory would forget it with the
    /// process.
    pub(super) fn idempotency(&self) -> Option<RedisIdempotency> {
        match &self.engine {
            Engine::Redis(engine) => Some(RedisIdempotency::new(engine)),
            Engine::Memory(_) => None,
        }
    }

    /// What is kept under `key`.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, CacheError> {
        let work = async {
            match &self.engine {
                Engine::Redis(engine) => engine.get(key).await,
                Engine::Memory(engine) => Ok(engine.get(key).await),
            }
        };
        self.observe("get", found, Box::pin(work)).await
    }

    /// What is kept under each of two keys at one instant, in one round trip.
    pub async fn get_both(
        &self,
        one: &str,
        other: &str,
    ) -> Result<(Option<Bytes>, Option<Bytes>), CacheError> {
        let work = async {
            match &self.engine {
                Engine::Redis(engine) => engine.get_both(one, other).await,
                Engine::Memory(engine) => Ok((engine.get(one).await, engine.get(other).await)),
            }
        };
        self.observe("get_both", outcome_of, Box::pin(work)).await
    }

    /// Keeps `value` for `ttl`, whatever was there. One over [`MAX_VALUE_BYTES`] removes it.
    pub async fn set(&self, key: &str, value: Bytes, ttl: Duration) -> Result<(), CacheError> {
        if value.len() > MAX_VALUE_BYTES {
            return self.delete(key).await;
        }
        let work = async {
            match &self.engine {
                Engine::Redis(engine) => engine.set(key, value, ttl).await,
                Engine::Memory(engine) => {
                    engine.set(key, value, ttl).await;
                    Ok(())
                }
            }
        };
        self.observe("set", outcome_of, Box::pin(work)).await
    }

    /// Keeps each value under its key for `ttl`, whatever was there; of two under one key, the
    /// later. Those over [`MAX_VALUE_BYTES`] are removed. Where it fails, some may be kept.
    pub async fn set_many(
        &self,
        values: &[(String, Bytes)],
        ttl: Duration,
    ) -> Result<(), CacheError> {
        let work = async {
            match &self.engine {
                Engine::Redis(engine) => {
                    for batch in values.chunks(BATCH) {
                        engine.set_many(batch, ttl).await?;
                    }
                }
                Engine::Memory(engine) => {
                    for (key, value) in values {
                        if value.len() > MAX_VALUE_BYTES {
                            engine.delete(key).await;
                        } else {
                            engine.set(key, value.clone(), ttl).await;
                        }
                    }
                }
            }
            Ok(())
        };
        self.observe("set_many", outcome_of, Box::pin(work)).await
    }

    /// Keeps `value` for `ttl` where nothing is; answers whether it does. One over
    /// [`MAX_VALUE_BYTES`] is not kept.
    pub async fn set_if_absent(
        &self,
        key: &str,
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, CacheError> {
        if value.len() > MAX_VALUE_BYTES {
            return Ok(false);
        }
        let work = async {
            match &self.engine {
                Engine::Redis(engine) => engine.set_if_absent(key, value, ttl).await,
                Engine::Memory(engine) => Ok(engine.set_if_absent(key, value, ttl).await),
            }
        };
        self.observe("set_if_absent", outcome_of, Box::pin(work)).await
    }

    /// Forgets what is kept under `key`.
    pub async fn delete(&self, key: &str) -> Result<(), CacheError> {
        let work = async {
            match &self.engine {
                Engine::Redis(engine) => engine.delete(key).await,
                Engine::Memory(engine) => {
                    engine.delete(key).await;
                    Ok(())
                }
            }
        };
        self.observe("delete", outcome_of, Box::pin(work)).await
    }

    async fn observe<T>(
        &self,
        operation: &'static str,
        outcome: impl FnOnce(&Result<T, CacheError>) -> &'static str,
        work: BoxFuture<'_, Result<T, CacheError>>,
    ) -> Result<T, CacheError> {
        observe((self.engine(), "cache"), operation, outcome, work).await
    }
}

/// Does `work`, which is `operation` on what `engine` keeps as `kind`: counted, timed and traced.
pub(super) async fn observe<T, E>(
    (engine, kind): (&'static str, &'static str),
    operation: &'static str,
    outcome: impl FnOnce(&Result<T, E>) -> &'static str,
    work: BoxFuture<'_, Result<T, E>>,
) -> Result<T, E> {
    let span = database_span(engine, operation, kind);
    let work = traced(span, work, |_| ErrorCode::CacheUnavailable.reason());
    timed(work, outcome, |outcome, elapsed| {
        CACHE_OPERATIONS.with([operation, outcome]).increment(1);
        CACHE_DURATION.with([operation]).record(elapsed);
    })
    .await
}

/// What came of looking something up.
const fn found<T>(result: &Result<Option<T>, CacheError>) -> &'static str {
    match result {
        Ok(Some(_)) => "hit",
        Ok(None) => "miss",
        Err(_) => "error",
    }
}
