//! Watches whether a connection has said that it speaks HTTP/2, and whether it takes what it is
//! sent.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::common::constants::BLOCKED_WRITE_TIMEOUT;

/// `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`: RFC 9113, section 3.4.
const PREFACE_BYTES: usize = 24;

/// Bytes that a connection has received so far, as far as they matter.
#[derive(Clone, Debug, Default)]
pub(super) struct Greeting(Arc<AtomicUsize>);

impl Greeting {
    /// Whether the whole preface is there: from then on HTTP/2 itself looks after the connection.
    pub(super) fn is_complete(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= PREFACE_BYTES
    }

    fn received(&self, bytes: usize) {
        if !self.is_complete() {
            self.0.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

pin_project! {
    /// A connection that counts its first bytes, and fails when nothing of what is written to it
    /// is taken for [`BLOCKED_WRITE_TIMEOUT`].
    #[derive(Debug)]
    pub(super) struct Watched<IO> {
        #[pin]
        inner: IO,
        greeting: Greeting,
        blocked: Option<Pin<Box<Sleep>>>,
    }
}

impl<IO> Watched<IO> {
    pub(super) fn new(inner: IO) -> (Self, Greeting) {
        let greeting = Greeting::default();
        (Self { inner, greeting: greeting.clone(), blocked: None }, greeting)
    }
}

/// Fails a write that has been pending for too long.
fn bounded<T>(
    written: Poll<io::Result<T>>,
    blocked: &mut Option<Pin<Box<Sleep>>>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<T>> {
    if written.is_ready() {
        *blocked = None;
        return written;
    }
    let timer = blocked.get_or_insert_with(|| {
        Box::pin(tokio::time::sleep_until(Instant::now() + BLOCKED_WRITE_TIMEOUT))
    });
    timer.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
}

impl<IO: AsyncRead> AsyncRead for Watched<IO> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buffer.filled().len();
        let read = this.inner.poll_read(cx, buffer);
        this.greeting.received(buffer.filled().len().saturating_sub(before));
        read
    }
}

impl<IO: AsyncWrite> AsyncWrite for Watched<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        bounded(this.inner.poll_write(cx, bytes), this.blocked, cx)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        bounded(this.inner.poll_flush(cx), this.blocked, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        bounded(this.inner.poll_shutdown(cx), this.blocked, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        bounded(this.inner.poll_write_vectored(cx, buffers), this.blocked, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_no_byte_is_given_up() {
        let (_peer, ours) = tokio::io::duplex(8);
        let (mut ours, _) = Watched::new(ours);
        let started = Instant::now();
        let error = ours.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed(), BLOCKED_WRITE_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_a_little_now_and_then_is_not() {
        let (mut peer, ours) = tokio::io::duplex(8);
        let (mut ours, _) = Watched::new(ours);
        let reading = async {
            let mut byte = [0];
            for _ in 0..56 {
                tokio::time::sleep(BLOCKED_WRITE_TIMEOUT / 2).await;
                peer.read_exact(&mut byte).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(ours.write_all(&[0; 64]), reading);
        written.unwrap();
    }

    #[tokio::test]
    async fn the_greeting_is_complete_with_its_last_byte() {
        let (mut peer, ours) = tokio::io::duplex(64);
        let (mut ours, greeting) = Watched::new(ours);
        let mut buffer = [0; 23];
        peer.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        ours.read_exact(&mut buffer).await.unwrap();
        assert!(!greeting.is_complete());
        ours.read_exact(&mut buffer[..1]).await.unwrap();
        assert!(greeting.is_complete());
    }
}
