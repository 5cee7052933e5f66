//! Times work and tells how it ended, also where nobody waits for the end.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// The outcome of work that was dropped before its end.
pub const CANCELLED: &str = "cancelled";

/// Does `work`, then hands `record` its outcome, as `outcome` names it, and how long it took.
/// Where it is dropped half-way, the outcome is [`CANCELLED`].
pub async fn timed<T>(
    work: impl Future<Output = T>,
    outcome: impl FnOnce(&T) -> &'static str,
    record: impl FnOnce(&'static str, Duration),
) -> T {
    let mut timer = Timer { started: Instant::now(), record: Some(record) };
    let result = work.await;
    timer.end(outcome(&result));
    result
}

/// `ok` or `error`.
pub const fn outcome_of<T, E>(result: &Result<T, E>) -> &'static str {
    if result.is_ok() { "ok" } else { "error" }
}

struct Timer<R: FnOnce(&'static str, Duration)> {
    started: Instant,
    record: Option<R>,
}

impl<R: FnOnce(&'static str, Duration)> Timer<R> {
    fn end(&mut self, outcome: &'static str) {
        if let Some(record) = self.record.take() {
            record(outcome, self.started.elapsed());
        }
    }
}

impl<R: FnOnce(&'static str, Duration)> Drop for Timer<R> {
    fn drop(&mut self) {
        self.end(CANCELLED);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn every_end_is_told_once() {
        let told = Cell::new(Vec::new());
        let tell = |outcome, _| {
            let mut all = told.take();
            all.push(outcome);
            told.set(all);
        };
        assert_eq!(timed(async { Ok::<_, ()>(1) }, outcome_of, tell).await, Ok(1));
        assert_eq!(timed(async { Err::<(), _>(2) }, outcome_of, tell).await, Err(2));
        let endless = timed(std::future::pending::<Result<(), ()>>(), outcome_of, tell);
        assert_eq!(endless.now_or_never(), None);
        assert_eq!(told.take(), ["ok", "error", CANCELLED]);
    }
}
