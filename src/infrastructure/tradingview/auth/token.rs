//! Tokens are JSON Web Tokens; only how long they live is read.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

/// How long a token is used that does not say how long it lives (they live 4 hours).
const USUAL_LIFETIME: Duration = Duration::from_hours(3);
/// How long before its end a token is renewed.
const MARGIN: Duration = Duration::from_mins(10);

#[derive(Deserialize)]
struct Claims {
    exp: Option<f64>,
    iat: Option<f64>,
}

/// How long a token that was fetched just now is used.
pub(super) fn lifetime(token: &SecretString) -> Duration {
    claims(token.expose_secret())
        .and_then(|claims| remaining(&claims))
        .map_or(USUAL_LIFETIME, |remaining| remaining.saturating_sub(MARGIN))
}

/// From its own two times, where it has them: our clock may be wrong.
fn remaining(claims: &Claims) -> Option<Duration> {
    let expires = claims.exp?;
    let issued = claims.iat.unwrap_or_else(|| Timestamp::now().as_duration().as_secs_f64());
    Some(Duration::try_from_secs_f64(expires - issued).unwrap_or_default())
}

fn claims(token: &str) -> Option<Claims> {
    let payload = token.split('.').nth(1)?;
    let json = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(claims: &str) -> SecretString {
        format!("eyJhbGciOiJSUzUxMiJ9.{}.sig", URL_SAFE_NO_PAD.encode(claims)).into()
    }

    #[test]
    fn a_token_is_renewed_before_it_ends_by_its_own_clock() {
        let token = jwt(r#"{"user_id":1,"exp":1600014400,"iat":1600000000,"plan":"pro"}"#);
        assert_eq!(lifetime(&token), Duration::from_mins(240 - 10));
    }

    #[test]
    fn a_token_without_its_issue_is_judged_by_our_clock() {
        let soon = Timestamp::now().as_second() + 3_600;
        let lifetime = lifetime(&jwt(&format!(r#"{{"exp":{soon}}}"#)));
        assert!(lifetime > Duration::from_mins(49) && lifetime <= Duration::from_mins(50));
    }

    #[test]
    fn what_says_nothing_is_used_for_the_usual_time() {
        for token in ["opaque", "a.b.c", "a.!!!.c"] {
            assert_eq!(lifetime(&token.into()), USUAL_LIFETIME, "{token}");
        }
        assert_eq!(lifetime(&jwt("{}")), USUAL_LIFETIME);
        assert_eq!(lifetime(&jwt(r#"{"exp":1,"iat":2}"#)), Duration::ZERO);
    }
}
