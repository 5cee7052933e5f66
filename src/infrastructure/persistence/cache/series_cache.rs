//! Encoded answers about a series, gone at once when the series is written.
//!
//! Each series has a generation that is part of every answer's name. It is `writing` while bars
//! are written and new afterwards, so no reader can put back what a write made old; a writer that
//! dies costs a minute of cache. Errors never reach a caller: the series is read uncached.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Cache, CacheError, keys};
use crate::common::metrics::table::SERIES_CACHE_READS;
use crate::domain::shared::Series;

/// The generation of a series that is being written.
const WRITING: &[u8] = b"writing";

/// How long after a failure the cache is tried again for a series whose generation is not known
/// to be right.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Series that are told apart while the cache is away; when there are more, none is cached.
const MAX_DOUBTFUL: usize = 10_000;

/// Failures are logged at most this often.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// The cache of series. Cheap to clone; clones share what they know.
#[derive(Clone, Debug)]
pub struct SeriesCache {
    cache: Cache,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Series whose generation could not be set, and until when they are left alone.
    doubtful: HashMap<Series, Instant>,
    logged_at: Option<Instant>,
    failures: u64,
}

/// What the cache has for a reader.
#[derive(Debug)]
pub enum CacheRead {
    /// The answer.
    Hit(Bytes),
    /// Nothing: read the database, then [`SeriesCache::fill`] with this.
    Miss(ReadTicket),
}

/// The right to fill the cache with what the database says from now on; read the database after
/// this was given, never before.
#[derive(Debug)]
#[must_use = "the database is read after this was given, and the cache filled with it"]
pub struct ReadTicket {
    /// None where the answer is not to be cached.
    key: Option<String>,
}

impl SeriesCache {
    /// Caches in `cache`.
    pub fn new(cache: Cache) -> Self {
        Self { cache, state: Arc::default() }
    }

    /// The bytes kept for `query` about `series`, if none of its bars was written since.
    pub async fn read(&self, series: &Series, query: &str) -> CacheRead {
        let read = self.look_up(series, query).await;
        let outcome = match &read {
            CacheRead::Hit(_) => "hit",
            CacheRead::Miss(ReadTicket { key: Some(_) }) => "miss",
            CacheRead::Miss(ReadTicket { key: None }) => "bypass",
        };
        SERIES_CACHE_READS.with([outcome]).increment(1);
        read
    }

    async fn look_up(&self, series: &Series, query: &str) -> CacheRead {
        let uncached = CacheRead::Miss(ReadTicket { key: None });
        if !self.is_sure(series).await {
            return uncached;
        }
        let Some(generation) = self.logged(self.generation(series).await).flatten() else {
            return uncached;
        };
        let key = keys::bars(series, &generation, query);
        match self.logged(self.cache.get(&key).await) {
            Some(Some(bytes)) => CacheRead::Hit(bytes),
            Some(None) => CacheRead::Miss(ReadTicket { key: Some(key) }),
            None => uncached,
        }
    }

    /// Keeps what the database said for the query that `ticket` was given for.
    pub async fn fill(&self, ticket: ReadTicket, bytes: Bytes) {
        if let Some(key) = ticket.key {
            self.logged(self.cache.set(&key, bytes, keys::BARS_TTL).await);
        }
    }

    /// To be called before bars of `series` are written.
    pub async fn begin_write(&self, series: &Series) {
        let writing = Bytes::from_static(WRITING);
        // Doubtful until it is set: nothing kept before may be read once the write has begun.
        self.set_generation(series, writing, keys::WRITING_TTL, keys::WRITING_TTL).await;
    }

    /// To be called after bars of `series` were written, or the write failed.
    pub async fn finish_write(&self, series: &Series) {
        self.set_generation(series, fresh(), keys::GENERATION_TTL, Duration::ZERO).await;
    }

    async fn set_generation(
        &self,
        series: &Series,
        generation: Bytes,
        ttl: Duration,
        doubtful_for: Duration,
    ) {
        let set = self.cache.set(&keys::generation(series), generation, ttl).await;
        match self.logged(set) {
            Some(()) => self.trust(series),
            None => self.doubt(series, doubtful_for),
        }
    }

    /// The generation to read and fill under; none while the series is being written.
    async fn generation(&self, series: &Series) -> Result<Option<String>, CacheError> {
        let key = keys::generation(series);
        let mut generation = self.cache.get(&key).await?;
        if generation.is_none() {
            let made = fresh();
            let is_set = self.cache.set_if_absent(&key, made.clone(), keys::GENERATION_TTL).await?;
            generation = if is_set { Some(made) } else { self.cache.get(&key).await? };
        }
        let usable = generation.filter(|generation| generation != WRITING);
        Ok(usable.and_then(|generation| String::from_utf8(generation.to_vec()).ok()))
    }

    /// Whether the series' generation is known to be right. Where it could not be set, a new one
    /// takes the place of what is there, unless a writer is at it.
    async fn is_sure(&self, series: &Series) -> bool {
        {
            let mut state = self.lock();
            let Some(until) = state.doubtful.get(series).copied() else {
                return state.doubtful.len() < MAX_DOUBTFUL;
            };
            if Instant::now() < until {
                return false;
            }
            // One reader at a time tries.
            state.doubtful.insert(series.clone(), Instant::now() + RETRY_AFTER);
        }
        let sure = self.logged(self.renew(series).await).unwrap_or_default();
        if sure {
            self.trust(series);
        }
        sure
    }

    async fn renew(&self, series: &Series) -> Result<bool, CacheError> {
        let key = keys::generation(series);
        match self.cache.get(&key).await? {
            // Nothing that was kept can be reached.
            None => Ok(true),
            Some(generation) if generation == WRITING => Ok(true),
            Some(generation) => {
                self.cache.replace(&key, &generation, fresh(), keys::GENERATION_TTL).await
            }
        }
    }

    fn trust(&self, series: &Series) {
        self.lock().doubtful.remove(series);
    }

    fn doubt(&self, series: &Series, length: Duration) {
        let mut state = self.lock();
        if state.doubtful.len() < MAX_DOUBTFUL || state.doubtful.contains_key(series) {
            state.doubtful.insert(series.clone(), Instant::now() + length);
        }
    }

    /// The value, or a word in the log that there is none.
    fn logged<T>(&self, result: Result<T, CacheError>) -> Option<T> {
        let error = match result {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let mut state = self.lock();
        state.failures += 1;
        if state.logged_at.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            state.logged_at = Some(Instant::now());
            let failures = std::mem::take(&mut state.failures);
            tracing::warn!(%error, failures, "series are read uncached");
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn fresh() -> Bytes {
    Bytes::from(Uuid::now_v7().to_string())
}
