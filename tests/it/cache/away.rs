//! The cache while Redis is away, hangs, takes nothing, or is back with old data.

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use fred::error::ErrorKind;
use pocketquant::common::rate_limit::Quota;
use pocketquant::common::shutdown::Lifecycle;
use pocketquant::domain::shared::Series;
use pocketquant::infrastructure::persistence::cache::keys;
use pocketquant::infrastructure::persistence::{
    Cache, CacheConfig, CacheError, CacheRead, SeriesCache,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::{MINUTE, connect, fill, fresh_series, hit, missed};
use crate::servers::{self, Server};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_named_without_the_password() {
    let port = servers::free_port();
    let begun = Instant::now();
    for url in [format!("redis://:hunter2@127.0.0.1:{port}"), "no url: hunter2".to_owned()] {
        let config = CacheConfig::Redis { url: url.clone().into() };
        let error = Cache::connect(config.clone()).await.unwrap_err();
        assert!(matches!(error, CacheError::Config { .. }), "{error:?}");
        let text = format!("{error} {error:?} {config:?}");
        assert!(text.contains("REDIS_URL") && !text.contains("hunter2"), "{text}");
        assert!(url.starts_with("no") || text.contains(&format!("127.0.0.1:{port}")), "{text}");
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
}

/// Every read and write comes back soon, whatever the server does.
async fn in_time<T>(work: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let result = work.await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    result
}

/// Reads until an answer is kept again.
async fn heals(cache: &SeriesCache, series: &Series) {
    let deadline = Instant::now() + MINUTE / 2;
    while in_time(hit(cache, series, "healed")).await.is_none() {
        assert!(Instant::now() < deadline, "it does not heal");
        if let CacheRead::Miss(ticket) = in_time(cache.read(series, "healed")).await {
            in_time(cache.fill(ticket, Bytes::from_static(b"again"))).await;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real redis-server: run scripts/test"]
async fn a_killed_server_is_an_error_at_once_and_no_error_to_readers_and_heals() {
    let mut server = Server::redis().await;
    let raw = connect(&server.url()).await;
    let (cache, series) = (SeriesCache::new(raw.clone()), fresh_series());
    fill(&cache, &series, b"old").await;
    server.crash();
    for _ in 0..50 {
        let got = in_time(raw.get("key")).await;
        assert!(matches!(got, Err(CacheError::Unavailable { .. })), "{got:?}");
    }
    let many = [("key".to_owned(), Bytes::new()), ("other".to_owned(), Bytes::new())];
    let set = in_time(raw.set_many(&many, MINUTE)).await;
    assert!(matches!(set, Err(CacheError::Unavailable { .. })), "{set:?}");
    assert_eq!(in_time(hit(&cache, &series, "q")).await, None);
    in_time(cache.begin_write(&series)).await;
    in_time(cache.finish_write(&series)).await;
    server.restart().await;
    heals(&cache, &series).await;
    raw.ping().await.unwrap();
}

/// What went wrong, in the client's words.
fn kind(error: &(dyn std::error::Error + 'static)) -> ErrorKind {
    error.downcast_ref::<fred::error::Error>().unwrap().kind().clone()
}

fn kind_of<T: Debug>(failed: Result<T, CacheError>) -> ErrorKind {
    let CacheError::Unavailable { cause, .. } = failed.unwrap_err() else { panic!("set up wrong") };
    kind(&*cause.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real redis-server: run scripts/test"]
async fn scripts_do_not_wait_for_a_server_that_is_gone_nor_long_for_one_that_hangs() {
    let mut server = Server::redis().await;
    let cache = connect(&server.url()).await;
    let (buckets, quota) = (cache.shared_buckets().unwrap(), Quota::new(1_000, 1).unwrap());
    let taken = async {
        loop {
            if let Ok(decision) = buckets.take("anyone", quota).await {
                return decision;
            }
        }
    };
    assert!(timeout(MINUTE, taken).await.expect("it answers").passes);

    server.crash();
    let noticed = async { while kind_of(cache.get("key").await) != ErrorKind::Canceled {} };
    timeout(MINUTE, noticed).await.expect("that it is gone is noticed");
    let taken = in_time(buckets.take("anyone", quota)).await;
    assert_eq!(kind(&*taken.unwrap_err().0), ErrorKind::Canceled);

    server.restart().await;
    let healed = async {
        while cache.ping().await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(MINUTE, healed).await.expect("it heals");
    server.freeze();
    tokio::select! {
        biased;
        taken = buckets.take("anyone", quota) => {
            assert_eq!(kind(&*taken.unwrap_err().0), ErrorKind::Timeout);
        }
        got = cache.get("key") => panic!("a call waits for its limit as for its data: {got:?}"),
    }
}

/// Says `command` to the server itself.
async fn tell(server: &Server, command: &str) {
    let address = server.url().replace("redis://", "");
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(format!("{command}\r\n").as_bytes()).await.unwrap();
    let mut answer = [0; 5];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"+OK\r\n", "{command}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real redis-server: run scripts/test"]
async fn what_was_kept_before_a_write_that_the_cache_missed_is_never_served() {
    let server = Server::redis().await;
    let (cache, series) = (SeriesCache::new(connect(&server.url()).await), fresh_series());
    fill(&cache, &series, b"old").await;
    // It still reads, and refuses to write.
    tell(&server, "CONFIG SET min-replicas-to-write 1").await;
    cache.begin_write(&series).await;
    assert_eq!(hit(&cache, &series, "q").await, None);
    cache.finish_write(&series).await;
    assert_eq!(hit(&cache, &series, "q").await, None);
    tell(&server, "CONFIG SET min-replicas-to-write 0").await;
    heals(&cache, &series).await;
    assert_eq!(hit(&cache, &series, "q").await, None);
}

/// Two processes on one server, and what both serve.
async fn two_processes(server: &Server) -> (SeriesCache, SeriesCache, Series) {
    let (url, series) = (server.url(), fresh_series());
    let (one, other) =
        (SeriesCache::new(connect(&url).await), SeriesCache::new(connect(&url).await));
    // Each has begun.
    for cache in [&one, &other] {
        drop(missed(cache, &series, "q").await);
    }
    fill(&one, &series, b"old").await;
    for cache in [&one, &other] {
        assert_eq!(hit(cache, &series, "q").await, Some(Bytes::from_static(b"old")));
    }
    (one, other, series)
}

async fn write(cache: &SeriesCache, series: &Series) {
    cache.begin_write(series).await;
    cache.finish_write(series).await;
}

/// Reads until what was kept is not served any more.
async fn forgets(cache: &SeriesCache, series: &Series) {
    let deadline = Instant::now() + MINUTE / 2;
    while hit(cache, series, "q").await.is_some() {
        assert!(Instant::now() < deadline, "it is served for ever");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real redis-server: run scripts/test"]
async fn a_server_that_comes_back_with_old_data_is_believed_by_nobody() {
    let mut server = Server::redis().await;
    let (writer, reader, series) = two_processes(&server).await;
    tell(&server, "SAVE").await;
    // One write that it will have forgotten, and one that it misses.
    write(&writer, &series).await;
    assert_eq!(hit(&reader, &series, "q").await, None);
    server.crash();
    write(&writer, &series).await;
    drop(writer);
    server.restart().await;
    let raw = connect(&server.url()).await;
    assert!(raw.get(&keys::generation(&series)).await.unwrap().is_some(), "it kept its data");
    heals(&reader, &series).await;
    assert_eq!(hit(&reader, &series, "q").await, None);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real redis-server: run scripts/test"]
async fn nothing_old_is_served_while_the_server_has_no_memory_to_say_so() {
    let server = Server::redis().await;
    let (writer, reader, series) = two_processes(&server).await;
    tell(&server, "CONFIG SET maxmemory 1").await;
    writer.begin_write(&series).await;
    assert_eq!(hit(&reader, &series, "q").await, None);
    writer.finish_write(&series).await;
    assert_eq!(hit(&reader, &series, "q").await, None);
    assert_eq!(hit(&writer, &series, "q").await, None);
    tell(&server, "CONFIG SET maxmemory 0").await;
    heals(&reader, &series).await;
    heals(&writer, &series).await;
    assert_eq!(hit(&reader, &series, "q").await, None);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real redis-server: run scripts/test"]
async fn a_writer_that_was_refused_tells_the_others_as_soon_as_it_can() {
    let server = Server::redis().await;
    let (writer, reader, series) = two_processes(&server).await;
    tell(&server, "CONFIG SET min-replicas-to-write 1").await;
    write(&writer, &series).await;
    tell(&server, "CONFIG SET min-replicas-to-write 0").await;
    // Nobody reads at the writer.
    let lifecycle = Lifecycle::new();
    drop(lifecycle.spawn("cache", writer.look_after(lifecycle.token())));
    forgets(&reader, &series).await;
    lifecycle.stop();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real redis-server: run scripts/test"]
async fn who_sees_that_the_server_takes_no_writes_believes_it_nothing() {
    let server = Server::redis().await;
    let (writer, reader, series) = two_processes(&server).await;
    let lifecycle = Lifecycle::new();
    drop(lifecycle.spawn("cache", reader.clone().look_after(lifecycle.token())));
    tell(&server, "CONFIG SET min-replicas-to-write 1").await;
    write(&writer, &series).await;
    drop(writer);
    forgets(&reader, &series).await;
    tell(&server, "CONFIG SET min-replicas-to-write 0").await;
    heals(&reader, &series).await;
    assert_eq!(hit(&reader, &series, "q").await, None);
    lifecycle.stop();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real redis-server: run scripts/test"]
async fn thousands_of_calls_to_a_server_that_hangs_are_errors_and_pile_up_nothing() {
    let server = Server::redis().await;
    let cache = connect(&server.url()).await;
    server.freeze();
    let calls = (0..5_000).map(|number| {
        let cache = cache.clone();
        async move { cache.get(&format!("key:{number}")).await }
    });
    let got = in_time(futures::future::join_all(calls)).await;
    let failed = |got: &Result<_, _>| matches!(got, Err(CacheError::Unavailable { .. }));
    assert!(got.iter().all(failed));
    server.thaw();
    let deadline = Instant::now() + MINUTE / 2;
    while in_time(cache.ping()).await.is_err() {
        assert!(Instant::now() < deadline, "it does not heal");
        sleep(Duration::from_millis(20)).await;
    }
}
