//! What was answered: read whole, whatever its status.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::{HeaderMap, RETRY_AFTER};
use jiff::Timestamp;
use reqwest::Response;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

use super::HttpError;
use super::error::from_reqwest;
use super::retry;

/// How long a body that does not matter may take.
const SKIM_WITHIN: Duration = Duration::from_secs(1);

/// An answer, read whole. It does not print its body.
#[derive(Clone)]
pub struct HttpAnswer {
    /// Who answered.
    pub host: String,
    /// With what status.
    pub status: StatusCode,
    /// With what headers.
    pub headers: HeaderMap,
    /// The body; not longer than the client's limit.
    pub body: Bytes,
}

impl HttpAnswer {
    /// The answer where its status is one of success; else the error that says which it is.
    pub fn successful(self) -> Result<Self, HttpError> {
        if self.status.is_success() {
            return Ok(self);
        }
        let retry_after = self.retry_after();
        Err(HttpError::Status { host: self.host, status: self.status, retry_after })
    }

    /// How long the answer asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        let header = self.headers.get(RETRY_AFTER)?.to_str().ok()?;
        retry::retry_after(header, Timestamp::now())
    }

    /// The body as text; what is no UTF-8 is replaced.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// The body, read as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, HttpError> {
        let malformed = |_| HttpError::Malformed { host: self.host.clone(), expected: "JSON" };
        serde_json::from_slice(&self.body).map_err(malformed)
    }

    /// Answers with the status of `response`, reads over `limit` bytes of its body, about, and
    /// keeps none.
    pub(super) async fn skim(host: String, mut response: Response, limit: usize) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        let (mut read, within) = (0, Instant::now() + SKIM_WITHIN);
        while read < limit {
            let Ok(Ok(Some(chunk))) = timeout_at(within, response.chunk()).await else { break };
            read += chunk.len();
        }
        Self { host, status, headers, body: Bytes::new() }
    }

    /// Reads the whole of `response`, `limit` bytes at most.
    pub(super) async fn read(
        host: String,
        mut response: Response,
        limit: usize,
    ) -> Result<Self, HttpError> {
        let said = response.content_length().and_then(|length| usize::try_from(length).ok());
        let too_large = || HttpError::TooLarge { host: host.clone(), limit };
        if said.is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = BytesMut::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|error| from_reqwest(&host, &error))?
        {
            if body.len() + chunk.len() > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Self { host, status, headers, body: body.freeze() })
    }
}

impl fmt::Debug for HttpAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpAnswer({} {}, {} bytes)", self.host, self.status, self.body.len())
    }
}
