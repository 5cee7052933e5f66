//! Refuses calls of callers who make too many, and streams of those who have too many open.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use thiserror::Error;
use tonic::Status;
use tower::{BoxError, Layer, Service};

use super::limiter::RateLimiter;
use super::quota::{Decision, Quota};
use super::streams::{StreamPlace, StreamPlaces};
use crate::common::constants::{
    HEADER_RATE_LIMIT, HEADER_RATE_REMAINING, HEADER_RATE_RESET, PROBES_PER_CALLER,
    RETRY_AFTER_OUTAGE,
};
use crate::common::error::{Coded, ErrorCode};
use crate::common::grpc::to_status;
use crate::common::identity::{Access, Principal, Rule};
use crate::common::metrics::table::STREAM_LIMIT_REFUSALS;

/// Which limit a caller has reached.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LimitError {
    /// Their bucket is empty.
    #[error("too many calls: {} at once and {} a second are allowed", quota.burst(), quota.per_second())]
    Calls {
        /// Who.
        principal: Principal,
        /// What they may do.
        quota: Quota,
        /// When a call will pass again.
        retry_in: Duration,
    },
    /// They ask for health too often at once.
    #[error("too many health calls: {most} may be under way at once")]
    Probes {
        /// Who.
        principal: Principal,
        /// How many they may have.
        most: u32,
    },
    /// Their streams are all in use.
    #[error("too many streams: {most} may be open at once")]
    Streams {
        /// Who.
        principal: Principal,
        /// How many they may have.
        most: u32,
    },
}

impl Coded for LimitError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Calls { .. } => ErrorCode::RateLimited,
            Self::Probes { .. } | Self::Streams { .. } => ErrorCode::StreamLimit,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Calls { retry_in, .. } => Some(*retry_in),
            // Nobody knows when one ends.
            Self::Probes { .. } | Self::Streams { .. } => Some(RETRY_AFTER_OUTAGE),
        }
    }

    fn quota(&self) -> Option<(String, String)> {
        match self {
            Self::Calls { principal, .. }
            | Self::Probes { principal, .. }
            | Self::Streams { principal, .. } => Some((principal.to_string(), self.to_string())),
        }
    }
}

/// Wraps services in [`RateLimit`]. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RateLimitLayer {
    /// Absent where calls are not limited.
    calls: Option<RateLimiter>,
    streams: StreamPlaces,
    probes: StreamPlaces,
}

impl RateLimitLayer {
    /// With a limit on calls, where there is one, and one on each principal's open streams.
    pub fn new(calls: Option<RateLimiter>, streams_per_principal: u32) -> Self {
        let probes = StreamPlaces::new(PROBES_PER_CALLER);
        Self { calls, streams: StreamPlaces::new(streams_per_principal), probes }
    }

    async fn admit(&self, caller: Option<(Principal, Rule)>) -> Result<Admitted, Status> {
        // Without a rule, nobody looked at the call: it is none that is guarded.
        let Some((principal, rule)) = caller else { return Ok(Admitted::default()) };
        let mut admitted = Admitted::default();
        if let Some(calls) = self.calls.as_ref().filter(|_| rule.limited) {
            let decision = calls.take(&principal).await;
            admitted.headers = Some((calls.quota(), decision));
            if !decision.passes {
                let (quota, retry_in) = (calls.quota(), decision.retry_in);
                return Err(admitted.refusal(&LimitError::Calls { principal, quota, retry_in }));
            }
        }
        if rule.streams {
            admitted.place = self.streams.take(&principal.counted());
            if admitted.place.is_none() {
                STREAM_LIMIT_REFUSALS.handle().increment(1);
                let most = self.streams.most();
                return Err(admitted.refusal(&LimitError::Streams { principal, most }));
            }
        }
        if rule.access == Access::Public {
            admitted.place = self.probes.take(&principal.counted());
            if admitted.place.is_none() {
                let most = self.probes.most();
                return Err(admitted.refusal(&LimitError::Probes { principal, most }));
            }
        }
        Ok(admitted)
    }
}

/// What a call may pass with.
#[derive(Debug, Default)]
struct Admitted {
    headers: Option<(Quota, Decision)>,
    place: Option<StreamPlace>,
}

impl Admitted {
    fn refusal(&self, error: &LimitError) -> Status {
        let mut status = to_status(error);
        let mut headers = std::mem::take(status.metadata_mut()).into_headers();
        self.write(&mut headers);
        *status.metadata_mut() = tonic::metadata::MetadataMap::from_headers(headers);
        status
    }

    fn write(&self, headers: &mut HeaderMap) {
        let Some((quota, decision)) = self.headers else { return };
        let reset = decision.full_in.as_micros().div_ceil(1_000_000);
        let reset = u64::try_from(reset).unwrap_or(u64::MAX);
        for (name, number) in [
            (HEADER_RATE_LIMIT, quota.burst().into()),
            (HEADER_RATE_REMAINING, decision.remaining.into()),
            (HEADER_RATE_RESET, reset),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from(number));
        }
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimit<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimit { inner, layer: self.clone() }
    }
}

/// Lets calls through to `inner` within their caller's limits. It stands behind the
/// authentication layer, which says who calls what.
#[derive(Clone, Debug)]
pub struct RateLimit<S> {
    inner: S,
    layer: RateLimitLayer,
}

impl<S, In, Out> Service<Request<In>> for RateLimit<S>
where
    S: Service<Request<In>, Response = Response<Out>, Error: Into<BoxError>, Future: Send>,
    S: Clone + Send + 'static,
    In: Send + 'static,
{
    type Response = Response<LimitedBody<Out>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        // The one that was found ready is the one to call.
        let unready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, unready);
        let layer = self.layer.clone();
        Box::pin(async move {
            let extensions = request.extensions();
            let caller = extensions.get::<Principal>().cloned();
            let admitted = layer.admit(caller.zip(extensions.get::<Rule>().copied())).await?;
            let mut response = inner.call(request).await.map_err(Into::into)?;
            admitted.write(response.headers_mut());
            Ok(response.map(|inner| LimitedBody { inner, place: admitted.place }))
        })
    }
}

pin_project! {
    /// A body that occupies its caller's place until it ends or is dropped.
    #[derive(Debug)]
    pub struct LimitedBody<B> {
        #[pin]
        inner: B,
        place: Option<StreamPlace>,
    }
}

impl<B: Body> Body for LimitedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(cx));
        if !matches!(&frame, Some(Ok(frame)) if frame.is_data()) {
            *this.place = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
