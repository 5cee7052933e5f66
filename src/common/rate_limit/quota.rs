//! The token bucket, as arithmetic on times: no clock, no storage.
//!
//! A bucket is one number, the time at which it will be full again; each call moves that time by
//! the time that one token takes to come back (known as GCRA). A call passes while the bucket
//! holds a whole token.

use std::time::Duration;

use thiserror::Error;

/// How many calls a principal may make: `burst` at once, `per_second` in the long run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    burst: u32,
    per_second: u32,
}

/// A quota of nothing.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a quota is 1 to {MAX_BURST} calls at once and 1 to {MAX_PER_SECOND} a second", MAX_BURST = Quota::MAX_BURST, MAX_PER_SECOND = Quota::MAX_PER_SECOND)]
pub struct InvalidQuota;

/// What a bucket says to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may pass.
    pub passes: bool,
    /// Whole tokens that are left.
    pub remaining: u32,
    /// When the bucket will be full.
    pub full_in: Duration,
    /// When a token will be there; zero where one is left.
    pub retry_in: Duration,
}

impl Quota {
    /// Most calls at once.
    pub const MAX_BURST: u32 = 1_000_000;
    /// Most calls a second: times are whole microseconds.
    pub const MAX_PER_SECOND: u32 = 10_000;

    /// Both are 1 at least.
    pub fn new(burst: u32, per_second: u32) -> Result<Self, InvalidQuota> {
        let right = (1..=Self::MAX_BURST).contains(&burst)
            && (1..=Self::MAX_PER_SECOND).contains(&per_second);
        if right { Ok(Self { burst, per_second }) } else { Err(InvalidQuota) }
    }

    /// Calls at once.
    pub const fn burst(self) -> u32 {
        self.burst
    }

    /// Calls a second.
    pub const fn per_second(self) -> u32 {
        self.per_second
    }

    /// The time that one token takes to come back, in microseconds.
    pub const fn token_us(self) -> u64 {
        1_000_000_u64.div_ceil(self.per_second as u64)
    }

    /// The time that an empty bucket takes to be full, in microseconds.
    pub const fn bucket_us(self) -> u64 {
        self.token_us() * self.burst as u64
    }

    /// Takes a token of a bucket that is full in `full_in_us` microseconds, where there is one.
    pub fn take(self, full_in_us: u64) -> Decision {
        let full_in_us = full_in_us.min(self.bucket_us());
        let after = full_in_us + self.token_us();
        if after <= self.bucket_us() {
            self.decided(true, after)
        } else {
            self.decided(false, full_in_us)
        }
    }

    /// What is to be said when the bucket is full in `full_in_us` microseconds after the call.
    pub fn decided(self, passes: bool, full_in_us: u64) -> Decision {
        let left = self.bucket_us().saturating_sub(full_in_us);
        let missing = self.token_us().saturating_sub(left);
        Decision {
            passes,
            remaining: u32::try_from(left / self.token_us()).unwrap_or(self.burst),
            full_in: Duration::from_micros(full_in_us),
            retry_in: Duration::from_micros(missing),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_says_when() {
        let quota = Quota::new(3, 2).unwrap();
        let mut full_in = 0;
        for remaining in [2, 1, 0] {
            let decision = quota.take(full_in);
            assert!(decision.passes);
            assert_eq!(decision.remaining, remaining);
            full_in = u64::try_from(decision.full_in.as_micros()).unwrap();
        }
        let refused = quota.take(full_in);
        assert!(!refused.passes);
        assert_eq!(refused.retry_in, Duration::from_millis(500));
        assert_eq!(refused.full_in, Duration::from_millis(1_500));
    }

    #[test]
    fn a_quota_of_nothing_is_none() {
        for (burst, per_second) in [(0, 1), (1, 0), (Quota::MAX_BURST + 1, 1), (1, 10_001)] {
            assert_eq!(Quota::new(burst, per_second), Err(InvalidQuota));
        }
    }

    proptest! {
        #[test]
        fn a_retry_passes_when_it_was_told_to_and_not_a_microsecond_sooner(
            burst in 1_u32..50, per_second in 1_u32..=10_000, share in 0_u64..=1_000,
        ) {
            let quota = Quota::new(burst, per_second).unwrap();
            let full_in = quota.bucket_us() * share / 1_000;
            let decision = quota.take(full_in);
            if decision.passes {
                let later = Duration::from_micros(full_in + quota.token_us());
                prop_assert_eq!(decision.full_in, later);
            } else {
                let wait = u64::try_from(decision.retry_in.as_micros()).unwrap();
                prop_assert!(quota.take(full_in - wait).passes);
                prop_assert!(!quota.take(full_in - wait + 1).passes);
            }
        }
    }
}
