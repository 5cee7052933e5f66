//! `ListDeliveries`, page by page.

use std::time::Duration;

use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::DeliveryState;
use tonic::{Code, Status};

use super::{create, quick, scene, sync, until_delivery};
use crate::engines::{Engine, on_every_engine};
use crate::support::{TestApp, reason};

on_every_engine!(deliveries_come_in_pages_without_overlap_or_hole,);

async fn page(
    app: &mut TestApp,
    webhook_id: &str,
    page_size: i32,
    page_token: &str,
) -> Result<pb::ListDeliveriesResponse, Status> {
    let (webhook_id, page_token) = (webhook_id.to_owned(), page_token.to_owned());
    let request = pb::ListDeliveriesRequest { webhook_id, page_size, page_token };
    app.system.list_deliveries(request).await.map(tonic::Response::into_inner)
}

/// The events of all pages behind `token`, in order.
async fn pages(app: &mut TestApp, webhook_id: &str, size: i32, token: String) -> Vec<String> {
    let (mut events, mut token) = (Vec::new(), Some(token));
    while let Some(from) = token {
        let page = page(app, webhook_id, size, &from).await.unwrap();
        let count = i32::try_from(page.deliveries.len()).unwrap();
        token = Some(page.next_page_token).filter(|next| !next.is_empty());
        assert!(count == size || (count < size && token.is_none()), "{count} of {size}");
        events.extend(page.deliveries.into_iter().map(|delivery| delivery.event_id));
    }
    events
}

async fn deliveries_come_in_pages_without_overlap_or_hole(engine: Engine) {
    let (_simulator, mut app, receiver) = scene(engine, quick(2, Duration::from_secs(15))).await;
    let hook = create(&mut app, &receiver.url(), &["sync.completed"]).await.webhook_id;
    let other = create(&mut app, &receiver.url(), &["gap.detected"]).await.webhook_id;
    let mut newest_first = Vec::new();
    for _ in 0..5 {
        sync(&mut app).await;
        // One after the other, so that their order is known.
        let is_new = |each: &pb::Delivery| {
            each.state() == DeliveryState::Delivered && !newest_first.contains(&each.event_id)
        };
        let event = until_delivery(&mut app, &hook, is_new).await.event_id;
        newest_first.insert(0, event);
    }
    for size in [1, 2, 3, 5, 9] {
        assert_eq!(pages(&mut app, &hook, size, String::new()).await, newest_first, "by {size}");
    }
    // What comes meanwhile moves nothing.
    let first = page(&mut app, &hook, 2, "").await.unwrap();
    sync(&mut app).await;
    receiver.until(6).await;
    let token = first.next_page_token;
    assert_eq!(pages(&mut app, &hook, 2, token.clone()).await, newest_first[2..]);

    for (webhook, token) in [(&other, token.as_str()), (&hook, "nonsense")] {
        let refused = page(&mut app, webhook, 2, token).await.unwrap_err();
        assert_eq!(reason(&refused), (Code::InvalidArgument, "PAGE_TOKEN_INVALID".to_owned()));
    }
    assert!(page(&mut app, &other, 2, "").await.unwrap().deliveries.is_empty());
    for size in [-1, 1_001] {
        let refused = page(&mut app, &hook, size, "").await.unwrap_err();
        assert_eq!(reason(&refused).1, "INVALID_FIELDS");
    }
}
