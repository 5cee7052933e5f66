//! What webhooks and their outbox promise, on both engines.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use pocketquant::domain::shared::{EventType, Interval, Symbol};
use pocketquant::infrastructure::persistence::{
    Delivery, DeliveryPlace, DeliveryState, Lease, NewDelivery, Settled, Webhook,
};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use super::{Store, on_both_engines, time};

on_both_engines!(
    a_webhook_is_read_as_it_was_put,
    a_webhook_is_disabled_once_and_enabled_behind_the_log,
    an_event_is_put_once_and_belongs_to_who_claims_it,
    what_was_claimed_and_not_settled_is_claimed_again,
    bars_are_put_with_the_place_in_the_log,
    the_oldest_are_forgotten_and_counted,
    what_ended_long_ago_is_forgotten_and_what_waits_is_not,
    deliveries_are_listed_newest_first_page_by_page,
    a_try_that_is_written_down_twice_counts_once,
    nothing_is_kept_for_a_webhook_that_there_is_not,
    how_the_newest_ended_is_told_however_many_wait,
    nothing_is_left_of_a_deleted_webhook,
);

/// A webhook for everything, that nothing was ever put for.
pub fn webhook(created: i64) -> Webhook {
    Webhook {
        id: Uuid::now_v7(),
        url: "https://example.com/hook".to_owned(),
        description: String::new(),
        event_types: Vec::new(),
        symbols: Vec::new(),
        intervals: Vec::new(),
        secret: SecretString::from("whsec_c2VjcmV0"),
        created_at: time(created),
        disabled: None,
        cursor: 0,
        dropped: 0,
    }
}

pub async fn with_webhook(store: &Store) -> Uuid {
    let hook = webhook(0);
    store.database.webhooks().insert(&hook).await.unwrap();
    hook.id
}

fn new(webhook_id: Uuid) -> NewDelivery {
    let body = Bytes::from_static(b"{\"type\":\"feed.up\"}");
    NewDelivery { webhook_id, event_id: Uuid::now_v7(), event_type: EventType::FeedUp, body }
}

fn lease() -> Lease {
    Lease { owner: Uuid::now_v7(), length: Duration::from_hours(1) }
}

fn settled(delivery: &Delivery, state: DeliveryState, at: i64, next: i64) -> Settled {
    Settled {
        webhook_id: delivery.webhook_id,
        event_id: delivery.event_id,
        attempt: delivery.attempts + 1,
        state,
        at: time(at),
        next_attempt_at: time(next),
        status: Some(500),
        error: "it answered 500".to_owned(),
    }
}

fn text(webhook: &Webhook) -> String {
    format!("{webhook:?} {}", webhook.secret.expose_secret())
}

async fn a_webhook_is_read_as_it_was_put(store: &Store) {
    let webhooks = store.database.webhooks();
    assert!(webhooks.list().await.unwrap().is_empty());
    let (bare, full) = (webhook(2), webhook(1));
    let full = Webhook {
        description: "für den Handel".to_owned(),
        event_types: vec![EventType::BarClosed, EventType::FeedDown],
        symbols: vec![Symbol::parse("NSE:M&M").unwrap(), Symbol::parse("A:B").unwrap()],
        intervals: vec![Interval::M1, Interval::Mo1],
        disabled: Some((time(3), "it answered 410 (Gone)".to_owned())),
        cursor: 7,
        dropped: 9,
        ..full
    };
    for each in [&bare, &full] {
        webhooks.insert(each).await.unwrap();
    }
    let listed: Vec<String> = webhooks.list().await.unwrap().iter().map(text).collect();
    assert_eq!(listed, [text(&full), text(&bare)], "the oldest first");
}

async fn a_webhook_is_disabled_once_and_enabled_behind_the_log(store: &Store) {
    let webhooks = store.database.webhooks();
    let id = with_webhook(store).await;
    assert!(webhooks.disable(id, time(1), "dead").await.unwrap());
    assert!(!webhooks.disable(id, time(2), "again").await.unwrap());
    let listed = webhooks.list().await.unwrap();
    assert_eq!(listed[0].disabled, Some((time(1), "dead".to_owned())));
    let enabled = webhooks.enable(id, 5).await.unwrap().unwrap();
    assert_eq!((enabled.disabled, enabled.cursor), (None, 5));
    let same = webhooks.enable(id, 9).await.unwrap().unwrap();
    assert_eq!(same.cursor, 5, "one that is enabled misses nothing");
    assert!(webhooks.enable(Uuid::now_v7(), 1).await.unwrap().is_none());
    assert!(!webhooks.disable(Uuid::now_v7(), time(1), "").await.unwrap());
}

