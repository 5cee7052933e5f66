//! The one recorder of the process.

use std::sync::{Mutex, PoisonError};

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use thiserror::Error;

use super::family::{Kind, start_recording};
use super::table::METRICS;

/// Upper bounds of the buckets of everything that is timed, in seconds.
const SECONDS: [f64; 15] =
    [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

static INSTALLED: Mutex<Option<PrometheusHandle>> = Mutex::new(None);

/// Why nothing can be recorded.
#[derive(Debug, Error)]
pub enum RecorderError {
    /// The buckets are none.
    #[error("metrics cannot be set up")]
    Buckets(#[source] BuildError),
    /// Something else records already.
    #[error("something else records this process's metrics already")]
    Taken,
}

/// What was recorded so far. Cheap to clone; all are one.
#[derive(Clone, Debug)]
pub struct Recorder(PrometheusHandle);

/// Begins to record, for the whole process; what recorded before stays.
pub fn install() -> Result<Recorder, RecorderError> {
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*installed {
        return Ok(Recorder(handle.clone()));
    }
    let durations = Matcher::Suffix("_duration_seconds".to_owned());
    let builder = PrometheusBuilder::new().set_buckets_for_metric(durations, &SECONDS);
    let recorder = builder.map_err(RecorderError::Buckets)?.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| RecorderError::Taken)?;
    start_recording();
    for metric in METRICS {
        match metric.kind {
            Kind::Counter => {
                metrics::describe_counter!(metric.name, metric.help);
                if metric.labels.is_empty() {
                    // There from the start: what has not happened yet is 0 and not unknown.
                    metrics::counter!(metric.name).increment(0);
                }
            }
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
            Kind::Histogram => metrics::describe_histogram!(metric.name, metric.help),
        }
    }
    *installed = Some(handle.clone());
    Ok(Recorder(handle))
}

impl Recorder {
    /// All of it, in Prometheus' text format, version 0.0.4.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Sorts new samples into their buckets; they pile up where nobody does.
    pub fn tidy(&self) {
        self.0.run_upkeep();
    }
}
