//! What subscriptions and the feed's memory promise, on both engines.

use bytes::Bytes;
use pocketquant::domain::shared::Symbol;
use pocketquant::infrastructure::persistence::Subscribed;

use super::{Store, on_both_engines, time};

on_both_engines!(
    a_subscription_is_read_as_it_was_put,
    subscriptions_are_listed_in_order_page_by_page,
    a_state_is_loaded_as_it_was_saved_last,
    many_states_are_saved_at_once,
);

fn symbol(text: &str) -> Symbol {
    Symbol::parse(text).unwrap()
}

fn subscribed(text: &str) -> Subscribed {
    Subscribed { symbol: symbol(text), created_at: time(1), logged_from: None }
}

async fn a_subscription_is_read_as_it_was_put(store: &Store) {
    let subscriptions = store.database.subscriptions();
    let bare = subscribed("CME:ES1!");
    assert_eq!(subscriptions.get(&bare.symbol).await.unwrap(), None);
    let tracked = Subscribed { logged_from: Some(time(7)), ..bare.clone() };
    for subscribed in [&bare, &tracked, &bare, &tracked] {
        subscriptions.put(subscribed).await.unwrap();
        assert_eq!(subscriptions.get(&bare.symbol).await.unwrap().as_ref(), Some(subscribed));
    }
    assert!(subscriptions.delete(&bare.symbol).await.unwrap());
    assert!(!subscriptions.delete(&bare.symbol).await.unwrap());
    assert_eq!(subscriptions.get(&bare.symbol).await.unwrap(), None);
}

async fn subscriptions_are_listed_in_order_page_by_page(store: &Store) {
    let subscriptions = store.database.subscriptions();
    let names = ["A:B", "A:C.D", "A_B:A", "B:A", "B:A1"];
    for name in names.iter().rev() {
        subscriptions.put(&subscribed(name)).await.unwrap();
    }
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = subscriptions.list(after.as_ref(), 2).await.unwrap();
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        after = Some(last.symbol.clone());
        listed.extend(page);
    }
    assert_eq!(listed, names.map(subscribed));
    assert_eq!(subscriptions.list(None, 0).await.unwrap(), []);
    let from_one_that_is_not_there = subscriptions.list(Some(&symbol("A:Z")), 9).await.unwrap();
    assert_eq!(from_one_that_is_not_there, listed[2..]);
}

async fn a_state_is_loaded_as_it_was_saved_last(store: &Store) {
    let states = store.database.feed_state();
    assert_eq!(states.load_all().await.unwrap(), []);
    states.save(&[], time(0)).await.unwrap();
    let every_byte: Bytes = (0..=u8::MAX).collect();
    let (a, b, c) = (symbol("A:B"), symbol("A:C"), symbol("B:A"));
    let first = [(b.clone(), Bytes::new()), (a.clone(), every_byte.clone())];
    states.save(&first, time(0)).await.unwrap();
    let second = [(c.clone(), Bytes::from_static(b"c")), (b.clone(), every_byte.clone())];
    states.save(&second, time(1)).await.unwrap();
    let expected = [(a.clone(), every_byte.clone()), (b.clone(), every_byte), second[0].clone()];
    assert_eq!(states.load_all().await.unwrap(), expected);
    states.delete(&[a, symbol("NOT:THERE"), c]).await.unwrap();
    states.delete(&[]).await.unwrap();
    assert_eq!(states.load_all().await.unwrap(), expected[1..2]);
}

async fn many_states_are_saved_at_once(store: &Store) {
    let states = store.database.feed_state();
    let all: Vec<_> = (10_000..11_700)
        .map(|number| (symbol(&format!("X:S{number}")), Bytes::from(vec![7; 4_096])))
        .collect();
    states.save(&all, time(0)).await.unwrap();
    states.save(&all, time(1)).await.unwrap();
    assert_eq!(states.load_all().await.unwrap(), all);
    let symbols: Vec<_> = all.into_iter().map(|(symbol, _)| symbol).collect();
    states.delete(&symbols).await.unwrap();
    assert_eq!(states.load_all().await.unwrap(), []);
}
