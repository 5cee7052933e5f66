//! The one vocabulary of failure that every layer translates into; it knows no transport.

use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use thiserror::Error;

mod table;

pub use table::{ErrorCode, StatusCode, error_table};

/// An error that knows how its caller should see it.
///
/// Its `Display` is what the caller reads, so it holds no secret and no cause; the cause is the
/// `source()`, which is logged where the error is ours.
pub trait Coded: Error + Send + Sync + 'static {
    /// The reason that the caller sees.
    fn code(&self) -> ErrorCode;

    /// Facts that a program can act on, by name.
    fn metadata(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// What is wrong with the request, field by field.
    fn violations(&self) -> Vec<FieldViolation> {
        Vec::new()
    }

    /// When it may help to try again.
    fn retry_after(&self) -> Option<Duration> {
        None
    }

    /// The thing that the error is about: its type and its name.
    fn resource(&self) -> Option<(&'static str, String)> {
        None
    }

    /// The limit that was reached: whose it is, and what it is in words.
    fn quota(&self) -> Option<(String, String)> {
        None
    }

    /// Whether the same call may succeed later without anybody doing anything.
    fn is_transient(&self) -> bool {
        self.code().is_transient()
    }
}

/// What cannot fail needs no code.
impl Coded for Infallible {
    fn code(&self) -> ErrorCode {
        match *self {}
    }
}

/// What is wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// The field's path as in the request: `limit`, `symbols[3]`; empty for the request itself.
    pub field: String,
    /// What it must be, in words.
    pub description: String,
}

/// A request whose fields are wrong: every violation at once, at least one.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{}", self.summary())]
pub struct InvalidFields {
    violations: Vec<FieldViolation>,
}

impl InvalidFields {
    /// One violation.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        let violation = FieldViolation { field: field.into(), description: description.into() };
        Self { violations: vec![violation] }
    }

    fn summary(&self) -> String {
        let each: Vec<String> = self
            .violations
            .iter()
            .map(|FieldViolation { field, description }| match field.as_str() {
                "" => description.clone(),
                field => format!("`{field}` {description}"),
            })
            .collect();
        format!("invalid request: {}", each.join("; "))
    }
}

impl Coded for InvalidFields {
    fn code(&self) -> ErrorCode {
        ErrorCode::InvalidFields
    }

    fn violations(&self) -> Vec<FieldViolation> {
        self.violations.clone()
    }
}

/// Collects the violations of a request while it is being read.
///
/// ```
/// use pocketquant::common::error::FieldViolations;
///
/// let mut violations = FieldViolations::default();
/// let limit = violations.check("limit", "12".parse::<u8>());
/// let order = violations.check("order", "up".parse::<u8>());
/// assert_eq!((limit, order), (Some(12), None));
/// assert!(violations.into_result().is_err());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldViolations {
    violations: Vec<FieldViolation>,
}

impl FieldViolations {
    /// Notes that `field` is wrong.
    pub fn push(&mut self, field: impl Into<String>, description: impl Into<String>) {
        let violation = FieldViolation { field: field.into(), description: description.into() };
        self.violations.push(violation);
    }

    /// The value, or nothing and a note of what is wrong with `field`.
    pub fn check<T>(&mut self, field: &str, result: Result<T, impl Error>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.push(field, error.to_string());
                None
            }
        }
    }

    /// The value, or nothing and a note that `field` is required.
    pub fn require<T>(&mut self, field: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.push(field, "is required");
        }
        value
    }

    /// Whether nothing is wrong so far.
    pub fn is_empty(&self) -> bool {
        self.violations.is_empty()
    }

    /// Nothing, or all that is wrong.
    pub fn into_result(self) -> Result<(), InvalidFields> {
        if self.violations.is_empty() {
            Ok(())
        } else {
            Err(InvalidFields { violations: self.violations })
        }
    }

    /// The request that `build` makes of checked parts, or all that is wrong.
    ///
    /// `build` answers with nothing when a part is missing, and then something must be noted;
    /// should nothing be, the request as a whole is refused.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, InvalidFields> {
        self.into_result()?;
        value.ok_or_else(|| InvalidFields::new("", "is incomplete"))
    }
}

/// The error and everything that caused it, in one line: `outer: middle: inner`.
///
/// A cause that its outer error already ends with is not said twice.
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// The first `E` among the error and everything that caused it. An I/O error hides what it wraps
/// from `source`, and may wrap another one.
pub fn cause<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    fn unwrapped<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        wrapped.map_or(error, |wrapped| unwrapped(wrapped))
    }
    let mut causes = std::iter::successors(Some(error), |&error| error.source());
    causes.find_map(|cause| unwrapped(cause).downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_violations_come_back_at_once() {
        let mut violations = FieldViolations::default();
        violations.push("symbols[3]", "must be `EXCHANGE:CODE`");
        let limit: Option<i32> = violations.check("limit", "x".parse::<i32>());
        let interval: Option<i32> = violations.require("interval", None);

        let error = violations.finish(limit.zip(interval)).unwrap_err();

        let fields: Vec<String> = error.violations().into_iter().map(|each| each.field).collect();
        assert_eq!(fields, ["symbols[3]", "limit", "interval"]);
        assert_eq!(error.code(), ErrorCode::InvalidFields);
        assert!(error.to_string().contains("`limit` invalid digit"), "{error}");
    }

    #[test]
    fn a_request_without_violations_is_built() {
        assert_eq!(FieldViolations::default().finish(Some(7)), Ok(7));
    }

    #[test]
    fn causes_are_said_once_and_in_order() {
        #[derive(Debug, Error)]
        #[error("inner")]
        struct Inner;
        #[derive(Debug, Error)]
        #[error("outer")]
        struct Outer(#[source] Inner);

        assert_eq!(with_causes(&Outer(Inner)), "outer: inner");
    }
}
