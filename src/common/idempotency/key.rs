//! The key as the caller gives it.

use std::fmt;
use std::sync::Arc;

use http::{Extensions, HeaderMap};
use thiserror::Error;

use crate::common::constants::{HEADER_IDEMPOTENCY_KEY, MAX_IDEMPOTENCY_KEY_LENGTH};

/// 1 to 255 printable ASCII characters. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(Arc<str>);

/// Text that is no idempotency key.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("must be 1 to {MAX_IDEMPOTENCY_KEY_LENGTH} printable ASCII characters, given once")]
pub struct InvalidIdempotencyKey;

impl IdempotencyKey {
    /// The key that `bytes` spell.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidIdempotencyKey> {
        let printable = bytes.iter().all(|byte| (b' '..=b'~').contains(byte));
        if bytes.is_empty() || bytes.len() > MAX_IDEMPOTENCY_KEY_LENGTH || !printable {
            return Err(InvalidIdempotencyKey);
        }
        std::str::from_utf8(bytes).map(|text| Self(text.into())).map_err(|_| InvalidIdempotencyKey)
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a call's metadata says; [`interceptor`] leaves it in the extensions. A malformed key is
/// refused by the commands alone: queries and streams ignore keys.
#[derive(Clone, Debug)]
pub struct GivenKey(Result<IdempotencyKey, InvalidIdempotencyKey>);

impl GivenKey {
    /// The key of the call with these extensions, if it has one.
    pub fn of(extensions: &Extensions) -> Result<Option<IdempotencyKey>, InvalidIdempotencyKey> {
        extensions.get::<Self>().map(|given| given.0.clone()).transpose()
    }
}

/// Reads the key of a call and leaves it as a [`GivenKey`].
pub fn interceptor(request: tonic::Request<()>) -> tonic::Request<()> {
    let (metadata, mut extensions, ()) = request.into_parts();
    if let Some(given) = given(metadata.as_ref()) {
        extensions.insert(GivenKey(given));
    }
    tonic::Request::from_parts(metadata, extensions, ())
}

fn given(headers: &HeaderMap) -> Option<Result<IdempotencyKey, InvalidIdempotencyKey>> {
    let mut values = headers.get_all(HEADER_IDEMPOTENCY_KEY).iter();
    let first = values.next()?;
    Some(match values.next() {
        None => IdempotencyKey::parse(first.as_bytes()),
        Some(_) => Err(InvalidIdempotencyKey),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_ascii_up_to_255_is_taken_as_it_is() {
        for text in ["a", "{order 7}: ~", &"x".repeat(255)] {
            assert_eq!(IdempotencyKey::parse(text.as_bytes()).unwrap().as_str(), text);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let long = "x".repeat(256);
        for bytes in [&b""[..], b"tab\there", b"\x7f", "z\u{fc}rich".as_bytes(), long.as_bytes()] {
            assert_eq!(IdempotencyKey::parse(bytes), Err(InvalidIdempotencyKey));
        }
    }

    #[test]
    fn a_call_has_one_key_or_none() {
        let of = |keys: &[&'static str]| {
            let mut request = tonic::Request::new(());
            for key in keys {
                request.metadata_mut().append(HEADER_IDEMPOTENCY_KEY, key.parse().unwrap());
            }
            GivenKey::of(interceptor(request).extensions())
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["k"]).unwrap().unwrap().as_str(), "k");
        assert_eq!(of(&["k", "k"]), Err(InvalidIdempotencyKey));
    }
}
