//! In this process: bounded in bytes, least recently used first out.

use std::time::Duration;

use bytes::Bytes;
use moka::Expiry;
use moka::future::Cache;
use moka::policy::EvictionPolicy;

/// The engine's name in answers and logs.
pub(super) const ENGINE: &str = "memory";

/// Keys and values at most, in bytes.
const CAPACITY: u64 = 64 << 20;

/// What an entry takes besides its key and value, about, in bytes.
const OVERHEAD: usize = 128;

/// Entries with their own time to live.
#[derive(Debug)]
pub(super) struct Memory {
    entries: Cache<String, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    value: Bytes,
    ttl: Duration,
}

/// Each entry lives as long as it was set for.
struct PerEntry;

#[expect(clippy::disallowed_types, reason = "the trait names them")]
impl Expiry<String, Entry> for PerEntry {
    fn expire_after_create(
        &self,
        _: &String,
        entry: &Entry,
        _: std::time::Instant,
    ) -> Option<Duration> {
        Some(entry.ttl)
    }

    fn expire_after_update(
        &self,
        _: &String,
        entry: &Entry,
        _: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.ttl)
    }
}

impl Memory {
    pub(super) fn new() -> Self {
        let weigh = |key: &String, entry: &Entry| {
            u32::try_from(key.len() + entry.value.len() + OVERHEAD).unwrap_or(u32::MAX)
        };
        let entries = Cache::builder()
            .max_capacity(CAPACITY)
            .weigher(weigh)
            // Not the default, which may refuse what is new: a lock that was set must be there.
            .eviction_policy(EvictionPolicy::lru())
            .expire_after(PerEntry)
            .build();
        Self { entries }
    }

    pub(super) async fn get(&self, key: &str) -> Option<Bytes> {
        self.entries.get(key).await.map(|entry| entry.value)
    }

    pub(super) async fn set(&self, key: &str, value: Bytes, ttl: Duration) {
        self.entries.insert(key.to_owned(), Entry { value, ttl }).await;
    }

    pub(super) async fn set_if_absent(&self, key: &str, value: Bytes, ttl: Duration) -> bool {
        self.entries.entry_by_ref(key).or_insert(Entry { value, ttl }).await.is_fresh()
    }

    pub(super) async fn delete(&self, key: &str) {
        self.entries.invalidate(key).await;
    }
}
