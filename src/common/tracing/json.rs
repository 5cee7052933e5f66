//! JSON log lines with the ids of call and trace at their top level, where log stores look.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::{Format, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// What is lifted, in its order on the line.
const LIFTED: [&str; 2] = ["correlation_id", "trace_id"];

/// Keeps each span's own ids where [`CorrelatedJson`] finds them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeepIds;

/// A value for each of [`LIFTED`].
#[derive(Clone, Default)]
struct Ids([Option<String>; LIFTED.len()]);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for KeepIds {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut ids = Ids::default();
        attributes.record(&mut ids);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(ids);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(ids) = span.extensions_mut().get_mut::<Ids>()
        {
            values.record(ids);
        }
    }
}

impl Ids {
    fn keep(&mut self, field: &Field, value: impl FnOnce() -> String) {
        let places = LIFTED.iter().zip(&mut self.0);
        if let Some((_, place)) = places.into_iter().find(|(name, _)| **name == field.name()) {
            *place = Some(value());
        }
    }

    /// What this span does not say is as its parents say it.
    fn or(mut self, parent: &Self) -> Self {
        for (own, inherited) in self.0.iter_mut().zip(&parent.0) {
            *own = own.take().or_else(|| inherited.clone());
        }
        self
    }
}

impl Visit for Ids {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep(field, || value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.keep(field, || format!("{value:?}"));
    }
}

/// tracing-subscriber's JSON line, flat, with the ids first where there are some.
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
        let ids = context.event_scope().into_iter().flatten().fold(Ids::default(), |ids, span| {
            span.extensions().get::<Ids>().map_or_else(|| ids.clone(), |own| ids.clone().or(own))
        });
        let Some(rest) = line.strip_prefix('{') else { return writer.write_str(&line) };
        writer.write_char('{')?;
        for (name, id) in LIFTED.iter().zip(ids.0) {
            if let Some(id) = id {
                write!(writer, "\"{name}\":{},", serde_json::Value::from(id))?;
            }
        }
        writer.write_str(rest)
    }
}
