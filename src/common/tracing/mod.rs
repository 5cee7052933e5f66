//! Log lines, the correlation id that joins them, and traces.

mod correlation;
mod fields;
mod json;
mod layer;
#[cfg(test)]
mod lines;
mod otlp;
mod spans;
mod subscriber;

pub(crate) use correlation::Spans;
pub use correlation::{
    CorrelationId, InvalidCorrelationId, in_current_context, with_current_context,
};
pub use fields::LOG_FIELDS;
pub use layer::{Correlation, CorrelationBody, CorrelationFuture, CorrelationLayer, interceptor};
#[cfg(test)]
pub(crate) use lines::Lines;
pub use otlp::{Collector, TraceError, flush};
pub use spans::{database_span, http_span, inject_context, provider_span, task_span, traced};
pub(crate) use spans::{request_ended, request_span, rpc_ended};
pub use subscriber::{LogFormat, SubscriberError, init, subscriber};

#[cfg(test)]
#[path = "../../../tests/fuzz/calls.rs"]
mod fuzz;
