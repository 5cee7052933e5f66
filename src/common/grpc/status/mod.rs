//! The only place that builds a [`Status`]: from our errors, and from what tonic answers itself.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Uri};
use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use tracing::{debug, error, warn};

use super::CallError;
use crate::common::constants::{ERROR_DOMAIN, RETRY_AFTER_OUTAGE};
use crate::common::error::{Coded, ErrorCode, InvalidFields, StatusCode, with_causes};
use crate::common::idempotency::Answer;
use crate::common::tracing::CorrelationId;

/// Violations that a status carries at most: it travels in a header, which clients bound.
const MAX_VIOLATIONS: usize = 50;
/// Longest text in a status, in bytes.
const MAX_TEXT: usize = 1_024;
/// The status' details travel in this header.
const DETAILS_HEADER: &str = "grpc-status-details-bin";

/// Turns an error into what the caller sees, and logs its cause once where it is not theirs.
///
/// What is INTERNAL says nothing but the correlation id; the log has the rest.
pub fn to_status(error: &dyn Coded) -> Status {
    let code = error.code();
    log(error, code);
    if code == ErrorCode::Internal {
        return internal();
    }
    let mut details = details(code, error.metadata());
    let violations = error.violations();
    for violation in violations.iter().take(MAX_VIOLATIONS) {
        let description = shorten(&violation.description);
        details.add_bad_request_violation(shorten(&violation.field), description);
    }
    if let Some((subject, description)) = error.quota() {
        details.add_quota_failure_violation(subject, description);
    }
    if let Some((kind, name)) = error.resource() {
        details.set_resource_info(kind, shorten(&name), "", "");
    }
    if let Some(delay) = error.retry_after().or_else(|| default_retry(code)) {
        details.set_retry_info(Some(delay));
    }
    Status::with_error_details(tonic_code(code), shorten(&error.to_string()), details)
}

/// The same as a message, for what fails inside an answer that goes on.
pub fn to_rpc_status(error: &dyn Coded) -> tonic_types::Status {
    tonic_types::Status::decode(to_status(error).details()).unwrap_or_default()
}

/// What is kept of `status`, for [`from_answer`].
pub(super) fn answer_of(status: &Status) -> Answer {
    Answer {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Bytes::copy_from_slice(status.details()),
        body: Bytes::new(),
    }
}

/// The failure that was kept, as it was; nothing where the answer is no failure.
pub(super) fn from_answer(answer: &Answer) -> Option<Status> {
    let Answer { code, message, details, body: _ } = answer;
    let code = Code::from_i32(*code);
    (code != Code::Ok).then(|| Status::with_details(code, message, details.clone()))
}

/// Completes a status that tonic wrote without details (unknown method, message too large,
/// unreadable message) into `headers` or trailers. What has details, or is OK, stays as it is.
///
/// `before_answer` tells the head of an answer from its trailers: what tonic finds INTERNAL
/// before a handler ran is a request it cannot read, which is the caller's mistake.
pub(super) fn complete(headers: &mut HeaderMap, uri: &Uri, before_answer: bool) {
    if headers.contains_key(DETAILS_HEADER) {
        return;
    }
    let Some(found) = Status::from_header_map(headers) else { return };
    let Some(status) = completed(&found, uri, before_answer) else { return };
    headers.remove("grpc-message");
    if status.add_header(headers).is_err() {
        warn!("a status could not be written as headers");
    }
}

fn completed(found: &Status, uri: &Uri, before_answer: bool) -> Option<Status> {
    let message = shorten(found.message());
    let plain = |code: ErrorCode| {
        let details = details(code, Vec::new());
        Some(Status::with_error_details(found.code(), message.clone(), details))
    };
    match found.code() {
        Code::Unimplemented => Some(unknown_method(&message, uri)),
        Code::OutOfRange => plain(ErrorCode::MessageTooLarge),
        Code::Internal if before_answer => {
            Some(to_status(&InvalidFields::new("", format!("cannot be read: {message}"))))
        }
        Code::Internal => {
            error!(error = message, "an answer could not be sent");
            Some(internal())
        }
        Code::InvalidArgument => plain(ErrorCode::InvalidFields),
        Code::DeadlineExceeded => plain(ErrorCode::DeadlineExceeded),
        Code::Cancelled => plain(ErrorCode::Cancelled),
        Code::Unauthenticated => plain(ErrorCode::Unauthenticated),
        Code::PermissionDenied => plain(ErrorCode::PermissionDenied),
        Code::Ok
        | Code::Unknown
        | Code::NotFound
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unavailable
        | Code::DataLoss => None,
    }
}

