//! Copies the newest values to the cache, beside everything else: a cache that is slow or away
//! holds up nothing, and nothing queues for it.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::debug;

use crate::infrastructure::persistence::Cache;
use crate::infrastructure::persistence::cache::keys::{CURRENT_BAR_TTL, QUOTE_TTL};

/// Newest values, by key.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// Quotes.
    pub(super) quotes: Vec<(String, Bytes)>,
    /// Forming bars.
    pub(super) bars: Vec<(String, Bytes)>,
}

/// Works until the feed's task is gone.
pub(super) async fn run(cache: Cache, mut copies: mpsc::Receiver<Copies>) {
    while let Some(Copies { quotes, bars }) = copies.recv().await {
        copy(&cache, &quotes, QUOTE_TTL).await;
        copy(&cache, &bars, CURRENT_BAR_TTL).await;
    }
}

async fn copy(cache: &Cache, values: &[(String, Bytes)], ttl: Duration) {
    if let Err(error) = cache.set_many(values, ttl).await {
        debug!(%error, "the newest values were not copied to the cache");
    }
}
