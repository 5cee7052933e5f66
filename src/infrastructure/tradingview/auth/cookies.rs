//! From a browser's cookies to a token: asked for, else read out of the start page.

use http::header::{COOKIE, LOCATION};
use http::{HeaderValue, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::web::Web;
use crate::infrastructure::http_client::{HttpAnswer, HttpRequest};
use crate::infrastructure::interfaces::{Phase, ProviderError};
use crate::infrastructure::tradingview::errors;

/// Redirects to regional sites that are followed.
const MAX_REDIRECTS: usize = 5;

/// Longest token that is taken.
const MAX_TOKEN_BYTES: usize = 16 << 10;

/// A `Cookie` header; does not print.
pub(super) struct Cookies(SecretString);

impl Cookies {
    pub(super) fn new(sessionid: &SecretString, sign: Option<&SecretString>) -> Self {
        let mut header = format!("sessionid={}", sessionid.expose_secret());
        if let Some(sign) = sign {
            header.push_str("; sessionid_sign=");
            header.push_str(sign.expose_secret());
        }
        Self(header.into())
    }

    fn header(&self) -> Result<HeaderValue, ProviderError> {
        let unreadable =
            |_| errors::auth_required("the cookies hold characters that no cookie has");
        let mut header = HeaderValue::from_str(self.0.expose_secret()).map_err(unreadable)?;
        header.set_sensitive(true);
        Ok(header)
    }
}

/// The token of who is logged in. Cookies that give none are refused: without a word we would be
/// served as nobody.
pub(super) async fn token(web: &Web, cookies: &Cookies) -> Result<SecretString, ProviderError> {
    let answer = fetch(web, cookies, web.page("/quote_token/")?).await?;
    if let Some(token) = asked_token(&answer) {
        return Ok(token);
    }
    let answer = fetch(web, cookies, web.page("/")?).await?;
    if let Some(token) = page_token(&answer.text()) {
        return Ok(token);
    }
    if answer.status.is_success() || answer.status == StatusCode::UNAUTHORIZED {
        return Err(errors::auth_required("the cookies are of nobody who is logged in"));
    }
    let detail = format!("the web site answered {}", answer.status);
    Err(errors::unavailable(Phase::Login, &detail))
}

/// Gets `url`, following redirects within the site.
async fn fetch(web: &Web, cookies: &Cookies, url: Url) -> Result<HttpAnswer, ProviderError> {
    let mut url = url;
    for _ in 0..=MAX_REDIRECTS {
        let request = HttpRequest::get(url.clone()).header(COOKIE, cookies.header()?);
        let answer = web.send(request).await?;
        let location = answer.headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let Some(location) = location.filter(|_| answer.status.is_redirection()) else {
            return Ok(answer);
        };
        url = url
            .join(location)
            .ok()
            .filter(|next| same_site(web.base(), next))
            .ok_or_else(|| errors::unavailable(Phase::Login, "redirected to a foreign site"))?;
    }
    Err(errors::unavailable(Phase::Login, "redirected too often"))
}

/// Whether `next` may see the cookies: the same host or a sister of it, encrypted if `base` is.
fn same_site(base: &Url, next: &Url) -> bool {
    let (Some(base_host), Some(next_host)) = (base.domain(), next.domain()) else {
        return base.host() == next.host() && base.scheme() == next.scheme();
    };
    let site = base_host.strip_prefix("www.").unwrap_or(base_host);
    let sister = next_host.strip_suffix(site).is_some_and(|prefix| prefix.ends_with('.'));
    (next_host == site || sister) && base.scheme() == next.scheme()
}

/// `/quote_token/` answers with a bare JSON string.
fn asked_token(answer: &HttpAnswer) -> Option<SecretString> {
    let token: String = answer.json().ok()?;
    if answer.status.is_success() { valid(token) } else { None }
}

/// The start page names who is logged in, in a script.
fn page_token(html: &str) -> Option<SecretString> {
    let (_, after) = html.split_once(r#""auth_token":"#)?;
    let (token, _) = after.trim_start().strip_prefix('"')?.split_once('"')?;
    valid(token.to_owned())
}

fn valid(token: String) -> Option<SecretString> {
    let named = !token.is_empty() && token != super::ANONYMOUS && token.len() <= MAX_TOKEN_BYTES;
    (named && token.bytes().all(|byte| byte.is_ascii_graphic())).then(|| token.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_token_is_read_out_of_the_page() {
        let html =
            r#"<script>window.user = {"id":1,"auth_token":"eyJ.a.b","is_pro":false}</script>"#;
        assert_eq!(page_token(html).unwrap().expose_secret(), "eyJ.a.b");
        for html in [
            "",
            r#""auth_token":"""#,
            r#""auth_token":"unauthorized_user_token""#,
            r#""auth_token":"cut"#,
            r#""auth_token":null"#,
        ] {
            assert!(page_token(html).is_none(), "{html}");
        }
    }

    #[test]
    fn cookies_stay_within_the_site() {
        let base = url("https://www.tradingview.com");
        assert!(same_site(&base, &url("https://br.tradingview.com/x")));
        assert!(same_site(&base, &url("https://tradingview.com/")));
        for foreign in [
            "https://eviltradingview.com/",
            "https://tradingview.com.evil.example/",
            "http://br.tradingview.com/",
            "https://127.0.0.1/",
        ] {
            assert!(!same_site(&base, &url(foreign)), "{foreign}");
        }
        let local = url("http://127.0.0.1:8080");
        assert!(same_site(&local, &url("http://127.0.0.1:8081/")));
        assert!(!same_site(&local, &url("http://127.0.0.2:8080/")));
    }
}
