//! How failures look on stderr, and what exit code they make.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Style};
use prost::Message as _;
use serde::Serialize;
use thiserror::Error;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status, TimeoutExpired};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::output::colours;
use crate::common::constants::HEADER_CORRELATION_ID;
use crate::common::error::{cause, with_causes};

/// What to think of when nobody answers.
const ABSENT: &str =
    "is `pocketquant serve` running? --server (or POCKETQUANT_SERVER) names another one";
/// What to think of when what answers does not speak TLS.
const NOT_ENCRYPTED: &str = "is the server's port encrypted? Where it is not, give `http://`";
/// What to think of when nobody whom we trust vouches for the server.
const NOT_TRUSTED: &str = "we do not trust whoever signed its certificate: --tls-ca names a PEM file to trust besides the public ones";
/// What to think of when a connection breaks.
const BROKEN: &str = "the connection broke: did the server stop, and is it PocketQuant's? `https://` where it is encrypted, else `http://`";

/// The reader of our output went away, as `head` does: nothing to complain about.
#[derive(Clone, Copy, Debug, Error)]
#[error("nobody reads the output")]
pub(super) struct ClosedPipe;

/// A mistake on the command line that clap cannot see.
#[derive(Clone, Debug, Error)]
#[error("{0}")]
pub(super) struct UsageMistake(pub(super) String);

/// The server cannot be reached.
#[derive(Debug, Error)]
#[error("cannot reach {server}: {reason}\n  {hint}")]
pub(super) struct Unreachable {
    server: String,
    reason: String,
    hint: &'static str,
}

impl Unreachable {
    /// `server` did not answer, as `reason` says.
    pub(super) fn silent(server: String, reason: String) -> Self {
        Self { server, reason, hint: ABSENT }
    }

    /// No connection to `server` came about.
    pub(super) fn failed(server: String, error: &(dyn Error + 'static)) -> Self {
        use rustls::{CertificateError, Error as Tls};
        let hint = match cause::<Tls>(error) {
            Some(Tls::InvalidMessage(_)) => NOT_ENCRYPTED,
            Some(Tls::InvalidCertificate(CertificateError::UnknownIssuer)) => NOT_TRUSTED,
            Some(_) | None => ABSENT,
        };
        Self { server, reason: with_causes(error), hint }
    }
}

/// A call that the server refused, or that broke: all that it said about it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct CallError {
    /// The gRPC code's name.
    pub(super) code: &'static str,
    /// In words.
    pub(super) message: String,
    /// The reason that programs act on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violations: Vec<Violation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    quotas: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    /// How long to wait before it is worth trying again, where the server says so.
    #[serde(skip)]
    pub(super) retry_delay: Option<Duration>,
    /// Whether the connection broke, rather than the server having answered.
    #[serde(skip)]
    pub(super) broken: bool,
}

#[derive(Clone, Debug, Serialize)]
struct Violation {
    field: String,
    description: String,
}

impl CallError {
    /// Reads the details of `status`, the answer of a call that was given `timeout`.
    pub(super) fn new(status: &Status, timeout: Option<Duration>) -> Self {
        let ran_out = status.code() == Code::Cancelled && is_timeout(status);
        if ran_out || status.code() == Code::DeadlineExceeded && status.details().is_empty() {
            return Self::timed_out(timeout);
        }
        let details = status.get_error_details();
        let mut error = Self::plain(code_name(status.code()), message(status));
        error.correlation_id = correlation_id(status.metadata());
        error.read_details(&details);
        error.broken = status.source().is_some();
        if error.broken {
            error.metadata.insert("hint".to_owned(), BROKEN.to_owned());
        }
        error
    }

    /// Reads an error that came inside an answer.
    pub(super) fn inside(status: &tonic_types::Status) -> Self {
        let (code, details) = (Code::from_i32(status.code), status.encode_to_vec());
        Self::new(&Status::with_details(code, status.message.clone(), details.into()), None)
    }

    /// Remembers the call in whose answer it came.
    pub(super) fn of_call(self, metadata: &MetadataMap) -> Self {
        Self { correlation_id: correlation_id(metadata), ..self }
    }

    /// The server stopped talking, or ended what should not end, as `message` says.
    pub(super) fn gone(message: String) -> Self {
        Self { broken: true, ..Self::plain(code_name(Code::Unavailable), message) }
    }

    /// In one line.
    pub(super) fn brief(&self) -> String {
        format!("{}: {}", self.code, self.message)
    }

    /// There was no answer in time.
    pub(super) fn timed_out(timeout: Option<Duration>) -> Self {
        let within =
            timeout.map(|timeout| format!(" within {}", humantime::format_duration(timeout)));
        let message = format!("the server did not answer{}", within.unwrap_or_default());
        Self::plain(code_name(Code::DeadlineExceeded), message)
    }