async fn an_event_is_put_once_and_belongs_to_who_claims_it(store: &Store) {
    let outbox = store.database.webhook_outbox();
    let id = with_webhook(store).await;
    let event = new(id);
    for body in [event.body.clone(), Bytes::from_static(b"other")] {
        outbox.put(vec![NewDelivery { body, ..event.clone() }], time(1)).await.unwrap();
    }
    let size = outbox.size(id, time(1)).await.unwrap();
    assert_eq!((size.pending, size.oldest, size.due), (1, Some(time(1)), Some(time(1))));
    let mine = lease();
    assert!(outbox.claim(id, mine, time(0), 9).await.unwrap().is_empty(), "it is not due");
    let claimed = outbox.claim(id, mine, time(1), 9).await.unwrap();
    let expected = Delivery {
        webhook_id: id,
        event_id: event.event_id,
        event_type: EventType::FeedUp,
        body: event.body,
        state: DeliveryState::Pending,
        attempts: 0,
        next_attempt_at: time(1),
        created_at: time(1),
        ended_at: None,
        status: None,
        error: String::new(),
    };
    assert_eq!(claimed, std::slice::from_ref(&expected));
    assert!(outbox.claim(id, mine, time(2), 9).await.unwrap().is_empty(), "it is being sent");
    // When its lease lapses, by the clock that it is due by.
    let due = outbox.size(id, time(2)).await.unwrap().due.unwrap();
    assert!(due > time(2) && due <= time(2) + mine.length, "{due}");

    outbox.settle(vec![settled(&expected, DeliveryState::Pending, 3, 10)]).await.unwrap();
    assert!(outbox.claim(id, mine, time(9), 9).await.unwrap().is_empty(), "its time has not come");
    let again = outbox.claim(id, mine, time(10), 9).await.unwrap();
    assert_eq!((again[0].attempts, again[0].status), (1, Some(500)));
    outbox.settle(vec![settled(&expected, DeliveryState::Delivered, 11, 11)]).await.unwrap();
    // Whoever was slow does not undo it.
    outbox.settle(vec![settled(&expected, DeliveryState::Failed, 12, 12)]).await.unwrap();
    let ended = outbox.list(id, None, 9).await.unwrap();
    assert_eq!((ended[0].state, ended[0].attempts), (DeliveryState::Delivered, 2));
    assert_eq!(ended[0].ended_at, Some(time(11)));
    let size = outbox.size(id, time(99)).await.unwrap();
    assert_eq!((size.pending, size.oldest, size.due), (0, None, None));
}

async fn what_was_claimed_and_not_settled_is_claimed_again(store: &Store) {
    let outbox = store.database.webhook_outbox();
    let id = with_webhook(store).await;
    outbox.put(vec![new(id), new(id), new(id)], time(0)).await.unwrap();
    let mine = lease();
    assert_eq!(outbox.claim(id, mine, time(1), 2).await.unwrap().len(), 2);
    // However far the machine's clock is set forward, they are being sent.
    assert_eq!(outbox.claim(id, mine, time(1_000), 9).await.unwrap().len(), 1);
    store.lapse_leases().await;
    assert!(outbox.size(id, time(1_000)).await.unwrap().due.unwrap() <= time(1_000));
    for each in [mine, lease()] {
        let claimed = outbox.claim(id, each, time(1), 9).await.unwrap();
        assert_eq!(claimed.len(), 3, "the lease has lapsed");
        store.lapse_leases().await;
    }
}

