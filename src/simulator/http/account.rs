//! Signing in, and the tokens that come of it.
//!
//! Whoever asks is let in, except that the beginning of the user name chooses how it fails:
//! `captcha`, `ratelimit`, `2fa` (then the code 123456 is right); and the password `wrong` is bad.
//! A cookie `sessionid` that begins with `expired`, or a `sessionid_sign` that does, is logged
//! out; one that begins with `regional` is sent to another page first.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{COOKIE, LOCATION, SET_COOKIE};
use http::{HeaderValue, Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Page, form_value, html, json as json_page, text};
use crate::simulator::Shared;

/// Seconds that a token is good for.
const TOKEN_LIFETIME: i64 = 14_400;

/// The one code that is right.
const SECOND_FACTOR: &str = "123456";

/// `/quote_token/`: the token of the cookies' user, as a bare JSON string.
pub(super) fn quote_token(request: &Page) -> Response<String> {
    match session_cookie(request) {
        Some(session) => json_page(StatusCode::OK, &token(&session)),
        None => json_page(StatusCode::FORBIDDEN, &json!({"detail": "sign in first"})),
    }
}

/// `/`: a page that carries the user, with a token where the cookies are good.
pub(super) fn home(request: &Page) -> Response<String> {
    let session = session_cookie(request);
    let regional = session.as_ref().is_some_and(|session| session.starts_with("regional"));
    if regional && !request.uri().path().starts_with("/regional") {
        let mut response = text(StatusCode::FOUND, "over there");
        response.headers_mut().insert(LOCATION, HeaderValue::from_static("/regional/"));
        return response;
    }
    let user = session.map_or_else(|| json!({"username": "Guest", "is_pro": false}), user);
    html(format!(
        "<!DOCTYPE html><html><head><title>TradingView</title></head><body><script>var is_authenticated = {}; var user = {user};</script></body></html>",
        user.get("auth_token").is_some(),
    ))
}

/// `/accounts/signin/`: user name and password.
pub(super) fn sign_in(request: &Page, shared: &Shared) -> Response<String> {
    shared.stats.sign_ins.add(1);
    let field = |name| form_value(request.body(), name).unwrap_or_default();
    let (username, password) = (field("username"), field("password"));
    let refused = |value: Value| json_page(StatusCode::OK, &value);
    if username.starts_with("captcha") {
        return refused(
            json!({"error": "Please confirm that you are not a robot by clicking the captcha box.", "code": "recaptcha_required"}),
        );
    }
    if username.starts_with("ratelimit") {
        let error = "You have been locked out. Please try again later.";
        return refused(json!({"error": error, "code": "rate_limit"}));
    }
    if username.is_empty() || password.is_empty() || password == "wrong" {
        return refused(
            json!({"error": "Invalid username or password", "code": "invalid_credentials"}),
        );
    }
    if username.starts_with("2fa") {
        let mut response = refused(
            json!({"error": "2FA_required", "code": "2FA_required", "two_factor_types": [{"name": "totp"}]}),
        );
        set_cookie(&mut response, "sessionid=pending2fa; Path=/; HttpOnly");
        return response;
    }
    signed_in(&username)
}

/// `/accounts/two-factor/signin/totp/`: the code that an app shows.
pub(super) fn second_factor(request: &Page) -> Response<String> {
    if form_value(request.body(), "code").as_deref() == Some(SECOND_FACTOR) {
        return signed_in("2fa");
    }
    json_page(StatusCode::BAD_REQUEST, &json!({"error": "Invalid code", "code": "invalid_code"}))
}

fn signed_in(username: &str) -> Response<String> {
    let session: String = username.chars().filter(char::is_ascii_alphanumeric).collect();
    let session = format!("sim{session}");
    let user = user(session.clone());
    let mut response = json_page(StatusCode::OK, &json!({"error": "", "user": user}));
    for (name, value) in
        [("sessionid", session.as_str()), ("sessionid_sign", "v3:sim"), ("device_t", "sim")]
    {
        set_cookie(&mut response, &format!("{name}={value}; Path=/; HttpOnly"));
    }
    response
}

fn set_cookie(response: &mut Response<String>, cookie: &str) {
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
}

fn user(session: String) -> Value {
    json!({
        "id": 1_000_001, "username": session, "session_hash": "0123456789abcdef",
        "private_channel": "private_sim", "auth_token": token(&session), "is_pro": false,
        "pro_plan": "", "badges": [], "date_joined": "2020-01-01T00:00:00.000000+00:00",
    })
}

/// A JWT in shape; nobody signed it.
fn token(session: &str) -> String {
    let now = Timestamp::now().as_second();
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(json!({"alg": "RS512", "kid": "sim", "typ": "JWT"}));
    let claims = part(json!({
        "user_id": 1_000_001, "username": session, "iat": now, "exp": now + TOKEN_LIFETIME,
        "plan": "", "perm": "",
    }));
    format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode("simulated signature"))
}

/// The cookie of somebody who is signed in.
fn session_cookie(request: &Page) -> Option<String> {
    let cookies: Vec<&str> =
        request.headers().get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).collect();
    let cookie = |name: &str| {
        let pairs = cookies.iter().flat_map(|header| header.split(';'));
        let mut pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    let over = |value: &String| value.starts_with("expired");
    if cookie("sessionid_sign").is_some_and(|sign| over(&sign)) {
        return None;
    }
    let good = |session: &String| !session.is_empty() && session != "pending2fa" && !over(session);
    cookie("sessionid").filter(good)
}