    fn plain(code: &'static str, message: String) -> Self {
        Self {
            code,
            message,
            reason: None,
            violations: Vec::new(),
            resource: None,
            quotas: Vec::new(),
            metadata: BTreeMap::new(),
            retry_after: None,
            correlation_id: None,
            retry_delay: None,
            broken: false,
        }
    }

    fn read_details(&mut self, details: &ErrorDetails) {
        if let Some(info) = details.error_info() {
            self.reason = Some(info.reason.clone());
            self.metadata = info.metadata.clone().into_iter().collect();
        }
        let violations = details.bad_request().map(|each| each.field_violations.as_slice());
        for each in violations.unwrap_or_default() {
            let (field, description) = (each.field.clone(), each.description.clone());
            self.violations.push(Violation { field, description });
        }
        let resource = details.resource_info();
        self.resource =
            resource.map(|each| format!("{} {}", each.resource_type, each.resource_name));
        let quotas = details.quota_failure().map(|each| each.violations.as_slice());
        for each in quotas.unwrap_or_default() {
            self.quotas.push(format!("{}: {}", each.subject, each.description));
        }
        let delay = details.retry_info().and_then(|each| each.retry_delay);
        self.retry_delay = delay;
        self.retry_after = delay.map(|delay| humantime::format_duration(delay).to_string());
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)?;
        let mut line = |name: &str, value: &str| write!(f, "\n  {name}: {value}");
        if let Some(reason) = &self.reason {
            line("reason", reason)?;
        }
        for Violation { field, description } in &self.violations {
            line(if field.is_empty() { "request" } else { field }, description)?;
        }
        if let Some(resource) = &self.resource {
            line("resource", resource)?;
        }
        for quota in &self.quotas {
            line("limit", quota)?;
        }
        for (name, value) in &self.metadata {
            line(name, value)?;
        }
        if let Some(delay) = &self.retry_after {
            line("retry after", delay)?;
        }
        if let Some(id) = &self.correlation_id {
            line("correlation id", id)?;
        }
        Ok(())
    }
}

impl Error for CallError {}

fn correlation_id(metadata: &MetadataMap) -> Option<String> {
    let header = metadata.get(HEADER_CORRELATION_ID)?;
    header.to_str().ok().map(str::to_owned)
}

/// tonic's own timer says CANCELLED, and keeps no source of it.
fn is_timeout(status: &Status) -> bool {
    status.message() == TimeoutExpired(()).to_string()
}

/// What the server said; of a connection that broke, why it did.
fn message(status: &Status) -> String {
    let mut message = match (status.message(), status.code()) {
        ("", code) => code.description().to_owned(),
        (message, _) => message.to_owned(),
    };
    if let Some(cause) = status.source() {
        let cause = with_causes(cause);
        if !message.contains(&cause) {
            message = format!("{message}: {cause}");
        }
    }
    message
}

/// The code's name as the gRPC specification writes it.
const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Prints why a command failed; its exit code.
pub(super) fn report(error: &anyhow::Error) -> ExitCode {
    if error.is::<ClosedPipe>() {
        return ExitCode::SUCCESS;
    }
    complain(&with_causes(error.as_ref()));
    ExitCode::FAILURE
}

/// Prints something that is no error to stderr.
pub(super) fn remark(text: &str) {
    // Where stderr is closed there is nobody to tell.
    let _unheard = writeln!(io::stderr(), "{text}");
}

/// Prints `error: ...` to stderr.
pub(super) fn complain(text: &str) {
    let style =
        if colours(&io::stderr()) { AnsiColor::Red.on_default().bold() } else { Style::new() };
    // Where stderr is closed there is nobody to tell.
    let _unheard = writeln!(io::stderr(), "{style}error:{style:#} {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_the_server_said_is_shown() {
        let mut details = ErrorDetails::with_bad_request_violation("limit", "must be 1 to 5000");
        details.set_error_info("INVALID_FIELDS", "pocketquant", [("remedy".into(), "ask".into())]);
        details.set_retry_info(Some(Duration::from_millis(1500)));
        details.set_resource_info("symbol", "NYSE:NOPE", "", "");
        let mut status =
            Status::with_error_details(Code::InvalidArgument, "invalid request", details);
        status.metadata_mut().insert(HEADER_CORRELATION_ID, "abc".parse().unwrap());

        let text = CallError::new(&status, None).to_string();

        let lines: Vec<&str> = text.lines().collect();
        let expected = [
            "INVALID_ARGUMENT: invalid request",
            "  reason: INVALID_FIELDS",
            "  limit: must be 1 to 5000",
            "  resource: symbol NYSE:NOPE",
            "  remedy: ask",
            "  retry after: 1s 500ms",
            "  correlation id: abc",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn our_own_timer_is_no_cancellation() {
        let status = Status::from_error(Box::new(TimeoutExpired(())));
        let error = CallError::new(&status, Some(Duration::from_secs(3)));
        let expected = "DEADLINE_EXCEEDED: the server did not answer within 3s";
        assert_eq!(error.to_string(), expected);
    }
}
