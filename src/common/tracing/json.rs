//! JSON log lines with the correlation id at their top level, where log stores look for it.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

const FIELD: &str = "correlation_id";

/// Keeps each span's own correlation id where [`CorrelatedJson`] finds it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeepCorrelationId;

struct Kept(String);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for KeepCorrelationId {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut found = Found(None);
        attributes.record(&mut found);
        if let (Some(text), Some(span)) = (found.0, context.span(id)) {
            span.extensions_mut().insert(Kept(text));
        }
    }
}

struct Found(Option<String>);

impl Visit for Found {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == FIELD {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == FIELD {
            self.0 = Some(format!("{value:?}"));
        }
    }
}

/// tracing-subscriber's JSON line, flat, with `correlation_id` first where there is one.
#[derive(Debug)]
pub(super) struct CorrelatedJson {
    inner: Format<Json>,
}

impl CorrelatedJson {
    pub(super) fn new() -> Self {
        let inner = tracing_subscriber::fmt::format()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(true);
        Self { inner }
    }
}

impl<S> FormatEvent<S, JsonFields> for CorrelatedJson
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.inner.format_event(context, Writer::new(&mut line), event)?;
        let id = context.event_scope().into_iter().flatten().find_map(|span| {
            span.extensions().get::<Kept>().map(|Kept(id)| serde_json::Value::from(id.as_str()))
        });
        match (id, line.strip_prefix('{')) {
            (Some(id), Some(rest)) => write!(writer, "{{\"{FIELD}\":{id},{rest}"),
            _ => writer.write_str(&line),
        }
    }
}
