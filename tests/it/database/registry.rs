//! What symbols and sync statuses promise, on both engines.

use std::time::Duration;

use bytes::Bytes;
use pocketquant::domain::shared::{Interval, Series, Symbol};
use pocketquant::domain::symbol::{
    CustomFields, SessionSpec, SymbolChange, SymbolDescription, SymbolInfo,
};
use pocketquant::domain::sync::{SyncState, SyncStatus};
use pocketquant::infrastructure::interfaces::HistoryDepth;
use pocketquant::infrastructure::persistence::{
    Lease, SymbolFilter, SyncCounts, SyncRecord, SyncStatusFilter,
};
use uuid::Uuid;

use super::{Store, on_both_engines, series, time};

on_both_engines!(
    a_symbol_is_read_as_it_was_put,
    what_a_person_sets_stands_until_it_is_taken_back,
    a_deleted_symbol_is_known_for_its_bars_only,
    symbols_are_listed_in_order_page_by_page,
    a_status_is_read_as_it_was_put,
    statuses_are_listed_in_order_page_by_page,
    syncs_belong_to_a_process_until_its_lease_lapses,
);

fn info(symbol: &str) -> SymbolInfo {
    SymbolInfo {
        symbol: Symbol::parse(symbol).unwrap(),
        description: SymbolDescription::default(),
        custom: CustomFields::default(),
        active: true,
        created_at: time(1),
        updated_at: time(2),
    }
}

async fn a_symbol_is_read_as_it_was_put(store: &Store) {
    let symbols = store.database.symbols();
    let bare = info("TSE:7203");
    assert_eq!(symbols.get(&bare.symbol).await.unwrap(), None);
    let full = SymbolInfo {
        description: SymbolDescription {
            name: Some("TOYOTA".to_owned()),
            description: Some("トヨタ自動車".to_owned()),
            asset_type: Some("stock".to_owned()),
            currency: Some("JPY".to_owned()),
            session: Some(SessionSpec {
                timezone: "Asia/Tokyo".to_owned(),
                session: "0900-1130,1230-1500".to_owned(),
                holidays: "20240101".to_owned(),
                corrections: String::new(),
            }),
            price_scale: Some(u32::MAX),
        },
        updated_at: time(3),
        ..bare.clone()
    };
    for info in [&bare, &full, &bare] {
        symbols.put(info).await.unwrap();
        assert_eq!(symbols.get(&info.symbol).await.unwrap().as_ref(), Some(info));
    }
    // Whether it is active is for people to say, once it is known.
    symbols.put(&SymbolInfo { active: false, created_at: time(8), ..bare.clone() }).await.unwrap();
    assert_eq!(symbols.get(&bare.symbol).await.unwrap(), Some(bare));
    let (one, other) = (info("A:B"), SymbolInfo { updated_at: time(3), ..info("A:B") });
    let (first, second) = tokio::join!(symbols.put(&one), symbols.put(&other));
    first.unwrap();
    second.unwrap();
    assert_eq!(symbols.list(&SymbolFilter::default(), None, 9).await.unwrap().len(), 2);
}

async fn what_a_person_sets_stands_until_it_is_taken_back(store: &Store) {
    let symbols = store.database.symbols();
    let mut expected = info("NYSE:IBM");
    let symbol = expected.symbol.clone();
    let text = |text: &str| Some(text.to_owned());
    let first = SymbolChange { name: text("Big Blue"), active: Some(false), ..Default::default() };
    assert_eq!(symbols.customise(&symbol, &first, time(3)).await.unwrap(), None);
    symbols.put(&expected).await.unwrap();
    let answered = symbols.customise(&symbol, &first, time(3)).await.unwrap();
    expected.custom.name = text("Big Blue");
    (expected.active, expected.updated_at) = (false, time(3));
    assert_eq!(answered.as_ref(), Some(&expected));

    // What the provider says goes beside it.
    expected.description.name = text("IBM");
    expected.updated_at = time(4);
    symbols.put(&SymbolInfo { custom: CustomFields::default(), ..expected.clone() }).await.unwrap();
    assert_eq!(symbols.get(&symbol).await.unwrap().as_ref(), Some(&expected));

    let second = SymbolChange {
        name: text(""),
        description: text("青い巨人"),
        asset_type: text("share"),
        ..Default::default()
    };
    let answered = symbols.customise(&symbol, &second, time(5)).await.unwrap();
    expected.custom =
        CustomFields { name: None, description: text("青い巨人"), asset_type: text("share") };
    expected.updated_at = time(5);
    assert_eq!(answered.as_ref(), Some(&expected));
    assert_eq!(symbols.get(&symbol).await.unwrap(), Some(expected));
}

