//! The framing: `~m~<length>~m~<payload>`, any number of frames in one WebSocket message. The
//! length counts UTF-16 code units. Knows nothing of what payloads mean, but for heartbeats.

use thiserror::Error;

/// Longest payload that is taken, in UTF-16 code units; the socket's own limit is as high.
pub(super) const MAX_PAYLOAD_UNITS: usize = 16 << 20;

const MARK: &str = "~m~";
const HEARTBEAT: &str = "~h~";

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Payload<'a> {
    /// To be sent back as it is: the text of the whole frame.
    Heartbeat(&'a str),
    /// JSON.
    Json(&'a str),
}

/// Why a text is not a row of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum FrameError {
    /// A frame does not begin with its mark and length.
    #[error("a frame without a length")]
    NoLength,
    /// A frame says that it is longer than is taken.
    #[error("a frame of more than {MAX_PAYLOAD_UNITS} characters")]
    TooLong,
    /// The text ends within a frame.
    #[error("a frame that is cut off")]
    Truncated,
}

/// Reads the frames of one WebSocket message; ends after the first error.
#[derive(Clone, Debug)]
pub(super) struct Frames<'a> {
    rest: &'a str,
}

/// Frames `payload`.
pub(super) fn encode(payload: &str) -> String {
    let units = if payload.is_ascii() { payload.len() } else { payload.encode_utf16().count() };
    format!("{MARK}{units}{MARK}{payload}")
}

/// The frames in `text`, in order.
pub(super) const fn decode(text: &str) -> Frames<'_> {
    Frames { rest: text }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Payload<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let split = split_frame(self.rest);
        self.rest = split.map(|(_, rest)| rest).unwrap_or_default();
        Some(split.map(|(payload, _)| payload))
    }
}

fn split_frame(text: &str) -> Result<(Payload<'_>, &str), FrameError> {
    let (digits, body) = text
        .strip_prefix(MARK)
        .and_then(|after| after.split_once(MARK))
        .filter(|(digits, _)| is_number(digits))
        .ok_or(FrameError::NoLength)?;
    let units: usize = digits.parse().map_err(|_| FrameError::TooLong)?;
    if units > MAX_PAYLOAD_UNITS {
        return Err(FrameError::TooLong);
    }
    let (payload, rest) = split_units(body, units).ok_or(FrameError::Truncated)?;
    let heartbeat = payload.strip_prefix(HEARTBEAT).is_some_and(is_number);
    if !heartbeat {
        return Ok((Payload::Json(payload), rest));
    }
    let whole = text.get(..text.len() - rest.len()).ok_or(FrameError::Truncated)?;
    Ok((Payload::Heartbeat(whole), rest))
}

fn is_number(digits: &str) -> bool {
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Splits after `units` UTF-16 code units; none where the text is shorter or a character would
/// be torn.
fn split_units(text: &str, units: usize) -> Option<(&str, &str)> {
    let as_ascii = text.split_at_checked(units);
    if let Some((head, rest)) = as_ascii.filter(|(head, _)| head.is_ascii()) {
        return Some((head, rest));
    }
    let mut left = units;
    for (at, character) in text.char_indices() {
        if left == 0 {
            return text.split_at_checked(at);
        }
        left = left.checked_sub(character.len_utf16())?;
    }
    (left == 0).then_some((text, ""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn payloads(text: &str) -> Result<Vec<Payload<'_>>, FrameError> {
        decode(text).collect()
    }

    #[test]
    fn the_transcripts_of_the_protocol_are_read_and_written() {
        let auth = r#"{"m":"set_auth_token","p":["unauthorized_user_token"]}"#;
        assert_eq!(encode(auth), format!("~m~54~m~{auth}"));
        let refused = r#"~m~45~m~{"m":"protocol_error","p":["bad auth token"]}"#;
        let json = r#"{"m":"protocol_error","p":["bad auth token"]}"#;
        assert_eq!(payloads(refused), Ok(vec![Payload::Json(json)]));
    }

    #[test]
    fn a_heartbeat_is_kept_as_it_came_wherever_it_stands() {
        assert_eq!(payloads("~m~4~m~~h~1"), Ok(vec![Payload::Heartbeat("~m~4~m~~h~1")]));
        assert_eq!(
            payloads("~m~2~m~{}~m~6~m~~h~100~m~2~m~[]"),
            Ok(vec![Payload::Json("{}"), Payload::Heartbeat("~m~6~m~~h~100"), Payload::Json("[]")])
        );
    }

    #[test]
    fn lengths_count_utf16_code_units() {
        assert_eq!(encode("삼성🍏"), "~m~4~m~삼성🍏");
        assert_eq!(
            payloads("~m~4~m~삼성🍏~m~1~m~é"),
            Ok(vec![Payload::Json("삼성🍏"), Payload::Json("é")])
        );
    }

    #[test]
    fn what_is_no_frame_is_an_error_and_ends_the_reading() {
        for (text, error) in [
            ("garbage", FrameError::NoLength),
            ("~h~1", FrameError::NoLength),
            ("~m~~m~", FrameError::NoLength),
            ("~m~-1~m~", FrameError::NoLength),
            ("~m~+1~m~a", FrameError::NoLength),
            ("~m~5~m~{}", FrameError::Truncated),
            ("~m~1~m~🍏", FrameError::Truncated),
            ("~m~99999999~m~", FrameError::TooLong),
            ("~m~99999999999999999999999~m~", FrameError::TooLong),
        ] {
            assert_eq!(decode(text).collect::<Vec<_>>(), [Err(error)], "{text}");
        }
        let mixed: Vec<_> = decode("~m~2~m~{}rubbish").collect();
        assert_eq!(mixed, [Ok(Payload::Json("{}")), Err(FrameError::NoLength)]);
    }

    proptest! {
        #[test]
        fn what_was_framed_is_read_again(texts in proptest::collection::vec("([a-z~{}\"]|\\PC|🍏){0,40}", 0..8)) {
            let wire: String = texts.iter().map(|text| encode(text)).collect();
            let read = payloads(&wire).unwrap();
            prop_assert_eq!(read.len(), texts.len());
            for (payload, text) in read.into_iter().zip(&texts) {
                match payload {
                    Payload::Json(json) => prop_assert_eq!(json, text),
                    Payload::Heartbeat(frame) => prop_assert_eq!(frame, encode(text)),
                }
            }
        }

        #[test]
        fn a_text_that_was_cut_is_never_read_whole(text in "\\PC{1,40}", cut in any::<prop::sample::Index>()) {
            let wire = encode(&text);
            let cuts: Vec<usize> = wire.char_indices().map(|(at, _)| at).skip(1).collect();
            let (cut, _) = wire.split_at(cuts[cut.index(cuts.len())]);
            prop_assert!(payloads(cut).is_err());
        }

        #[test]
        fn nothing_makes_it_panic(text in "(~m~|~h~|[0-9]|\\PC){0,60}") {
            for frame in decode(&text) {
                let _: Result<Payload<'_>, FrameError> = frame;
            }
        }
    }
}
