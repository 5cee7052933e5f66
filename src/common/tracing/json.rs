//! JSON log lines with the ids of call and trace at their top level, where log stores look.

use std::fmt;

use serde_json::{Map, Value};
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

/// A field of lines that come through the bridge from the `log` crate. The format has made their
/// target of it, and shows it once more with its like, the path of a library's source among them.
const BRIDGED: &str = "log.target";
/// What the names of the bridge's fields begin with.
const BRIDGE: &str = "log.";

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
        if event.metadata().fields().field(BRIDGED).is_some() {
            line = without_bridge(line);
        }
        let ids = context.event_scope().into_iter().flatten().fold(Ids::default(), |ids, span| {
            span.extensions().get::<Ids>().map_or_else(|| ids.clone(), |own| ids.clone().or(own))
        });
        let Some(rest) = line.strip_prefix('{') else { return writer.write_str(&line) };
        writer.write_char('{')?;
        for (name, id) in LIFTED.iter().zip(ids.0) {
            if let Some(id) = id {
                write!(writer, "\"{name}\":{},", Value::from(id))?;
            }
        }
        writer.write_str(rest)
    }
}

/// `line` without the fields that the bridge added.
fn without_bridge(line: String) -> String {
    let Ok(mut fields) = serde_json::from_str::<Map<String, Value>>(&line) else { return line };
    fields.retain(|name, _| !name.starts_with(BRIDGE));
    format!("{}\n", Value::from(fields))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tracing_log::{format_trace, log};

    use crate::common::tracing::{Lines, LogFormat};

    #[test]
    fn a_line_of_the_log_crate_has_its_target_and_no_other_field_of_the_bridge() {
        let (lines, _guard) = Lines::capture(LogFormat::Json);
        let write = |path: &'static str| {
            let mut record = log::Record::builder();
            record.level(log::Level::Warn).target("fred::router").line(Some(7)).file(Some(path));
            format_trace(&record.args(format_args!("it is \"away\"")).build()).unwrap();
        };
        let call = tracing::error_span!("call", correlation_id = "find-me");
        call.in_scope(|| write("/home/builder/fred/src/router.rs"));
        let [line] = &lines.json()[..] else { panic!("{}", lines.text()) };
        let names: Vec<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
        let expected = ["correlation_id", "level", "message", "spans", "target", "timestamp"];
        assert_eq!(names, expected);
        assert_eq!(line["target"], json!("fred::router"));
        assert_eq!(line["message"], json!("it is \"away\""));
        assert_eq!(line["correlation_id"], json!("find-me"));
    }
}
