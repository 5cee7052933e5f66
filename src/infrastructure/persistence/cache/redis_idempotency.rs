//! What became of idempotency keys, in Redis: a hash a key, each access one script on Redis's
//! own clock.
//!
//! Fields: `fingerprint`, `token` and `lease_until` (milliseconds since 1970) of who runs it, and
//! `answer` once it is over.

use std::time::Duration;

use bytes::Bytes;

use super::redis::{Redis, cache_error, milliseconds};
use super::{CacheError, keys};
use crate::common::idempotency::{Claim, KeyedCall, Scope, Token};

/// How long a script may take: an answer can be a megabyte.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(1);

/// What every script begins with.
const NOW: &str = "local time = redis.call('TIME') \
     local now = time[1] * 1000 + math.floor(time[2] / 1000) ";

/// Arguments: fingerprint, token, lease, time to live.
const CLAIM: &str = "local found = redis.call('HMGET', KEYS[1], \
         'fingerprint', 'token', 'lease_until', 'answer') \
     if found[1] then \
         if found[1] ~= ARGV[1] then return {'other'} end \
         if found[4] then return {'finished', found[4]} end \
         if found[2] ~= ARGV[2] and tonumber(found[3]) > now then return {'running'} end \
     end \
     redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1], 'token', ARGV[2], \
         'lease_until', string.format('%.0f', now + ARGV[3])) \
     redis.call('PEXPIRE', KEYS[1], ARGV[4]) \
     return {'ours'}";

/// Arguments: token, lease.
const RENEW: &str = "if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end \
     redis.call('HSET', KEYS[1], 'lease_until', string.format('%.0f', now + ARGV[2])) \
     return 1";

/// Arguments: fingerprint, token, answer, time to live.
const FINISH: &str = "local token = redis.call('HGET', KEYS[1], 'token') \
     if token and token ~= ARGV[2] then return 0 end \
     redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1], 'token', ARGV[2], \
         'lease_until', string.format('%.0f', now), 'answer', ARGV[3]) \
     redis.call('PEXPIRE', KEYS[1], ARGV[4]) \
     return 1";

/// Argument: token.
const RELEASE: &str = "local found = redis.call('HMGET', KEYS[1], 'token', 'answer') \
     if found[1] ~= ARGV[1] or found[2] then return 0 end \
     redis.call('DEL', KEYS[1]) \
     return 1";

/// The keys `idempotency:...`.
#[derive(Clone, Debug)]
pub(in super::super) struct RedisIdempotency(Redis);

impl RedisIdempotency {
    pub(super) fn new(engine: &Redis) -> Self {
        Self(engine.clone())
    }

    pub(in super::super) async fn claim(
        &self,
        call: &KeyedCall,
        token: Token,
        lease: Duration,
        ttl: Duration,
    ) -> Result<Claim, CacheError> {
        let fingerprint = call.fingerprint.as_str().to_owned().into();
        let arguments = vec![fingerprint, text(token), time(lease), expiry(ttl)];
        let answer: Vec<Bytes> = self.eval(CLAIM, &call.scope, arguments).await?;
        Ok(match (answer.first().map(Bytes::as_ref), answer.get(1)) {
            (Some(b"ours"), _) => Claim::Ours,
            (Some(b"finished"), Some(answer)) => Claim::Finished(answer.clone()),
            (Some(b"other"), _) => Claim::OtherRequest,
            _ => Claim::Running,
        })
    }

    pub(in super::super) async fn renew(
        &self,
        scope: &Scope,
        token: Token,
        lease: Duration,
    ) -> Result<bool, CacheError> {
        self.done(RENEW, scope, vec![text(token), time(lease)]).await
    }

    pub(in super::super) async fn finish(
        &self,
        call: &KeyedCall,
        token: Token,
        answer: Bytes,
        ttl: Duration,
    ) -> Result<bool, CacheError> {
        let fingerprint = call.fingerprint.as_str().to_owned().into();
        let arguments = vec![fingerprint, text(token), answer, expiry(ttl)];
        self.done(FINISH, &call.scope, arguments).await
    }

    pub(in super::super) async fn release(
        &self,
        scope: &Scope,
        token: Token,
    ) -> Result<(), CacheError> {
        self.done(RELEASE, scope, vec![text(token)]).await.map(|_| ())
    }

    async fn done(
        &self,
        script: &str,
        scope: &Scope,
        arguments: Vec<Bytes>,
    ) -> Result<bool, CacheError> {
        let done: i64 = self.eval(script, scope, arguments).await?;
        Ok(done == 1)
    }

    async fn eval<T: fred::types::FromValue>(
        &self,
        script: &str,
        scope: &Scope,
        arguments: Vec<Bytes>,
    ) -> Result<T, CacheError> {
        let (script, key) = ([NOW, script].concat(), keys::idempotency(scope));
        let answer = self.0.script(&script, &key, arguments, SCRIPT_TIMEOUT).await;
        answer.map_err(cache_error)
    }
}

fn text(token: Token) -> Bytes {
    token.to_string().into()
}

/// Zero is over at once.
fn time(lease: Duration) -> Bytes {
    lease.as_millis().to_string().into()
}

/// Redis refuses a time to live of zero.
fn expiry(ttl: Duration) -> Bytes {
    milliseconds(ttl).to_string().into()
}
