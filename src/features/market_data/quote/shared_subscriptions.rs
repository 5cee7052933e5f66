//! Subscriptions are the database's: what other processes that share it have changed is taken up
//! here within seconds, whether this process has the feed or not.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::feed_task::Command;
use super::{QuoteError, QuoteService};
use crate::common::error::with_causes;
use crate::domain::shared::Symbol;
use crate::infrastructure::persistence::{DatabaseError, Subscriptions};

/// How often it is looked what other processes have changed.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Subscriptions that are read at a time.
const PAGE: u32 = 1_000;

/// Takes up what others have changed, until the service stops.
pub(super) async fn keep_up(service: QuoteService, stopping: CancellationToken) {
    while stopping.run_until_cancelled(sleep(LOOK_EVERY)).await.is_some() {
        if let Some(Err(error)) = stopping.run_until_cancelled(take_up(&service)).await {
            // A database that is away is told by those who need it; this one tries on.
            debug!(error = with_causes(&error), "subscriptions could not be compared");
        }
    }
}

/// Follows what is subscribed, and nothing that is not.
pub(super) async fn take_up(service: &QuoteService) -> Result<(), QuoteError> {
    let rows = service.database().subscriptions();
    let known = service.subscriptions().await?.into_iter().map(|each| each.symbol);
    let known: HashSet<Symbol> = known.collect();
    let stored = subscribed(&rows).await?;
    for symbol in known.symmetric_difference(&stored) {
        // Somebody may be changing it right now: what is stored then is right.
        let _turn = service.turn(symbol).await;
        match rows.get(symbol).await? {
            Some(row) => {
                service.ask(|answer| Command::Subscribe(row, answer)).await?;
            }
            None => match service.ask(|answer| Command::Unsubscribe(symbol.clone(), answer)).await?
            {
                Ok(_) | Err(QuoteError::NotSubscribed(_)) => {}
                Err(error) => return Err(error),
            },
        }
    }
    Ok(())
}

async fn subscribed(rows: &Subscriptions) -> Result<HashSet<Symbol>, DatabaseError> {
    let mut all = HashSet::new();
    let mut after = None;
    loop {
        let page = rows.list(after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(all) };
        after = Some(last.symbol.clone());
        all.extend(page.into_iter().map(|row| row.symbol));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::market_data::LiveSeries;
    use crate::features::market_data::quote::SubscriptionState;
    use crate::features::market_data::quote::test_bench::{Bench, options, symbol};

    async fn process(bench: &Bench) -> QuoteService {
        let mut parts = bench.parts.clone();
        parts.live = LiveSeries::default();
        QuoteService::start_up(parts, options(), 1).await.unwrap()
    }

    async fn followed(process: &QuoteService) -> Vec<Symbol> {
        let followed = process.subscriptions().await.unwrap();
        followed.into_iter().map(|each| each.symbol).collect()
    }

    #[tokio::test]
    async fn what_is_subscribed_at_one_process_all_follow_until_one_unsubscribes_it() {
        let bench = Bench::start().await;
        let (here, there) = (process(&bench).await, process(&bench).await);
        there.subscribe(symbol()).await.unwrap();
        for process in [&here, &there] {
            take_up(process).await.unwrap();
            assert_eq!(followed(process).await, [symbol()]);
        }
        here.unsubscribe(symbol()).await.unwrap();
        take_up(&there).await.unwrap();
        assert_eq!(followed(&there).await, []);
        let again = there.unsubscribe(symbol()).await.unwrap_err();
        assert!(matches!(again, QuoteError::NotSubscribed(_)), "{again:?}");
    }

    #[tokio::test]
    async fn what_another_process_has_just_subscribed_is_unsubscribed_anywhere() {
        let bench = Bench::start().await;
        let (here, there) = (process(&bench).await, process(&bench).await);
        there.subscribe(symbol()).await.unwrap();
        let unsubscribed = here.unsubscribe(symbol()).await.unwrap();
        assert_eq!(unsubscribed.state, SubscriptionState::Pending);
        take_up(&there).await.unwrap();
        assert_eq!(followed(&there).await, []);
    }
}
