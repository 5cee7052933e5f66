//! From a name and a password to a token. A captcha is the usual outcome on servers; every
//! refusal says so, and is final until the settings change.

use http::StatusCode;
use http::header::{HeaderMap, ORIGIN, REFERER, SET_COOKIE};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::cookies::{self, Cookies};
use super::web::Web;
use crate::infrastructure::http_client::{HttpAnswer, HttpRequest};
use crate::infrastructure::interfaces::{Phase, ProviderError};
use crate::infrastructure::tradingview::errors;

#[derive(Deserialize)]
struct SignedIn {
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    code: Option<String>,
    user: Option<User>,
}

#[derive(Deserialize)]
struct User {
    auth_token: Option<String>,
}

/// Signs in, once.
pub(super) async fn token(
    web: &Web,
    username: &str,
    password: &SecretString,
) -> Result<SecretString, ProviderError> {
    let form = [("username", username), ("password", password.expose_secret()), ("remember", "on")];
    let request = HttpRequest::post(web.page("/accounts/signin/")?)
        .header(REFERER, web.origin().clone())
        .header(ORIGIN, web.origin().clone())
        .form(&form);
    let answer = web.send(request).await?;
    if let Some(token) = judge(&answer)? {
        return Ok(token);
    }
    let sessionid = set_cookie(&answer.headers, "sessionid")
        .ok_or_else(|| errors::auth_required("the log-in gave neither token nor cookie"))?;
    let sign = set_cookie(&answer.headers, "sessionid_sign");
    cookies::token(web, &Cookies::new(&sessionid, sign.as_ref())).await
}

/// The token, if the answer holds one; none where only cookies can have come with it.
fn judge(answer: &HttpAnswer) -> Result<Option<SecretString>, ProviderError> {
    let Ok(signed_in) = answer.json::<SignedIn>() else {
        return match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(errors::auth_required(&format!("the log-in was answered {}", answer.status)))
            }
            status if status.is_success() => Ok(None),
            status => {
                let detail = format!("the log-in was answered {status}");
                Err(errors::unavailable(Phase::Login, &detail))
            }
        };
    };
    let code = signed_in.code.unwrap_or_default();
    let said = signed_in.error.unwrap_or_default();
    if !code.is_empty() || !said.is_empty() {
        return Err(refusal(&code, &said));
    }
    if !answer.status.is_success() {
        return Err(errors::auth_required(&format!("the log-in was answered {}", answer.status)));
    }
    let token = signed_in.user.and_then(|user| user.auth_token);
    Ok(token.filter(|token| !token.is_empty()).map(SecretString::from))
}

fn refusal(code: &str, said: &str) -> ProviderError {
    let any = format!("{code} {said}").to_ascii_lowercase();
    if any.contains("rate_limit") {
        return errors::rate_limited("too many log-ins", None);
    }
    if any.contains("captcha") {
        return errors::auth_required(
            "the log-in asks for a captcha, which only a person can solve",
        );
    }
    if any.contains("2fa") || any.contains("two_factor") || any.contains("two-factor") {
        return errors::auth_required("the account asks for a second factor");
    }
    let reason = if said.is_empty() { code } else { said };
    errors::auth_required(&format!("name or password refused: {reason}"))
}

fn set_cookie(headers: &HeaderMap, name: &str) -> Option<SecretString> {
    headers.get_all(SET_COOKIE).iter().find_map(|header| {
        let (pair, _) = header.to_str().ok()?.split_once(';')?;
        let (found, value) = pair.split_once('=')?;
        (found.trim() == name && !value.is_empty()).then(|| value.into())
    })
}
