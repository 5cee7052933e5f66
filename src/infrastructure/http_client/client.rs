//! Sends requests: tries, pauses, redirects.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::LOCATION;
use http::{HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{Span, warn};

use super::address::{FilteredResolver, SystemResolver};
use super::breaker::{Breakers, Permit};
use super::error::from_reqwest;
use super::retry::Retries;
use super::{HttpAnswer, HttpClientConfig, HttpError, HttpRequest};
use crate::common::constants::HEADER_CORRELATION_ID;
use crate::common::metrics::table::{
    HTTP_BREAKER_OPENINGS, HTTP_DURATION, HTTP_REQUESTS, HTTP_RETRIES,
};
use crate::common::metrics::timed;
use crate::common::tracing::{CorrelationId, http_span, inject_context, traced};

/// Connections to a host that are kept for later, and for how long.
const IDLE_CONNECTIONS: (usize, Duration) = (4, Duration::from_mins(1));

/// Of a body that does not matter no more is read: so that its connection can be used again.
const BODY_SKIMMED: usize = 4 << 10;

/// The HTTP client. Cheap to clone; clones share connections and breakers.
#[derive(Clone)]
pub struct HttpClient {
    client: reqwest::Client,
    config: Arc<HttpClientConfig>,
    breakers: Arc<Breakers>,
}

impl HttpClient {
    /// A client as `config` has it. Fails where TLS cannot be set up.
    pub fn new(config: HttpClientConfig) -> Result<Self, reqwest::Error> {
        // Redirects are followed by hand: only to the same host.
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(rustls::ClientConfig::clone(&config.tls))
            .redirect(Policy::none())
            .user_agent(&config.user_agent)
            .connect_timeout(config.connect_timeout)
            .read_timeout(config.read_timeout)
            .pool_max_idle_per_host(IDLE_CONNECTIONS.0)
            .pool_idle_timeout(IDLE_CONNECTIONS.1);
        if let Some(resolver) = resolver(&config) {
            builder = builder.dns_resolver(resolver);
        }
        if config.addresses.is_some() {
            builder = builder.no_proxy();
        }
        let client = builder.build()?;
        // There from the start: what has not happened yet is 0 and not unknown.
        HTTP_RETRIES.with([config.target]).increment(0);
        HTTP_BREAKER_OPENINGS.with([config.target]).increment(0);
        let breakers = Arc::new(Breakers::new(config.breaker));
        Ok(Self { client, config: Arc::new(config), breakers })
    }

    /// Sends `request` and reads the answer, whatever its status is. Repeatable requests are tried
    /// again after failures and after statuses that pass; the last outcome is answered, but of a
    /// try that was cut off by the end of the time for all of them.
    pub async fn send(&self, request: HttpRequest) -> Result<HttpAnswer, HttpError> {
        let longest = Instant::now() + self.config.total_timeout;
        let deadline = request.deadline.map_or(longest, |deadline| deadline.min(longest));
        let may_be_led = request.may_be_led();
        let mut request = request;
        loop {
            let answer = self.persist(&request, deadline).await?;
            let is_led = may_be_led && answer.status.is_redirection();
            let Some(location) = answer.headers.get(LOCATION).filter(|_| is_led) else {
                return Ok(answer);
            };
            request = request.led_to(location)?;
        }
    }

    /// Tries until there is an answer worth having, or no more tries.
    async fn persist(
        &self,
        request: &HttpRequest,
        deadline: Instant,
    ) -> Result<HttpAnswer, HttpError> {
        let mut retries = Retries::new(&self.config.retry, request.repeatable);
        let mut before = None;
        loop {
            let outcome = self.observed(request, deadline).await;
            let cut_off = matches!(outcome, Err(HttpError::Timeout { .. }));
            if cut_off && Instant::now() >= deadline {
                // The try before has something to say.
                return before.unwrap_or(outcome);
            }
            let Some(pause) = retries.pause_after(&outcome) else { return outcome };
            if Instant::now() + pause >= deadline {
                return outcome;
            }
            HTTP_RETRIES.with([self.config.target]).increment(1);
            sleep(pause).await;
            before = Some(outcome);
        }
    }

    /// One try, in a span and counted.
    async fn observed(
        &self,
        request: &HttpRequest,
        deadline: Instant,
    ) -> Result<HttpAnswer, HttpError> {
        let (target, url) = (self.config.target, &request.url);
        let path = if request.private_path { "" } else { url.path() };
        let span = http_span(request.method.as_str(), url.host_str().unwrap_or_default(), path);
        let work = traced(span, self.attempt(request, deadline), HttpError::kind);
        timed(Box::pin(work), outcome, |outcome, took| {
            HTTP_REQUESTS.with([target, outcome]).increment(1);
            HTTP_DURATION.with([target]).record(took);
        })
        .await
    }

    /// One try, if the host's breaker lets it.
    async fn attempt(
        &self,
        request: &HttpRequest,
        deadline: Instant,
    ) -> Result<HttpAnswer, HttpError> {
        let host = request.host();
        let addresses = self.config.addresses.as_ref();
        if addresses.is_some_and(|filter| !filter.allows_host(&request.url)) {
            return Err(HttpError::AddressRefused { host });
        }
        let permit =
            self.breakers.of(&host).await.enter().map_err(|retry_after| {
                HttpError::BreakerOpen { host: host.clone(), retry_after }
            })?;
        let until = deadline.min(Instant::now() + self.config.attempt_timeout);
        let outcome = match timeout_at(until, self.exchange(&host, request)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(HttpError::Timeout { host: host.clone(), connecting: false }),
        };
        self.judge(permit, &host, &outcome);
        outcome
    }

    /// Sends and reads.
    async fn exchange(&self, host: &str, request: &HttpRequest) -> Result<HttpAnswer, HttpError> {
        let mut headers = request.headers.clone();
        inject_context(&mut headers);
        let id = CorrelationId::current().and_then(|id| HeaderValue::from_str(id.as_str()).ok());
        if let Some(id) = id {
            headers.insert(HeaderName::from_static(HEADER_CORRELATION_ID), id);
        }
        let sent = self
            .client
            .request(request.method.clone(), request.url.clone())
            .headers(headers)
            .body(request.body.clone())
            .send();
        let response = sent.await.map_err(|error| from_reqwest(host, &error))?;
        Span::current().record("http.response.status_code", response.status().as_u16());
        let (host, limit) = (host.to_owned(), self.config.max_body_bytes);
        if request.body_ignored {
            return Ok(HttpAnswer::skim(host, response, BODY_SKIMMED.min(limit)).await);
        }
        HttpAnswer::read(host, response, limit).await
    }

    fn judge(&self, permit: Permit, host: &str, outcome: &Result<HttpAnswer, HttpError>) {
        let healthy = match outcome {
            Ok(answer) => !answer.status.is_server_error(),
            Err(error) => !error.is_outage(),
        };
        if permit.end(healthy) {
            HTTP_BREAKER_OPENINGS.with([self.config.target]).increment(1);
            warn!(address = host, "`{host}` failed too often and is left alone for a while");
        }
    }
}

fn resolver(config: &HttpClientConfig) -> Option<Arc<dyn super::dns::Resolve>> {
    let inner = config.resolver.clone();
    let Some(filter) = config.addresses.clone() else { return inner };
    let inner = inner.unwrap_or_else(|| Arc::new(SystemResolver));
    Some(Arc::new(FilteredResolver { filter, inner }))
}

/// The word in metrics.
fn outcome(outcome: &Result<HttpAnswer, HttpError>) -> &'static str {
    match outcome {
        Ok(answer) if answer.status.is_server_error() => "server_error",
        Ok(answer) if answer.status.is_client_error() => "client_error",
        Ok(_) => "ok",
        Err(error) => error.kind(),
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HttpClient").field(&self.config).finish()
    }
}
