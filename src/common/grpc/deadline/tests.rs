//! Calls that take longer than they may, in paused time.

use std::convert::Infallible;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use tonic::Code;
use tonic_types::StatusExt as _;
use tower::{ServiceExt as _, service_fn};

use super::*;

/// A body of frames, from a stream.
pub(in crate::common::grpc) struct Frames<S>(pub(in crate::common::grpc) S);

impl<S: stream::Stream<Item = Frame<Bytes>> + Unpin> Body for Frames<S> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_next_unpin(cx).map(|frame| frame.map(Ok))
    }
}

/// The next frame of `body`.
pub(in crate::common::grpc) async fn next<B>(body: &mut B) -> Option<Frame<Bytes>>
where
    B: Body<Data = Bytes, Error = Infallible> + Unpin,
{
    std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await.map(|frame| frame.unwrap())
}

fn request(timeout: &str) -> Request<()> {
    Request::builder().header("grpc-timeout", timeout).body(()).unwrap()
}

fn ticking() -> impl stream::Stream<Item = Frame<Bytes>> + Unpin {
    Box::pin(stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Some((Frame::data(Bytes::from_static(b"tick")), ()))
    }))
}

fn assert_expired(status: &Status) {
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(status.get_error_details().error_info().unwrap().reason, "DEADLINE_EXCEEDED");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_never_answers_ends_on_time() {
    let started = Instant::now();
    let never = service_fn(|_: Request<()>| {
        std::future::pending::<Result<Response<Frames<stream::Empty<Frame<Bytes>>>>, Infallible>>()
    });
    let response = DeadlineLayer.layer(never).oneshot(request("300m")).await.unwrap();
    assert_expired(&Status::from_header_map(response.headers()).unwrap());
    assert!(response.body().is_end_stream());
    assert_eq!(started.elapsed(), Duration::from_millis(300));
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_on_time_with_status_four() {
    let ticks = service_fn(|_: Request<()>| async {
        Ok::<_, Infallible>(Response::new(Frames(ticking())))
    });
    let response = DeadlineLayer.layer(ticks).oneshot(request("350m")).await.unwrap();
    let mut body = response.into_body();
    for _ in 0..3 {
        assert!(next(&mut body).await.unwrap().is_data());
    }
    let trailers = next(&mut body).await.unwrap().into_trailers().unwrap();
    assert_expired(&Status::from_header_map(&trailers).unwrap());
    assert!(next(&mut body).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_always_has_something_to_send_ends_too() {
    let endless = service_fn(|_: Request<()>| async {
        let frames = stream::repeat_with(|| Frame::data(Bytes::from_static(b"x")));
        Ok::<_, Infallible>(Response::new(Frames(frames)))
    });
    let mut body = DeadlineLayer.layer(endless).oneshot(request("1S")).await.unwrap().into_body();
    assert!(next(&mut body).await.unwrap().is_data());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(next(&mut body).await.unwrap().is_trailers());
}

#[tokio::test(start_paused = true)]
async fn the_time_starts_with_the_call_and_not_with_its_first_poll() {
    let never = service_fn(|_: Request<()>| {
        std::future::pending::<Result<Response<Frames<stream::Empty<Frame<Bytes>>>>, Infallible>>()
    });
    let mut service = DeadlineLayer.layer(never);
    let call = service.call(request("1S"));
    tokio::time::advance(Duration::from_secs(5)).await;
    let polled = Instant::now();
    let response = call.await.unwrap();
    assert_expired(&Status::from_header_map(response.headers()).unwrap());
    assert_eq!(polled.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn without_a_deadline_a_call_takes_as_long_as_it_takes() {
    let slow = service_fn(|_: Request<()>| async {
        tokio::time::sleep(Duration::from_hours(1)).await;
        Ok::<_, Infallible>(Response::new(Frames(stream::empty::<Frame<Bytes>>())))
    });
    let response = DeadlineLayer.layer(slow).oneshot(Request::new(())).await.unwrap();
    assert!(!response.headers().contains_key("grpc-status"));
}

#[tokio::test]
async fn a_malformed_timeout_is_the_callers_mistake() {
    for timeout in ["", "S", "1", "1x", "+1S", "123456789S", "1 S", "-1S"] {
        let unreached = service_fn(|_: Request<()>| async {
            Ok::<_, Infallible>(Response::new(Frames(ticking())))
        });
        let response = DeadlineLayer.layer(unreached).oneshot(request(timeout)).await.unwrap();
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), Code::InvalidArgument, "{timeout}");
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "grpc-timeout");
    }
}

#[test]
fn timeouts_are_read_as_the_protocol_writes_them() {
    let cases = [
        (&b"3H"[..], Duration::from_hours(3)),
        (b"1M", Duration::from_mins(1)),
        (b"42S", Duration::from_secs(42)),
        (b"300m", Duration::from_millis(300)),
        (b"2u", Duration::from_micros(2)),
        (b"99999999n", Duration::from_nanos(99_999_999)),
        (b"0S", Duration::ZERO),
    ];
    for (text, expected) in cases {
        assert_eq!(parse_timeout(text), Some(expected));
    }
}
