//! The web site, as far as log-ins need it.

use std::time::Duration;

use http::StatusCode;
use http::header::HeaderValue;
use url::Url;

use crate::infrastructure::http_client::{HttpAnswer, HttpClient, HttpRequest};
use crate::infrastructure::interfaces::{Phase, ProviderError};
use crate::infrastructure::tradingview::config::{ConfigError, TradingViewConfig};
use crate::infrastructure::tradingview::errors;

/// Calls the web site.
pub(super) struct Web {
    http: HttpClient,
    base: Url,
    origin: HeaderValue,
    patience: Duration,
}

impl Web {
    pub(super) fn new(config: &TradingViewConfig, http: HttpClient) -> Result<Self, ConfigError> {
        let (base, origin) = (config.parsed_http_url()?, config.origin_header()?);
        Ok(Self { http, base, origin, patience: config.http_patience() })
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

    /// Sends `request`. Too many requests and trouble of the server are errors already.
    pub(super) async fn send(&self, request: HttpRequest) -> Result<HttpAnswer, ProviderError> {
        let trouble = |error| errors::http_error(&error, Phase::Login, self.patience);
        let answer = self.http.send(request).await.map_err(trouble)?;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            return Err(errors::rate_limited("too many log-ins (429)", answer.retry_after()));
        }
        if answer.status.is_server_error() {
            let detail = format!("the web site answered {}", answer.status);
            return Err(errors::unavailable(Phase::Login, &detail));
        }
        Ok(answer)
    }
}
