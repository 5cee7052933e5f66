//! The buckets of this process.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::quota::{Decision, Quota};
use crate::common::identity::Principal;

/// Buckets that are kept at once. Full ones are forgotten: a bucket that is not there is full.
const MAX_BUCKETS: usize = 100_000;

/// A bucket a principal, bounded in number.
///
/// When there are too many, newcomers share one bucket until old ones are full again: callers
/// with many addresses fill no memory, and take nothing from those who are here.
#[derive(Debug)]
pub(super) struct LocalBuckets {
    started: Instant,
    most: usize,
    buckets: Mutex<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    /// When each is full, in microseconds since the start.
    full_at: HashMap<Principal, u64>,
    /// That of the one that newcomers share.
    newcomers: u64,
    /// When the full ones were last forgotten.
    tidied: u64,
}

impl LocalBuckets {
    pub(super) fn new() -> Self {
        Self::holding(MAX_BUCKETS)
    }

    fn holding(most: usize) -> Self {
        Self { started: Instant::now(), most, buckets: Mutex::default() }
    }

    /// Takes a token of the principal's bucket, where there is one.
    pub(super) fn take(&self, principal: &Principal, quota: Quota) -> Decision {
        let now = self.now();
        let mut buckets = self.lock();
        let full_at = buckets.of(principal, now, self.most);
        let decision = quota.take(full_at.saturating_sub(now));
        *full_at = now.saturating_add(microseconds(decision.full_in));
        decision
    }

    /// Makes the principal's bucket as empty as another one of theirs is.
    pub(super) fn follow(&self, principal: &Principal, decision: Decision) {
        let now = self.now();
        let mut buckets = self.lock();
        let full_at = buckets.of(principal, now, self.most);
        *full_at = (*full_at).max(now.saturating_add(microseconds(decision.full_in)));
    }

    fn now(&self) -> u64 {
        microseconds(self.started.elapsed())
    }

    /// A panic while it was held left every number as it should be.
    fn lock(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buckets {
    fn of(&mut self, principal: &Principal, now: u64, most: usize) -> &mut u64 {
        /// Looking through all of them costs a millisecond or two: now and then only.
        const TIDY_EVERY_US: u64 = 1_000_000;
        if self.full_at.len() >= most && !self.full_at.contains_key(principal) {
            if now >= self.tidied.saturating_add(TIDY_EVERY_US) {
                self.full_at.retain(|_, full_at| *full_at > now);
                self.tidied = now;
            }
            if self.full_at.len() >= most {
                return &mut self.newcomers;
            }
        }
        self.full_at.entry(principal.clone()).or_insert(now)
    }
}

fn microseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    fn caller(number: u32) -> Principal {
        Principal::Address(IpAddr::V4(Ipv4Addr::from(number)))
    }

    #[tokio::test(start_paused = true)]
    async fn each_principal_has_a_bucket_that_fills_again() {
        let (buckets, quota) = (LocalBuckets::new(), Quota::new(2, 1).unwrap());
        assert!(buckets.take(&caller(1), quota).passes);
        assert!(buckets.take(&caller(1), quota).passes);
        let refused = buckets.take(&caller(1), quota);
        assert!(!refused.passes && buckets.take(&caller(2), quota).passes);
        advance(refused.retry_in.mul_f64(0.8)).await;
        assert!(!buckets.take(&caller(1), quota).passes);
        advance(refused.retry_in.mul_f64(0.2)).await;
        assert!(buckets.take(&caller(1), quota).passes);
    }

    #[tokio::test(start_paused = true)]
    async fn many_callers_fill_no_memory_and_take_nothing_from_those_who_are_here() {
        let (buckets, quota) = (LocalBuckets::holding(10), Quota::new(3, 1).unwrap());
        advance(Duration::from_secs(5)).await;
        assert!(buckets.take(&caller(0), quota).passes);
        let passed = (1..1_000).filter(|each| buckets.take(&caller(*each), quota).passes).count();
        // Nine more with a bucket of their own, and three of the newcomers' one.
        assert_eq!((passed, buckets.lock().full_at.len()), (12, 10));
        assert!(buckets.take(&caller(0), quota).passes);
        // Once they are full again they make room.
        advance(Duration::from_secs(5)).await;
        assert!(buckets.take(&caller(5_000), quota).passes);
        assert_eq!(buckets.lock().full_at.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_follows_the_shared_one() {
        let (buckets, quota) = (LocalBuckets::new(), Quota::new(3, 1).unwrap());
        buckets.follow(&caller(1), quota.decided(true, 2_000_000));
        assert!(buckets.take(&caller(1), quota).passes);
        assert!(!buckets.take(&caller(1), quota).passes);
    }
}
