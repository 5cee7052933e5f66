//! What the ledger of coverage promises, on both engines.

use pocketquant::domain::coverage::{FeedPresence, RangeSet, TimeRange};
use pocketquant::domain::shared::{Interval, Series, Symbol};
use pocketquant::infrastructure::persistence::CoverageRecord;

use super::{Store, on_both_engines, series, time};

on_both_engines!(
    coverage_is_read_as_it_was_put_last,
    followed_symbols_are_found_and_a_symbol_is_forgotten_whole,
    many_records_are_put_at_once,
);

fn ranges(pairs: &[(i64, i64)]) -> RangeSet {
    pairs.iter().filter_map(|(from, to)| TimeRange::new(time(*from), time(*to))).collect()
}

fn asked(series: &Series, pairs: &[(i64, i64)]) -> CoverageRecord {
    CoverageRecord::Asked { series: series.clone(), asked: ranges(pairs) }
}

fn feed(symbol: &Symbol, followed: bool, down: &[(i64, i64)]) -> CoverageRecord {
    let presence =
        FeedPresence::restored(followed, Some(time(8)), ranges(&[(-9, 7)]), ranges(down));
    CoverageRecord::Feed { symbol: symbol.clone(), presence }
}

async fn coverage_is_read_as_it_was_put_last(store: &Store) {
    let coverage = store.database.coverage();
    let (minutes, months) = (series("A:B", Interval::M1), series("A:B", Interval::Mo1));
    assert_eq!(coverage.asked(&minutes).await.unwrap(), RangeSet::default());
    assert_eq!(coverage.feed(&minutes.symbol).await.unwrap(), None);
    coverage.put(&[]).await.unwrap();
    for pairs in [&[(0, 5), (9, 10)][..], &[(0, 10)][..]] {
        coverage.put(&[asked(&minutes, pairs), asked(&months, &[(1, 2)])]).await.unwrap();
        assert_eq!(coverage.asked(&minutes).await.unwrap(), ranges(pairs));
        assert_eq!(coverage.asked(&months).await.unwrap(), ranges(&[(1, 2)]), "1M is no 1m");
    }
    for record in [feed(&minutes.symbol, true, &[(1, 2)]), feed(&minutes.symbol, false, &[])] {
        coverage.put(std::slice::from_ref(&record)).await.unwrap();
        let CoverageRecord::Feed { presence, .. } = record else { unreachable!() };
        assert_eq!(coverage.feed(&minutes.symbol).await.unwrap(), Some(presence));
    }
    assert_eq!(coverage.asked(&minutes).await.unwrap(), ranges(&[(0, 10)]));
}

async fn followed_symbols_are_found_and_a_symbol_is_forgotten_whole(store: &Store) {
    let coverage = store.database.coverage();
    let [a, b, c] = ["A:B", "A:C", "B:A"].map(|text| series(text, Interval::D1));
    let records = [&a, &b, &c].map(|of| feed(&of.symbol, of.symbol != b.symbol, &[(20, 30)]));
    coverage.put(&records).await.unwrap();
    coverage.put(&[asked(&a, &[(0, 1)]), asked(&c, &[(0, 1)])]).await.unwrap();
    let mut followed = coverage.followed().await.unwrap();
    followed.sort_by(|(one, _), (other, _)| one.cmp(other));
    let symbols: Vec<_> = followed.iter().map(|(symbol, _)| symbol).collect();
    assert_eq!(symbols, [&a.symbol, &c.symbol]);
    assert_eq!(followed[0].1.down(), &ranges(&[(20, 30)]));
    coverage.delete(&a.symbol).await.unwrap();
    coverage.delete(&a.symbol).await.unwrap();
    assert_eq!(coverage.asked(&a).await.unwrap(), RangeSet::default());
    assert_eq!(coverage.feed(&a.symbol).await.unwrap(), None);
    assert_eq!(coverage.asked(&c).await.unwrap(), ranges(&[(0, 1)]));
    assert_eq!(coverage.followed().await.unwrap().len(), 1);
}

async fn many_records_are_put_at_once(store: &Store) {
    let coverage = store.database.coverage();
    let symbol = |number: i32| Symbol::parse(&format!("X:S{number}")).unwrap();
    let many: Vec<(i64, i64)> = (0..100).map(|at| (at * 2, at * 2 + 1)).collect();
    let records: Vec<_> = (0..700).map(|number| feed(&symbol(number), true, &many)).collect();
    coverage.put(&records).await.unwrap();
    coverage.put(&records).await.unwrap();
    assert_eq!(coverage.followed().await.unwrap().len(), 700);
    let presence = coverage.feed(&symbol(699)).await.unwrap().unwrap();
    assert_eq!(presence.down(), &ranges(&many));
}
