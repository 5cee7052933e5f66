//! How much is kept of a webhook, and what is said of what was lost to it.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use pocketquant::common::shutdown::Lifecycle;
use pocketquant::domain::shared::{DomainEvent, EventPayload, EventType, Interval};
use pocketquant::features::market_data::webhooks::{WebhookPace, WebhookService};
use pocketquant::features::market_data::{Announcer, Sessions};
use pocketquant::infrastructure::persistence::{
    DeliveryState, Lease, LogBar, NewDelivery, Settled, Webhook,
};
use pocketquant::infrastructure::tls::install_crypto_provider;
use secrecy::SecretString;
use tokio::time::{sleep, timeout};
use uuid::Uuid;
use wiremock::ResponseTemplate;

use super::receiver::Receiver;
use super::{LOCAL, PATIENCE};
use crate::database::{self, Store, closed, on_both_engines, series, time};

on_both_engines!(
    of_what_ended_and_of_what_waits_the_newest_are_kept,
    bars_wait_in_the_log_while_much_waits_for_a_webhook,
    bars_that_left_the_log_are_counted,
    what_waits_for_a_disabled_webhook_is_left_alone,
    after_a_failure_one_event_at_a_time_is_sent,
    an_event_that_fails_while_many_wait_disables_no_webhook_that_took_others,
);

/// A webhook that nothing can be sent to: its address may not be called.
async fn webhook(store: &Store, is_enabled: bool) -> Uuid {
    webhook_at(store, "https://127.0.0.1/".to_owned(), is_enabled).await
}

async fn webhook_at(store: &Store, url: String, is_enabled: bool) -> Uuid {
    let webhook = Webhook {
        url,
        secret: SecretString::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        disabled: (!is_enabled).then(|| (time(0), "by hand".to_owned())),
        ..database::webhooks::webhook(0)
    };
    store.database.webhooks().insert(&webhook).await.unwrap();
    webhook.id
}

/// Sends what waits in `store`, seldom, until the answer is stopped.
fn serve(store: &Store) -> Lifecycle {
    serve_at(store, &[]).0
}

/// The same, in the networks `allowed` too; and what tells of events.
fn serve_at(store: &Store, allowed: &[&str]) -> (Lifecycle, Announcer) {
    install_crypto_provider();
    let (database, lifecycle) = (store.database.clone(), Lifecycle::new());
    let (announcer, untold) = Announcer::new(database.clone());
    let sessions = Sessions::new(database.clone());
    let pace = WebhookPace { retries: vec![Duration::from_hours(1)], timeout: PATIENCE };
    let allowed: Vec<_> = allowed.iter().map(|network| network.parse().unwrap()).collect();
    let teller = announcer.clone();
    let service = WebhookService::new(database, teller, sessions, &allowed, pace, &lifecycle);
    service.unwrap().start(untold, &lifecycle);
    (lifecycle, announcer)
}

async fn stop(lifecycle: Lifecycle) {
    lifecycle.stop();
    lifecycle.wait(PATIENCE).await.unwrap();
}

async fn until<F: Future<Output = bool>>(what: &str, is_it: impl Fn() -> F) {
    let looking = async {
        while !is_it().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("never {what}"));
}

async fn put(store: &Store, webhook_id: Uuid, count: usize) -> Vec<NewDelivery> {
    let deliveries: Vec<NewDelivery> = (0..count).map(|_| delivery(webhook_id)).collect();
    store.database.webhook_outbox().put(deliveries.clone(), time(1)).await.unwrap();
    deliveries
}

fn delivery(webhook_id: Uuid) -> NewDelivery {
    NewDelivery {
        webhook_id,
        event_id: Uuid::now_v7(),
        event_type: EventType::FeedUp,
        body: Bytes::from_static(b"{}"),
    }
}

async fn log(store: &Store, bars: std::ops::Range<i64>, at: i64) {
    let series = series("A:B", Interval::M1);
    let bar = |index| LogBar { series: series.clone(), bar: closed(index, 1.0) };
    let bars: Vec<LogBar> = bars.map(bar).collect();
    store.database.bar_log().append(&bars, time(at)).await.unwrap();
}

async fn pending(store: &Store, webhook_id: Uuid) -> u64 {
    store.database.webhook_outbox().size(webhook_id, Timestamp::now()).await.unwrap().pending
}

async fn dropped(store: &Store, webhook_id: Uuid) -> u64 {
    let webhooks = store.database.webhooks().list().await.unwrap();
    webhooks.iter().find(|webhook| webhook.id == webhook_id).unwrap().dropped
}

