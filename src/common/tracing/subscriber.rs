//! Sets up where log lines go and what they look like.

use std::io::{self, IsTerminal as _};

use thiserror::Error;
use tracing::{Level, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer as _, Registry};

use super::json::{CorrelatedJson, KeepCorrelationId};

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
    /// There is a subscriber already.
    #[error("logging is set up already")]
    Installed(#[source] TryInitError),
}

/// Sends the process's log lines to stderr; colours only on a terminal.
///
/// `filter` is a level or a list of directives: `info`, `pocketquant=debug,warn`. The level `trace`
/// is for our own lines only, whatever it says.
pub fn init(format: LogFormat, filter: &str) -> Result<(), SubscriberError> {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    subscriber(format, filter, colours, io::stderr)?.try_init().map_err(SubscriberError::Installed)
}

/// The subscriber that [`init`] installs, writing to `writer`.
pub fn subscriber<W>(
    format: LogFormat,
    filter: &str,
    colours: bool,
    writer: W,
) -> Result<impl Subscriber + Send + Sync + use<W>, SubscriberError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder()
        .parse(filter)
        .map_err(|source| SubscriberError::Filter { filter: filter.to_owned(), source })?;
    // A library that traces what goes over its wire shows passwords and tokens.
    let wires =
        filter_fn(|line| *line.level() != Level::TRACE || line.target().starts_with(OWN_CRATE));
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match format {
        LogFormat::Console => lines.with_ansi(colours).boxed(),
        LogFormat::Json => {
            lines.json().event_format(CorrelatedJson::new()).with_ansi(false).boxed()
        }
    };
    Ok(Registry::default().with(KeepCorrelationId).with(lines).with(filter).with(wires))
}
