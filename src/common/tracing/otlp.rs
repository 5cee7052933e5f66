//! Traces to a collector, over OTLP and gRPC.
//!
//! The SDK does the work: a bounded queue that drops what does not fit, a thread that sends
//! batches, `OTEL_*` variables that say how (config's table names those it reads). Here is only
//! what it leaves open: whether it runs, where to, who we are, and a word when the collector is
//! away.

use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{Key, KeyValue, Value};
use opentelemetry_otlp::{
    ExporterBuildError, OTEL_EXPORTER_OTLP_TIMEOUT, OTEL_EXPORTER_OTLP_TIMEOUT_DEFAULT,
    OTEL_EXPORTER_OTLP_TRACES_TIMEOUT, WithExportConfig as _, WithTonicConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use thiserror::Error;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use tracing::{Subscriber, info, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::registry::LookupSpan;

use super::spans::TARGET;
use crate::common::metrics::table::TRACE_SPANS;

/// What we are called where nobody says otherwise.
const SERVICE: &str = "pocketquant";
/// How long a connection to the collector may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// Where traces are sent.
#[derive(Clone, Copy, Debug)]
pub struct Collector<'a> {
    /// An http or https URL.
    pub endpoint: &'a str,
    /// A file of roots (PEM) to trust besides the public ones, for https.
    pub roots: Option<&'a Path>,
}

/// Why no traces can be sent.
#[derive(Debug, Error)]
pub enum TraceError {
    /// The collector's address cannot be used.
    #[error("OTEL_EXPORTER_OTLP_ENDPOINT cannot be used")]
    Endpoint(#[source] tonic::transport::Error),
    /// The file of roots cannot be read.
    #[error("OTEL_EXPORTER_OTLP_CERTIFICATE cannot be read")]
    Roots(#[source] io::Error),
    /// Another `OTEL_*` variable cannot be used.
    #[error("traces cannot be set up; check the OTEL_* variables")]
    Exporter(#[source] ExporterBuildError),
}

/// The layer that sends spans to the collector. Connects when there is something to send. To be
/// called within a runtime.
pub(super) fn layer<S>(
    collector: Collector<'_>,
) -> Result<impl Layer<S> + Send + Sync + use<S>, TraceError>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    // The SDK bounds what it does between tries, and leaves a try to the channel.
    let patience = patience();
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_timeout(patience)
        .with_channel(endpoint(collector, patience)?.connect_lazy())
        .build()
        .map_err(TraceError::Exporter)?;
    let exporter = Telling { inner: exporter, failing: AtomicBool::new(false) };
    let provider = SdkTracerProvider::builder()
        .with_resource(resource())
        .with_batch_exporter(exporter)
        .build();
    let tracer = provider.tracer(SERVICE);
    // A second one could not be installed either: there is one subscriber a process.
    drop(PROVIDER.set(provider));
    let ours = filter_fn(|metadata| metadata.is_span() && metadata.target() == TARGET)
        .with_max_level_hint(LevelFilter::INFO);
    let layer = tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_context_activation(false);
    Ok(layer.with_filter(ours))
}

/// How long a delivery may take, as the SDK reads it.
fn patience() -> Duration {
    let names = [OTEL_EXPORTER_OTLP_TRACES_TIMEOUT, OTEL_EXPORTER_OTLP_TIMEOUT];
    let millis = names.into_iter().find_map(|name| std::env::var(name).ok()?.parse().ok());
    millis.map_or(OTEL_EXPORTER_OTLP_TIMEOUT_DEFAULT, Duration::from_millis)
}

/// A channel whose calls end after `patience`. A connection that is silent for so long while it is
/// called is asked whether it lives, and left if it does not answer for as long.
fn endpoint(
    Collector { endpoint, roots }: Collector<'_>,
    patience: Duration,
) -> Result<Endpoint, TraceError> {
    let channel = Endpoint::from_shared(endpoint.to_owned())
        .map_err(TraceError::Endpoint)?
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(patience)
        .http2_keep_alive_interval(patience)
        .keep_alive_timeout(patience);
    if !endpoint.starts_with("https:") {
        return Ok(channel);
    }
    let public = webpki_roots::TLS_SERVER_ROOTS.iter().cloned();
    let mut tls = ClientTlsConfig::new().trust_anchors(public);
    if let Some(path) = roots {
        let roots = std::fs::read(path).map_err(TraceError::Roots)?;
        tls = tls.ca_certificate(Certificate::from_pem(roots));
    }
    channel.tls_config(tls).map_err(TraceError::Endpoint)
}

/// Sends what is still queued, `limit` at most, and collects no more. Where no traces are sent
/// there is nothing to do.
pub async fn flush(limit: Duration) {
    let Some(provider) = PROVIDER.get() else { return };
    let stop = move || provider.shutdown_with_timeout(limit);
    let stopped = tokio::time::timeout(limit, tokio::task::spawn_blocking(stop)).await;
    if !matches!(stopped, Ok(Ok(Ok(())))) {
        warn!("the last traces could not be delivered");
    }
}

/// Who sends: the SDK's answer, which knows the `OTEL_*` variables, and our name in place of
/// "unknown".
fn resource() -> Resource {
    let said = Resource::builder().build();
    let name = said.get(&Key::from_static_str("service.name"));
    let is_named = name.is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let version = KeyValue::new("service.version", Value::from(env!("CARGO_PKG_VERSION")));
    let ours = Resource::builder().with_attribute(version);
    if is_named { ours.build() } else { ours.with_service_name(SERVICE).build() }
}

/// An exporter that says once that the collector is away, and once that it is back.
#[derive(Debug)]
struct Telling<E> {
    inner: E,
    failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Telling<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let result = self.inner.export(batch).await;
        let was_failing = self.failing.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Ok(()) if was_failing => info!("the trace collector is back"),
            Err(error) if !was_failing => {
                warn!(%error, "the trace collector is away; traces are lost until it is back");
            }
            Ok(()) | Err(_) => {}
        }
        let outcome = if result.is_ok() { "delivered" } else { "lost" };
        TRACE_SPANS.with([outcome]).increment(spans);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
