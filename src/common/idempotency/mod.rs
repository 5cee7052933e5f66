//! A command that is sent again under its idempotency key is carried out once, and answered alike.
//!
//! [`Idempotency`] is the policy: who runs, who waits, what is kept. An [`IdempotencyStore`] keeps
//! it; the policy knows none by name. It does not know what an answer says.

mod error;
mod flights;
mod key;
mod policy;
mod store;

pub use error::{IdempotencyError, StoreError};
pub use key::{GivenKey, IdempotencyKey, InvalidIdempotencyKey, interceptor};
pub use policy::{Ended, Idempotency, Reply};
pub use store::{Answer, Claim, Fingerprint, IdempotencyStore, KeyedCall, Scope, Token};

#[cfg(test)]
pub(super) mod tests;