/// The status for an error that a layer below let through.
pub(super) fn from_layer(error: Box<dyn std::error::Error + Send + Sync>) -> Status {
    if error.is::<tower::load_shed::error::Overloaded>() {
        return to_status(&CallError::Overloaded);
    }
    Status::try_from_error(error).unwrap_or_else(|error| {
        error!(error = with_causes(&*error), "a call failed below its handler");
        internal()
    })
}

/// The name of a status code as gRPC writes it.
pub(super) fn code_name(code: Code) -> &'static str {
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

fn internal() -> Status {
    let id = CorrelationId::current().unwrap_or_else(CorrelationId::generate);
    let details = details(ErrorCode::Internal, vec![("correlation_id", id.to_string())]);
    Status::with_error_details(Code::Internal, format!("internal error; its id is `{id}`"), details)
}

fn unknown_method(message: &str, uri: &Uri) -> Status {
    let method = shorten(uri.path());
    let message = if message.is_empty() {
        format!("there is no service or method `{method}`")
    } else {
        message.to_owned()
    };
    let details = details(ErrorCode::MethodUnknown, vec![("method", method)]);
    Status::with_error_details(Code::Unimplemented, message, details)
}

fn details(code: ErrorCode, metadata: Vec<(&'static str, String)>) -> ErrorDetails {
    let metadata: HashMap<String, String> =
        metadata.into_iter().map(|(name, value)| (name.to_owned(), shorten(&value))).collect();
    ErrorDetails::with_error_info(code.reason(), ERROR_DOMAIN, metadata)
}

fn log(failure: &dyn Coded, code: ErrorCode) {
    let reason = code.reason();
    let error = with_causes(failure);
    // Our own stop is nobody's trouble, and who calls too often fills no log: the line of the call
    // says it.
    let is_limit =
        matches!(code, ErrorCode::Overloaded | ErrorCode::RateLimited | ErrorCode::StreamLimit);
    if is_limit || code == ErrorCode::Draining {
        debug!(error, reason, "a call was ended: {error}");
        return;
    }
    match code.status() {
        StatusCode::Internal => error!(error, reason, "a call failed: {error}"),
        StatusCode::Unavailable | StatusCode::ResourceExhausted => {
            warn!(error, reason, "a call failed: {error}");
        }
        StatusCode::Cancelled
        | StatusCode::InvalidArgument
        | StatusCode::DeadlineExceeded
        | StatusCode::NotFound
        | StatusCode::PermissionDenied
        | StatusCode::FailedPrecondition
        | StatusCode::Aborted
        | StatusCode::OutOfRange
        | StatusCode::Unimplemented
        | StatusCode::Unauthenticated => debug!(error, reason, "a call was refused: {error}"),
    }
}

/// `RetryInfo` for what the contract promises it for, where the error itself knows no better.
fn default_retry(code: ErrorCode) -> Option<Duration> {
    let promised = code.status() == StatusCode::Unavailable
        || matches!(code, ErrorCode::IdempotencyInProgress | ErrorCode::ProviderRateLimited);
    promised.then_some(RETRY_AFTER_OUTAGE)
}

const fn tonic_code(code: ErrorCode) -> Code {
    match code.status() {
        StatusCode::Cancelled => Code::Cancelled,
        StatusCode::InvalidArgument => Code::InvalidArgument,
        StatusCode::DeadlineExceeded => Code::DeadlineExceeded,
        StatusCode::NotFound => Code::NotFound,
        StatusCode::PermissionDenied => Code::PermissionDenied,
        StatusCode::ResourceExhausted => Code::ResourceExhausted,
        StatusCode::FailedPrecondition => Code::FailedPrecondition,
        StatusCode::Aborted => Code::Aborted,
        StatusCode::OutOfRange => Code::OutOfRange,
        StatusCode::Unimplemented => Code::Unimplemented,
        StatusCode::Internal => Code::Internal,
        StatusCode::Unavailable => Code::Unavailable,
        StatusCode::Unauthenticated => Code::Unauthenticated,
    }
}

/// At most [`MAX_TEXT`] bytes of `text`, whole characters, with a mark where something is missing.
fn shorten(text: &str) -> String {
    if text.len() <= MAX_TEXT {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(MAX_TEXT);
    format!("{}...", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests;
