//! How long callers wait for a provider that says nothing.

use tokio::time::{Instant, pause};

use super::*;
use crate::features::market_data::quote::test_bench::{Bench, options, symbol};

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
