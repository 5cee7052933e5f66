//! What messages are signed with: `whsec_` and 24 to 64 bytes in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;
use thiserror::Error;

/// How a secret begins.
const PREFIX: &str = "whsec_";
/// How long a key is, in bytes, as the specification has it.
const LENGTHS: std::ops::RangeInclusive<usize> = 24..=64;
/// How long a key of ours is.
const LENGTH: usize = 32;

/// A secret that a message can be signed with. `Debug` does not show it.
#[derive(Clone, Debug)]
pub struct WebhookSecret(SecretString);

/// A text that is no secret. It says nothing of what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("must be `whsec_` and 24 to 64 bytes in base64; leave it out to have one made")]
pub struct InvalidSecret;

impl WebhookSecret {
    /// One that nobody has.
    pub fn generate() -> Self {
        let key: [u8; LENGTH] = rand::random();
        Self(SecretString::from(format!("{PREFIX}{}", STANDARD.encode(key))))
    }

    /// The secret that `text` spells.
    pub fn parse(text: &str) -> Result<Self, InvalidSecret> {
        match key(text) {
            Some(key) if LENGTHS.contains(&key.len()) => Ok(Self(SecretString::from(text))),
            Some(_) | None => Err(InvalidSecret),
        }
    }

    /// Its text, for its owner and for storage only.
    pub fn expose(&self) -> &SecretString {
        &self.0
    }

    /// The header `webhook-signature` of the message `id` with `body`, sent at `timestamp`, in
    /// seconds since 1970.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let key = key(self.0.expose_secret()).unwrap_or_default();
        // HMAC takes keys of any length.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key) else { return String::new() };
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

fn key(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text.strip_prefix(PREFIX)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's reference libraries.
    #[test]
    fn a_message_is_signed_as_the_specification_has_it() {
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed =
            secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_has_a_prefix_and_enough_bytes() {
        for made in [WebhookSecret::generate(), WebhookSecret::generate()] {
            let text = made.expose().expose_secret().to_owned();
            assert!(WebhookSecret::parse(&text).is_ok());
            assert!(!format!("{made:?}").contains(&text));
        }
        let short = format!("whsec_{}", STANDARD.encode([1; 23]));
        let long = format!("whsec_{}", STANDARD.encode([1; 65]));
        for wrong in ["", "whsec_", "whsec_???", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", &short, &long]
        {
            assert_eq!(WebhookSecret::parse(wrong).unwrap_err(), InvalidSecret, "{wrong}");
        }
    }
}
