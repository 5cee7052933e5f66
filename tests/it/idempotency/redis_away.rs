//! Redis is frozen or gone: calls with a key are told in time, calls without one go on.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tonic::Code;

use super::{is_replayed, sync, sync_without_key};
use crate::servers::Server;
use crate::support::{TestApp, TestSimulator, demo_data, reason, retry_delay};

/// Far more than it takes, and far less than for ever.
const IN_TIME: Duration = Duration::from_secs(20);

async fn is_told_in_time(app: &mut TestApp) {
    let refused = timeout(IN_TIME, app.market_data.sync_symbol(sync("order-2", 299))).await;
    let refused = refused.unwrap().unwrap_err();
    assert_eq!(reason(&refused), (Code::Unavailable, "CACHE_UNAVAILABLE".to_owned()));
    assert!(retry_delay(&refused).is_some());
    let without_key = app.market_data.sync_symbol(sync_without_key(300));
    let without_key = timeout(IN_TIME, without_key).await.unwrap().unwrap();
    assert_eq!(without_key.into_inner().bars_unchanged, 300);
}

/// Calls until the key can be taken again; whether that was an answer from before.
async fn heals(app: &mut TestApp, key: &str, bars: i32) -> bool {
    let healed = async {
        loop {
            match app.market_data.sync_symbol(sync(key, bars)).await {
                Ok(answer) => break is_replayed(answer.metadata()),
                // The claim of a frozen server may still be in it, and is released soon.
                Err(status) => assert!(
                    matches!(status.code(), Code::Unavailable | Code::Aborted),
                    "{status:?}"
                ),
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_mins(2), healed).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real redis-server: run scripts/test"]
async fn a_frozen_redis_refuses_keys_in_time_and_nothing_else() {
    let redis = Server::redis().await;
    let simulator = TestSimulator::start(demo_data()).await;
    let settings = vec![("REDIS_URL".to_owned(), redis.url())];
    let mut app = TestApp::with_settings(&simulator, settings).await;
    app.market_data.sync_symbol(sync("order-1", 300)).await.unwrap();
    redis.freeze();
    is_told_in_time(&mut app).await;
    redis.thaw();
    assert!(heals(&mut app, "order-1", 300).await);
    assert!(!heals(&mut app, "order-2", 299).await);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real redis-server: run scripts/test"]
async fn a_killed_redis_refuses_keys_in_time_and_nothing_else() {
    let mut redis = Server::redis().await;
    let simulator = TestSimulator::start(demo_data()).await;
    let settings = vec![("REDIS_URL".to_owned(), redis.url())];
    let mut app = TestApp::with_settings(&simulator, settings).await;
    app.market_data.sync_symbol(sync("order-1", 300)).await.unwrap();
    redis.crash();
    is_told_in_time(&mut app).await;
    redis.restart().await;
    assert!(!heals(&mut app, "order-2", 299).await);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real redis-server: run scripts/test"]
async fn an_answer_made_while_redis_is_away_is_kept_once_it_returns() {
    let mut redis = Server::redis().await;
    let simulator = TestSimulator::start(demo_data()).await;
    let settings = vec![("REDIS_URL".to_owned(), redis.url())];
    let app = TestApp::with_settings(&simulator, settings).await;
    simulator.fault("slow", Some("2000"), None, true).await;
    let mut client = app.market_data.clone();
    let call = tokio::spawn(async move { client.sync_symbol(sync("order-1", 300)).await });
    while simulator.stats().await["series_requests"] == 0 {
        sleep(Duration::from_millis(10)).await;
    }
    redis.crash();
    assert!(!is_replayed(call.await.unwrap().unwrap().metadata()));
    redis.restart().await;
    simulator.fault("slow", None, None, false).await;
    let mut client = app.market_data.clone();
    let again = client.sync_symbol(sync("order-1", 300)).await.unwrap();
    assert!(is_replayed(again.metadata()));
    assert_eq!(simulator.stats().await["series_requests"], 1);
}
