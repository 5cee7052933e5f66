//! One try to send a message.

use std::error::Error;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use ipnet::IpNet;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use thiserror::Error;
use tracing::Span;
use uuid::Uuid;

use super::{AddressPolicy, InvalidUrl, RefusedAddress, WebhookSecret, WebhookUrl};
use crate::common::tracing::{http_span, inject_context, traced};
use crate::infrastructure::tls::{TlsError, client_config};

const USER_AGENT: &str = concat!("pocketquant/", env!("CARGO_PKG_VERSION"));
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an idle connection is kept: the addresses behind a name are looked at again after it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Idle connections to one host at most.
const IDLE_PER_HOST: usize = 16;
/// Of an answer's body no more is read, and only so that its connection can be used again.
const MAX_BODY_BYTES: usize = 4_096;

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// What is sent.
#[derive(Clone, Debug)]
pub struct Message {
    /// Which event: the same however often it is sent.
    pub id: Uuid,
    /// JSON.
    pub body: Bytes,
}

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It was taken: the answer was 2xx.
    Taken {
        /// The answer's status.
        status: u16,
    },
    /// The endpoint wants nothing more: the answer was 410.
    Gone,
    /// Anything else.
    Failed(Failure),
}

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// What it was, in words; without the URL.
    pub error: String,
    /// When the endpoint asks to be tried again.
    pub retry_after: Option<Duration>,
}

/// The kinds of a [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// It answered, and not with 2xx.
    Answered,
    /// It took too long.
    Timeout,
    /// It is where nothing may be called.
    Refused,
    /// It could not be reached, or broke off.
    Unreachable,
}

/// Why nothing can be sent at all.
#[derive(Debug, Error)]
pub enum SenderError {
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The HTTP client cannot be made.
    #[error("the HTTP client for webhooks cannot be made")]
    Http(#[from] reqwest::Error),
}

/// Sends messages. Never follows a redirect, uses no proxy, and calls only addresses that may be
/// called, whatever a name resolves to at that moment. Cheap to clone.
#[derive(Clone, Debug)]
pub struct WebhookSender {
    encrypted: Client,
    /// For `http`: only to networks that the settings name.
    plain: Client,
    policy: AddressPolicy,
    timeout: Duration,
}

impl WebhookSender {
    /// Calls the public internet by `https`, and the networks `allowed` by `http` too. A try takes
    /// `timeout` at most.
    pub fn new(allowed: &[IpNet], timeout: Duration) -> Result<Self, SenderError> {
        let policy = AddressPolicy::new(allowed);
        let tls = client_config(None)?;
        let client = |policy: AddressPolicy| {
            Client::builder()
                .tls_backend_preconfigured(rustls::ClientConfig::clone(&tls))
                .dns_resolver(policy)
                .no_proxy()
                .redirect(Policy::none())
                .user_agent(USER_AGENT)
                .connect_timeout(CONNECT_TIMEOUT.min(timeout))
                .timeout(timeout)
                .pool_idle_timeout(IDLE_TIMEOUT)
                .pool_max_idle_per_host(IDLE_PER_HOST)
                .build()
        };
        let (encrypted, plain) = (client(policy.clone())?, client(policy.only_allowed())?);
        Ok(Self { encrypted, plain, policy, timeout })
    }

    /// Whether `url` may be called, as far as it says itself: a name is looked up when it is
    /// called.
    pub fn check(&self, url: &WebhookUrl) -> Result<(), RefusedAddress> {
        let permits = |address: IpAddr| self.policy_of(url).permits(address);
        if url.address().is_none_or(permits) {
            return Ok(());
        }
        Err(RefusedAddress { host: url.host().to_owned() })
    }

    /// Sends `message` to `url`, signed with `secret`.
    pub async fn send(&self, url: &str, secret: &WebhookSecret, message: &Message) -> Attempt {
        let failed = |kind, error: String| Failure { kind, status: None, error, retry_after: None };
        let url = match WebhookUrl::parse(url) {
            Ok(url) => url,
            Err(error @ (InvalidUrl::Malformed | InvalidUrl::TooLong)) => {
                return Attempt::Failed(failed(FailureKind::Unreachable, error.to_string()));
            }
            Err(error @ (InvalidUrl::Credentials | InvalidUrl::Port)) => {
                return Attempt::Failed(failed(FailureKind::Refused, error.to_string()));
            }
        };
        // A connector does not look up what is an address already.
        if let Err(refused) = self.check(&url) {
            return Attempt::Failed(failed(FailureKind::Refused, refused.to_string()));
        }
        let span = http_span("POST", url.host(), "/");
        let call = traced(span, self.call(&url, secret, message), |_| "webhook failed");
        match call.await {
            Ok(response) => judge(response.status(), response.headers()),
            Err(error) => Attempt::Failed(self.failure(&error.without_url())),
        }
    }

