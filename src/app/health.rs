//! What is checked, and what depends on it.

use crate::common::constants::{HEALTH_CACHE, HEALTH_DATABASE, HEALTH_FEED, HEALTH_JOBS};
use crate::common::health::{Check, HealthCoordinator};
use crate::features::market_data::jobs::JobService;
use crate::features::market_data::quote::QuoteService;
use crate::infrastructure::persistence::{Cache, Database};

/// Checks the database, which is required, the cache, the feed, and the jobs where there are any.
pub(super) async fn coordinator(
    database: &Database,
    cache: &Cache,
    quotes: &QuoteService,
    jobs: Option<&JobService>,
) -> HealthCoordinator {
    let (database, cache, quotes) = (database.clone(), cache.clone(), quotes.clone());
    let jobs = match jobs.cloned() {
        Some(jobs) => Check::optional(HEALTH_JOBS, move || std::future::ready(jobs.health())),
        None => Check::disabled(HEALTH_JOBS),
    };
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
        .check(Check::switched(HEALTH_FEED, move || std::future::ready(quotes.health())))
        .check(jobs)
        .build()
        .await
}
