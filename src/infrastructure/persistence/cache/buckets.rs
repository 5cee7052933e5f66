//! Rate limits that replicas share: one script a call, by Redis's own clock.

use std::time::Duration;

use fred::error::Error;

use super::redis::Redis;
use crate::common::constants::CACHE_PREFIX_RATE_LIMIT;
use crate::common::rate_limit::{BucketFuture, BucketsUnavailable, Decision, Quota, SharedBuckets};

/// How long a decision may take; then the process decides by itself.
const COMMAND_TIMEOUT: Duration = Duration::from_millis(50);

/// Takes a token of the bucket `KEYS[1]`, where there is one. `ARGV[1]` is the time that a token
/// takes to come back, `ARGV[2]` the time that an empty bucket takes to be full; the bucket is the
/// time at which it will be full. All in microseconds. Answers whether there was a token, and in
/// what time the bucket will be full.
///
/// `%.0f`, because Lua writes numbers of this size with an exponent otherwise. The arithmetic is
/// that of `Quota::take`; a bucket cannot be emptier than empty, even when the clock steps back.
const TAKE: &str = "local time = redis.call('TIME') \
     local now = tonumber(time[1]) * 1000000 + tonumber(time[2]) \
     local token, bucket = tonumber(ARGV[1]), tonumber(ARGV[2]) \
     local full_in = (tonumber(redis.call('GET', KEYS[1]) or now) or now) - now \
     full_in = math.min(math.max(full_in, 0), bucket) \
     if full_in + token > bucket then return {0, full_in} end \
     full_in = full_in + token \
     redis.call('SET', KEYS[1], string.format('%.0f', now + full_in), \
         'PX', math.ceil(full_in / 1000)) \
     return {1, full_in}";

/// Buckets in a Redis.
#[derive(Debug)]
pub(super) struct RedisBuckets(Redis);

impl RedisBuckets {
    pub(super) const fn new(redis: Redis) -> Self {
        Self(redis)
    }

    async fn decide(&self, name: &str, quota: Quota) -> Result<Decision, Error> {
        let key = format!("{CACHE_PREFIX_RATE_LIMIT}:{name}");
        let times = [quota.token_us(), quota.bucket_us()];
        let arguments = times.map(|time| time.to_string().into()).to_vec();
        let (passes, full_in): (i64, u64) =
            self.0.script(TAKE, &key, arguments, COMMAND_TIMEOUT).await?;
        Ok(quota.decided(passes == 1, full_in))
    }
}

impl SharedBuckets for RedisBuckets {
    fn take<'a>(&'a self, name: &'a str, quota: Quota) -> BucketFuture<'a> {
        Box::pin(async move {
            self.decide(name, quota).await.map_err(|error| BucketsUnavailable(Box::new(error)))
        })
    }
}
