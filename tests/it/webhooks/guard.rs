//! Where webhooks may not be, however it is written.

use std::time::Duration;

use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::DeliveryState;
use tokio::net::TcpListener;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::receiver::Receiver;
use super::{LOCAL, create, quick, scene, sharing, sync, until_delivery};
use crate::engines::Engine;
use crate::processes::{Server, SimulatorProcess};
use crate::support::{TestApp, TestSimulator, demo_data, reason};

async fn strict() -> (TestSimulator, TestApp) {
    let simulator = TestSimulator::start(demo_data()).await;
    let pace = quick(2, Duration::from_secs(5));
    let app = TestApp::with_webhooks(Engine::Embedded, &simulator, &[], pace).await;
    (simulator, app)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_of_a_private_address_is_refused_in_every_spelling() {
    let (_simulator, mut app) = strict().await;
    for url in [
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://169.254.169.254/",
        "https://10.0.0.1:8443/",
        "https://[fe80::1]/",
        "http://1.1.1.1/",
        "http://example.com/",
        "https://localhost/",
        "https://a.localhost/",
        "https://0/",
    ] {
        let request = pb::CreateWebhookRequest { url: url.to_owned(), ..Default::default() };
        let status = app.system.create_webhook(request).await.unwrap_err();
        assert_eq!(reason(&status), (Code::InvalidArgument, "INVALID_FIELDS".to_owned()), "{url}");
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "url", "{url}");
    }
}

/// Names are looked up when they are called: what is behind one today may be elsewhere tomorrow.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_to_a_private_address_is_never_connected_to() {
    let simulator = TestSimulator::start(demo_data()).await;
    let folder = tempfile::tempdir().unwrap();
    let data_dir = ("DATA_DIR", folder.path().to_str().unwrap());
    let pace = || quick(2, Duration::from_secs(5));
    let on = async |changed: &[(&str, &str)]| {
        TestApp::with_webhooks(Engine::Embedded, &simulator, changed, pace()).await
    };
    let neighbour = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = neighbour.local_addr().unwrap().port();
    let mut lenient = on(&[data_dir, LOCAL]).await;
    let url = format!("https://localhost:{port}/");
    let hook = create(&mut lenient, &url, &["sync.completed"]).await;
    lenient.stop().await;
    let mut app = on(&[data_dir]).await;
    sync(&mut app).await;
    let failed = |each: &pb::Delivery| each.state() == DeliveryState::Failed;
    let delivery = until_delivery(&mut app, &hook.webhook_id, failed).await;
    assert_eq!((delivery.attempts, delivery.status_code), (2, None));
    assert!(delivery.error.contains("no address that is allowed"), "{delivery:?}");
    let called = tokio::time::timeout(Duration::ZERO, neighbour.accept()).await;
    assert!(called.is_err(), "somebody connected");
}

/// It would connect in our place, to where we must not.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_of_the_environment_is_not_used() {
    let simulator = SimulatorProcess::start(demo_data(), &[]).await;
    let (receiver, proxy) = (Receiver::start().await, Receiver::start().await);
    let mut settings = simulator.settings();
    settings.insert(LOCAL.0.to_owned(), LOCAL.1.to_owned());
    for name in ["http_proxy", "HTTP_PROXY", "ALL_PROXY"] {
        settings.insert(name.to_owned(), proxy.url());
    }
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &settings).await;
    let request = pb::CreateWebhookRequest { url: receiver.url(), ..Default::default() };
    sharing::system(&server).await.create_webhook(request).await.unwrap();
    sharing::sync(&server, "NYSE:IBM").await;
    tokio::select! {
        _ = receiver.until(1) => {}
        called = proxy.until(1) => panic!("{called:?}"),
    }
    assert_eq!(server.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_by_name_is_for_networks_that_are_named_only() {
    let (_simulator, mut app, receiver) =
        scene(Engine::Embedded, quick(2, Duration::from_secs(5))).await;
    let url = receiver.url().replace("127.0.0.1", "localhost");
    create(&mut app, &url, &["sync.completed"]).await;
    sync(&mut app).await;
    receiver.until(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_in_a_webhook_comes_back_at_once() {
    let (_simulator, mut app) = strict().await;
    let request = pb::CreateWebhookRequest {
        url: "https://me:secret@example.com/".to_owned(),
        event_types: vec!["bar.closed".to_owned(), "bar.burst".to_owned()],
        symbols: vec!["no colon".to_owned()],
        intervals: vec![99],
        secret: Some("too short".to_owned()),
        description: "x".repeat(501),
    };
    let status = app.system.create_webhook(request).await.unwrap_err();
    let violations = status.get_details_bad_request().unwrap().field_violations;
    let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
    let expected = ["url", "event_types[1]", "symbols[0]", "intervals[0]", "secret", "description"];
    assert_eq!(fields, expected);

    let unknown = uuid::Uuid::now_v7().to_string();
    let request = pb::DeleteWebhookRequest { webhook_id: unknown.clone() };
    let status = app.system.delete_webhook(request).await.unwrap_err();
    assert_eq!(reason(&status), (Code::NotFound, "WEBHOOK_NOT_FOUND".to_owned()));
    assert_eq!(status.get_details_resource_info().unwrap().resource_name, unknown);
    let request = pb::EnableWebhookRequest { webhook_id: unknown.clone() };
    let status = app.system.enable_webhook(request).await.unwrap_err();
    assert_eq!(reason(&status).1, "WEBHOOK_NOT_FOUND");
    let request = pb::ListDeliveriesRequest { webhook_id: unknown, ..Default::default() };
    let status = app.system.list_deliveries(request).await.unwrap_err();
    assert_eq!(reason(&status).1, "WEBHOOK_NOT_FOUND");

    for nonsense in ["", "nope"] {
        let webhook_id = nonsense.to_owned();
        let enable = pb::EnableWebhookRequest { webhook_id: webhook_id.clone() };
        let delete = pb::DeleteWebhookRequest { webhook_id: webhook_id.clone() };
        let list = pb::ListDeliveriesRequest { webhook_id, ..Default::default() };
        for status in [
            app.system.enable_webhook(enable).await.unwrap_err(),
            app.system.delete_webhook(delete).await.unwrap_err(),
            app.system.list_deliveries(list).await.unwrap_err(),
        ] {
            let violations = status.get_details_bad_request().unwrap().field_violations;
            assert_eq!(violations[0].field, "webhook_id");
            assert!(violations[0].description.contains("ListWebhooks"), "{violations:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_a_hundred_webhooks_at_most() {
    let (_simulator, mut app) = strict().await;
    for _ in 0..100 {
        create(&mut app, "https://example.com/", &[]).await;
    }
    let url = "https://example.com/".to_owned();
    let request = pb::CreateWebhookRequest { url, ..Default::default() };
    let status = app.system.create_webhook(request).await.unwrap_err();
    assert_eq!(reason(&status), (Code::FailedPrecondition, "WEBHOOK_LIMIT".to_owned()));
}
