//! Decides whether a call may pass: with the buckets that all replicas share, or with our own.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use thiserror::Error;
use tracing::{info, warn};

use super::local::LocalBuckets;
use super::quota::{Decision, Quota};
use crate::common::error::with_causes;
use crate::common::identity::Principal;

/// Buckets that replicas share.
pub trait SharedBuckets: std::fmt::Debug + Send + Sync {
    /// Takes a token of the bucket called `name`, where there is one, atomically and by one
    /// clock for all. It answers within a fraction of a second, or fails.
    fn take<'a>(&'a self, name: &'a str, quota: Quota) -> BucketFuture<'a>;
}

/// What shared buckets answer with.
pub type BucketFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Decision, BucketsUnavailable>> + Send + 'a>>;

/// The shared buckets cannot be reached.
#[derive(Debug, Error)]
#[error("the shared rate limits are unavailable")]
pub struct BucketsUnavailable(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// The limit on calls. Cheap to clone.
///
/// While the shared buckets are away it goes on with this process's own, which follow the shared
/// ones: nobody gets a fresh bucket by an outage, and nobody is refused for one.
#[derive(Clone, Debug)]
pub struct RateLimiter(Arc<Limiter>);

#[derive(Debug)]
struct Limiter {
    quota: Quota,
    shared: Option<Arc<dyn SharedBuckets>>,
    local: LocalBuckets,
    away: AtomicBool,
}

impl RateLimiter {
    /// With `shared` buckets, where there are some.
    pub fn new(quota: Quota, shared: Option<Arc<dyn SharedBuckets>>) -> Self {
        let (local, away) = (LocalBuckets::new(), AtomicBool::new(false));
        Self(Arc::new(Limiter { quota, shared, local, away }))
    }

    /// What a principal may do.
    pub fn quota(&self) -> Quota {
        self.0.quota
    }

    /// Takes a token for a call of `principal`.
    pub async fn take(&self, principal: &Principal) -> Decision {
        let Limiter { quota, shared, local, .. } = &*self.0;
        let counted = principal.counted();
        let Some(shared) = shared else { return local.take(&counted, *quota) };
        match shared.take(&counted.to_string(), *quota).await {
            Ok(decision) => {
                self.note_return();
                local.follow(&counted, decision);
                decision
            }
            Err(error) => {
                self.note_outage(&error);
                local.take(&counted, *quota)
            }
        }
    }

    fn note_outage(&self, error: &BucketsUnavailable) {
        if !self.0.away.swap(true, Ordering::Relaxed) {
            let error = with_causes(error);
            warn!(error, "rate limits are this process's own until they can be shared again");
        }
    }

    fn note_return(&self) {
        if self.0.away.load(Ordering::Relaxed) && self.0.away.swap(false, Ordering::Relaxed) {
            info!("rate limits are shared again");
        }
    }
}
