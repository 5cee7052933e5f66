//! How long callers wait for a provider that says nothing, and what is known of another process's
//! feed.

use bytes::Bytes;
use tokio::time::{Instant, pause};

use super::*;
use crate::domain::symbol::TradingSession;
use crate::features::market_data::quote::test_bench::{Bench, at, options, symbol};

#[tokio::test]
async fn a_stream_does_not_wait_for_ever_to_hear_whether_there_are_such_symbols() {
    let bench = Bench::start().await;
    let service = QuoteService::start_up(bench.parts.clone(), options(), 1).await.unwrap();
    service.start().await.unwrap();
    pause();
    let begun = Instant::now();
    let _follow = service.follow(vec![symbol()]).await.unwrap();
    let waited = begun.elapsed();
    assert!((VERDICT_WITHIN..VERDICT_WITHIN * 2).contains(&waited), "{waited:?}");
}

#[tokio::test]
async fn where_the_log_of_a_symbol_begins_is_known_of_another_process_too() {
    let bench = Bench::start().await;
    let (database, live) = (&bench.parts.database, &bench.parts.live);
    let _service = QuoteService::start_up(bench.parts.clone(), options(), 1).await.unwrap();
    let logged_from = async || live.logged_from(&symbol()).await.unwrap();
    assert_eq!(logged_from().await, None);
    // All that follows is written by somebody else. Only streams follow it:
    let mut manager = BarManager::new(BarRules::default());
    let id = manager.track(&symbol(), &Arc::new(TradingSession::around_the_clock()));
    let snapshot = manager.snapshot(id).unwrap();
    let kept = Kept { snapshot, owed: Vec::new(), logged_from: Some(at(60)), saved_at: at(90) };
    let kept: Bytes = snapshot_codec::encode(&kept);
    database.feed_state().save(&[(symbol(), kept)], at(90)).await.unwrap();
    assert_eq!(logged_from().await, Some(at(60)));
    // It is subscribed, and not joined; then it is.
    for (from, expected) in [(None, at(60)), (Some(at(30)), at(30))] {
        let row = Subscribed { symbol: symbol(), created_at: at(0), logged_from: from };
        database.subscriptions().put(&row).await.unwrap();
        assert_eq!(logged_from().await, Some(expected));
    }
}

#[tokio::test]
async fn who_subscribes_what_another_process_follows_leaves_its_row_as_it_is() {
    let bench = Bench::start().await;
    let subscriptions = bench.parts.database.subscriptions();
    let service = QuoteService::start_up(bench.parts.clone(), options(), 1).await.unwrap();
    let row = Subscribed { symbol: symbol(), created_at: at(0), logged_from: Some(at(30)) };
    subscriptions.put(&row).await.unwrap();
    let subscribed = service.subscribe(symbol()).await.unwrap();
    assert_eq!(subscribed.created_at, at(0));
    assert_eq!(subscriptions.get(&symbol()).await.unwrap(), Some(row));
}
