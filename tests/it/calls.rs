//! Calls over a real connection, through the layers that every call goes through.

use std::net::SocketAddr;

use bytes::Bytes;
use pocketquant::common::grpc::{CallLayer, Methods};
use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::system_client::SystemClient;
use pocketquant::proto::v1::system_server::{System, SystemServer};
use pocketquant::proto::v1::{
    GetHealthRequest, GetHealthResponse, GetServerInfoRequest, GetServerInfoResponse,
    ListJobsRequest, ListJobsResponse, RunJobRequest, RunJobResponse,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codec::{DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;

/// `GetHealth` answers; `GetServerInfo` never does.
pub struct Fake;

#[tonic::async_trait]
impl System for Fake {
    async fn get_health(
        &self,
        _: Request<GetHealthRequest>,
    ) -> Result<Response<GetHealthResponse>, Status> {
        Ok(Response::new(GetHealthResponse { version: "1".to_owned(), ..Default::default() }))
    }

    async fn get_server_info(
        &self,
        _: Request<GetServerInfoRequest>,
    ) -> Result<Response<GetServerInfoResponse>, Status> {
        std::future::pending().await
    }

    async fn list_events(
        &self,
        _: Request<pb::ListEventsRequest>,
    ) -> Result<Response<pb::ListEventsResponse>, Status> {
        std::future::pending().await
    }

    async fn create_webhook(
        &self,
        _: Request<pb::CreateWebhookRequest>,
    ) -> Result<Response<pb::Webhook>, Status> {
        std::future::pending().await
    }

    async fn list_webhooks(
        &self,
        _: Request<pb::ListWebhooksRequest>,
    ) -> Result<Response<pb::ListWebhooksResponse>, Status> {
        std::future::pending().await
    }

    async fn enable_webhook(
        &self,
        _: Request<pb::EnableWebhookRequest>,
    ) -> Result<Response<pb::Webhook>, Status> {
        std::future::pending().await
    }

    async fn list_deliveries(
        &self,
        _: Request<pb::ListDeliveriesRequest>,
    ) -> Result<Response<pb::ListDeliveriesResponse>, Status> {
        std::future::pending().await
    }

    async fn delete_webhook(
        &self,
        _: Request<pb::DeleteWebhookRequest>,
    ) -> Result<Response<()>, Status> {
        std::future::pending().await
    }

    async fn list_jobs(
        &self,
        _: Request<ListJobsRequest>,
    ) -> Result<Response<ListJobsResponse>, Status> {
        std::future::pending().await
    }

    async fn run_job(&self, _: Request<RunJobRequest>) -> Result<Response<RunJobResponse>, Status> {
        std::future::pending().await
    }
}

/// Where a new server listens.
async fn server() -> String {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let system = SystemServer::new(Fake).max_decoding_message_size(1_024);
    let calls = CallLayer::new(Methods::default());
    let server = Server::builder().layer(calls).add_service(system);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    url
}

async fn channel() -> Channel {
    Channel::from_shared(server().await).unwrap().connect().await.unwrap()
}

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "pocketquant");
    info.reason.clone()
}

fn correlation_id(metadata: &tonic::metadata::MetadataMap) -> &str {
    metadata.get("x-correlation-id").unwrap().to_str().unwrap()
}

/// Calls `path` with `message` as the bytes of the request.
async fn call_raw(path: &'static str, message: &'static [u8]) -> Status {
    let mut grpc = tonic::client::Grpc::new(channel().await);
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static(path);
    let request = Request::new(Bytes::from_static(message));
    grpc.unary::<Bytes, Bytes, _>(request, path, RawCodec).await.unwrap_err()
}

#[derive(Default)]
struct RawCodec;

impl tonic::codec::Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put(buffer, item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = bytes::Buf::remaining(buffer);
        Ok(Some(bytes::Buf::copy_to_bytes(buffer, length)))
    }
}

#[tokio::test]
async fn the_callers_correlation_id_comes_back() {
    let mut client = SystemClient::new(channel().await);
    let mut request = Request::new(GetHealthRequest {});
    request.metadata_mut().insert("x-correlation-id", "mine 1".parse().unwrap());
    let response = client.get_health(request).await.unwrap();
    assert_eq!(correlation_id(response.metadata()), "mine 1");
}

#[tokio::test]
async fn a_call_without_a_correlation_id_gets_one() {
    let mut client = SystemClient::new(channel().await);
    let response = client.get_health(GetHealthRequest {}).await.unwrap();
    assert_eq!(correlation_id(response.metadata()).len(), 36);
}

#[tokio::test]
async fn a_malformed_correlation_id_is_refused_under_another() {
    let long = "x".repeat(129);
    for id in [&b"tab\there"[..], b"z\xfcrich", b"", long.as_bytes()] {
        let mut request = Request::new(GetHealthRequest {});
        let value = http::HeaderValue::from_bytes(id).unwrap();
        let mut headers = http::HeaderMap::new();
        headers.insert("x-correlation-id", value);
        *request.metadata_mut() = tonic::metadata::MetadataMap::from_headers(headers);
        let status = SystemClient::new(channel().await).get_health(request).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::InvalidArgument, "INVALID_FIELDS")
        );
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "x-correlation-id");
        assert_eq!(correlation_id(status.metadata()).len(), 36);
    }
}

#[tokio::test]
async fn unknown_methods_and_services_say_so() {
    for path in ["/pocketquant.v1.System/Nothing", "/pocketquant.v1.Nothing/Nothing"] {
        let status = call_raw(path, b"").await;
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::Unimplemented, "METHOD_UNKNOWN")
        );
        assert!(status.message().contains(path), "{status}");
        assert_eq!(correlation_id(status.metadata()).len(), 36);
    }
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_the_callers_mistake() {
    let status = call_raw("/pocketquant.v1.System/GetHealth", b"\xff\xff\xff").await;
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::InvalidArgument, "INVALID_FIELDS")
    );
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused() {
    static LARGE: [u8; 2_048] = [0; 2_048];
    let status = call_raw("/pocketquant.v1.System/GetHealth", &LARGE).await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::OutOfRange, "MESSAGE_TOO_LARGE"));
}

#[tokio::test]
async fn a_deadline_ends_a_call_with_status_four_and_not_with_tonics_cancelled() {
    // tonic's client would end the call itself, so this one speaks plain HTTP/2.
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let url = format!("{}/pocketquant.v1.System/GetServerInfo", server().await);
    // Many at once: which timer wakes a call first must not matter.
    let calls = (0..100).map(|number| {
        let request = client
            .post(&url)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", format!("{}m", 30 + number % 7))
            .body(&[0_u8; 5][..]);
        async move { request.send().await.unwrap() }
    });
    for response in futures::future::join_all(calls).await {
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        assert_eq!(reason(&status), "DEADLINE_EXCEEDED");
        assert_eq!(correlation_id(status.metadata()).len(), 36);
    }
}

#[tokio::test]
async fn a_malformed_deadline_is_refused() {
    let mut request = Request::new(GetHealthRequest {});
    request.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    let status = SystemClient::new(channel().await).get_health(request).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::InvalidArgument, "INVALID_FIELDS")
    );
}
