//! What a stranger can do to the server, and what everybody else notices of it: nothing.

mod descriptors;
mod hostile;
mod limits;
pub mod raw;
mod silence;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pocketquant::common::grpc::transport::{Encryption, Transport};
use pocketquant::common::grpc::{CallLayer, Methods, RequestsLayer};
use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::system_client::SystemClient;
use pocketquant::proto::v1::system_server::SystemServer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::service::Routes;
use tonic::transport::Channel;
use tower::Layer as _;

use crate::calls::Fake;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(2);

pub const GET_HEALTH: &str = "/pocketquant.v1.System/GetHealth";
/// Never answered by [`Fake`].
pub const GET_SERVER_INFO: &str = "/pocketquant.v1.System/GetServerInfo";

/// The transport alone, with calls that answer or never do; it ends when dropped.
struct Alone {
    address: SocketAddr,
    draining: CancellationToken,
    _closing: DropGuard,
}

impl Alone {
    async fn start(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let transport = Transport::new(100).with_tls(tls.map(Encryption::new));
        let (draining, closing) = (transport.draining(), transport.closing());
        let routes = Routes::new(SystemServer::new(Fake));
        let routes = RequestsLayer::new(Methods::default(), draining.clone()).layer(routes);
        let service = CallLayer::new(Methods::default()).layer(routes);
        drop(tokio::spawn(transport.serve(listener, service)));
        Self { address, draining, _closing: closing.drop_guard() }
    }
}

/// Another client, which calls all the time and must not notice anything.
struct Bystander {
    answered: Arc<AtomicUsize>,
    stop: CancellationToken,
    calling: tokio::task::JoinHandle<()>,
}

impl Bystander {
    async fn start(url: &str) -> Self {
        let channel = Channel::from_shared(url.to_owned()).unwrap().connect().await.unwrap();
        let (answered, stop) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let (count, stopped) = (Arc::clone(&answered), stop.clone());
        let calling = tokio::spawn(async move {
            let mut client = SystemClient::new(channel);
            while !stopped.is_cancelled() {
                let call = client.get_health(pb::GetHealthRequest {});
                tokio::time::timeout(PATIENCE, call).await.unwrap().unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        Self { answered, stop, calling }
    }

    /// Every call so far was answered, and so are the next ones.
    async fn noticed_nothing(self) {
        let so_far = self.answered.load(Ordering::SeqCst);
        while self.answered.load(Ordering::SeqCst) < so_far + 5 {
            assert!(!self.calling.is_finished(), "a call failed");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.stop.cancel();
        self.calling.await.unwrap();
    }
}

fn address(url: &str) -> SocketAddr {
    url.strip_prefix("http://").unwrap().parse().unwrap()
}
