//! A stream that is opened again when it breaks.

use std::future::Future;
use std::time::Duration;

use humantime::format_duration;
use rand::RngExt as _;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep, timeout};
use tonic::Streaming;

use super::super::client::Client;
use super::super::failure::CallError;

/// The first pause after a failure, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// A stream that lasted this long was well: the pauses begin anew.
const STABLE: Duration = Duration::from_secs(10);
/// Longest wait for a stream to open; the server may have to ask its provider first.
const OPENING: Duration = Duration::from_mins(1);
/// Longest silence of an open stream: three heartbeats.
const SILENCE: Duration = Duration::from_secs(45);
/// Longest pause that a server may ask for.
const LONGEST_WISH: Duration = Duration::from_mins(5);

/// A stream that can be opened again where it stopped.
pub(in crate::cli) trait Source {
    /// What it says.
    type Event;

    /// Opens it, behind what was noted so far.
    fn open(
        &self,
        client: &Client,
    ) -> impl Future<Output = Result<Streaming<Self::Event>, CallError>>;

    /// Notes what was heard. Answers how long to stay away where the server is stopping.
    fn note(&mut self, event: &Self::Event) -> Option<Duration>;
}

/// What there is to show.
#[derive(Debug)]
pub(in crate::cli) enum Heard<E> {
    /// The server said something.
    Event(E),
    /// The stream is gone, and is opened again after a while.
    Lost { error: CallError, retry_in: Duration },
    /// The stream is there again.
    Back,
    /// The stream is gone for good.
    Ended(CallError),
}

/// Sends everything that `source` says to `to`; ends when it is gone for good, or nobody listens.
pub(in crate::cli) async fn follow<S: Source>(
    client: &Client,
    mut source: S,
    reconnect: bool,
    to: Sender<Heard<S::Event>>,
) {
    let (mut failures, mut heard) = (0, false);
    loop {
        let begun = Instant::now();
        let Some(gone) = listen(client, &mut source, failures > 0, &mut heard, &to).await else {
            return;
        };
        if begun.elapsed() >= STABLE {
            failures = 0;
        }
        let Gone { error, away } = gone;
        if !reconnect || !worth_trying(&error, heard) {
            // Nobody is left to tell when this fails.
            let _unheard = to.send(Heard::Ended(error)).await;
            return;
        }
        let wished = error.retry_delay.max(away).unwrap_or_default().min(LONGEST_WISH);
        let retry_in = pause(failures).max(wished);
        failures = failures.saturating_add(1);
        if to.send(Heard::Lost { error, retry_in }).await.is_err() {
            return;
        }
        sleep(retry_in).await;
    }
}

/// Why a stream ended, and how long the server wants to be left alone.
struct Gone {
    error: CallError,
    away: Option<Duration>,
}

/// One stream from its opening to its end; nothing when nobody listens any more.
async fn listen<S: Source>(
    client: &Client,
    source: &mut S,
    again: bool,
    heard: &mut bool,
    to: &Sender<Heard<S::Event>>,
) -> Option<Gone> {
    let gone = |error| Some(Gone { error, away: None });
    let opened = timeout(OPENING, source.open(client)).await;
    let mut stream = match opened.unwrap_or(Err(silent(OPENING))) {
        Ok(stream) => stream,
        Err(error) => return gone(error),
    };
    // A stream that opens and fails is not there again: its first word is.
    let mut back = again;
    loop {
        let next = timeout(SILENCE, client.next(&mut stream)).await;
        let event = match next.unwrap_or(Err(silent(SILENCE))) {
            Ok(Some(event)) => event,
            Ok(None) => return gone(CallError::gone("the server ended the stream".to_owned())),
            Err(error) => return gone(error),
        };
        *heard = true;
        if std::mem::take(&mut back) {
            to.send(Heard::Back).await.ok()?;
        }
        let away = source.note(&event);
        to.send(Heard::Event(event)).await.ok()?;
        if away.is_some() {
            let error = CallError::gone("the server is stopping".to_owned());
            return Some(Gone { error, away });
        }
    }
}

fn silent(time: Duration) -> CallError {
    CallError::gone(format!("the server said nothing for {}", format_duration(time)))
}

/// Whether the same call may succeed later. A connection that breaks before anything was `heard`
/// is more likely to lead to something else than PocketQuant.
fn worth_trying(error: &CallError, heard: bool) -> bool {
    let slow = error.reason.as_deref() == Some("SLOW_CONSUMER");
    let busy = error.code == "RESOURCE_EXHAUSTED" && error.retry_delay.is_some();
    error.code == "UNAVAILABLE" || slow || heard && (error.broken || busy)
}

/// Doubles with each failure in a row; half of it is jitter, so that not all come back at once.
fn pause(failures: u32) -> Duration {
    let longest = PAUSES.0.saturating_mul(2_u32.saturating_pow(failures)).min(PAUSES.1);
    longest.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::{Code, Status};
    use tonic_types::{ErrorDetails, StatusExt as _};

    fn error(code: Code, reason: &str) -> CallError {
        let details = ErrorDetails::with_error_info(reason, "pocketquant", []);
        CallError::new(&Status::with_error_details(code, "", details), None)
    }

    #[test]
    fn pauses_grow_to_half_a_minute_and_no_further() {
        for failures in [0, 1, 5, 6, 40, u32::MAX] {
            let longest = Duration::from_millis(500 << failures.min(10)).min(PAUSES.1);
            let pause = pause(failures);
            assert!(pause <= longest && pause >= longest / 2, "{failures}: {pause:?}");
        }
    }

    #[test]
    fn what_another_try_cannot_mend_is_not_tried_again() {
        for (code, reason) in [
            (Code::InvalidArgument, "INVALID_FIELDS"),
            (Code::NotFound, "SYMBOL_NOT_FOUND"),
            (Code::OutOfRange, "CURSOR_EXPIRED"),
            (Code::Unauthenticated, "UNAUTHENTICATED"),
        ] {
            assert!(!worth_trying(&error(code, reason), true), "{reason}");
        }
        assert!(worth_trying(&error(Code::Unavailable, "DRAINING"), false));
        assert!(worth_trying(&error(Code::ResourceExhausted, "SLOW_CONSUMER"), true));
        let mut broken = CallError::gone(String::new());
        broken.code = "UNKNOWN";
        assert!(worth_trying(&broken, true) && !worth_trying(&broken, false));
    }
}
