//! What is written of bars that somebody else has written before.

use super::*;
use crate::domain::ohlcv::BarSource::{Repair, Ticks};
use crate::domain::shared::Symbol;
use crate::features::market_data::quote::test_bench::{Bench, at, bar, hour, symbol};
use crate::infrastructure::persistence::Subscribed;

fn decided(price: f64, source: BarSource) -> [Decided; 1] {
    [Decided::Bar { series: hour(), bar: bar(price, 1, source), old: None }]
}

fn ledger(bench: &Bench) -> Ledger {
    Ledger::new(bench.parts.database.clone(), bench.parts.series.clone())
}

async fn stored(bench: &Bench) -> Vec<(u32, f64, BarSource)> {
    let found = bench.parts.database.bars().stretch(&hour(), at(0), at(0)).await.unwrap();
    found.iter().map(|bar| (bar.revision(), bar.values.close(), bar.source)).collect()
}

#[tokio::test]
async fn the_providers_word_outranks_what_was_stored_unseen_and_ticks_do_not() {
    let bench = Bench::start().await;
    let ledger = ledger(&bench);
    ledger.append(&decided(1.0, Ticks)).await.unwrap();
    // Decided by somebody who did not know of the first: ticks are passed over.
    let appended = ledger.append(&decided(2.0, Ticks)).await.unwrap();
    assert!(appended.sequences.is_empty() && appended.outranking.is_empty());
    assert_eq!(stored(&bench).await, [(1, 1.0, Ticks)]);
    // The provider says the same: nothing is new.
    let appended = ledger.append(&decided(1.0, Repair)).await.unwrap();
    assert!(appended.outranking.is_empty());
    assert_eq!(stored(&bench).await, [(1, 1.0, Ticks)]);
    // It says something else: that is the next revision, and is told.
    let appended = ledger.append(&decided(3.0, Repair)).await.unwrap();
    let [(_, old, new)] = appended.outranking[..] else { panic!("{:?}", appended.outranking) };
    assert_eq!((old.revision(), new.revision()), (1, 2));
    assert_eq!(stored(&bench).await, [(2, 3.0, Repair)]);
}

#[tokio::test]
async fn where_the_log_of_a_symbol_begins_is_said_once_and_of_none_that_was_given_up() {
    let bench = Bench::start().await;
    let (ledger, subscriptions) = (ledger(&bench), bench.parts.database.subscriptions());
    let from = |second| Job::LoggedFrom(symbol(), at(second));
    ledger.store(&from(60)).await.unwrap();
    assert_eq!(subscriptions.get(&symbol()).await.unwrap(), None, "it was given up");
    let row = Subscribed { symbol: symbol(), created_at: at(0), logged_from: None };
    subscriptions.put(&row).await.unwrap();
    for second in [60, 120] {
        ledger.store(&from(second)).await.unwrap();
        let found = subscriptions.get(&Symbol::parse("CME:ES").unwrap()).await.unwrap();
        assert_eq!(found.unwrap().logged_from, Some(at(60)));
    }
}

#[tokio::test]
async fn a_step_that_does_not_end_is_given_up() {
    let bench = Bench::start().await;
    let ledger = ledger(&bench);
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    let error = ledger.within(std::future::pending::<Result<(), _>>()).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(begun.elapsed() < STEP_DEADLINE * 2, "{:?}", begun.elapsed());
}
