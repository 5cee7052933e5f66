//! How many calls a principal may make, and how many streams it may have open. It knows no
//! method and no server: who calls what is said by `identity`, shared buckets are given to it.

mod layer;
mod limiter;
mod local;
mod quota;
mod streams;

pub use layer::{LimitError, LimitedBody, RateLimit, RateLimitLayer};
pub use limiter::{BucketFuture, BucketsUnavailable, RateLimiter, SharedBuckets};
pub use quota::{Decision, InvalidQuota, Quota};