async fn a_deleted_symbol_is_known_for_its_bars_only(store: &Store) {
    let symbols = store.database.symbols();
    let mut known = info("NYSE:IBM");
    let symbol = known.symbol.clone();
    assert!(!symbols.delete(&symbol, time(3)).await.unwrap());
    symbols.put(&known).await.unwrap();
    let change =
        SymbolChange { name: Some("x".to_owned()), active: Some(false), ..Default::default() };
    symbols.customise(&symbol, &change, time(2)).await.unwrap();
    assert!(symbols.delete(&symbol, time(3)).await.unwrap());
    assert!(!symbols.delete(&symbol, time(3)).await.unwrap());
    assert_eq!(symbols.get(&symbol).await.unwrap(), None);
    assert_eq!(symbols.customise(&symbol, &change, time(4)).await.unwrap(), None);
    assert!(symbols.list(&SymbolFilter::default(), None, 9).await.unwrap().is_empty());
    assert_eq!(symbols.last_known(&symbol).await.unwrap().as_ref(), Some(&known));

    // It comes back as a new one.
    (known.created_at, known.updated_at) = (time(7), time(7));
    symbols.put(&known).await.unwrap();
    assert_eq!(symbols.get(&symbol).await.unwrap(), Some(known));
    symbols.forget(&symbol).await.unwrap();
    assert_eq!(symbols.last_known(&symbol).await.unwrap(), None);
}

async fn symbols_are_listed_in_order_page_by_page(store: &Store) {
    let symbols = store.database.symbols();
    let names = ["A:Z", "AA:B", "B:A", "B:A.B", "B:A1", "B:AB", "C_1:A"];
    for name in names.iter().rev() {
        let active = *name != "B:A1";
        symbols.put(&SymbolInfo { active, ..info(name) }).await.unwrap();
    }
    let list = async |filter: SymbolFilter, limit| {
        let (mut found, mut after): (Vec<String>, Option<Symbol>) = (Vec::new(), None);
        loop {
            let page = symbols.list(&filter, after.as_ref(), limit).await.unwrap();
            assert!(page.len() <= usize::try_from(limit).unwrap());
            let Some(last) = page.last() else { return found };
            after = Some(last.symbol.clone());
            found.extend(page.iter().map(|info| info.symbol.to_string()));
        }
    };
    for limit in [1, 2, 3, 100] {
        assert_eq!(list(SymbolFilter::default(), limit).await, names);
    }
    let of_b = SymbolFilter { exchange: Some("B".to_owned()), active: None };
    assert_eq!(list(of_b, 2).await, names[2..6]);
    let inactive = SymbolFilter { exchange: None, active: Some(false) };
    assert_eq!(list(inactive, 2).await, ["B:A1"]);
    let active = SymbolFilter { exchange: Some("B".to_owned()), active: Some(true) };
    assert_eq!(list(active, 2).await, ["B:A", "B:A.B", "B:AB"]);
}

fn status(series: Series, state: SyncState) -> SyncStatus {
    SyncStatus { state, ..SyncStatus::pending(series) }
}

async fn a_status_is_read_as_it_was_put(store: &Store) {
    let statuses = store.database.sync_statuses();
    let series = series("NASDAQ:AAPL", Interval::D1);
    assert_eq!(statuses.get(&series).await.unwrap(), None);
    let full = SyncStatus {
        bar_count: 55_765,
        last_sync_at: Some(time(5) + jiff::SignedDuration::from_millis(123)),
        last_bar_at: Some(time(4)),
        error_message: Some("no `x`".to_owned()),
        ..status(series.clone(), SyncState::Error)
    };
    for expected in
        [&SyncStatus::pending(series.clone()), &full, &status(series, SyncState::Completed)]
    {
        statuses.put(expected, time(9)).await.unwrap();
        assert_eq!(statuses.get(&expected.series).await.unwrap().as_ref(), Some(expected));
    }
    let others = [("NASDAQ:AAPL", Interval::M1), ("NASDAQ:AAPLX", Interval::D1)];
    let [of_it, other] = others.map(|(symbol, interval)| self::series(symbol, interval));
    for series in [&of_it, &other] {
        statuses.put(&SyncStatus::pending(series.clone()), time(9)).await.unwrap();
    }
    statuses.delete(&of_it.symbol).await.unwrap();
    let left = statuses.list(&SyncStatusFilter::default(), None, 9).await.unwrap();
    assert_eq!(left.into_iter().map(|status| status.series).collect::<Vec<_>>(), [other]);
}

