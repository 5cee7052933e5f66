//! What callers find in a status.

use thiserror::Error;

use super::*;
use crate::common::error::{FieldViolation, FieldViolations};

#[derive(Debug, Error)]
#[error("the bars could not be stored")]
struct Failing {
    code: ErrorCode,
    source: std::io::Error,
}

impl Failing {
    fn with(code: ErrorCode) -> Self {
        Self { code, source: std::io::Error::other("password `hush` refused") }
    }
}

impl Coded for Failing {
    fn code(&self) -> ErrorCode {
        self.code
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        vec![("phase", "connect".to_owned())]
    }

    fn resource(&self) -> Option<(&'static str, String)> {
        Some(("symbol", "NASDAQ:AAPL".to_owned()))
    }

    fn quota(&self) -> Option<(String, String)> {
        Some(("me".to_owned(), "20 calls a second".to_owned()))
    }
}

#[test]
fn every_reason_has_its_code_and_error_info() {
    for &code in ErrorCode::ALL {
        let status = to_status(&Failing::with(code));
        assert_eq!(code_name(status.code()), code.status().as_str());
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), (code.reason(), "pocketquant"));
        if code != ErrorCode::Internal {
            assert_eq!(info.metadata["phase"], "connect");
            assert_eq!(details.resource_info().unwrap().resource_name, "NASDAQ:AAPL");
            assert_eq!(details.quota_failure().unwrap().violations[0].subject, "me");
            assert_eq!(status.message(), "the bars could not be stored");
        }
    }
}

#[test]
fn what_is_away_says_when_to_try_again() {
    for &code in ErrorCode::ALL {
        let details = to_status(&Failing::with(code)).get_error_details();
        if code.status() == StatusCode::Unavailable {
            assert!(details.retry_info().unwrap().retry_delay.is_some(), "{code:?}");
        }
    }
    assert!(
        to_status(&Failing::with(ErrorCode::NotSynced)).get_error_details().retry_info().is_none()
    );
}

#[test]
fn internal_says_the_correlation_id_and_nothing_else() {
    let id = CorrelationId::generate();
    let status = id.sync_scope(|| to_status(&Failing::with(ErrorCode::Internal)));
    let details = status.get_error_details();
    assert_eq!(status.message(), format!("internal error; its id is `{id}`"));
    let metadata = &details.error_info().unwrap().metadata;
    assert_eq!(metadata.len(), 1);
    assert_eq!(metadata["correlation_id"], id.as_str());
    assert!(details.resource_info().is_none() && details.quota_failure().is_none());
}

#[test]
fn every_violation_is_in_the_bad_request() {
    let mut violations = FieldViolations::default();
    violations.push("symbols[3]", "is no symbol");
    violations.push("limit", "must be 1 to 5000");
    let status = to_status(&violations.into_result().unwrap_err());
    let details = status.get_error_details();
    let found: Vec<FieldViolation> = details
        .bad_request()
        .unwrap()
        .field_violations
        .iter()
        .map(|each| FieldViolation {
            field: each.field.clone(),
            description: each.description.clone(),
        })
        .collect();
    assert_eq!(found[0].field, "symbols[3]");
    assert_eq!(found[1].description, "must be 1 to 5000");
    assert_eq!(
        status.message(),
        "invalid request: `symbols[3]` is no symbol; `limit` must be 1 to 5000"
    );
}

#[test]
fn a_status_stays_small_whatever_the_request_was() {
    let mut violations = FieldViolations::default();
    for index in 0..100_000 {
        violations.push(format!("symbols[{index}]"), "is no symbol");
    }
    let status = to_status(&violations.into_result().unwrap_err());
    let details = status.get_error_details();
    assert_eq!(details.bad_request().unwrap().field_violations.len(), MAX_VIOLATIONS);
    assert!(status.message().len() <= MAX_TEXT + 3 && status.details().len() < 8_192);
    assert_eq!(shorten(&"ü".repeat(1_000)).len(), MAX_TEXT + 3);
}

fn completed_headers(code: Code, message: &str, before_answer: bool) -> Status {
    let mut headers = HeaderMap::new();
    Status::new(code, message).add_header(&mut headers).unwrap();
    complete(&mut headers, &Uri::from_static("/a.B/C"), before_answer);
    Status::from_header_map(&headers).unwrap()
}

#[test]
fn what_tonic_answers_itself_gets_details_too() {
    let cases = [
        (Code::Unimplemented, true, Code::Unimplemented, "METHOD_UNKNOWN"),
        (Code::OutOfRange, true, Code::OutOfRange, "MESSAGE_TOO_LARGE"),
        (Code::OutOfRange, false, Code::OutOfRange, "MESSAGE_TOO_LARGE"),
        (Code::Internal, true, Code::InvalidArgument, "INVALID_FIELDS"),
        (Code::Internal, false, Code::Internal, "INTERNAL"),
    ];
    for (found, before_answer, code, reason) in cases {
        let status = completed_headers(found, "", before_answer);
        assert_eq!(status.code(), code);
        assert_eq!(status.get_error_details().error_info().unwrap().reason, reason);
    }
    let unknown = completed_headers(Code::Unimplemented, "", true);
    assert_eq!(unknown.message(), "there is no service or method `/a.B/C`");
}

#[test]
fn what_is_ok_or_has_details_stays_as_it_is() {
    let mut headers = HeaderMap::new();
    to_status(&Failing::with(ErrorCode::NotSynced)).add_header(&mut headers).unwrap();
    let before = headers.clone();
    complete(&mut headers, &Uri::from_static("/a.B/C"), true);
    assert_eq!(headers, before);
    assert!(completed_headers(Code::Ok, "", false).details().is_empty());
    assert!(completed_headers(Code::NotFound, "service not registered", true).details().is_empty());
}