async fn a_try_that_is_written_down_twice_counts_once(store: &Store) {
    let outbox = store.database.webhook_outbox();
    let id = with_webhook(store).await;
    outbox.put(vec![new(id), new(id)], time(0)).await.unwrap();
    let claimed = outbox.claim(id, lease(), time(1), 9).await.unwrap();
    let tried = claimed.iter().map(|each| settled(each, DeliveryState::Pending, 1, 2));
    let tried: Vec<Settled> = tried.collect();
    // As after an error midway: it is not known what was written down.
    outbox.settle(tried[..1].to_vec()).await.unwrap();
    outbox.settle(tried.clone()).await.unwrap();
    let again = outbox.claim(id, lease(), time(2), 9).await.unwrap();
    assert_eq!(again.iter().map(|each| each.attempts).collect::<Vec<_>>(), [1, 1]);
    // A second try counts as one, and so does its end, whoever tells the first again.
    outbox
        .settle(vec![settled(&again[0], DeliveryState::Pending, 2, 3), tried[0].clone()])
        .await
        .unwrap();
    outbox.settle(vec![settled(&again[1], DeliveryState::Delivered, 2, 2)]).await.unwrap();
    outbox.settle(tried).await.unwrap();
    let mut stand: Vec<_> = outbox
        .list(id, None, 9)
        .await
        .unwrap()
        .iter()
        .map(|each| (each.attempts, each.state))
        .collect();
    stand.sort_by_key(|(_, state)| state.as_str());
    assert_eq!(stand, [(2, DeliveryState::Delivered), (2, DeliveryState::Pending)]);
}

async fn nothing_is_kept_for_a_webhook_that_there_is_not(store: &Store) {
    let outbox = store.database.webhook_outbox();
    let (id, deleted) = (with_webhook(store).await, Uuid::now_v7());
    outbox.put(vec![new(id), new(deleted)], time(0)).await.unwrap();
    outbox.put_logged(deleted, vec![new(deleted)], 1, 0, time(0)).await.unwrap();
    assert!(outbox.list(deleted, None, 9).await.unwrap().is_empty());
    assert_eq!(outbox.list(id, None, 9).await.unwrap().len(), 1, "the other's is kept");
}

async fn bars_are_put_with_the_place_in_the_log(store: &Store) {
    let (webhooks, outbox) = (store.database.webhooks(), store.database.webhook_outbox());
    let id = with_webhook(store).await;
    let bars = vec![new(id), new(id)];
    outbox.put_logged(id, bars.clone(), 8, 2, time(0)).await.unwrap();
    // As after a crash.
    outbox.put_logged(id, bars, 7, 0, time(1)).await.unwrap();
    outbox.put_logged(id, Vec::new(), 7, 1, time(1)).await.unwrap();
    let hook = &webhooks.list().await.unwrap()[0];
    assert_eq!((hook.cursor, hook.dropped), (8, 3), "never back");
    assert_eq!(outbox.size(id, time(99)).await.unwrap().pending, 2);
}

async fn the_oldest_are_forgotten_and_counted(store: &Store) {
    let (webhooks, outbox) = (store.database.webhooks(), store.database.webhook_outbox());
    let id = with_webhook(store).await;
    let mut events = Vec::new();
    for at in 0..6 {
        events.push(new(id));
        outbox.put(vec![events[at].clone()], time(at.try_into().unwrap())).await.unwrap();
    }
    let claimed = outbox.claim(id, lease(), time(10), 3).await.unwrap();
    let done = claimed.iter().map(|each| settled(each, DeliveryState::Delivered, 10, 10));
    outbox.settle(done.collect()).await.unwrap();
    assert_eq!(outbox.trim(id, 3, 3).await.unwrap(), 0, "there is no more than may be");
    assert_eq!(outbox.trim(id, 1, 2).await.unwrap(), 1);
    let left: Vec<Uuid> =
        outbox.list(id, None, 9).await.unwrap().iter().map(|each| each.event_id).collect();
    assert_eq!(left, [5, 4, 2].map(|at: usize| events[at].event_id));
    assert_eq!(webhooks.list().await.unwrap()[0].dropped, 1);
}

