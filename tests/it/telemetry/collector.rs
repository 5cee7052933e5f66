//! A trace collector that speaks OTLP over gRPC, and what it was sent.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::metadata::MetadataMap;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

/// A span as it was delivered.
#[derive(Clone, Debug)]
pub struct Span {
    pub trace_id: String,
    pub id: String,
    pub parent_id: String,
    pub trace_state: String,
    pub name: String,
    /// As OTLP numbers them: 1 internal, 2 server, 3 client.
    pub kind: i32,
    /// As OTLP numbers it: 2 is an error.
    pub status: i32,
    pub attributes: BTreeMap<String, String>,
}

#[derive(Clone, Default)]
struct Delivered {
    spans: Arc<Mutex<Vec<Span>>>,
    resource: Arc<Mutex<BTreeMap<String, String>>>,
    metadata: Arc<Mutex<Option<MetadataMap>>>,
}

/// A running collector; it stops when dropped.
pub struct Collector {
    pub address: SocketAddr,
    delivered: Delivered,
    running: JoinHandle<()>,
}

impl Collector {
    pub async fn start() -> Self {
        Self::on("127.0.0.1:0".parse().unwrap()).await
    }

    pub async fn on(address: SocketAddr) -> Self {
        Self::with(Server::builder(), address).await
    }

    /// One that encrypts, and the certificate to trust.
    pub async fn encrypted() -> (Self, String) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let identity = Identity::from_pem(cert.pem(), signing_key.serialize_pem());
        let server = Server::builder().tls_config(ServerTlsConfig::new().identity(identity));
        (Self::with(server.unwrap(), "127.0.0.1:0".parse().unwrap()).await, cert.pem())
    }

    async fn with(mut server: Server, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let delivered = Delivered::default();
        let service = TraceServiceServer::new(delivered.clone());
        let running = tokio::spawn(async move {
            let incoming = TcpIncoming::from(listener);
            server.add_service(service).serve_with_incoming(incoming).await.unwrap();
        });
        Self { address, delivered, running }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn spans(&self) -> Vec<Span> {
        self.delivered.spans.lock().unwrap().clone()
    }

    pub fn trace(&self, trace_id: &str) -> Vec<Span> {
        self.spans().into_iter().filter(|span| span.trace_id == trace_id).collect()
    }

    pub fn resource(&self) -> BTreeMap<String, String> {
        self.delivered.resource.lock().unwrap().clone()
    }

    /// What came with the newest delivery, besides spans.
    pub fn metadata(&self) -> MetadataMap {
        self.delivered.metadata.lock().unwrap().clone().unwrap()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.running.abort();
    }
}

#[tonic::async_trait]
impl TraceService for Delivered {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        *self.metadata.lock().unwrap() = Some(request.metadata().clone());
        for resource in request.into_inner().resource_spans {
            let about = resource.resource.unwrap_or_default();
            *self.resource.lock().unwrap() = attributes(&about.attributes);
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.spans.lock().unwrap().push(Span {
                    trace_id: hexadecimal(&span.trace_id),
                    id: hexadecimal(&span.span_id),
                    parent_id: hexadecimal(&span.parent_span_id),
                    trace_state: span.trace_state,
                    name: span.name,
                    kind: span.kind,
                    status: span.status.map_or(0, |status| status.code),
                    attributes: attributes(&span.attributes),
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| match pair.value.as_ref().and_then(|value| value.value.clone()) {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    };
    pairs.iter().map(|pair| (pair.key.clone(), text(pair))).collect()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
