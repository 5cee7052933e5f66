//! Tokens that tell when they expire.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::Value;

/// Whether `token` is a JWT whose time is over at `now`. What is no JWT never expires.
pub(super) fn has_expired(token: &str, now: Timestamp) -> bool {
    let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims = claims.and_then(|json| serde_json::from_slice::<Value>(&json).ok());
    let expiry = claims.as_ref().and_then(|claims| claims.get("exp")).and_then(Value::as_i64);
    expiry.is_some_and(|expiry| expiry <= now.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_expires_when_it_says_so() {
        let token = |claims: &str| format!("h.{}.s", URL_SAFE_NO_PAD.encode(claims));
        let now = Timestamp::from_second(1_000).unwrap();
        assert!(has_expired(&token(r#"{"exp":1000}"#), now));
        assert!(!has_expired(&token(r#"{"exp":1001}"#), now));
        assert!(!has_expired("unauthorized_user_token", now));
        assert!(!has_expired("a.b.c", now));
    }
}
