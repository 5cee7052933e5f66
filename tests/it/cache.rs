//! The cache: one contract for both engines, the generations of series, and a Redis that goes
//! away.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fred::error::ErrorKind;
use jiff::Timestamp;
use pocketquant::common::rate_limit::Quota;
use pocketquant::common::shutdown::Lifecycle;
use pocketquant::domain::shared::{Interval, Series, Symbol};
use pocketquant::infrastructure::persistence::cache::{MAX_VALUE_BYTES, keys};
use pocketquant::infrastructure::persistence::{
    Cache, CacheConfig, CacheError, CacheRead, ReadTicket, SeriesCache,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::servers::{self, Server};

const MINUTE: Duration = Duration::from_mins(1);

async fn memory() -> Cache {
    Cache::connect(CacheConfig::Memory).await.unwrap()
}

/// A database of its own: who starts to use one makes what others keep there unreachable.
async fn redis() -> Cache {
    connect(&servers::own_redis_url().await).await
}

async fn connect(url: &str) -> Cache {
    Cache::connect(CacheConfig::Redis { url: url.into() }).await.unwrap()
}

macro_rules! on_both_engines {
    ($($name:ident),* $(,)?) => {
        mod in_memory {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::memory().await).await;
            })*
        }
        mod on_redis {
            $(#[tokio::test(flavor = "multi_thread")]
            #[ignore = "needs a real redis-server: run scripts/test"]
            async fn $name() {
                super::$name(super::redis().await).await;
            })*
        }
    };
}

on_both_engines!(
    what_is_set_is_got_until_it_is_deleted,
    what_is_set_is_gone_after_its_time,
    many_values_are_set_at_once,
    only_one_of_many_sets_what_is_absent,
    two_values_are_got_at_once,
    a_value_that_is_too_large_is_not_kept,
    an_answer_is_served_until_its_series_is_written,
    a_reader_that_was_overtaken_by_a_write_fills_nothing,
    while_a_series_is_written_it_is_neither_read_nor_filled,
    a_writer_that_dies_costs_cache_and_nothing_else,
    readers_that_meet_at_a_new_series_agree_on_its_generation,
    what_was_kept_before_a_process_started_is_served_by_nobody,
);

