//! How long to leave the server alone after failures.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::RngExt as _;
use tokio::time::Instant;

use crate::infrastructure::interfaces::ProviderError;
use crate::infrastructure::tradingview::errors;

/// The first pause and the longest, after network trouble. Callers wait these out.
const TROUBLE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// The same after being told to slow down, and not for how long.
const SLOW_DOWN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// The longest pause that the server is granted.
const LONGEST_ASKED: Duration = Duration::from_mins(15);

/// Pauses that double with each failure in a row, with jitter.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Until when, and because of what.
    pause: Option<(Instant, ProviderError)>,
}

impl Backoff {
    /// Notes a failure; answers it with the time after which trying again makes sense.
    pub(super) fn failed(&self, error: ProviderError) -> ProviderError {
        let mut state = self.state();
        let pause = pause(&error, state.failures);
        state.failures = state.failures.saturating_add(1);
        let error = errors::with_retry_after(error, pause);
        state.pause = Some((Instant::now() + pause, error.clone()));
        error
    }

    /// Notes that the server served.
    pub(super) fn succeeded(&self) {
        *self.state() = State::default();
    }

    /// Waits for the end of the pause; where it takes longer than `patience`, answers at once
    /// with the failure it is for.
    pub(super) async fn wait(&self, patience: Duration) -> Result<(), ProviderError> {
        let Some((until, error)) = self.state().pause.clone() else { return Ok(()) };
        let left = until.saturating_duration_since(Instant::now());
        if left > patience {
            return Err(errors::with_retry_after(error, left));
        }
        tokio::time::sleep_until(until).await;
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pause(error: &ProviderError, failures: u32) -> Duration {
    let asked = match error {
        ProviderError::RateLimited { retry_after, .. } => Some(*retry_after),
        ProviderError::Unavailable { .. }
        | ProviderError::Timeout { .. }
        | ProviderError::AuthRequired { .. }
        | ProviderError::NotEntitled { .. }
        | ProviderError::SymbolNotFound { .. }
        | ProviderError::NoData { .. } => None,
    };
    let (first, longest) = if asked.is_some() { SLOW_DOWN } else { TROUBLE };
    let said = asked.filter(|asked| *asked != errors::RETRY_SLOWLY).unwrap_or_default();
    let doubled = first.saturating_mul(2_u32.saturating_pow(failures)).min(longest);
    doubled.mul_f64(rand::rng().random_range(0.75..=1.0)).max(said.min(LONGEST_ASKED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infrastructure::interfaces::Phase;

    fn trouble() -> ProviderError {
        errors::unavailable(Phase::Connect, "refused")
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_a_limit_and_start_again_after_success() {
        let backoff = Backoff::default();
        let patience = Duration::from_secs(30);
        let mut longest = Duration::ZERO;
        for _ in 0..12 {
            backoff.failed(trouble());
            let before = Instant::now();
            backoff.wait(patience).await.unwrap();
            longest = before.elapsed();
        }
        assert!(
            longest >= TROUBLE.1.mul_f64(0.75) && longest <= TROUBLE.1 + Duration::from_millis(2)
        );
        backoff.succeeded();
        let before = Instant::now();
        backoff.wait(patience).await.unwrap();
        assert_eq!(before.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_is_left_alone_as_long_as_it_asked() {
        for (asked, expected) in [(120, 120), (30, 30), (86_400, 900)] {
            let backoff = Backoff::default();
            backoff.failed(errors::rate_limited("429", Some(Duration::from_secs(asked))));
            let before = Instant::now();
            backoff.wait(Duration::from_hours(24)).await.unwrap();
            assert_eq!(before.elapsed().as_secs(), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_longer_than_asked_for() {
        let backoff = Backoff::default();
        for _ in 0..12 {
            backoff.failed(errors::rate_limited("429", None));
        }
        let before = Instant::now();
        let error = backoff.wait(Duration::from_secs(30)).await.unwrap_err();
        assert_eq!(before.elapsed(), Duration::ZERO);
        let ProviderError::RateLimited { retry_after, .. } = error else { panic!("{error}") };
        assert!(retry_after > Duration::from_secs(30) && retry_after <= SLOW_DOWN.1);
    }
}
