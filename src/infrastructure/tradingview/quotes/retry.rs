//! When to connect again.

use std::time::Duration;

use rand::RngExt as _;
use tokio::time::Instant;

use crate::infrastructure::interfaces::ProviderError;
use crate::infrastructure::tradingview::config::FeedConfig;
use crate::infrastructure::tradingview::errors;

/// The longest that the server can ask us to stay away.
const LONGEST_QUOTA: Duration = Duration::from_mins(15);

/// Pauses that double with each failure in a row, with jitter.
#[derive(Debug)]
pub(super) struct Retry {
    first: Duration,
    longest: Duration,
    pause: Option<Pause>,
}

/// Why, and until when, nothing is tried.
#[derive(Clone, Debug)]
pub(super) struct Pause {
    pub(super) error: ProviderError,
    /// Which try in a row follows, from 1.
    pub(super) attempt: u32,
    pub(super) until: Instant,
}

impl Retry {
    pub(super) const fn new(config: &FeedConfig) -> Self {
        Self { first: config.retry_first, longest: config.retry_longest, pause: None }
    }

    /// The pause that is due before the next try.
    pub(super) fn pause(&self) -> Option<Pause> {
        self.pause.clone()
    }

    /// Notes a failure, after which waiting helps.
    pub(super) fn failed(&mut self, error: ProviderError) {
        let attempt = self.pause.as_ref().map_or(1, |pause| pause.attempt.saturating_add(1));
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(attempt - 1));
        let usual = doubled.min(self.longest).mul_f64(rand::rng().random_range(0.75..=1.0));
        let wait = asked_for(&error).map_or(usual, |asked| {
            // Never earlier than asked, nor all at the same time.
            usual.max(asked.min(LONGEST_QUOTA).mul_f64(rand::rng().random_range(1.0..=1.1)))
        });
        let error = errors::with_retry_after(error, wait);
        self.pause = Some(Pause { error, attempt, until: Instant::now() + wait });
    }

    /// Notes that a connection proved stable.
    pub(super) fn succeeded(&mut self) {
        self.pause = None;
    }
}

/// Whether trying again changes nothing before the settings do.
pub(super) const fn is_terminal(error: &ProviderError) -> bool {
    match error {
        ProviderError::AuthRequired { .. } => true,
        ProviderError::Unavailable { .. }
        | ProviderError::Timeout { .. }
        | ProviderError::NotEntitled { .. }
        | ProviderError::RateLimited { .. }
        | ProviderError::SymbolNotFound { .. }
        | ProviderError::NoData { .. } => false,
    }
}

/// How long the server wants to be left alone, where it is that.
const fn asked_for(error: &ProviderError) -> Option<Duration> {
    match error {
        ProviderError::RateLimited { retry_after, .. } => Some(*retry_after),
        ProviderError::Unavailable { .. }
        | ProviderError::Timeout { .. }
        | ProviderError::AuthRequired { .. }
        | ProviderError::NotEntitled { .. }
        | ProviderError::SymbolNotFound { .. }
        | ProviderError::NoData { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::infrastructure::interfaces::Phase;

    /// The pause after one more failure, in seconds.
    fn pause(retry: &mut Retry, error: ProviderError) -> (u32, f64) {
        retry.failed(error);
        let pause = retry.pause().unwrap();
        (pause.attempt, pause.until.duration_since(Instant::now()).as_secs_f64())
    }

    fn trouble() -> ProviderError {
        errors::unavailable(Phase::Handshake, "the server answered 403 Forbidden")
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_from_a_second_to_a_minute_and_start_again_after_success() {
        let mut retry = Retry::new(&FeedConfig::default());
        assert!(retry.pause().is_none());
        for (attempt, seconds) in (1..).zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]) {
            let (counted, wait) = pause(&mut retry, trouble());
            assert_eq!(counted, attempt);
            assert!((0.75 * seconds..=seconds).contains(&wait), "{attempt}: {wait}");
        }
        retry.succeeded();
        let (attempt, wait) = pause(&mut retry, trouble());
        assert!(attempt == 1 && wait <= 1.0, "{attempt}: {wait}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_asks_for_time_gets_it_within_reason() {
        let mut retry = Retry::new(&FeedConfig::default());
        for (asked, most) in [(None, 66.0), (Some(120), 132.0), (Some(1_000_000), 990.0)] {
            let error = errors::rate_limited("429", asked.map(Duration::from_secs));
            let (_, wait) = pause(&mut retry, error);
            assert!((most / 1.1 - 0.001..=most).contains(&wait), "{asked:?}: {wait}");
        }
        let (_, wait) = pause(&mut retry, errors::rate_limited("429", Some(Duration::ZERO)));
        assert!(wait >= 6.0, "never shorter than the usual pause: {wait}");
    }

    #[tokio::test(start_paused = true)]
    async fn jitter_spreads_the_tries() {
        let waits: Vec<f64> =
            (0..20).map(|_| pause(&mut Retry::new(&FeedConfig::default()), trouble()).1).collect();
        assert!(waits.iter().any(|wait| (wait - waits[0]).abs() > f64::EPSILON), "{waits:?}");
    }

    #[test]
    fn only_a_refusal_of_who_we_are_is_terminal() {
        assert!(is_terminal(&errors::protocol_error("bad auth token", Phase::Quotes)));
        assert!(!is_terminal(&trouble()));
        assert!(!is_terminal(&errors::rate_limited("429", None)));
        assert!(!is_terminal(&errors::timeout(Phase::Quotes, Duration::from_secs(30))));
    }
}