/// A text that no other test has, nor an earlier run.
fn fresh(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let run = Timestamp::now().as_microsecond();
    format!("{what}{run}_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn fresh_series() -> Series {
    Series::new(Symbol::new("TEST", &fresh("S").to_uppercase()).unwrap(), Interval::M1)
}

async fn what_is_set_is_got_until_it_is_deleted(cache: Cache) {
    let key = fresh("key:");
    cache.ping().await.unwrap();
    assert_eq!(cache.get(&key).await.unwrap(), None);
    for value in [Bytes::from_static(b"\0\xff\r\n$"), Bytes::new(), Bytes::from_static(b"b")] {
        cache.set(&key, value.clone(), MINUTE).await.unwrap();
        assert_eq!(cache.get(&key).await.unwrap(), Some(value));
    }
    cache.delete(&key).await.unwrap();
    cache.delete(&key).await.unwrap();
    assert_eq!(cache.get(&key).await.unwrap(), None);
}

async fn what_is_set_is_gone_after_its_time(cache: Cache) {
    let (short, long) = (fresh("key:"), fresh("key:"));
    let value = Bytes::from_static(b"v");
    cache.set(&long, value.clone(), MINUTE).await.unwrap();
    let brief = Duration::from_millis(30);
    cache.set(&short, value.clone(), MINUTE).await.unwrap();
    cache.set(&short, value.clone(), brief).await.unwrap();
    gone(&cache, &short).await;
    assert!(cache.set_if_absent(&short, value.clone(), brief).await.unwrap());
    gone(&cache, &short).await;
    assert_eq!(cache.get(&long).await.unwrap(), Some(value));
}

async fn many_values_are_set_at_once(cache: Cache) {
    cache.set_many(&[], MINUTE).await.unwrap();
    let name = fresh("key:");
    let values: Vec<_> = (0..1_700)
        .map(|index| (format!("{name}:{index}"), Bytes::from(format!("v{index}"))))
        .collect();
    cache.set_many(&values, MINUTE).await.unwrap();
    for (key, value) in &values {
        assert_eq!(cache.get(key).await.unwrap().as_ref(), Some(value));
    }
    // What was there is replaced or, where it grows too large, removed; time is counted anew.
    let (first, second) = (&values[0].0, &values[1].0);
    let changed = [
        (first.clone(), Bytes::from_static(b"old")),
        (second.clone(), Bytes::from(vec![0; MAX_VALUE_BYTES + 1])),
        (first.clone(), Bytes::from_static(b"new")),
    ];
    cache.set_many(&changed, MINUTE).await.unwrap();
    assert_eq!(cache.get(first).await.unwrap(), Some(Bytes::from_static(b"new")));
    assert_eq!(cache.get(second).await.unwrap(), None);
    cache.set_many(&values[2..], Duration::from_millis(30)).await.unwrap();
    gone(&cache, &values[2].0).await;
    gone(&cache, &values[1_699].0).await;
    assert!(cache.get(first).await.unwrap().is_some());
}

async fn gone(cache: &Cache, key: &str) {
    let deadline = Instant::now() + MINUTE / 2;
    while cache.get(key).await.unwrap().is_some() {
        assert!(Instant::now() < deadline, "it stays");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn only_one_of_many_sets_what_is_absent(cache: Cache) {
    let key = fresh("key:");
    let set = |number: u32| {
        let (cache, key) = (cache.clone(), key.clone());
        async move { cache.set_if_absent(&key, number.to_string().into(), MINUTE).await.unwrap() }
    };
    let won = futures::future::join_all((0..20).map(set)).await;
    let winners: Vec<_> = (0..20).filter(|number| won[*number]).collect();
    assert_eq!(winners.len(), 1, "{won:?}");
    assert_eq!(cache.get(&key).await.unwrap(), Some(winners[0].to_string().into()));
}

async fn two_values_are_got_at_once(cache: Cache) {
    let (one, other) = (fresh("key:"), fresh("key:"));
    let value = Bytes::from_static(b"v");
    assert_eq!(cache.get_both(&one, &other).await.unwrap(), (None, None));
    cache.set(&other, value.clone(), MINUTE).await.unwrap();
    assert_eq!(cache.get_both(&one, &other).await.unwrap(), (None, Some(value.clone())));
    assert_eq!(cache.get_both(&other, &one).await.unwrap(), (Some(value), None));
}

async fn a_value_that_is_too_large_is_not_kept(cache: Cache) {
    let key = fresh("key:");
    let most = Bytes::from(vec![7; MAX_VALUE_BYTES]);
    cache.set(&key, most.clone(), MINUTE).await.unwrap();
    assert_eq!(cache.get(&key).await.unwrap(), Some(most));
    let large = Bytes::from(vec![7; MAX_VALUE_BYTES + 1]);
    cache.set(&key, large.clone(), MINUTE).await.unwrap();
    assert_eq!(cache.get(&key).await.unwrap(), None);
    assert!(!cache.set_if_absent(&key, large, MINUTE).await.unwrap());
}

/// The ticket of a reader that found nothing.
async fn missed(cache: &SeriesCache, series: &Series, query: &str) -> ReadTicket {
    match cache.read(series, query).await {
        CacheRead::Miss(ticket) => ticket,
        CacheRead::Hit(bytes) => panic!("{bytes:?}"),
    }
}

async fn hit(cache: &SeriesCache, series: &Series, query: &str) -> Option<Bytes> {
    match cache.read(series, query).await {
        CacheRead::Miss(_) => None,
        CacheRead::Hit(bytes) => Some(bytes),
    }
}

async fn fill(cache: &SeriesCache, series: &Series, bytes: &'static [u8]) {
    let ticket = missed(cache, series, "q").await;
    cache.fill(ticket, Bytes::from_static(bytes)).await;
}

async fn an_answer_is_served_until_its_series_is_written(cache: Cache) {
    let (cache, series, other) = (SeriesCache::new(cache), fresh_series(), fresh_series());
    fill(&cache, &series, b"old").await;
    fill(&cache, &other, b"other").await;
    assert_eq!(hit(&cache, &series, "q").await, Some(Bytes::from_static(b"old")));
    assert_eq!(hit(&cache, &series, "another").await, None);
    cache.begin_write(&series).await;
    cache.finish_write(&series).await;
    assert_eq!(hit(&cache, &series, "q").await, None);
    fill(&cache, &series, b"new").await;
    assert_eq!(hit(&cache, &series, "q").await, Some(Bytes::from_static(b"new")));
    assert_eq!(hit(&cache, &other, "q").await, Some(Bytes::from_static(b"other")));
}

async fn a_reader_that_was_overtaken_by_a_write_fills_nothing(cache: Cache) {
    let (cache, series) = (SeriesCache::new(cache), fresh_series());
    let before = missed(&cache, &series, "q").await;
    cache.begin_write(&series).await;
    let during = missed(&cache, &series, "q").await;
    cache.finish_write(&series).await;
    cache.fill(before, Bytes::from_static(b"old")).await;
    cache.fill(during, Bytes::from_static(b"half")).await;
    assert_eq!(hit(&cache, &series, "q").await, None);
}

async fn while_a_series_is_written_it_is_neither_read_nor_filled(cache: Cache) {
    let (cache, series) = (SeriesCache::new(cache), fresh_series());
    fill(&cache, &series, b"old").await;
    cache.begin_write(&series).await;
    assert_eq!(hit(&cache, &series, "q").await, None);
    fill(&cache, &series, b"half").await;
    assert_eq!(hit(&cache, &series, "q").await, None);
}

async fn a_writer_that_dies_costs_cache_and_nothing_else(cache: Cache) {
    let series = fresh_series();
    let of_readers = SeriesCache::new(cache.clone());
    fill(&of_readers, &series, b"old").await;
    SeriesCache::new(cache.clone()).begin_write(&series).await;
    assert_eq!(hit(&of_readers, &series, "q").await, None);
    // A minute later.
    cache.delete(&keys::generation(&series)).await.unwrap();
    assert_eq!(hit(&of_readers, &series, "q").await, None);
    fill(&of_readers, &series, b"new").await;
    assert_eq!(hit(&of_readers, &series, "q").await, Some(Bytes::from_static(b"new")));
}

async fn readers_that_meet_at_a_new_series_agree_on_its_generation(cache: Cache) {
    let (cache, series) = (SeriesCache::new(cache), fresh_series());
    fill(&cache, &fresh_series(), b"other").await;
    let readers = (0..16).map(|_| missed(&cache, &series, "q"));
    let tickets = futures::future::join_all(readers).await;
    // Whichever of them it is that fills.
    let last = tickets.into_iter().next_back().unwrap();
    cache.fill(last, Bytes::from_static(b"same")).await;
    assert_eq!(hit(&cache, &series, "q").await, Some(Bytes::from_static(b"same")));
}

/// It may be one that was killed before it could say what it wrote.
async fn what_was_kept_before_a_process_started_is_served_by_nobody(cache: Cache) {
    let (first, series) = (SeriesCache::new(cache.clone()), fresh_series());
    fill(&first, &series, b"old").await;
    assert_eq!(hit(&first, &series, "q").await, Some(Bytes::from_static(b"old")));
    let second = SeriesCache::new(cache);
    assert_eq!(hit(&second, &series, "q").await, None);
    assert_eq!(hit(&first, &series, "q").await, None);
    fill(&first, &series, b"new").await;
    assert_eq!(hit(&second, &series, "q").await, Some(Bytes::from_static(b"new")));
}

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
    let (buckets, quota) = (cache.shared_buckets().unwrap(), Quota::new(5, 1).unwrap());
    assert!(buckets.take("anyone", quota).await.unwrap().passes);

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
