//! API keys: `id.secret`, of which only the SHA-256 hash is stored.
//!
//! A secret is 256 random bits and not chosen by anybody, so a plain hash keeps it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use thiserror::Error;

/// Longest key that is looked at, in bytes.
pub const MAX_KEY_LENGTH: usize = 256;
const ID_BYTES: usize = 9;
const SECRET_BYTES: usize = 32;
const HASH_PREFIX: &str = "sha256:";

/// A key as its holder has it. It does not print.
#[derive(Clone, Debug)]
pub struct ApiKey(SecretString);

/// The hash of a key. As text `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy)]
pub struct KeyHash([u8; 32]);

/// Text that is no hash of a key.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the hash must be `sha256:` and 64 hexadecimal digits")]
pub struct InvalidHash;

impl ApiKey {
    /// A new one, of which nobody else knows.
    pub fn generate() -> Self {
        let mut id = rand::random::<[u8; ID_BYTES]>();
        // Without its highest bit it begins with a letter: what begins with `-` looks like an option.
        if let Some(first) = id.first_mut() {
            *first &= 0x7f;
        }
        let id = URL_SAFE_NO_PAD.encode(id);
        let secret = URL_SAFE_NO_PAD.encode(rand::random::<[u8; SECRET_BYTES]>());
        Self(SecretString::from(format!("{id}.{secret}")))
    }

    /// The key that `text` may be: an id and a secret with a full stop between them.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.split_once('.')?;
        let right = is_key_id(id) && !secret.is_empty() && text.len() <= MAX_KEY_LENGTH;
        right.then(|| Self(SecretString::from(text)))
    }

    /// What it is found by; no secret.
    pub fn id(&self) -> &str {
        self.0.expose_secret().split('.').next().unwrap_or_default()
    }

    /// All of it, for its holder only.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// What is stored of it.
    pub fn hash(&self) -> KeyHash {
        KeyHash(Sha256::digest(self.expose()).into())
    }
}

impl KeyHash {
    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Result<Self, InvalidHash> {
        let digits = text.strip_prefix(HASH_PREFIX).ok_or(InvalidHash)?.as_bytes();
        let (pairs, rest) = digits.as_chunks::<2>();
        if !rest.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(InvalidHash);
        }
        let byte = |pair: &[u8; 2]| {
            let pair = std::str::from_utf8(pair).map_err(|_| InvalidHash)?;
            u8::from_str_radix(pair, 16).map_err(|_| InvalidHash)
        };
        let bytes = pairs.iter().map(byte).collect::<Result<Vec<u8>, _>>()?;
        bytes.try_into().map(Self).map_err(|_| InvalidHash)
    }

    /// Whether it is the same, in a time that does not tell where they differ.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HASH_PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

/// Whether `text` can be a key's id: 1 to 64 letters, digits, `-` and `_`.
pub(super) fn is_key_id(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_is_long_and_new() {
        let (one, other) = (ApiKey::generate(), ApiKey::generate());
        assert_ne!(one.expose(), other.expose());
        let (id, secret) = one.expose().split_once('.').unwrap();
        assert_eq!((id, secret.len()), (one.id(), 43));
        assert!(ApiKey::parse(one.expose()).unwrap().hash().matches(&one.hash()));
        assert!(!one.hash().matches(&other.hash()));
    }

    #[test]
    fn no_generated_key_looks_like_an_option() {
        for _ in 0..2_000 {
            let key = ApiKey::generate();
            assert!(
                key.id().starts_with(|first: char| first.is_ascii_alphabetic()),
                "{}",
                key.id()
            );
        }
    }

    #[test]
    fn a_key_and_its_hash_do_not_print() {
        let key = ApiKey::parse("id.hush").unwrap();
        assert!(!format!("{key:?}").contains("hush"));
        assert_eq!(format!("{:?}", key.hash()), "KeyHash(..)");
    }

    #[test]
    fn a_hash_is_read_as_it_is_written() {
        let hash = ApiKey::parse("id.hush").unwrap().hash();
        assert!(KeyHash::parse(&hash.to_string()).unwrap().matches(&hash));
        let other = hash.to_string().replace("sha256", "md5");
        let (mut short, long) = (hash.to_string(), format!("{hash}0"));
        short.pop();
        for text in ["", "sha256:", "sha256:00", &short, &long, &other] {
            assert_eq!(KeyHash::parse(text).unwrap_err(), InvalidHash, "{text}");
        }
    }

    #[test]
    fn what_is_no_key_is_not_looked_at() {
        let long = format!("id.{}", "x".repeat(MAX_KEY_LENGTH));
        for text in ["", "id", ".secret", "id.", "i d.secret", &long] {
            assert!(ApiKey::parse(text).is_none(), "{text}");
        }
    }
}