async fn statuses_are_listed_in_order_page_by_page(store: &Store) {
    let statuses = store.database.sync_statuses();
    // By the interval's text: `15m` before `1M` before `1d`.
    let expected = [
        series("A:Z", Interval::D1),
        series("B:A", Interval::M15),
        series("B:A", Interval::Mo1),
        series("B:A", Interval::D1),
        series("B:A", Interval::H1),
        series("B:B", Interval::M1),
    ];
    for series in expected.iter().rev() {
        let state =
            if series.interval == Interval::D1 { SyncState::Error } else { SyncState::Completed };
        statuses.put(&status(series.clone(), state), time(0)).await.unwrap();
    }
    let list = async |filter: SyncStatusFilter, limit| {
        let (mut found, mut after): (Vec<Series>, Option<Series>) = (Vec::new(), None);
        loop {
            let page = statuses.list(&filter, after.as_ref(), limit).await.unwrap();
            let Some(last) = page.last() else { return found };
            after = Some(last.series.clone());
            found.extend(page.into_iter().map(|status| status.series));
        }
    };
    for limit in [1, 2, 4, 100] {
        assert_eq!(list(SyncStatusFilter::default(), limit).await, expected);
    }
    let of_b = SyncStatusFilter { exchange: Some("B".to_owned()), state: None };
    assert_eq!(list(of_b.clone(), 2).await, expected[1..]);
    let failed = SyncStatusFilter { state: Some(SyncState::Error), ..of_b };
    assert_eq!(list(failed, 1).await, expected[3..4]);
}

async fn syncs_belong_to_a_process_until_its_lease_lapses(store: &Store) {
    let syncs = store.database.syncs();
    let lease = |length| Lease { owner: Uuid::now_v7(), length };
    // It lapses as it is given.
    let (one, other) = (lease(Duration::ZERO), lease(Duration::from_hours(1)));
    let record = |symbol: &str, started| SyncRecord {
        sync_id: Uuid::now_v7(),
        series: series(symbol, Interval::D1),
        depth: HistoryDepth::Newest(7),
        state: SyncState::Pending,
        counts: SyncCounts::default(),
        reached: None,
        started_at: time(started),
        ended: None,
    };
    let (mut first, second) = (record("A:1", 1), record("A:2", 0));
    let second = SyncRecord { depth: HistoryDepth::Full, ..second };
    for sync in [&first, &second] {
        syncs.insert(sync, one).await.unwrap();
        assert_eq!(syncs.get(sync.sync_id).await.unwrap().as_ref(), Some(sync));
    }
    assert_eq!(syncs.get(Uuid::now_v7()).await.unwrap(), None);
    assert_eq!(syncs.unfinished().await.unwrap().len(), 2);

    first.state = SyncState::Syncing;
    first.counts =
        SyncCounts { pages: 1, fetched: 10, inserted: 4, updated: 3, unchanged: 2, rejected: 1 };
    first.reached = Some((time(2), time(3)));
    assert!(syncs.update(&first, one).await.unwrap());
    assert_eq!(syncs.get(first.sync_id).await.unwrap(), Some(first.clone()));
    assert!(!syncs.update(&second, other).await.unwrap(), "it is not the other's");
    assert!(syncs.ask_to_cancel(first.sync_id).await.unwrap());
    assert_eq!(syncs.renew(one).await.unwrap(), [first.sync_id]);
    assert!(syncs.renew(other).await.unwrap().is_empty());

    // The oldest first; what is taken is the other's.
    let taken = syncs.take_over(other, 1).await.unwrap();
    assert_eq!(taken, std::slice::from_ref(&second));
    let taken = syncs.take_over(other, 5).await.unwrap();
    assert_eq!(taken, std::slice::from_ref(&first));
    assert_eq!(syncs.take_over(other, 5).await.unwrap(), []);
    assert!(!syncs.update(&first, one).await.unwrap(), "it is no longer the first's");

    first.ended = Some((time(40), Bytes::from_static(b"how it ended")));
    first.state = SyncState::Error;
    assert!(syncs.update(&first, other).await.unwrap());
    assert_eq!(syncs.get(first.sync_id).await.unwrap(), Some(first.clone()));
    assert!(!syncs.ask_to_cancel(first.sync_id).await.unwrap(), "it is over");
    assert_eq!(syncs.unfinished().await.unwrap(), std::slice::from_ref(&second.series));
    syncs.prune(time(40)).await.unwrap();
    assert!(syncs.get(first.sync_id).await.unwrap().is_some());
    syncs.prune(time(41)).await.unwrap();
    assert_eq!(syncs.get(first.sync_id).await.unwrap(), None);
    assert_eq!(syncs.get(second.sync_id).await.unwrap(), Some(second));
}