async fn of_what_ended_and_of_what_waits_the_newest_are_kept(store: &Store) {
    let (busy, disabled) = (webhook(store, true).await, webhook(store, false).await);
    let settled = |new: NewDelivery| Settled {
        webhook_id: busy,
        event_id: new.event_id,
        attempt: 1,
        state: DeliveryState::Delivered,
        at: time(2),
        next_attempt_at: time(2),
        status: Some(204),
        error: String::new(),
    };
    let ended: Vec<Settled> = put(store, busy, 1_003).await.into_iter().map(settled).collect();
    let outbox = store.database.webhook_outbox();
    for some in ended.chunks(100) {
        outbox.settle(some.to_vec()).await.unwrap();
    }
    put(store, disabled, 10_002).await;

    let running = serve(store);
    let kept = async || outbox.list(busy, None, 2_000).await.unwrap().len();
    until("tidied", || async { kept().await == 1_000 }).await;
    until("dropped", || async { pending(store, disabled).await == 10_000 }).await;
    until("counted", || async { dropped(store, disabled).await == 2 }).await;
    assert_eq!(dropped(store, busy).await, 0);
    stop(running).await;
}

async fn bars_wait_in_the_log_while_much_waits_for_a_webhook(store: &Store) {
    let hook = webhook(store, true).await;
    // Somebody else sends these.
    put(store, hook, 300).await;
    let elsewhere = Lease { owner: Uuid::now_v7(), length: Duration::from_hours(1_000) };
    store.database.webhook_outbox().claim(hook, elsewhere, time(1), 300).await.unwrap();
    log(store, 0..1_100, 0).await;

    let running = serve(store);
    until("full", || async { pending(store, hook).await >= 1_000 }).await;
    // By the order of a list: while it is tried, a count of what waits may pass one over.
    let kept = store.database.webhook_outbox().list(hook, None, 2_000).await.unwrap();
    assert_eq!(kept.len(), 1_000);
    // The others wait in the log.
    let cursor = async || store.database.webhooks().list().await.unwrap()[0].cursor;
    until("at its place", || async { cursor().await == 700 }).await;
    stop(running).await;
}

async fn bars_that_left_the_log_are_counted(store: &Store) {
    let hook = webhook(store, true).await;
    log(store, 0..10, 0).await;
    log(store, 10..12, 20).await;
    store.database.bar_log().trim(time(10)).await.unwrap();

    let running = serve(store);
    until("put", || async { pending(store, hook).await == 2 }).await;
    until("counted", || async { dropped(store, hook).await == 10 }).await;
    stop(running).await;
}

async fn what_waits_for_a_disabled_webhook_is_left_alone(store: &Store) {
    let (disabled, other) = (webhook(store, false).await, webhook(store, true).await);
    for hook in [disabled, other] {
        put(store, hook, 1).await;
    }
    log(store, 0..1, 0).await;

    let running = serve(store);
    let outbox = store.database.webhook_outbox();
    let is_tried = async || {
        let listed = outbox.list(other, None, 9).await.unwrap();
        listed.len() == 2 && listed.iter().all(|each| each.attempts == 1)
    };
    until("tried", is_tried).await;
    let left = outbox.size(disabled, Timestamp::now()).await.unwrap();
    assert_eq!((left.pending, left.due), (1, Some(time(1))), "nobody has it in hand");
    stop(running).await;
}

async fn after_a_failure_one_event_at_a_time_is_sent(store: &Store) {
    let receiver = Receiver::start().await;
    let hook = webhook_at(store, receiver.url(), true).await;
    receiver.then(ResponseTemplate::new(500));
    receiver.then(ResponseTemplate::new(204).set_delay(PATIENCE));
    put(store, hook, 1).await;
    // Not stopped in the end: that would wait for the answer.
    let (_running, announcer) = serve_at(store, &[LOCAL.1]);
    let outbox = store.database.webhook_outbox();
    let has_failed = async || outbox.list(hook, None, 9).await.unwrap()[0].attempts == 1;
    until("failed", has_failed).await;
    for _ in 0..3 {
        announcer.tell(DomainEvent { time: time(1), payload: EventPayload::FeedConnected });
    }
    receiver.until(2).await;
    until("put", || async { pending(store, hook).await == 4 }).await;
    // Of the three, nobody has two in hand.
    assert!(outbox.size(hook, Timestamp::now()).await.unwrap().due.unwrap() <= Timestamp::now());
}

async fn an_event_that_fails_while_many_wait_disables_no_webhook_that_took_others(store: &Store) {
    let hook = webhook(store, true).await;
    let events = put(store, hook, 2).await;
    let settled = |new: &NewDelivery, state| Settled {
        webhook_id: hook,
        event_id: new.event_id,
        attempt: 1,
        state,
        at: time(2),
        next_attempt_at: time(2),
        status: None,
        error: String::new(),
    };
    let tried = [(&events[0], DeliveryState::Delivered), (&events[1], DeliveryState::Pending)];
    let outbox = store.database.webhook_outbox();
    outbox.settle(tried.map(|(event, state)| settled(event, state)).to_vec()).await.unwrap();
    // As many newer ones as are looked at, and more; none of them is tried.
    let later = Timestamp::now() + SignedDuration::from_hours(1);
    outbox.put((0..150).map(|_| delivery(hook)).collect(), later).await.unwrap();

    let running = serve(store);
    let has_failed = async || {
        let oldest = outbox.ended(hook, 9).await.unwrap();
        oldest.contains(&DeliveryState::Failed)
    };
    until("tried to the end", || async { has_failed().await }).await;
    assert_eq!(store.database.webhooks().list().await.unwrap()[0].disabled, None);
    stop(running).await;
}
