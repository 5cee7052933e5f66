//! The lines that finished calls leave.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use serde_json::Value;
use tower::{ServiceExt as _, service_fn};

use super::super::deadline::tests::{Frames, next};
use super::super::{CallError, to_status};
use super::*;
use crate::common::tracing::{CorrelationLayer, Lines, LogFormat};

fn request(path: &str) -> Request<()> {
    Request::builder().uri(path).header("x-correlation-id", "abc \"1\"").body(()).unwrap()
}

fn trailers(code: Code) -> Frame<Bytes> {
    ending(&Status::new(code, ""))
}

fn ending(status: &Status) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers).unwrap();
    Frame::trailers(trailers)
}

async fn call(path: &str, code: Code) -> Value {
    call_with(path, &Status::new(code, "")).await
}

async fn call_with(path: &str, status: &Status) -> Value {
    let (lines, _guard) = Lines::capture(LogFormat::Json);
    let service = service_fn(move |_: Request<()>| async move {
        let frames = [Frame::data(Bytes::from_static(b"x")), ending(status)];
        Ok::<_, Infallible>(Response::new(Frames(stream::iter(frames))))
    });
    let service = CorrelationLayer.layer(AccessLogLayer::default().layer(service));
    let response = service.oneshot(request(path)).await.unwrap();
    assert_eq!(response.headers()["x-correlation-id"], "abc \"1\"");
    let mut body = response.into_body();
    while next(&mut body).await.is_some() {}
    drop(body);
    let mut lines = lines.json();
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.remove(0)
}

#[tokio::test]
async fn a_finished_call_is_one_line_with_its_correlation_id() {
    let line = call("/a.B/C", Code::Ok).await;
    assert_eq!(line["method"], "/a.B/C");
    assert_eq!(line["code"], "OK");
    assert_eq!(line["correlation_id"], "abc \"1\"");
    assert!(line["duration_ms"].is_number());
}

#[tokio::test]
async fn the_level_follows_the_status() {
    let cases = [
        ("/a.B/C", Code::Ok, "INFO"),
        ("/a.B/C", Code::InvalidArgument, "INFO"),
        ("/a.B/C", Code::Unavailable, "WARN"),
        ("/a.B/C", Code::DeadlineExceeded, "WARN"),
        ("/a.B/C", Code::ResourceExhausted, "WARN"),
        ("/a.B/C", Code::Internal, "ERROR"),
        ("/a.B/C", Code::Unknown, "ERROR"),
        ("/grpc.health.v1.Health/Check", Code::Ok, "DEBUG"),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Code::Ok, "DEBUG"),
    ];
    for (path, code, level) in cases {
        let line = call(path, code).await;
        assert_eq!(line["level"], level, "{path} {code:?}");
        assert_eq!(line["code"], code_name(code));
    }
}

#[tokio::test]
async fn what_we_end_as_we_stop_is_no_warning() {
    let line = call_with("/a.B/C", &to_status(&CallError::Draining)).await;
    assert_eq!((&line["level"], &line["code"]), (&"INFO".into(), &"UNAVAILABLE".into()));
    let line = call_with("/a.B/C", &to_status(&CallError::Overloaded)).await;
    assert_eq!((&line["level"], &line["code"]), (&"WARN".into(), &"UNAVAILABLE".into()));
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_before_its_answer_was_cancelled() {
    let (lines, _guard) = Lines::capture(LogFormat::Json);
    let never = service_fn(|_: Request<()>| {
        std::future::pending::<Result<Response<Frames<stream::Empty<Frame<Bytes>>>>, Infallible>>()
    });
    let call =
        CorrelationLayer.layer(AccessLogLayer::default().layer(never)).oneshot(request("/a.B/C"));
    assert!(tokio::time::timeout(Duration::from_secs(1), call).await.is_err());
    let line = lines.json().remove(0);
    assert_eq!((line["code"].as_str(), line["level"].as_str()), (Some("CANCELLED"), Some("INFO")));
    assert_eq!(line["correlation_id"], "abc \"1\"");
    assert_eq!(line["duration_ms"], 1_000.0);
}

#[tokio::test]
async fn a_stream_dropped_half_way_was_cancelled_and_is_one_line() {
    let (lines, _guard) = Lines::capture(LogFormat::Json);
    let endless = service_fn(|_: Request<()>| async {
        let frames = stream::repeat_with(|| Frame::data(Bytes::from_static(b"x"))).boxed();
        Ok::<_, Infallible>(Response::new(Frames(frames)))
    });
    let response =
        AccessLogLayer::default().layer(endless).oneshot(request("/a.B/C")).await.unwrap();
    let mut body = response.into_body();
    assert!(next(&mut body).await.is_some());
    assert!(lines.text().is_empty(), "a stream is not finished while it streams");
    drop(body);
    assert_eq!(lines.json().len(), 1);
    assert_eq!(lines.json()[0]["code"], "CANCELLED");
}

#[tokio::test]
async fn an_answer_of_headers_alone_is_finished_with_them() {
    let (lines, _guard) = Lines::capture(LogFormat::Json);
    let refusing = service_fn(|_: Request<()>| async {
        let refusal = Status::not_found("no").into_http::<()>();
        Ok::<_, Infallible>(refusal.map(|()| Frames(stream::empty::<Frame<Bytes>>())))
    });
    let response =
        AccessLogLayer::default().layer(refusing).oneshot(request("/a.B/C")).await.unwrap();
    drop(response);
    assert_eq!(lines.json().len(), 1);
    assert_eq!(lines.json()[0]["code"], "NOT_FOUND");
}

#[tokio::test]
async fn the_console_shows_the_correlation_id_too_and_no_colours_unless_asked() {
    let (lines, _guard) = Lines::capture(LogFormat::Console);
    let service = service_fn(|_: Request<()>| async {
        Ok::<_, Infallible>(Response::new(Frames(stream::iter([trailers(Code::Ok)]))))
    });
    let service = CorrelationLayer.layer(AccessLogLayer::default().layer(service));
    let mut body = service.oneshot(request("/a.B/C")).await.unwrap().into_body();
    assert!(next(&mut body).await.is_some());
    assert!(lines.text().contains("correlation_id=abc"), "{}", lines.text());
    assert!(!lines.text().contains('\u{1b}'));
}
