//! What the service tells about itself: traces, metrics, log lines, and what is made of them.

mod collector;
mod deploy;
mod exposition;
mod logs;
mod metrics;
mod traces;
