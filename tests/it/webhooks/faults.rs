//! Receivers that fail, hang, want no more, or point elsewhere.

use std::time::Duration;

use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::DeliveryState;
use wiremock::ResponseTemplate;

use super::receiver::Receiver;
use super::{create, deliveries, quick, scene, sync, until_delivery, webhook};
use crate::engines::{Engine, on_every_engine};

on_every_engine!(
    a_receiver_that_fails_five_times_takes_the_same_event_at_the_sixth_try,
    a_receiver_that_hangs_is_timed_out_and_asked_again,
    a_receiver_that_answers_410_is_disabled_until_it_is_enabled,
    a_receiver_that_takes_nothing_to_the_end_is_disabled,
    a_redirect_is_an_answer_and_is_not_followed,
    a_receiver_that_asks_for_time_gets_it,
);

const PATIENT: Duration = Duration::from_secs(15);

async fn a_receiver_that_fails_five_times_takes_the_same_event_at_the_sixth_try(engine: Engine) {
    let (_simulator, mut app, receiver) = scene(engine, quick(10, PATIENT)).await;
    let hook = create(&mut app, &receiver.url(), &["sync.completed"]).await;
    for status in [500, 503, 404, 429, 400] {
        receiver.then(ResponseTemplate::new(status));
    }
    sync(&mut app).await;
    let messages = receiver.until(6).await;
    let (first, last) = (&messages[0], &messages[5]);
    assert!(messages.iter().all(|each| each.id == first.id && each.body == first.body));
    assert_ne!(first.signature, "");
    assert_eq!(last.json()["type"], "sync.completed");
    assert_eq!(last.json()["data"]["symbol"], "NYSE:IBM");
    assert_eq!(last.json()["data"]["bars_inserted"], 10);
    let taken = |each: &pb::Delivery| each.state() == DeliveryState::Delivered;
    let delivery = until_delivery(&mut app, &hook.webhook_id, taken).await;
    assert_eq!((delivery.event_id, delivery.attempts), (first.id.clone(), 6));
    assert_eq!((delivery.status_code, delivery.error.as_str()), (Some(204), ""));
    assert_eq!(receiver.received().len(), 6, "what was taken is not sent again");
}

async fn a_receiver_that_hangs_is_timed_out_and_asked_again(engine: Engine) {
    let pace = quick(2, Duration::from_secs(2));
    let (_simulator, mut app, receiver) = scene(engine, pace).await;
    let hook = create(&mut app, &receiver.url(), &["sync.completed"]).await;
    let hang = || ResponseTemplate::new(200).set_delay(Duration::from_secs(30));
    receiver.then(hang());
    sync(&mut app).await;
    let taken = |each: &pb::Delivery| each.state() == DeliveryState::Delivered;
    let delivery = until_delivery(&mut app, &hook.webhook_id, taken).await;
    assert_eq!(delivery.attempts, 2);

    receiver.then(hang());
    receiver.then(hang());
    sync(&mut app).await;
    let failed = |each: &pb::Delivery| each.state() == DeliveryState::Failed;
    let delivery = until_delivery(&mut app, &hook.webhook_id, failed).await;
    assert_eq!((delivery.attempts, delivery.status_code), (2, None));
    assert!(
        delivery.error.contains("in time") || delivery.error.contains("no answer"),
        "{delivery:?}"
    );
    // It took one of the newest: it lives.
    assert_eq!(webhook(&mut app, &hook.webhook_id).await.disable_time, None);
}

async fn a_receiver_that_answers_410_is_disabled_until_it_is_enabled(engine: Engine) {
    let (_simulator, mut app, receiver) = scene(engine, quick(5, PATIENT)).await;
    let hook = create(&mut app, &receiver.url(), &[]).await;
    let id = hook.webhook_id;
    receiver.then(ResponseTemplate::new(410));
    sync(&mut app).await;
    let failed = |each: &pb::Delivery| each.state() == DeliveryState::Failed;
    let delivery = until_delivery(&mut app, &id, failed).await;
    assert_eq!((delivery.attempts, delivery.status_code), (1, Some(410)));
    let disabled = async {
        while webhook(&mut app, &id).await.disable_time.is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(super::PATIENCE, disabled).await.unwrap();
    assert!(webhook(&mut app, &id).await.disable_reason.contains("410"));
    // What happens meanwhile is not for it.
    sync(&mut app).await;
    assert_eq!(deliveries(&mut app, &id).await.len(), 1);

    let request = pb::EnableWebhookRequest { webhook_id: id.clone() };
    let enabled = app.system.enable_webhook(request).await.unwrap().into_inner();
    assert_eq!((enabled.disable_time, enabled.disable_reason.as_str()), (None, ""));
    sync(&mut app).await;
    let messages = receiver.until(2).await;
    assert_eq!(messages.len(), 2);
    assert_ne!(messages[0].id, messages[1].id);
}

async fn a_receiver_that_takes_nothing_to_the_end_is_disabled(engine: Engine) {
    let (_simulator, mut app, receiver) = scene(engine, quick(2, PATIENT)).await;
    let hook = create(&mut app, &receiver.url(), &["sync.completed"]).await;
    for _ in 0..2 {
        receiver.then(ResponseTemplate::new(500));
    }
    sync(&mut app).await;
    let disabled = async {
        while webhook(&mut app, &hook.webhook_id).await.disable_time.is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(super::PATIENCE, disabled).await.unwrap();
    assert_eq!(receiver.received().len(), 2);
}

async fn a_redirect_is_an_answer_and_is_not_followed(engine: Engine) {
    let (_simulator, mut app, receiver) = scene(engine, quick(2, PATIENT)).await;
    let private = Receiver::start().await;
    let hook = create(&mut app, &receiver.url(), &["sync.completed"]).await;
    for status in [302, 307] {
        let to = private.url();
        receiver.then(ResponseTemplate::new(status).insert_header("location", to.as_str()));
    }
    sync(&mut app).await;
    let failed = |each: &pb::Delivery| each.state() == DeliveryState::Failed;
    let delivery = until_delivery(&mut app, &hook.webhook_id, failed).await;
    assert_eq!((delivery.attempts, delivery.status_code), (2, Some(307)));
    assert!(delivery.error.contains("redirects are not followed"), "{delivery:?}");
    assert!(private.received().is_empty());
}

async fn a_receiver_that_asks_for_time_gets_it(engine: Engine) {
    let (_simulator, mut app, receiver) = scene(engine, quick(3, PATIENT)).await;
    let hook = create(&mut app, &receiver.url(), &["sync.completed"]).await;
    receiver.then(ResponseTemplate::new(429).insert_header("retry-after", "3600"));
    sync(&mut app).await;
    let tried = |each: &pb::Delivery| each.attempts == 1;
    let delivery = until_delivery(&mut app, &hook.webhook_id, tried).await;
    let (from, to) = (delivery.create_time.unwrap(), delivery.next_attempt_time.unwrap());
    assert_eq!(delivery.state(), DeliveryState::Pending);
    assert!(to.seconds - from.seconds >= 3_600, "{delivery:?}");
}
