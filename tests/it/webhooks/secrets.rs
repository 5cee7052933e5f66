//! The secret of a webhook: told once, and kept nowhere but where it is needed.

use std::time::Duration;

use pocketquant::proto::v1 as pb;
use tonic::{Request, Response, Status};

use super::{create, quick, scene, webhook};
use crate::engines::{Engine, on_every_engine};
use crate::support::TestApp;

on_every_engine!(a_secret_is_told_once_and_not_in_a_replay);

async fn keyed(app: &mut TestApp, url: &str) -> Result<Response<pb::Webhook>, Status> {
    let url = url.to_owned();
    let mut request = Request::new(pb::CreateWebhookRequest { url, ..Default::default() });
    request.metadata_mut().insert("idempotency-key", "once".parse().unwrap());
    app.system.create_webhook(request).await
}

async fn a_secret_is_told_once_and_not_in_a_replay(engine: Engine) {
    let (_simulator, mut app, receiver) = scene(engine, quick(2, Duration::from_secs(5))).await;
    let first = keyed(&mut app, &receiver.url()).await.unwrap();
    assert!(first.metadata().get("idempotency-replayed").is_none());
    let first = first.into_inner();
    assert!(first.secret.starts_with("whsec_") && first.secret.len() > 40, "{first:?}");
    let again = keyed(&mut app, &receiver.url()).await.unwrap();
    assert_eq!(again.metadata().get("idempotency-replayed").unwrap(), "true");
    assert_eq!(again.into_inner(), pb::Webhook { secret: String::new(), ..first.clone() });
    let listed = webhook(&mut app, &first.webhook_id).await;
    assert_eq!(listed, pb::Webhook { secret: String::new(), ..first });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_the_callers_own_is_taken_and_each_made_one_is_new() {
    let (_simulator, mut app, receiver) =
        scene(Engine::Embedded, quick(2, Duration::from_secs(5))).await;
    let own = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let request = pb::CreateWebhookRequest {
        url: receiver.url(),
        secret: Some(own.to_owned()),
        ..Default::default()
    };
    let created = app.system.create_webhook(request).await.unwrap().into_inner();
    assert_eq!(created.secret, own);
    let made = [(); 2].map(|()| receiver.url());
    let first = create(&mut app, &made[0], &[]).await.secret;
    assert_ne!(first, create(&mut app, &made[1], &[]).await.secret);
}

/// What is stored for an idempotency key for a day is read by whoever reads the database.
#[tokio::test(flavor = "multi_thread")]
async fn the_answer_that_is_kept_for_a_key_is_without_the_secret() {
    let (_simulator, mut app, receiver) =
        scene(Engine::Embedded, quick(2, Duration::from_secs(5))).await;
    let secret = keyed(&mut app, &receiver.url()).await.unwrap().into_inner().secret;
    let file = rusqlite::Connection::open(app.data_dir().join("pocketquant.db")).unwrap();
    let kept: Vec<u8> =
        file.query_row("SELECT answer FROM idempotency", [], |row| row.get(0)).unwrap();
    let holds = |part: &str| kept.windows(part.len()).any(|bytes| bytes == part.as_bytes());
    assert!(holds("127.0.0.1"), "it is another answer");
    assert!(!holds(&secret) && !holds("whsec_"));
}
