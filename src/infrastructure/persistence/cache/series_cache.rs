//! Encoded answers about a series, gone at once when the series is written.
//!
//! Each series has a generation that is part of every answer's name. It is `writing` while bars
//! are written and new afterwards, so no reader can put back what a write made old; a writer that
//! dies costs a minute of cache. Errors never reach a caller: the series is read uncached.
//!
//! An epoch is part of every name, too, and all processes on a server share it. A process replaces
//! it before it believes what is kept, where that may be old: when it starts, when its connection
//! is a new one (the server may be back with old data), when the server took no generation, or
//! takes nothing any more. Until then it reads uncached; it tries twice a second, for the others'
//! sake also where nobody reads ([`SeriesCache::look_after`]).
//!
//! What remains: a writer that cannot reach a server that the other processes do reach. They may
//! serve what it wrote over until it is back or starts anew, and for [`keys::BARS_TTL`] at most
//! since it was kept. Where the server refuses all writes, they know it half a second later.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Cache, CacheError, keys};
use crate::common::metrics::table::SERIES_CACHE_READS;
use crate::domain::shared::{Interval, Series, Symbol};

/// The generation of a series that is being written.
const WRITING: &[u8] = b"writing";

/// How long between attempts to replace the epoch, and between looks at the server.
const LOOK_EVERY: Duration = Duration::from_millis(500);

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
    /// How often the server did not take what it had to.
    doubts: u64,
    /// What was known just before the epoch was replaced.
    sure_as_of: Option<Known>,
    /// When replacing it may be tried again.
    try_at: Option<Instant>,
    logged_at: Option<Instant>,
    failures: u64,
}

/// As long as it stays the same, nothing that is kept may be old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    doubts: u64,
    connections: Option<u64>,
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
        if !self.is_sure() && !self.replace_epoch().await {
            return uncached;
        }
        let Some(key) = self.logged(self.key(series, query).await).flatten() else {
            return uncached;
        };
        let kept = self.logged(self.cache.get(&key).await);
        // Only now is it known which connection the answers came over.
        match kept.filter(|_| self.is_sure()) {
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
        self.set_generation(series, writing, keys::WRITING_TTL).await;
    }

    /// To be called after bars of `series` were written, or the write failed.
    pub async fn finish_write(&self, series: &Series) {
        self.set_generation(series, fresh(), keys::GENERATION_TTL).await;
    }

    /// Finds no answer about any series of `symbol` that was kept before: its session changed, and
    /// so did the bounds of bars.
    pub async fn forget(&self, symbol: &Symbol) {
        for interval in Interval::ALL {
            let series = Series::new(symbol.clone(), interval);
            self.begin_write(&series).await;
            self.finish_write(&series).await;
        }
    }

    /// Sees to it that what is old is found by nobody on the server, until `stopping`.
    pub async fn look_after(self, stopping: CancellationToken) {
        if self.cache.connections().is_none() {
            return;
        }
        while stopping.run_until_cancelled(sleep(LOOK_EVERY)).await.is_some() {
            // Refused by a server that takes no writes, also where there is an epoch.
            let taken = self.cache.set_if_absent(keys::EPOCH, fresh(), keys::GENERATION_TTL).await;
            if self.logged(taken).is_none() {
                self.lock().doubts += 1;
            }
            if !self.is_sure() {
                self.replace_epoch().await;
            }
        }
    }

    async fn set_generation(&self, series: &Series, generation: Bytes, ttl: Duration) {
        if !self.overwrite(&keys::generation(series), generation, ttl).await {
            self.lock().doubts += 1;
        }
    }

    /// Puts `value` in place of what is under `key`; nothing, where the server has no room for it.
    async fn overwrite(&self, key: &str, value: Bytes, ttl: Duration) -> bool {
        self.logged(self.cache.set(key, value, ttl).await).is_some()
            || self.logged(self.cache.delete(key).await).is_some()
    }

    /// Where the answer to `query` is kept; nowhere while the series is being written.
    async fn key(&self, series: &Series, query: &str) -> Result<Option<String>, CacheError> {
        let key = keys::generation(series);
        let (epoch, generation) = self.cache.get_both(keys::EPOCH, &key).await?;
        let epoch = self.or_made(keys::EPOCH, epoch).await?;
        let generation = self.or_made(&key, generation).await?;
        Ok(epoch.zip(generation.filter(|generation| generation != WRITING)).and_then(
            |(epoch, generation)| {
                let epoch = str::from_utf8(&epoch).ok()?;
                Some(keys::bars(series, epoch, str::from_utf8(&generation).ok()?, query))
            },
        ))
    }

    /// What was found under `key`, or is made where there was nothing.
    async fn or_made(&self, key: &str, found: Option<Bytes>) -> Result<Option<Bytes>, CacheError> {
        if found.is_some() {
            return Ok(found);
        }
        let made = fresh();
        let is_set = self.cache.set_if_absent(key, made.clone(), keys::GENERATION_TTL).await?;
        if is_set { Ok(Some(made)) } else { self.cache.get(key).await }
    }

    /// Whether nothing that is kept may be old.
    fn is_sure(&self) -> bool {
        let state = self.lock();
        state.sure_as_of == Some(self.known(&state))
    }

    /// Makes what is kept unreachable, for all processes. One caller at a time tries.
    async fn replace_epoch(&self) -> bool {
        let known = {
            let (mut state, now) = (self.lock(), Instant::now());
            if state.try_at.is_some_and(|at| now < at) {
                return false;
            }
            state.try_at = Some(now + LOOK_EVERY);
            self.known(&state)
        };
        let replaced = self.overwrite(keys::EPOCH, fresh(), keys::GENERATION_TTL).await;
        if replaced {
            self.lock().sure_as_of = Some(known);
        }
        replaced
    }

    fn known(&self, state: &State) -> Known {
        Known { doubts: state.doubts, connections: self.cache.connections() }
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
