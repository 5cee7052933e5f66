//! What is checked, and what depends on it.

use crate::common::constants::{HEALTH_CACHE, HEALTH_DATABASE, HEALTH_FEED};
use crate::common::health::{Check, HealthCoordinator};
use crate::features::market_data::quote::QuoteService;
use crate::infrastructure::persistence::{Cache, Database};

/// Checks the database, which is required, the cache and the feed.
pub(super) async fn coordinator(
    database: &Database,
    cache: &Cache,
    quotes: &QuoteService,
) -> HealthCoordinator {
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
