//! One try to send a message.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use ipnet::IpNet;
use jiff::Timestamp;
use thiserror::Error;
use uuid::Uuid;

use super::{AddressPolicy, RefusedUrl, WebhookSecret, WebhookUrl};
use crate::infrastructure::http_client::{
    BreakerRules, HttpAnswer, HttpClient, HttpClientConfig, HttpError, HttpRequest, RetryRules,
};
use crate::infrastructure::tls::{TlsError, client_config};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

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
    encrypted: HttpClient,
    /// For `http`: only to networks that the settings name.
    plain: HttpClient,
    policy: AddressPolicy,
}

impl WebhookSender {
    /// Calls the public internet by `https`, and the networks `allowed` by `http` too. A try takes
    /// `timeout` at most.
    pub fn new(allowed: &[IpNet], timeout: Duration) -> Result<Self, SenderError> {
        let (policy, tls) = (AddressPolicy::new(allowed), client_config(None)?);
        let client = |policy: AddressPolicy| {
            HttpClient::new(HttpClientConfig {
                connect_timeout: CONNECT_TIMEOUT.min(timeout),
                read_timeout: timeout,
                attempt_timeout: timeout,
                total_timeout: timeout,
                // The outbox tries again, over days, and spares who fails.
                retry: RetryRules { times: 0, ..RetryRules::default() },
                breaker: BreakerRules { failures: u32::MAX, pause: Duration::ZERO },
                addresses: Some(policy.filter()),
                ..HttpClientConfig::new("webhook", std::sync::Arc::clone(&tls))
            })
        };
        let (encrypted, plain) = (client(policy.clone())?, client(policy.only_allowed())?);
        Ok(Self { encrypted, plain, policy })
    }

    /// Whether `url` may be called, as far as it says itself: a name is looked up when it is
    /// called.
    pub fn check(&self, url: &WebhookUrl) -> Result<(), RefusedUrl> {
        let permits = |policy: &AddressPolicy| match url.address() {
            Some(address) => policy.permits(address),
            None => policy.permits_name(url.host()),
        };
        if !permits(&self.policy) {
            return Err(RefusedUrl::Address { host: url.host().to_owned() });
        }
        if !url.is_encrypted() && !permits(&self.policy.only_allowed()) {
            return Err(RefusedUrl::NotEncrypted);
        }
        Ok(())
    }

    /// Sends `message` to `url`, signed with `secret`.
    pub async fn send(&self, url: &str, secret: &WebhookSecret, message: &Message) -> Attempt {
        let url = match WebhookUrl::parse(url) {
            Ok(url) => url,
            Err(error) => {
                let (kind, error) = (FailureKind::Refused, error.to_string());
                return Attempt::Failed(Failure { kind, status: None, error, retry_after: None });
            }
        };
        let client = if url.is_encrypted() { &self.encrypted } else { &self.plain };
        match client.send(request(&url, secret, message)).await {
            Ok(answer) => judge(&answer),
            Err(error) => Attempt::Failed(failure(&error)),
        }
    }
}

/// The message, signed as of now. What is answered besides the status does not matter.
fn request(url: &WebhookUrl, secret: &WebhookSecret, message: &Message) -> HttpRequest {
    let (id, timestamp) = (message.id.to_string(), Timestamp::now().as_second());
    let signature = secret.sign(&id, timestamp, &message.body);
    let json = HeaderValue::from_static("application/json");
    let mut request = HttpRequest::post(url.as_url().clone())
        .with_private_path()
        .ignoring_the_answers_body()
        .body(json, message.body.clone())
        .header(WEBHOOK_TIMESTAMP, HeaderValue::from(timestamp));
    for (name, value) in [(WEBHOOK_ID, id), (WEBHOOK_SIGNATURE, signature)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            request = request.header(name, value);
        }
    }
    request
}

/// What an answer means.
fn judge(answer: &HttpAnswer) -> Attempt {
    let status = answer.status;
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
        retry_after: answer.retry_after(),
    })
}

fn failure(error: &HttpError) -> Failure {
    let kind = match error {
        HttpError::AddressRefused { .. } => FailureKind::Refused,
        HttpError::Timeout { .. } => FailureKind::Timeout,
        HttpError::Connect { .. }
        | HttpError::Tls { .. }
        | HttpError::Broken { .. }
        | HttpError::Status { .. }
        | HttpError::BreakerOpen { .. }
        | HttpError::TooLarge { .. }
        | HttpError::Malformed { .. }
        | HttpError::Redirect { .. }
        | HttpError::Request { .. } => FailureKind::Unreachable,
    };
    Failure { kind, status: None, error: error.to_string(), retry_after: None }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    #[test]
    fn only_2xx_is_success_and_410_is_the_end() {
        let judge = |status: u16| {
            let status = StatusCode::from_u16(status).unwrap();
            let (host, headers, body) = ("host".to_owned(), HeaderMap::new(), Bytes::new());
            judge(&HttpAnswer { host, status, headers, body })
        };
        for taken in [200, 202, 204, 299] {
            assert_eq!(judge(taken), Attempt::Taken { status: taken });
        }
        assert_eq!(judge(410), Attempt::Gone);
        for failed in [301, 302, 307, 400, 404, 429, 500, 503] {
            assert!(matches!(judge(failed), Attempt::Failed(_)), "{failed}");
        }
    }

    #[tokio::test]
    async fn a_literal_address_that_may_not_be_called_is_not_called() {
        let sender = WebhookSender::new(&[], Duration::from_secs(1)).unwrap();
        let message = Message { id: Uuid::now_v7(), body: Bytes::new() };
        for url in ["https://127.0.0.1:1/", "http://127.0.0.1:1/", "http://1.1.1.1/"] {
            let attempt = sender.send(url, &WebhookSecret::generate(), &message).await;
            let Attempt::Failed(Failure { kind, .. }) = attempt else { panic!("{attempt:?}") };
            assert_eq!(kind, FailureKind::Refused, "{url}");
        }
    }

    #[test]
    fn plain_http_is_for_networks_that_are_named_only() {
        let allowed = ["127.0.0.0/8".parse().unwrap()];
        let sender = WebhookSender::new(&allowed, Duration::from_secs(1)).unwrap();
        let check = |url: &str| sender.check(&WebhookUrl::parse(url).unwrap()).is_ok();
        assert!(check("https://1.1.1.1/") && check("http://127.0.0.1:8080/"));
        assert!(!check("http://1.1.1.1/") && !check("https://10.0.0.1/"));
    }
}