async fn what_ended_long_ago_is_forgotten_and_what_waits_is_not(store: &Store) {
    let (webhooks, outbox) = (store.database.webhooks(), store.database.webhook_outbox());
    let (id, other) = (with_webhook(store).await, with_webhook(store).await);
    let ends = [
        (Some(DeliveryState::Delivered), 5),
        (Some(DeliveryState::Failed), 6),
        (Some(DeliveryState::Delivered), 7),
        (None, 0),
    ];
    for (state, at) in ends {
        outbox.put(vec![new(id), new(other)], time(1)).await.unwrap();
        for webhook in [id, other] {
            let claimed = outbox.claim(webhook, lease(), time(2), 9).await.unwrap();
            let ended = claimed.iter().zip(state).map(|(each, state)| settled(each, state, at, at));
            outbox.settle(ended.collect()).await.unwrap();
        }
    }
    let left = async |webhook| {
        let listed = outbox.list(webhook, None, 9).await.unwrap();
        let mut left: Vec<_> = listed.iter().map(|each| each.ended_at).collect();
        left.sort_unstable();
        left
    };
    outbox.prune(id, time(5)).await.unwrap();
    assert_eq!(left(id).await.len(), 4, "that time is not before itself");
    outbox.prune(id, time(7)).await.unwrap();
    assert_eq!(left(id).await, [None, Some(time(7))]);
    outbox.prune(id, time(99)).await.unwrap();
    assert_eq!(left(id).await, [None], "it is to be sent, however old it is");
    assert_eq!(left(other).await.len(), 4, "they are another's");
    assert_eq!(webhooks.list().await.unwrap()[0].dropped, 0, "they were not lost");
}

async fn deliveries_are_listed_newest_first_page_by_page(store: &Store) {
    let outbox = store.database.webhook_outbox();
    let (id, other) = (with_webhook(store).await, with_webhook(store).await);
    let mut expected = Vec::new();
    for at in [3, 1, 1, 2] {
        let event = new(id);
        expected.push((time(at), event.event_id));
        outbox.put(vec![event, new(other)], time(at)).await.unwrap();
    }
    expected.sort_unstable_by(|one, two| two.cmp(one));
    for limit in [1, 2, 3, 9] {
        let (mut listed, mut after): (Vec<(Timestamp, Uuid)>, _) = (Vec::new(), None);
        loop {
            let page = outbox.list(id, after, limit).await.unwrap();
            let Some(last) = page.last() else { break };
            let (created_at, event_id) = (last.created_at, last.event_id);
            after = Some(DeliveryPlace { created_at, event_id });
            listed.extend(page.iter().map(|each| (each.created_at, each.event_id)));
        }
        assert_eq!(listed, expected, "by {limit}");
    }
}

async fn how_the_newest_ended_is_told_however_many_wait(store: &Store) {
    use DeliveryState::{Delivered, Failed, Pending};
    let outbox = store.database.webhook_outbox();
    let (id, other) = (with_webhook(store).await, with_webhook(store).await);
    assert!(outbox.ended(id, 9).await.unwrap().is_empty());
    // The newest ended first: what counts is when they were put.
    for (put, state) in [(4, Failed), (3, Delivered), (2, Failed), (1, Delivered)] {
        outbox.put(vec![new(id)], time(put)).await.unwrap();
        let claimed = outbox.claim(id, lease(), time(4), 9).await.unwrap();
        let ended = 20 - put;
        outbox.settle(vec![settled(&claimed[0], state, ended, ended)]).await.unwrap();
    }
    outbox.put((0..150).map(|_| new(id)).collect(), time(9)).await.unwrap();
    // These were tried and are to be tried again.
    let tried = outbox.claim(id, lease(), time(9), 75).await.unwrap();
    let again = tried.iter().map(|each| settled(each, Pending, 9, 99));
    outbox.settle(again.collect()).await.unwrap();
    assert_eq!(outbox.ended(id, 100).await.unwrap(), [Failed, Delivered, Failed, Delivered]);
    assert_eq!(outbox.ended(id, 3).await.unwrap(), [Failed, Delivered, Failed]);
    assert!(outbox.ended(other, 9).await.unwrap().is_empty(), "they are another's");
}

async fn nothing_is_left_of_a_deleted_webhook(store: &Store) {
    let (webhooks, outbox) = (store.database.webhooks(), store.database.webhook_outbox());
    let (id, other) = (with_webhook(store).await, with_webhook(store).await);
    outbox.put(vec![new(id), new(other)], time(0)).await.unwrap();
    assert!(webhooks.delete(id).await.unwrap());
    assert!(!webhooks.delete(id).await.unwrap());
    assert_eq!(outbox.size(id, time(99)).await.unwrap().pending, 0);
    assert_eq!(outbox.size(other, time(99)).await.unwrap().pending, 1);
    assert!(outbox.list(id, None, 9).await.unwrap().is_empty());
}
