//! The id that joins everything one call causes: log lines, answers, tasks, events.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use thiserror::Error;
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use crate::common::constants::MAX_CORRELATION_ID_LENGTH;

tokio::task_local! {
    static CURRENT: Call;
}

/// The call that code runs for.
#[derive(Clone, Debug)]
struct Call {
    id: CorrelationId,
    /// What its log lines belong to. While a trace is made, the current span is the trace's, which
    /// the log does not see.
    logged: Span,
}

/// The spans that code runs in: that of its log lines and that of its trace, which may be one.
#[derive(Clone, Debug)]
pub(crate) struct Spans {
    logged: Span,
    current: Span,
}

impl Spans {
    /// Those of the code that asks.
    pub(crate) fn current() -> Self {
        let current = Span::current();
        let logged = CURRENT.try_with(|call| call.logged.clone()).unwrap_or_else(|_| Span::none());
        // Entered once is enough.
        let logged = if logged.id() == current.id() { Span::none() } else { logged };
        Self { logged, current }
    }

    /// Runs `code` in them.
    pub(crate) fn in_scope<T>(&self, code: impl FnOnce() -> T) -> T {
        self.logged.in_scope(|| self.current.in_scope(code))
    }

    /// The innermost: that of the trace, if there is one.
    pub(crate) const fn innermost(&self) -> &Span {
        &self.current
    }
}

/// Runs `code` for the call of `id`, whose log lines belong to `logged`.
pub(super) fn in_call<T>(id: &CorrelationId, logged: &Span, code: impl FnOnce() -> T) -> T {
    let call = Call { id: id.clone(), logged: logged.clone() };
    logged.in_scope(|| CURRENT.sync_scope(call, code))
}

/// 1 to 128 printable ASCII characters. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CorrelationId(Arc<str>);

/// Text that is no correlation id.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("must be 1 to {MAX_CORRELATION_ID_LENGTH} printable ASCII characters, given once")]
pub struct InvalidCorrelationId;

impl CorrelationId {
    /// A new one: a version 7 UUID.
    pub fn generate() -> Self {
        Self(Uuid::now_v7().to_string().into())
    }

    /// The id that `bytes` spell.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidCorrelationId> {
        let printable = bytes.iter().all(|byte| (b' '..=b'~').contains(byte));
        if bytes.is_empty() || bytes.len() > MAX_CORRELATION_ID_LENGTH || !printable {
            return Err(InvalidCorrelationId);
        }
        std::str::from_utf8(bytes).map(|text| Self(text.into())).map_err(|_| InvalidCorrelationId)
    }

    /// The id of the call that this code runs for, if it runs for one.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(|call| call.id.clone()).ok()
    }

    /// Runs `future` for the call of this id.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(Call { id: self, logged: Span::none() }, future).await
    }

    /// Runs `code` for the call of this id.
    pub fn sync_scope<T>(&self, code: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(Call { id: self.clone(), logged: Span::none() }, code)
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Carries the caller's spans and correlation id into a task that `future` will run in.
pub fn in_current_context<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let (call, Spans { logged, current }) = (CURRENT.try_with(Clone::clone).ok(), Spans::current());
    async move {
        match call {
            Some(call) => CURRENT.scope(call, future).await,
            None => future.await,
        }
    }
    .instrument(current)
    .instrument(logged)
}

/// Carries the caller's spans and correlation id to a thread that `code` will run on.
pub fn with_current_context<T>(code: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let (call, spans) = (CURRENT.try_with(Clone::clone).ok(), Spans::current());
    move || {
        spans.in_scope(|| match call {
            Some(call) => CURRENT.sync_scope(call, code),
            None => code(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_ascii_up_to_128_is_taken_as_it_is() {
        for text in ["a", "A b~c!", &"x".repeat(128)] {
            assert_eq!(CorrelationId::parse(text.as_bytes()).unwrap().as_str(), text);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let long = "x".repeat(129);
        for bytes in [&b""[..], b"tab\there", b"\x7f", "z\u{fc}rich".as_bytes(), long.as_bytes()] {
            assert_eq!(CorrelationId::parse(bytes), Err(InvalidCorrelationId));
        }
    }

    #[tokio::test]
    async fn another_thread_works_for_the_same_call() {
        let id = CorrelationId::generate();
        let work = id.sync_scope(|| with_current_context(CorrelationId::current));
        assert_eq!(tokio::task::spawn_blocking(work).await.unwrap(), Some(id));
    }

    #[test]
    fn outside_a_call_there_is_no_current_id() {
        assert_eq!(CorrelationId::current(), None);
    }
}
