//! What a client that speaks HTTP/2 may do, on the whole service.

use std::time::Duration;

use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::Interval;
use pocketquant::proto::v1::market_data_client::MarketDataClient;
use pocketquant::proto::v1::system_client::SystemClient;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::raw::{
    CONTINUATION, DATA, END_HEADERS, ENHANCE_YOUR_CALM, Frame, GOAWAY, HEADERS, PING, RST_STREAM,
    Raw, SETTINGS, call, header,
};
use super::{Bystander, GET_HEALTH, PATIENCE, address};
use crate::engines::Engine;
use crate::support::{TestApp, TestSimulator, demo_data, reason, retry_delay};

async fn app(changed: &[(&str, &str)]) -> (TestSimulator, TestApp) {
    let simulator = TestSimulator::start(demo_data()).await;
    let app = TestApp::on(Engine::Embedded, &simulator, changed).await;
    (simulator, app)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_settings_carry_the_limits() {
    let (_simulator, app) = app(&[]).await;
    let mut raw = Raw::greeted(address(&app.url)).await;
    let settings = raw.next(SETTINGS).await.unwrap();
    assert_eq!(settings.setting(3), Some(1_000), "streams");
    assert_eq!(settings.setting(6), Some(16_384), "header bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn rapid_resets_end_their_connection_and_no_other() {
    let (_simulator, app) = app(&[("RATE_LIMIT_PER_SECOND", "0")]).await;
    let bystander = Bystander::start(&app.url).await;
    let mut raw = Raw::greeted(address(&app.url)).await;
    let mut burst = Vec::new();
    for stream in (1..20_000).step_by(2) {
        burst.extend(Frame::new(HEADERS, END_HEADERS, stream, call(GET_HEALTH)).bytes());
        burst.extend(Frame::new(RST_STREAM, 0, stream, 8_u32.to_be_bytes()).bytes());
    }
    // It may be cut before all of it is taken.
    raw.try_send(&burst).await;
    let frames = timeout(PATIENCE, raw.until_closed()).await.unwrap();
    let goaway = frames.iter().find(|frame| frame.kind == GOAWAY);
    assert!(goaway.is_none_or(|goaway| goaway.reason() == ENHANCE_YOUR_CALM), "{goaway:?}");
    bystander.noticed_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_none_end_their_connection_once_there_are_many() {
    let (_simulator, app) = app(&[("RATE_LIMIT_PER_SECOND", "0")]).await;
    let bystander = Bystander::start(&app.url).await;
    let mut raw = Raw::greeted(address(&app.url)).await;
    let mut burst = Vec::new();
    for stream in (1..2_000).step_by(2) {
        burst.extend(Frame::new(HEADERS, END_HEADERS, stream, header(":path", GET_HEALTH)).bytes());
    }
    raw.try_send(&burst).await;
    let frames = timeout(PATIENCE, raw.until_closed()).await.unwrap();
    let resets = frames.iter().filter(|frame| frame.kind == RST_STREAM).count();
    assert!(resets <= 256, "{resets}");
    bystander.noticed_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_break_their_promise_end_their_connection_once_there_are_many() {
    let (_simulator, app) = app(&[("RATE_LIMIT_PER_SECOND", "0")]).await;
    let bystander = Bystander::start(&app.url).await;
    let mut raw = Raw::greeted(address(&app.url)).await;
    let breaking = async {
        for (broken, stream) in (1..2_000).step_by(2).enumerate() {
            let headers = [call(GET_HEALTH), header("content-length", "1")].concat();
            let mut begun = Frame::new(HEADERS, END_HEADERS, stream, headers).bytes();
            begun.extend(Frame::new(PING, 0, 0, [0; 8]).bytes());
            // Once this is answered the service has taken the call.
            if !raw.try_send(&begun).await || raw.next(PING).await.is_none() {
                return broken;
            }
            let surplus = Frame::new(DATA, 0, stream, [0; 5]).bytes();
            if !raw.try_send(&surplus).await || raw.next(RST_STREAM).await.is_none() {
                return broken;
            }
        }
        panic!("it goes on");
    };
    assert_eq!(timeout(PATIENCE, breaking).await.unwrap(), 256);
    bystander.noticed_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_headers_end_their_connection_and_no_other() {
    let (_simulator, app) = app(&[("RATE_LIMIT_PER_SECOND", "0")]).await;
    let bystander = Bystander::start(&app.url).await;

    // A header block that never ends.
    let mut raw = Raw::greeted(address(&app.url)).await;
    let mut open = raw.try_send(&Frame::new(HEADERS, 0, 1, call(GET_HEALTH)).bytes()).await;
    let more: Vec<u8> = (0..50).flat_map(|_| header("x-flood", &"x".repeat(100))).collect();
    let more = Frame::new(CONTINUATION, 0, 1, more).bytes();
    let mut sent = 0;
    while open && sent < 10_000 {
        open = raw.try_send(&more).await;
        sent += 1;
    }
    assert!(!open, "{sent} frames were taken");

    // Empty ones cost nothing to send.
    let mut raw = Raw::greeted(address(&app.url)).await;
    raw.try_send(&Frame::new(HEADERS, 0, 1, call(GET_HEALTH)).bytes()).await;
    let nothing = Frame::new(CONTINUATION, 0, 1, []).bytes().repeat(100_000);
    raw.try_send(&nothing).await;
    timeout(PATIENCE, raw.until_closed()).await.unwrap();
    bystander.noticed_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_that_is_asked_for_without_end_takes_nobodys_place() {
    let (_simulator, app) = app(&[("RATE_LIMIT_PER_SECOND", "0")]).await;
    let bystander = Bystander::start(&app.url).await;
    let mut open = Vec::new();
    // Twice as often as the process takes calls, and never whole.
    for _ in 0..2 {
        let socket = tokio::net::TcpStream::connect(address(&app.url)).await.unwrap();
        let (client, connection) = h2::client::handshake(socket).await.unwrap();
        drop(tokio::spawn(connection));
        for _ in 0..1_000 {
            let mut client = client.clone().ready().await.unwrap();
            let request = http::Request::post("http://test/grpc.health.v1.Health/Watch")
                .header("content-type", "application/grpc")
                .body(())
                .unwrap();
            open.push(client.send_request(request, false).unwrap());
        }
    }
    let mut refused = None;
    while let Some((answer, _body)) = open.pop() {
        let answer = timeout(PATIENCE, answer).await.unwrap().unwrap();
        // Where it took long, some have ended meanwhile.
        let status = Status::from_header_map(answer.headers());
        refused = status.filter(|status| status.code() == Code::ResourceExhausted);
        if refused.is_some() {
            break;
        }
    }
    let refused = refused.expect("there is a bound");
    assert_eq!(reason(&refused), (Code::ResourceExhausted, "STREAM_LIMIT".to_owned()));
    info(&connect(&app.url).await).await.unwrap();
    bystander.noticed_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_one_address_are_bounded() {
    let (_simulator, app) = app(&[("CONNECTIONS_PER_ADDRESS", "4")]).await;
    let address = address(&app.url);
    let mut open = Vec::new();
    // The client of the test has one.
    for _ in 0..3 {
        let mut raw = Raw::greeted(address).await;
        raw.next(SETTINGS).await.unwrap();
        open.push(raw);
    }
    let mut refused = Raw::connect(address).await;
    assert_eq!(timeout(PATIENCE, refused.until_closed()).await.unwrap(), []);
    drop(open.pop());
    let again = async {
        loop {
            let mut raw = Raw::connect(address).await;
            raw.try_send(super::raw::PREFACE).await;
            raw.try_send(&Frame::new(SETTINGS, 0, 0, []).bytes()).await;
            if raw.next(SETTINGS).await.is_some() {
                return;
            }
        }
    };
    timeout(PATIENCE, again).await.expect("there is room again");
}

fn sync() -> pb::SyncSymbolRequest {
    pb::SyncSymbolRequest {
        symbol: "NYSE:IBM".to_owned(),
        interval: Interval::Interval1d.into(),
        bar_count: Some(10),
        full_history: false,
    }
}

async fn connect(url: &str) -> Channel {
    Channel::from_shared(url.to_owned()).unwrap().connect().await.unwrap()
}

async fn info(channel: &Channel) -> Result<(), Status> {
    let mut client = SystemClient::new(channel.clone());
    client.get_server_info(pb::GetServerInfoRequest {}).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn more_calls_than_the_process_takes_are_told_to_come_back() {
    let off = [("RATE_LIMIT_PER_SECOND", "0"), ("HISTORY_TIMEOUT", "10m")];
    let (simulator, app) = app(&off).await;
    simulator.fault("silence", None, None, true).await;
    let mut waiting = JoinSet::new();
    // A few more than it takes: those who ask below take places as well.
    for _ in 0..2 {
        let client = MarketDataClient::new(connect(&app.url).await);
        for _ in 0..600 {
            let mut client = client.clone();
            waiting.spawn(async move { client.sync_symbol(sync()).await.map(drop) });
        }
    }
    let (channel, mut refusal) = (connect(&app.url).await, None);
    let refused = async {
        while refusal.is_none() {
            refusal = info(&channel).await.err();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, refused).await.unwrap();
    let refusal = refusal.unwrap();
    assert_eq!(reason(&refusal), (Code::Unavailable, "OVERLOADED".to_owned()));
    assert!(retry_delay(&refusal).is_some());
    // Who asks whether it is alive is told.
    for name in ["liveness", "readiness"] {
        let request = HealthCheckRequest { service: name.to_owned() };
        let answer = HealthClient::new(channel.clone()).check(request).await.unwrap();
        assert_eq!(answer.into_inner().status, 1, "{name}");
    }

    waiting.shutdown().await;
    let served = async {
        while info(&channel).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, served).await.expect("those who gave up count no longer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_status_four_when_its_time_is_over() {
    let (_simulator, app) = app(&[("FEED_AUTOSTART", "false")]).await;
    let socket = tokio::net::TcpStream::connect(address(&app.url)).await.unwrap();
    let (mut client, connection) = h2::client::handshake(socket).await.unwrap();
    drop(tokio::spawn(connection));
    let request = http::Request::post("http://test/pocketquant.v1.QuoteStream/StreamQuotes")
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "2S")
        .body(())
        .unwrap();
    let (answer, mut body) = client.send_request(request, false).unwrap();
    let message = pb::StreamQuotesRequest { symbols: vec!["A:B".to_owned()], ..Default::default() };
    body.send_data(super::hostile::message(&message), true).unwrap();
    let mut answer = timeout(PATIENCE, answer).await.unwrap().unwrap().into_body();
    // It says that the feed is stopped, and waits.
    let mut messages = 0;
    while let Some(data) = timeout(PATIENCE, answer.data()).await.unwrap() {
        messages += usize::from(!data.unwrap().is_empty());
    }
    let trailers = answer.trailers().await.unwrap().unwrap();
    let status = Status::from_header_map(&trailers).unwrap();
    assert_eq!(reason(&status), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned()));
    assert!(messages >= 1);
}
