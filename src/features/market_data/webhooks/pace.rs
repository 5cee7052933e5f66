//! How often it is tried to send an event, and how long a try may take.

use std::time::Duration;

use rand::RngExt as _;

/// Waits between tries: the schedule that Standard Webhooks proposes.
const RETRIES: [Duration; 9] = [
    Duration::from_secs(5),
    Duration::from_mins(5),
    Duration::from_mins(30),
    Duration::from_hours(2),
    Duration::from_hours(5),
    Duration::from_hours(10),
    Duration::from_hours(14),
    Duration::from_hours(20),
    Duration::from_hours(24),
];
/// An endpoint can ask to be left alone for no longer.
const LONGEST_WAIT: Duration = Duration::from_hours(24);
/// How much a wait differs from its length, at most: what failed together is not tried together.
const JITTER: f64 = 0.1;
/// How much longer than a try may take it belongs to the process that makes it.
const LEASE_MARGIN: Duration = Duration::from_secs(15);

/// How often it is tried to send an event, and how long a try may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookPace {
    /// The waits between tries; an event is tried once more than there are waits.
    pub retries: Vec<Duration>,
    /// How long a try may take.
    pub timeout: Duration,
}

impl Default for WebhookPace {
    /// Ten tries over three days, each of 15 s.
    fn default() -> Self {
        Self { retries: RETRIES.to_vec(), timeout: Duration::from_secs(15) }
    }
}

impl WebhookPace {
    /// How long to wait after the try number `attempts`, which failed; none where it was the last.
    /// What the endpoint asked for counts where it is longer, and at most a day.
    pub(super) fn wait(&self, attempts: u32, asked: Option<Duration>) -> Option<Duration> {
        let index = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
        let usual = self.retries.get(index)?;
        let usual = usual.mul_f64(rand::rng().random_range(1.0 - JITTER..=1.0 + JITTER));
        Some(usual.max(asked.unwrap_or_default().min(LONGEST_WAIT)))
    }

    /// How long a try belongs to the process that makes it.
    pub(super) fn lease(&self) -> Duration {
        self.timeout + LEASE_MARGIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_spread_over_three_days_and_then_end() {
        let pace = WebhookPace::default();
        let mut all = Duration::ZERO;
        for (attempts, usual) in (1..).zip(RETRIES) {
            let wait = pace.wait(attempts, None).unwrap();
            assert!(wait >= usual.mul_f64(0.9) && wait <= usual.mul_f64(1.1), "{wait:?}");
            all += usual;
        }
        assert!(all > Duration::from_hours(72) && all < Duration::from_hours(96));
        assert_eq!(pace.wait(10, None), None);
    }

    #[test]
    fn an_endpoint_may_ask_for_more_time_within_bounds() {
        let pace = WebhookPace::default();
        let minute = Duration::from_mins(1);
        assert_eq!(pace.wait(1, Some(minute)), Some(minute));
        assert_eq!(pace.wait(1, Some(Duration::MAX)), Some(LONGEST_WAIT));
        assert!(pace.wait(2, Some(minute)).unwrap() > minute, "it is no way to be asked sooner");
    }
}
