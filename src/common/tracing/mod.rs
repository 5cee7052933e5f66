//! Log lines and the correlation id that joins them.

mod correlation;
mod json;
mod layer;
mod subscriber;

pub use correlation::{
    CorrelationId, InvalidCorrelationId, in_current_context, with_current_context,
};
pub use layer::{Correlation, CorrelationBody, CorrelationFuture, CorrelationLayer, interceptor};
pub use subscriber::{LogFormat, SubscriberError, init, subscriber};

#[cfg(test)]
#[path = "../../../tests/fuzz/calls.rs"]
mod fuzz;
