//! The cache: one contract for both engines, and the generations of series.

mod away;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use pocketquant::domain::shared::{Interval, Series, Symbol};
use pocketquant::infrastructure::persistence::cache::{MAX_VALUE_BYTES, keys};
use pocketquant::infrastructure::persistence::{
    Cache, CacheConfig, CacheRead, ReadTicket, SeriesCache,
};
use tokio::time::{Instant, sleep};

use crate::servers;

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
