//! The web site, as far as log-ins need it: bounded answers, errors without secrets.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderMap, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use reqwest::redirect::Policy;
use reqwest::{Client, Request, RequestBuilder, Response};
use tracing::Span;
use url::Url;

use crate::common::error::Coded as _;
use crate::common::tracing::{http_span, inject_context, traced};
use crate::infrastructure::interfaces::{Phase, ProviderError};
use crate::infrastructure::tradingview::config::{ConfigError, TradingViewConfig};
use crate::infrastructure::tradingview::{USER_AGENT, errors};

/// Longest answer that is read.
const MAX_BODY_BYTES: usize = 8 << 20;

/// Calls the web site.
pub(super) struct Web {
    client: Client,
    base: Url,
    origin: HeaderValue,
    patience: Duration,
}

/// An answer, read whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Web {
    pub(super) fn new(
        config: &TradingViewConfig,
        tls: &Arc<rustls::ClientConfig>,
    ) -> Result<Self, ConfigError> {
        let patience = config.http_timeout.min(config.history_timeout);
        // Cookies must not follow a redirect to just anywhere: we follow by hand.
        let client = Client::builder()
            .tls_backend_preconfigured(rustls::ClientConfig::clone(tls))
            .redirect(Policy::none())
            .user_agent(USER_AGENT)
            .connect_timeout(config.connect_timeout.min(patience))
            .timeout(patience)
            .build()
            .map_err(ConfigError::Http)?;
        let base = config.parsed_http_url()?;
        let origin = HeaderValue::from_str(&config.origin).map_err(|_| ConfigError::Origin)?;
        Ok(Self { client, base, origin, patience })
    }

    pub(super) const fn base(&self) -> &Url {
        &self.base
    }

    pub(super) const fn origin(&self) -> &HeaderValue {
        &self.origin
    }

    /// The address of `path` on the site.
    pub(super) fn page(&self, path: &str) -> Result<Url, ProviderError> {
        self.base.join(path).map_err(|error| errors::unavailable(Phase::Login, &error.to_string()))
    }

    pub(super) fn get(&self, url: Url) -> RequestBuilder {
        self.client.get(url)
    }

    pub(super) fn post(&self, url: Url) -> RequestBuilder {
        self.client.post(url)
    }

    /// Sends `request`. Too many requests and trouble of the server are errors already.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Answer, ProviderError> {
        let request = request.build().map_err(|error| self.trouble(error))?;
        let (method, url) = (request.method().as_str(), request.url());
        let span = http_span(method, url.host_str().unwrap_or_default(), url.path());
        let answer = traced(span, self.answer(request), |error| error.code().reason()).await?;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            let header = answer.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let wait = header.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
            return Err(errors::rate_limited("too many log-ins (429)", wait));
        }
        if answer.status.is_server_error() {
            let detail = format!("the web site answered {}", answer.status);
            return Err(errors::unavailable(Phase::Login, &detail));
        }
        Ok(answer)
    }

    /// Whatever the answer to `request` is. It carries the trace that it belongs to.
    async fn answer(&self, mut request: Request) -> Result<Answer, ProviderError> {
        inject_context(request.headers_mut());
        let answer = match self.client.execute(request).await {
            Ok(response) => read(response).await,
            Err(error) => Err(error),
        };
        if let Ok(answer) = &answer {
            Span::current().record("http.response.status_code", answer.status.as_u16());
        }
        answer.map_err(|error| self.trouble(error))
    }

    fn trouble(&self, error: reqwest::Error) -> ProviderError {
        let error = error.without_url();
        let phase = phase(&error);
        if error.is_timeout() {
            return errors::timeout(phase, self.patience);
        }
        errors::unavailable(phase, &root_cause(&error).to_string())
    }
}

/// Reads the whole answer; what is longer than taken is cut off.
async fn read(mut response: Response) -> Result<Answer, reqwest::Error> {
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_BODY_BYTES {
            body.truncate(MAX_BODY_BYTES);
            break;
        }
    }
    Ok(Answer { status, headers, body: String::from_utf8_lossy(&body).into_owned() })
}

fn phase(error: &reqwest::Error) -> Phase {
    if !error.is_connect() {
        return Phase::Login;
    }
    let encryption = causes(error).any(is_encryption);
    if encryption { Phase::Tls } else { Phase::Connect }
}

/// An I/O error hides what it wraps from `source`, and may wrap another one.
fn is_encryption(cause: &(dyn Error + 'static)) -> bool {
    let wrapped = cause.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref());
    match wrapped {
        Some(wrapped) => is_encryption(wrapped),
        None => cause.is::<rustls::Error>(),
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn root_cause<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    causes(error).last().unwrap_or(error)
}