    async fn call(
        &self,
        url: &WebhookUrl,
        secret: &WebhookSecret,
        message: &Message,
    ) -> Result<Response, reqwest::Error> {
        let client = if url.is_encrypted() { &self.encrypted } else { &self.plain };
        let (id, timestamp) = (message.id.to_string(), Timestamp::now().as_second());
        let signature = secret.sign(&id, timestamp, &message.body);
        let mut headers = HeaderMap::new();
        inject_context(&mut headers);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(timestamp));
        for (name, value) in [(WEBHOOK_ID, id), (WEBHOOK_SIGNATURE, signature)] {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        let request = client.post(url.as_url().clone()).headers(headers);
        let mut response = request.body(message.body.clone()).send().await?;
        Span::current().record("http.response.status_code", response.status().as_u16());
        let mut read = 0;
        while read < MAX_BODY_BYTES {
            // The status is the answer: what becomes of its body does not matter.
            let Ok(Some(chunk)) = response.chunk().await else { break };
            read += chunk.len();
        }
        Ok(response)
    }

    fn failure(&self, error: &reqwest::Error) -> Failure {
        let refused = causes(error).find_map(|cause| cause.downcast_ref::<RefusedAddress>());
        let (kind, error) = match refused {
            Some(refused) => (FailureKind::Refused, refused.to_string()),
            None if error.is_timeout() => {
                (FailureKind::Timeout, format!("no answer within {:?}", self.timeout))
            }
            None => {
                let root = causes(error).last().map(ToString::to_string).unwrap_or_default();
                (FailureKind::Unreachable, root)
            }
        };
        Failure { kind, status: None, error, retry_after: None }
    }

    fn policy_of(&self, url: &WebhookUrl) -> AddressPolicy {
        if url.is_encrypted() { self.policy.clone() } else { self.policy.only_allowed() }
    }
}

/// An error and what caused it.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// What an answer means.
fn judge(status: StatusCode, headers: &HeaderMap) -> Attempt {
    if status.is_success() {
        return Attempt::Taken { status: status.as_u16() };
    }
    if status == StatusCode::GONE {
        return Attempt::Gone;
    }
    let redirect = if status.is_redirection() { "; redirects are not followed" } else { "" };
    Attempt::Failed(Failure {
        kind: FailureKind::Answered,
        status: Some(status.as_u16()),
        error: format!("it answered {}{redirect}", status.as_u16()),
        retry_after: headers.get(RETRY_AFTER).and_then(|value| wait(value, Timestamp::now())),
    })
}

/// How long `Retry-After` asks to wait: in seconds, or until a date (RFC 9110, 10.2.3).
fn wait(value: &HeaderValue, now: Timestamp) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_when_to_come_again() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let wait = |text: &'static str| wait(&HeaderValue::from_static(text), now);
        assert_eq!(wait("120"), Some(Duration::from_secs(120)));
        assert_eq!(wait("Thu, 01 Jan 2026 00:01:00 GMT"), Some(Duration::from_mins(1)));
        assert_eq!(wait("Wed, 31 Dec 2025 00:00:00 GMT"), Some(Duration::ZERO), "it is over");
        assert_eq!(wait("soon"), None);
        assert_eq!(wait("-1"), None);
    }

    #[test]
    fn only_2xx_is_success_and_410_is_the_end() {
        let judge = |status: u16| judge(StatusCode::from_u16(status).unwrap(), &HeaderMap::new());
        for taken in [200, 202, 204, 299] {
            assert_eq!(judge(taken), Attempt::Taken { status: taken });
        }
        assert_eq!(judge(410), Attempt::Gone);
        for failed in [301, 302, 307, 400, 404, 429, 500, 503] {
            assert!(matches!(judge(failed), Attempt::Failed(_)), "{failed}");
        }
    }

    #[test]
    fn plain_http_is_for_networks_that_are_named_only() {
        let sender = WebhookSender::new(&["127.0.0.0/8".parse().unwrap()], IDLE_TIMEOUT).unwrap();
        let check = |url: &str| sender.check(&WebhookUrl::parse(url).unwrap()).is_ok();
        assert!(check("https://1.1.1.1/") && check("http://127.0.0.1:8080/"));
        assert!(!check("http://1.1.1.1/") && !check("https://10.0.0.1/"));
    }
}
