//! Ends answers that nobody reads.
//!
//! A client may keep its window shut for ever; its answer, and whatever the answer holds, would
//! stay for ever too. The transport asks a body for its next frame once the one before is on its
//! way, so the time between the two is how long the reader has taken nothing.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::common::constants::{READER_BYTES_PER_SECOND, READER_PATIENCE, STREAM_READER_PATIENCE};

thread_local! {
    /// Until when the reader of the answer that is being polled has to take its last frame.
    static DUE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Marks an answer as a stream of messages, whose reader is given more time.
#[derive(Clone, Copy, Debug)]
pub struct LongAnswer;

/// Runs the calls of connections, each for as long as its answer is read.
#[derive(Clone, Debug)]
pub(super) struct CallTasks(pub(super) TaskTracker);

impl<F> Executor<F> for CallTasks
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, call: F) {
        drop(self.0.spawn(WhileRead { call, due: None, timer: None }));
    }
}

pin_project! {
    /// A call that ends when its reader is overdue; the transport resets what is dropped.
    struct WhileRead<F> {
        #[pin]
        call: F,
        due: Option<Instant>,
        timer: Option<Pin<Box<Sleep>>>,
    }
}

impl<F: Future> Future for WhileRead<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        DUE.set(*this.due);
        let polled = this.call.poll(cx);
        *this.due = DUE.take();
        if polled.is_ready() {
            return Poll::Ready(());
        }
        let Some(due) = *this.due else {
            *this.timer = None;
            return Poll::Pending;
        };
        let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        ready!(timer.as_mut().poll(cx));
        debug!("an answer is dropped: nobody reads it");
        Poll::Ready(())
    }
}

pin_project! {
    /// A body that tells how long its reader may take for each frame.
    pub(super) struct ReadBody<B> {
        #[pin]
        inner: B,
        patience: Duration,
    }
}

impl<B> ReadBody<B> {
    pub(super) fn of(response: Response<B>) -> Response<Self> {
        let long = response.extensions().get::<LongAnswer>().is_some();
        let patience = if long { STREAM_READER_PATIENCE } else { READER_PATIENCE };
        response.map(|inner| Self { inner, patience })
    }
}

impl<B: Body<Data = Bytes>> Body for ReadBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        // To be asked for another is to be told that the last one is taken.
        DUE.set(None);
        let frame = ready!(this.inner.poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            let sending = u64::try_from(bytes).unwrap_or(u64::MAX) / READER_BYTES_PER_SECOND;
            DUE.set(Instant::now().checked_add(*this.patience + Duration::from_secs(sending)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
