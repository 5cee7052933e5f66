//! Requests that no honest client makes: a clear error, or a closed connection.

use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use pocketquant::proto::v1 as pb;
use prost::Message;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::{Code, Status};

use super::{Bystander, PATIENCE, address};
use crate::engines::Engine;
use crate::support::{TestApp, TestSimulator, demo_data, reason};

const GET_BARS: &str = "/pocketquant.v1.MarketData/GetBars";
const LIST_QUOTES: &str = "/pocketquant.v1.QuoteStream/ListQuotes";
const STREAM_QUOTES: &str = "/pocketquant.v1.QuoteStream/StreamQuotes";

/// A message as gRPC frames it.
pub fn message(message: &impl Message) -> Bytes {
    framed(0, &message.encode_to_vec())
}

fn framed(compressed: u8, message: &[u8]) -> Bytes {
    let mut bytes = vec![compressed];
    bytes.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    bytes.extend(message);
    bytes.into()
}

struct Hostile {
    client: SendRequest<Bytes>,
}

impl Hostile {
    async fn connect(url: &str) -> Self {
        let socket = TcpStream::connect(address(url)).await.unwrap();
        let (client, connection) = h2::client::handshake(socket).await.unwrap();
        drop(tokio::spawn(connection));
        Self { client }
    }

