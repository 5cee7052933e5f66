//! What is asked for.

use std::fmt;

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;
use url::Url;
use url::form_urlencoded::Serializer;

use super::HttpError;

/// A request. It does not print what may be secret: of its URL only the host.
#[derive(Clone)]
pub struct HttpRequest {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) repeatable: bool,
    pub(super) redirects: u8,
    pub(super) private_path: bool,
    pub(super) body_ignored: bool,
    pub(super) deadline: Option<Instant>,
}

impl HttpRequest {
    /// A request of any method. `GET` and `HEAD` are repeatable.
    pub fn new(method: Method, url: Url) -> Self {
        let repeatable = method == Method::GET || method == Method::HEAD;
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            repeatable,
            redirects: 0,
            private_path: false,
            body_ignored: false,
            deadline: None,
        }
    }

    /// Gets `url`.
    pub fn get(url: Url) -> Self {
        Self::new(Method::GET, url)
    }

    /// Posts to `url`.
    pub fn post(url: Url) -> Self {
        Self::new(Method::POST, url)
    }

    /// With this header, in place of one that it has.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, content_type: HeaderValue, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header(CONTENT_TYPE, content_type)
    }

    /// With the fields of a form for its body.
    #[must_use]
    pub fn form(self, fields: &[(&str, &str)]) -> Self {
        let body = Serializer::new(String::new()).extend_pairs(fields).finish();
        self.body(HeaderValue::from_static("application/x-www-form-urlencoded"), body)
    }

    /// Doing it twice is as good as doing it once: it may be tried again.
    #[must_use]
    pub const fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    /// Follows this many redirects, to the same host only. Without it, a redirect is an answer
    /// like others. Only `GET` and `HEAD` are led on.
    #[must_use]
    pub const fn following(mut self, redirects: u8) -> Self {
        self.redirects = redirects;
        self
    }

    /// Its path is as secret as its query: traces do not show it.
    #[must_use]
    pub const fn with_private_path(mut self) -> Self {
        self.private_path = true;
        self
    }

    /// Only the status and the headers of the answer matter: of its body no more is read than fits,
    /// and what of it does not come is no failure.
    #[must_use]
    pub const fn ignoring_the_answers_body(mut self) -> Self {
        self.body_ignored = true;
        self
    }

    /// To be answered by `deadline`, where that is sooner than the client's longest time.
    #[must_use]
    pub const fn by(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// The host it goes to, with the port if it is an unusual one.
    pub(super) fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        match self.url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// The same, after a redirect: to the same host, port and scheme.
    pub(super) fn led_to(mut self, location: &HeaderValue) -> Result<Self, HttpError> {
        let refused = |to| HttpError::Redirect { host: self.host(), to };
        let left = self.redirects.checked_sub(1).ok_or_else(|| refused("too often"))?;
        let next = location.to_str().ok().and_then(|location| self.url.join(location).ok());
        let next = next.filter(|next| next.origin() == self.url.origin());
        let url = next.ok_or_else(|| refused("to another host"))?;
        (self.url, self.redirects) = (url, left);
        Ok(self)
    }

    pub(super) fn may_be_led(&self) -> bool {
        self.redirects > 0 && (self.method == Method::GET || self.method == Method::HEAD)
    }
}

impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpRequest({} {})", self.method, self.host())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_host_is_shown() {
        let url = Url::parse("https://user:secret@host.example:8443/secret?secret#secret").unwrap();
        let request = HttpRequest::post(url).form(&[("password", "secret")]);
        assert_eq!(format!("{request:?}"), "HttpRequest(POST host.example:8443)");
    }

    #[test]
    fn what_changes_things_is_not_repeated_unless_somebody_says_so() {
        let url = Url::parse("https://host.example/").unwrap();
        assert!(HttpRequest::get(url.clone()).repeatable);
        assert!(!HttpRequest::post(url.clone()).repeatable);
        assert!(HttpRequest::post(url).repeatable().repeatable);
    }
}
