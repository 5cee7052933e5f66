//! Connections that say nothing, stop half-way, or do not listen, in paused time: nothing else
//! happens, so time passes at once.

use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::raw::{ACK, Frame, GOAWAY, PING, PREFACE, Raw, whole};
use super::{Alone, GET_HEALTH, GET_SERVER_INFO};
use crate::support::reason;

#[tokio::test(start_paused = true)]
async fn a_connection_that_does_not_begin_to_speak_is_closed() {
    let server = Alone::start(None).await;
    for said in [&b""[..], b"P", &PREFACE[..23]] {
        let started = Instant::now();
        let mut raw = Raw::connect(server.address).await;
        raw.send(said).await;
        raw.until_closed().await;
        assert_eq!(started.elapsed().as_secs(), 10, "after `{}`", said.escape_ascii());
    }
}

#[tokio::test(start_paused = true)]
async fn dribbling_gives_no_more_time() {
    let server = Alone::start(None).await;
    let started = Instant::now();
    let mut raw = Raw::connect(server.address).await;
    for byte in PREFACE {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if !raw.try_send(&[*byte]).await {
            break;
        }
    }
    assert!(raw.until_closed().await.len() <= 1);
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_does_not_answer_pings_is_closed() {
    let server = Alone::start(None).await;
    let mut raw = Raw::greeted(server.address).await;
    let started = Instant::now();
    let frames = raw.until_closed().await;
    assert!(frames.iter().any(|frame| frame.kind == PING), "{frames:?}");
    assert_eq!(started.elapsed().as_secs(), 50, "asked after 30 s, given 20 s");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_answers_pings_may_be_silent_for_as_long_as_it_likes() {
    let server = Alone::start(None).await;
    let mut raw = Raw::greeted(server.address).await;
    for _ in 0..10 {
        let ping = loop {
            let frame = raw.frame().await.expect("it is open");
            if frame.kind == PING && frame.flags & ACK == 0 {
                break frame;
            }
        };
        raw.send(&Frame::new(PING, ACK, 0, ping.payload).bytes()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_old_connection_takes_no_new_calls_and_keeps_its_open_ones() {
    let server = Alone::start(None).await;
    let started = Instant::now();
    let mut raw = Raw::greeted(server.address).await;
    raw.send(&whole(GET_SERVER_INFO, 1)).await;
    let goaway = raw.next(GOAWAY).await.unwrap();
    assert_eq!(goaway.reason(), 0, "nobody did anything wrong");
    let age = started.elapsed();
    assert!((54..=67).contains(&(age.as_secs() / 60)), "{age:?}");
    // Its stream lives on: hours later it is still there.
    while started.elapsed() < age * 5 {
        let frame = raw.frame().await.expect("it is open");
        if frame.kind == PING && frame.flags & ACK == 0 {
            raw.send(&Frame::new(PING, ACK, 0, frame.payload).bytes()).await;
        }
    }
}

/// The head of a call.
fn head() -> http::Request<()> {
    let call = http::Request::post(format!("http://test{GET_HEALTH}"));
    call.header("content-type", "application/grpc").body(()).unwrap()
}

/// A call whose message is `sent` so far.
struct Unfinished {
    answer: h2::client::ResponseFuture,
    body: h2::SendStream<Bytes>,
}

impl Unfinished {
    async fn begin(server: &Alone, sent: &'static [u8]) -> Self {
        let socket = TcpStream::connect(server.address).await.unwrap();
        let (mut client, connection) = h2::client::handshake(socket).await.unwrap();
        drop(tokio::spawn(connection));
        let (answer, mut body) = client.send_request(head(), false).unwrap();
        body.send_data(Bytes::from_static(sent), false).unwrap();
        Self { answer, body }
    }

    /// How it ends; nobody takes the rest.
    async fn status(mut self) -> Status {
        let answer = self.answer.await.unwrap();
        let reset = std::future::poll_fn(|cx| self.body.poll_reset(cx)).await.unwrap();
        assert_eq!(reset, h2::Reason::NO_ERROR);
        Status::from_header_map(answer.headers()).unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_does_not_arrive_is_ended() {
    let server = Alone::start(None).await;
    for sent in [&[][..], &[0, 0, 0, 0, 9, 1]] {
        let started = Instant::now();
        let status = Unfinished::begin(&server, sent).await.status().await;
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert_eq!(status.message(), "the request was not whole within 10 s");
        assert_eq!(started.elapsed().as_secs(), 10);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_has_not_arrived_when_the_server_stops_is_refused() {
    let server = Alone::start(None).await;
    let call = Unfinished::begin(&server, &[0]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let started = Instant::now();
    server.draining.cancel();
    assert_eq!(reason(&call.status().await), (Code::Unavailable, "DRAINING".to_owned()));
    assert_eq!(started.elapsed().as_secs(), 0);
}

/// An answer that never arrives because the reader's window is shut.
#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_reads_is_dropped() {
    let server = Alone::start(None).await;
    let socket = TcpStream::connect(server.address).await.unwrap();
    let (mut client, connection) = h2::client::Builder::new()
        .initial_window_size(0)
        .handshake::<_, Bytes>(socket)
        .await
        .unwrap();
    drop(tokio::spawn(connection));
    let (answer, mut body) = client.send_request(head(), false).unwrap();
    body.send_data(Bytes::from_static(&[0; 5]), true).unwrap();
    let started = Instant::now();
    let mut answer = answer.await.unwrap().into_body();
    let reset = answer.data().await.unwrap().unwrap_err();
    assert_eq!(reset.reason(), Some(h2::Reason::CANCEL), "{reset}");
    assert_eq!(started.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn draining_ends_idle_connections_at_once_and_busy_ones_with_their_last_call() {
    let server = Alone::start(None).await;
    let mut stranger = Raw::connect(server.address).await;
    let mut idle = Raw::greeted(server.address).await;
    let mut busy = Raw::greeted(server.address).await;
    busy.send(&whole(GET_SERVER_INFO, 1)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let started = Instant::now();
    server.draining.cancel();
    stranger.until_closed().await;
    assert_eq!(idle.next(GOAWAY).await.unwrap().reason(), 0);
    idle.next(GOAWAY).await;
    idle.until_closed().await;
    assert_eq!(started.elapsed().as_secs(), 0);
    assert!(busy.next(GOAWAY).await.is_some());
    // It is asked twice: after the second time the stream's number is the last.
    assert_eq!(busy.next(GOAWAY).await.unwrap().payload[..4], 1_u32.to_be_bytes());
    assert!(TcpStream::connect(server.address).await.is_err(), "nothing is accepted");
    drop(server);
    busy.until_closed().await;
}
