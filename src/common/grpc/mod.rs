//! gRPC's side of every call: the bodies of RPCs, the one place that makes a status, and the
//! layers that every call goes through. It knows no service.

use thiserror::Error;
use tonic::service::interceptor::InterceptedService;
use tower::Layer;

mod access_log;
mod calls;
mod deadline;
mod details;
mod encoded;
mod load;
mod methods;
mod panics;
mod requests;
mod status;
pub mod transport;

pub use access_log::{AccessLog, AccessLogBody, AccessLogFuture, AccessLogLayer};
pub use calls::{
    GrpcResult, GrpcStream, command, command_withholding, query, stream_query, until_stopping,
};
pub use deadline::{Deadline, DeadlineBody, DeadlineFuture, DeadlineLayer};
pub use details::{Details, DetailsBody, DetailsFuture, DetailsLayer};
pub use encoded::Encoded;
pub use load::{Load, LoadShed, LoadShedBody, LoadShedFuture, LoadShedLayer};
pub use methods::Methods;
pub use panics::{PanicBody, PanicFuture, PanicLayer, Panics};
pub use requests::{RequestBody, Requests, RequestsLayer};
pub use status::{to_rpc_status, to_status};

use super::constants::REQUEST_PATIENCE;
use super::error::{Coded, ErrorCode};
use super::idempotency;
use super::shutdown::TaskPanicked;
use super::tracing::{self, Correlation, CorrelationLayer};

/// Why a call failed outside its handler.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CallError {
    /// Its `grpc-timeout` passed.
    #[error("the call's deadline passed")]
    DeadlineExceeded,
    /// Its request did not arrive in time.
    #[error("the request was not whole within {} s", REQUEST_PATIENCE.as_secs())]
    Unfinished,
    /// Its caller went away, or broke off, before the request was whole.
    #[error("the caller went away before the request was whole")]
    Abandoned,
    /// Too many calls are in flight.
    #[error("the server has more calls in flight than it takes")]
    Overloaded,
    /// The server is stopping.
    #[error("the server is stopping")]
    Draining,
    /// The handler panicked.
    #[error(transparent)]
    Panicked(TaskPanicked),
    /// The runtime stopped before the handler finished.
    #[error("the task of `{0}` was cancelled")]
    TaskCancelled(&'static str),
    /// What was kept of an earlier call was written by a version that this one does not follow.
    #[error("the kept answer of `{0}` cannot be read")]
    AnswerUnreadable(&'static str),
}

impl Coded for CallError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::DeadlineExceeded | Self::Unfinished => ErrorCode::DeadlineExceeded,
            Self::Abandoned => ErrorCode::Cancelled,
            Self::Overloaded => ErrorCode::Overloaded,
            Self::Draining | Self::TaskCancelled(_) => ErrorCode::Draining,
            Self::Panicked(_) | Self::AnswerUnreadable(_) => ErrorCode::Internal,
        }
    }
}

/// A function that looks at a call's metadata before its service does.
pub type Interceptor = fn(tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status>;

/// A service with all that [`CallLayer`] puts around it, outermost first.
pub type CallService<S> =
    Correlation<AccessLog<Panics<Deadline<InterceptedService<Details<S>, Interceptor>>>>>;

/// What every call goes through, outermost first: correlation id and span, access log and metrics,
/// panics, deadline, refusal of malformed metadata, idempotency key, details for the statuses that
/// tonic makes. [`LoadShedLayer`] and [`RequestsLayer`] come behind whatever says who may call.
#[derive(Clone, Debug)]
pub struct CallLayer {
    methods: Methods,
}

impl CallLayer {
    /// Tells `methods` apart in metrics.
    pub const fn new(methods: Methods) -> Self {
        Self { methods }
    }
}

impl<S> Layer<S> for CallLayer {
    type Service = CallService<S>;

    fn layer(&self, service: S) -> CallService<S> {
        let service = DetailsLayer.layer(service);
        let service = InterceptedService::new(service, interceptor as Interceptor);
        let service = PanicLayer.layer(DeadlineLayer.layer(service));
        CorrelationLayer.layer(AccessLogLayer::new(self.methods.clone()).layer(service))
    }
}

fn interceptor(request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
    tracing::interceptor(request).map(idempotency::interceptor)
}

#[cfg(test)]
mod tests;
