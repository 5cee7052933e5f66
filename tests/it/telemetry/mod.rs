//! What the service tells about itself: traces, metrics, log lines, and what is made of them.

#![expect(clippy::float_cmp, reason = "counts are whole numbers")]

mod collector;
mod deploy;
mod exposition;
mod logs;
mod metrics;
mod traces;
