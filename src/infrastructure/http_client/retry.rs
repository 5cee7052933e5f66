//! When a request is tried again.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use http::StatusCode;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

use super::error::is_transient_status;
use super::{HttpAnswer, HttpError, RetryRules};

/// The pauses that are left for one request.
pub(super) struct Retries {
    pauses: ExponentialBackoff,
    longest: Duration,
}

impl Retries {
    /// `rules`' pauses with jitter: each is up to twice as long.
    pub(super) fn new(rules: &RetryRules, repeatable: bool) -> Self {
        let pauses = ExponentialBuilder::new()
            .with_max_times(if repeatable { rules.times } else { 0 })
            .with_min_delay(rules.first)
            .with_max_delay(rules.longest)
            .with_jitter();
        Self { pauses: pauses.build(), longest: rules.longest }
    }

    /// How long to wait before the next try after `outcome`; none where there is none.
    pub(super) fn pause_after(
        &mut self,
        outcome: &Result<HttpAnswer, HttpError>,
    ) -> Option<Duration> {
        let asked = match outcome {
            Ok(answer) if is_transient_status(answer.status) => answer.retry_after(),
            Err(error) if error.is_transient() => error.retry_after(),
            Ok(_) | Err(_) => return None,
        };
        let told_to_slow_down =
            outcome.as_ref().is_ok_and(|answer| answer.status == StatusCode::TOO_MANY_REQUESTS);
        if told_to_slow_down && asked.is_none() {
            return None;
        }
        let asked = asked.unwrap_or_default();
        if asked > self.longest {
            return None;
        }
        self.pauses.next().map(|pause| pause.max(asked))
    }
}

/// What a `Retry-After` asks for at `now`: seconds, or a date (RFC 9110, section 10.2.3).
pub fn retry_after(header: &str, now: Timestamp) -> Option<Duration> {
    let header = header.trim();
    if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        // More seconds than fit are many.
        return Some(Duration::from_secs(header.parse().unwrap_or(u32::MAX).into()));
    }
    let date = DateTimeParser::new().parse_timestamp(header).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::header::{HeaderMap, RETRY_AFTER};

    use super::*;

    fn answer(status: StatusCode, retry_after: Option<&str>) -> HttpAnswer {
        let mut headers = HeaderMap::new();
        if let Some(retry_after) = retry_after {
            headers.insert(RETRY_AFTER, retry_after.parse().unwrap());
        }
        HttpAnswer { host: "host".to_owned(), status, headers, body: Bytes::new() }
    }

    fn retries(repeatable: bool) -> Retries {
        Retries::new(&RetryRules::default(), repeatable)
    }

    #[test]
    fn both_forms_of_retry_after_are_read() {
        let now: Timestamp = "2015-10-21T07:28:00Z".parse().unwrap();
        let cases = [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Wed, 21 Oct 2015 07:28:30 GMT", Some(30)),
            ("Wed, 21 Oct 2015 07:27:00 GMT", Some(0)),
            ("99999999999999999999", Some(u64::from(u32::MAX))),
            ("-1", None),
            ("soon", None),
            ("", None),
        ];
        for (header, seconds) in cases {
            assert_eq!(retry_after(header, now), seconds.map(Duration::from_secs), "{header}");
        }
    }

    #[test]
    fn pauses_double_and_end() {
        let rules = RetryRules::default();
        let mut retries = retries(true);
        let trouble = Ok(answer(StatusCode::BAD_GATEWAY, None));
        let first = retries.pause_after(&trouble).unwrap();
        let second = retries.pause_after(&trouble).unwrap();
        assert!(rules.first <= first && first <= 2 * rules.first, "{first:?}");
        assert!(2 * rules.first <= second && second <= 4 * rules.first, "{second:?}");
        assert_eq!(retries.pause_after(&trouble), None);
    }

    #[test]
    fn what_changes_things_is_not_tried_again() {
        let trouble = Ok(answer(StatusCode::BAD_GATEWAY, None));
        assert_eq!(retries(false).pause_after(&trouble), None);
    }

    #[test]
    fn answers_that_will_not_change_are_taken() {
        for status in [StatusCode::OK, StatusCode::FORBIDDEN, StatusCode::NOT_IMPLEMENTED] {
            assert_eq!(retries(true).pause_after(&Ok(answer(status, None))), None, "{status}");
        }
        let malformed = Err(HttpError::Malformed { host: String::new(), expected: "JSON" });
        assert_eq!(retries(true).pause_after(&malformed), None);
    }

    #[test]
    fn a_host_that_asks_for_time_gets_it() {
        let slow = |after| Ok(answer(StatusCode::TOO_MANY_REQUESTS, after));
        assert!(retries(true).pause_after(&slow(Some("3"))) >= Some(Duration::from_secs(3)));
        // Longer than anybody waits, and without a word: not asked again.
        assert_eq!(retries(true).pause_after(&slow(Some("6"))), None);
        assert_eq!(retries(true).pause_after(&slow(None)), None);
    }
}
