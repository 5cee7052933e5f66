//! Leaves a host alone that fails: after some failures in a row nobody is sent there for a while;
//! then one request at a time finds out whether it is back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use moka::future::Cache;
use moka::policy::EvictionPolicy;
use tokio::time::Instant;

use super::BreakerRules;

/// Hosts that are remembered; of more, those that were asked least recently are forgotten.
const MAX_HOSTS: u64 = 1_024;
/// A host that nobody asks is forgotten after this.
const FORGET_AFTER: Duration = Duration::from_hours(1);

/// The breakers of all hosts.
pub(super) struct Breakers {
    rules: BreakerRules,
    hosts: Cache<String, Arc<Breaker>>,
}

/// The breaker of one host.
pub(super) struct Breaker {
    rules: BreakerRules,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    Probing,
}

/// Leave to send one request. Dropped without a verdict, it changes nothing.
pub(super) struct Permit {
    breaker: Arc<Breaker>,
    is_probe: bool,
}

impl Breakers {
    pub(super) fn new(rules: BreakerRules) -> Self {
        let hosts = Cache::builder()
            .max_capacity(MAX_HOSTS)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(FORGET_AFTER)
            .build();
        Self { rules, hosts }
    }

    /// The breaker of `host`.
    pub(super) async fn of(&self, host: &str) -> Arc<Breaker> {
        let new = async { Arc::new(Breaker::new(self.rules)) };
        self.hosts.entry_by_ref(host).or_insert_with(new).await.into_value()
    }
}

impl Breaker {
    fn new(rules: BreakerRules) -> Self {
        Self { rules, state: Mutex::new(State::Closed { failures: 0 }) }
    }

    /// Leave to send a request, or how long there is none.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Permit, Duration> {
        let mut state = self.state();
        let is_probe = match *state {
            State::Closed { .. } => false,
            State::Open { until } => {
                let left = until.saturating_duration_since(Instant::now());
                if !left.is_zero() {
                    return Err(left);
                }
                *state = State::Probing;
                true
            }
            State::Probing => return Err(self.rules.pause),
        };
        Ok(Permit { breaker: Arc::clone(self), is_probe })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Says how the request ended. Answers whether that opened the breaker.
    pub(super) fn end(self, healthy: bool) -> bool {
        let mut state = self.breaker.state();
        let rules = self.breaker.rules;
        let next = match (*state, self.is_probe, healthy) {
            (State::Closed { .. }, _, true) | (State::Probing, true, true) => {
                State::Closed { failures: 0 }
            }
            (State::Closed { failures }, _, false) if failures + 1 < rules.failures => {
                State::Closed { failures: failures + 1 }
            }
            (State::Closed { .. }, _, false) | (State::Probing, true, false) => {
                State::Open { until: Instant::now() + rules.pause }
            }
            // It was sent before the breaker opened: the probe alone decides.
            (state @ (State::Open { .. } | State::Probing), _, _) => state,
        };
        let opened = *state != next && matches!(next, State::Open { .. });
        *state = next;
        drop(state);
        opened
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.breaker.state();
        if self.is_probe && *state == State::Probing {
            // Nobody knows yet: the next request is the probe.
            *state = State::Open { until: Instant::now() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: BreakerRules = BreakerRules { failures: 3, pause: Duration::from_secs(30) };

    fn breaker() -> Arc<Breaker> {
        Arc::new(Breaker::new(RULES))
    }

    fn fail(breaker: &Arc<Breaker>) -> bool {
        breaker.enter().ok().unwrap().end(false)
    }

    fn opened() -> Arc<Breaker> {
        let breaker = breaker();
        assert_eq!([(); 3].map(|()| fail(&breaker)), [false, false, true]);
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_close_the_way_for_a_while() {
        let breaker = opened();
        assert_eq!(breaker.enter().err(), Some(RULES.pause));
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(breaker.enter().err(), Some(Duration::from_secs(10)));
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(breaker.enter().is_ok());
    }

    #[tokio::test]
    async fn a_success_in_between_starts_the_count_again() {
        let breaker = breaker();
        for healthy in [false, false, true, false, false] {
            assert!(!breaker.enter().ok().unwrap().end(healthy));
        }
        assert!(fail(&breaker));
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_at_a_time_finds_out() {
        let breaker = opened();
        tokio::time::advance(RULES.pause).await;
        let probe = breaker.enter().ok().unwrap();
        assert!(breaker.enter().is_err());
        assert!(probe.end(false));
        assert!(breaker.enter().is_err());
        tokio::time::advance(RULES.pause).await;
        assert!(!breaker.enter().ok().unwrap().end(true));
        assert!(breaker.enter().is_ok() && breaker.enter().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_given_up_makes_way_for_the_next() {
        let breaker = opened();
        tokio::time::advance(RULES.pause).await;
        drop(breaker.enter().ok().unwrap());
        assert!(breaker.enter().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_before_does_not_decide_for_the_probe() {
        let breaker = breaker();
        let early = [(); 2].map(|()| breaker.enter().ok().unwrap());
        let [one, other] = early;
        for _ in 0..3 {
            fail(&breaker);
        }
        assert!(!one.end(true));
        assert!(breaker.enter().is_err());
        tokio::time::advance(RULES.pause).await;
        let probe = breaker.enter().ok().unwrap();
        assert!(!other.end(false));
        assert!(!probe.end(true));
        assert!(breaker.enter().is_ok());
    }

    #[tokio::test]
    async fn each_host_has_its_own() {
        let breakers = Breakers::new(BreakerRules { failures: 1, ..RULES });
        fail(&breakers.of("one").await);
        assert!(breakers.of("one").await.enter().is_err());
        assert!(breakers.of("other").await.enter().is_ok());
    }
}
