//! What is kept for a key, and what a store must do with it.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{IdempotencyKey, StoreError};
use crate::common::error::ErrorCode;
use crate::common::identity::Principal;

/// Whose key, and of which method: what a record is found by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    /// Who calls.
    pub principal: Principal,
    /// What they call.
    pub method: &'static str,
    /// The key that they gave.
    pub key: IdempotencyKey,
}

/// What a request says: SHA-256 over its method and its message, in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// The fingerprint of the encoded `message` to `method`.
    pub fn of(method: &str, message: &[u8]) -> Self {
        // No method has a zero in its name, so no two requests join to the same bytes.
        let hash = Sha256::new().chain_update(method).chain_update([0]).chain_update(message);
        let hex = |text: String, byte: &u8| text + &format!("{byte:02x}");
        Self(hash.finalize().iter().fold(String::new(), hex))
    }

    /// Its 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A request under a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyedCall {
    /// Where its record is.
    pub scope: Scope,
    /// What it says.
    pub fingerprint: Fingerprint,
}

/// Tells one run of a command from every other: the fence that keeps a stale run from writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(Uuid);

impl Token {
    /// One that no other run has.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a command ended, as it is kept. Field numbers are for ever: records outlive the process.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Answer {
    /// The status code as gRPC numbers it; 0 is OK.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// The status' message.
    #[prost(string, tag = "2")]
    pub message: String,
    /// The status' details, encoded.
    #[prost(bytes = "bytes", tag = "3")]
    pub details: Bytes,
    /// The answer's message, encoded, where the status is OK.
    #[prost(bytes = "bytes", tag = "4")]
    pub body: Bytes,
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The claimant is to run the command: nobody has, or whoever did let the lease lapse.
    Ours,
    /// Somebody else runs it, and their lease has not lapsed.
    Running,
    /// It was run; this is the kept answer.
    Finished(Bytes),
    /// The key stands for another request.
    OtherRequest,
}

/// Keeps what became of each key. Every operation is atomic, takes bounded time, and may be
/// repeated with the same token: the second time changes nothing.
pub trait IdempotencyStore: fmt::Debug + Send + Sync + 'static {
    /// What a caller is told when it does not answer in time.
    fn unavailable(&self) -> ErrorCode;

    /// Takes the key of `call` for `lease`, where it is free. The record then lives for `ttl`.
    fn claim<'a>(
        &'a self,
        call: &'a KeyedCall,
        token: Token,
        lease: Duration,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<Claim, StoreError>>;

    /// Extends the lease of `token` to `lease` from now; answers whether it still holds the key.
    fn renew<'a>(
        &'a self,
        scope: &'a Scope,
        token: Token,
        lease: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Keeps `answer` for `ttl`, where `token` holds the key or nobody has it; answers whether it
    /// is kept. A lapsed lease that nobody took over still counts as held.
    fn finish<'a>(
        &'a self,
        call: &'a KeyedCall,
        token: Token,
        answer: Bytes,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Frees the key, where `token` holds it and no answer is kept.
    fn release<'a>(
        &'a self,
        scope: &'a Scope,
        token: Token,
    ) -> BoxFuture<'a, Result<(), StoreError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_of_the_method_and_the_message() {
        let of = |method, message: &[u8]| Fingerprint::of(method, message);
        assert_eq!(of("a", b"b"), of("a", b"b"));
        assert_ne!(of("a", b"b"), of("a", b"c"));
        assert_ne!(of("a", b"b"), of("c", b"b"));
        assert_ne!(of("a", b"bc"), of("ab", b"c"));
        assert_eq!(of("a", b"b").as_str().len(), 64);
    }
}
