//! Two services that share a store share the keys.

use prost::Message as _;
use tonic::Code;

use super::{Keeper, is_replayed, settings, stats, sync};
use crate::processes::{Server, SimulatorProcess};
use crate::support::demo_data;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod: run scripts/test"]
async fn two_services_on_one_mongodb_share_the_keys() {
    two_services_share_the_keys(Keeper::MongoDb).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real redis-server: run scripts/test"]
async fn two_services_on_one_redis_share_the_keys() {
    two_services_share_the_keys(Keeper::Redis).await;
}

async fn two_services_share_the_keys(keeper: Keeper) {
    let simulator = SimulatorProcess::start(demo_data(), &["--fault", "slow=300"]).await;
    let settings = settings(&simulator, keeper).await;
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let one = Server::start(folders[0].path(), &settings).await;
    let other = Server::start(folders[1].path(), &settings).await;
    let clients = [one.market_data().await, other.market_data().await];
    let calls = (0..20).map(|number| {
        let mut client = clients[number % 2].clone();
        async move { client.sync_symbol(sync("order-1", 300)).await }
    });
    let (mut first, mut bodies) = (0, Vec::new());
    for answer in futures::future::join_all(calls).await {
        match answer {
            Ok(answer) => {
                first += usize::from(!is_replayed(answer.metadata()));
                bodies.push(answer.into_inner().encode_to_vec());
            }
            Err(status) => assert_eq!(status.code(), Code::Aborted, "{status:?}"),
        }
    }
    assert_eq!(first, 1);
    for mut client in clients {
        let again = client.sync_symbol(sync("order-1", 300)).await.unwrap();
        assert!(is_replayed(again.metadata()));
        bodies.push(again.into_inner().encode_to_vec());
        let reused = client.sync_symbol(sync("order-1", 299)).await.unwrap_err();
        assert_eq!(reused.code(), Code::FailedPrecondition, "{reused:?}");
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    assert_eq!(stats(&simulator).await["series_requests"], 1);
    assert_eq!(one.terminate().await, Some(0));
    assert_eq!(other.terminate().await, Some(0));
}