    /// The HTTP status and, where there is one, the gRPC status.
    async fn call(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> (u16, Option<Status>) {
        let mut request = Request::post(format!("http://test{path}"));
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/grpc");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(()).unwrap(), body).await
    }

    async fn send(&mut self, request: Request<()>, body: Bytes) -> (u16, Option<Status>) {
        timeout(PATIENCE, async {
            let (answer, mut sending) = self.client.send_request(request, false).unwrap();
            sending.send_data(body, true).unwrap();
            let answer = answer.await.unwrap();
            let code = answer.status().as_u16();
            let status = |headers: &HeaderMap| Status::from_header_map(headers);
            if let Some(status) = status(answer.headers()) {
                return (code, Some(status));
            }
            let mut body = answer.into_body();
            while let Some(data) = body.data().await {
                let length = data.unwrap().len();
                body.flow_control().release_capacity(length).unwrap();
            }
            (code, body.trailers().await.unwrap().as_ref().and_then(status))
        })
        .await
        .unwrap()
    }
}

async fn app() -> (TestSimulator, TestApp) {
    let simulator = TestSimulator::start(demo_data()).await;
    let off = [("RATE_LIMIT_PER_SECOND", "0")];
    let app = TestApp::on(Engine::Embedded, &simulator, &off).await;
    (simulator, app)
}

/// What is sent, where, with which header besides, and what comes of it.
type Case =
    (&'static str, &'static str, Option<(&'static str, &'static str)>, Bytes, (Code, &'static str));

const INVALID: (Code, &str) = (Code::InvalidArgument, "INVALID_FIELDS");
const TOO_LARGE: (Code, &str) = (Code::OutOfRange, "MESSAGE_TOO_LARGE");
const UNKNOWN: (Code, &str) = (Code::Unimplemented, "METHOD_UNKNOWN");

fn unreadable() -> Vec<Case> {
    let raw = Bytes::from_static;
    let (compression, time) = (("grpc-encoding", "br"), ("grpc-timeout", "soon"));
    vec![
        ("malformed protobuf", GET_BARS, None, framed(0, b"\xff\xff\xff"), INVALID),
        ("a length that lies", GET_BARS, None, framed(0, b"\x0a\x7fA:B"), INVALID),
        ("no UTF-8", GET_BARS, None, framed(0, b"\x0a\x03A:\xff"), INVALID),
        ("no message", GET_BARS, None, raw(b""), INVALID),
        ("half a message", GET_BARS, None, raw(b"\0\0\0\0\x09abc"), INVALID),
        ("half a head", GET_BARS, None, raw(b"\0\0"), INVALID),
        ("a flag that is none", GET_BARS, None, framed(7, b""), INVALID),
        ("compressed without saying how", GET_BARS, None, framed(1, b"x"), INVALID),
        ("an unknown compression", GET_BARS, Some(compression), framed(1, b"x"), UNKNOWN),
        ("4 GB announced", GET_BARS, None, raw(b"\0\xff\xff\xff\xff"), TOO_LARGE),
        ("no time", GET_BARS, Some(time), framed(0, b""), INVALID),
        ("an unknown method", "/pocketquant.v1.MarketData/Nope", None, framed(0, b""), UNKNOWN),
        ("no service", "/", None, framed(0, b""), UNKNOWN),
    ]
}

fn outsized() -> Vec<Case> {
    let symbols = |count| vec!["A:B".to_owned(); count];
    let list = |count| message(&pb::ListQuotesRequest { symbols: symbols(count) });
    let endless = prost_types::Duration { seconds: i64::MAX, nanos: i32::MIN };
    let stream =
        |count, conflate| message(&pb::StreamQuotesRequest { symbols: symbols(count), conflate });
    vec![
        ("a million symbols", LIST_QUOTES, None, list(1_000_000), TOO_LARGE),
        ("as many as fit", LIST_QUOTES, None, list(200_000), INVALID),
        ("a stream of them", STREAM_QUOTES, None, stream(200_000, None), INVALID),
        ("time without end", STREAM_QUOTES, None, stream(1, Some(endless)), INVALID),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_unreadable_or_outsized_request_has_its_error() {
    let (_simulator, app) = app().await;
    let bystander = Bystander::start(&app.url).await;
    let mut hostile = Hostile::connect(&app.url).await;
    for (what, path, header, body, (code, expected)) in unreadable().into_iter().chain(outsized()) {
        let (_, status) = hostile.call(path, header.as_slice(), body).await;
        let status = status.unwrap_or_else(|| panic!("{what}: no status"));
        assert_eq!(reason(&status), (code, expected.to_owned()), "{what}: {status:?}");
    }
    bystander.noticed_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_are_too_large_fail_their_call_and_no_other() {
    let (_simulator, app) = app().await;
    let mut hostile = Hostile::connect(&app.url).await;
    let text = "x".repeat(100);
    let large = vec![("x-large", text.as_str()); 150];
    let (code, _) = hostile.call(super::GET_HEALTH, &large, framed(0, b"")).await;
    assert_eq!(code, 431);
    let (code, _) = hostile.call(super::GET_HEALTH, &large[..50], framed(0, b"")).await;
    assert_eq!(code, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_grpc_is_not_taken_for_it() {
    let (_simulator, app) = app().await;
    let mut hostile = Hostile::connect(&app.url).await;
    for content_type in ["text/plain", "application/json", "application/grpcx"] {
        let headers = [("content-type", content_type)];
        let (code, _) = hostile.call(super::GET_HEALTH, &headers, framed(0, b"")).await;
        assert_eq!(code, 415, "{content_type}");
    }
    let get = Request::get(format!("http://test{}", super::GET_HEALTH)).body(()).unwrap();
    let (code, _) = hostile.send(get, Bytes::new()).await;
    assert_eq!(code, 415);
    for content_type in ["application/grpc", "application/grpc+proto", "application/grpc;x=y"] {
        let headers = [("content-type", content_type)];
        let (code, status) = hostile.call(super::GET_HEALTH, &headers, framed(0, b"")).await;
        assert_eq!((code, status.map(|status| status.code())), (200, Some(Code::Ok)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_protocols_are_shown_the_door() {
    let (_simulator, app) = app().await;
    for said in [
        &b"GET / HTTP/1.1\r\nhost: test\r\n\r\n"[..],
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03 and so on",
        b"SSH-2.0-OpenSSH_9.6 and more of it\r\n",
    ] {
        let mut socket = TcpStream::connect(address(&app.url)).await.unwrap();
        socket.write_all(said).await.unwrap();
        let mut answer = Vec::new();
        // Sooner than the ten seconds that silence is borne, or reset.
        let ended = timeout(Duration::from_secs(9), socket.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "still open after `{}`", said.escape_ascii());
    }
}
