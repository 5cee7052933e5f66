//! Sets up where log lines go and what they look like.

use std::io::{self, IsTerminal as _};

use thiserror::Error;
use tracing::{Level, Subscriber};
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry};

use super::json::{CorrelatedJson, KeepIds};
use super::otlp::{self, Collector, TraceError};
use super::spans::TARGET;

/// Our own lines' targets begin with it.
const OWN_CRATE: &str = "pocketquant";

/// What log lines look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Console,
    /// One JSON object a line.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, Error)]
pub enum SubscriberError {
    /// The filter is none.
    #[error("`{filter}` is no log filter")]
    Filter {
        /// What was asked for.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Traces cannot be sent.
    #[error(transparent)]
    Traces(#[from] TraceError),
    /// There is a subscriber already.
    #[error("logging is set up already")]
    Installed(#[source] TryInitError),
}

/// Sends the process's log lines to stderr; colours only on a terminal. Sends traces to the
/// `collector`, where one is given; [`flush`](super::flush) at the end.
///
/// `filter` is a level or a list of directives: `info`, `pocketquant=debug,warn`. The level `trace`
/// is for our own lines only, whatever it says.
pub fn init(
    format: LogFormat,
    filter: &str,
    collector: Option<Collector<'_>>,
) -> Result<(), SubscriberError> {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut layers = vec![lines(format, filter, colours, io::stderr)?];
    if let Some(collector) = collector {
        layers.push(otlp::layer(collector)?.boxed());
    }
    Registry::default().with(layers).try_init().map_err(SubscriberError::Installed)
}

/// The subscriber that [`init`] installs, without traces, writing to `writer`.
pub fn subscriber<W>(
    format: LogFormat,
    filter: &str,
    colours: bool,
    writer: W,
) -> Result<impl Subscriber + Send + Sync + use<W>, SubscriberError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    Ok(Registry::default().with(lines(format, filter, colours, writer)?))
}

/// The layer that writes log lines.
fn lines<W>(
    format: LogFormat,
    filter: &str,
    colours: bool,
    writer: W,
) -> Result<Box<dyn Layer<Registry> + Send + Sync>, SubscriberError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let refused = |source| SubscriberError::Filter { filter: filter.to_owned(), source };
    let filter = EnvFilter::builder().parse(filter).map_err(refused)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match format {
        LogFormat::Console => lines.with_ansi(colours).boxed(),
        LogFormat::Json => {
            lines.json().event_format(CorrelatedJson::new()).with_ansi(false).boxed()
        }
    };
    // The spans of traces are for the collector only. And a library that traces what goes over its
    // wire shows passwords and tokens.
    let logged = filter_fn(|line| {
        let is_ours = line.target().starts_with(OWN_CRATE);
        line.target() != TARGET && (*line.level() != Level::TRACE || is_ours)
    });
    Ok(KeepIds.and_then(lines).with_filter(filter.and(logged)).boxed())
}
