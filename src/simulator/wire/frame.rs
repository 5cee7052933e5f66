//! `~m~<length>~m~<payload>`: one or more to a message. The length counts UTF-16 code units.

use thiserror::Error;

/// What stands around the length.
const MARK: &str = "~m~";

/// Frames in one message.
const MAX_FRAMES: usize = 4_096;

/// Digits of a length; messages are smaller than this can say.
const MAX_DIGITS: usize = 8;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::simulator) enum Payload<'a> {
    /// `~h~N`.
    Heartbeat(u64),
    /// Anything else; JSON is expected.
    Text(&'a str),
}

/// Why a message is not made of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(in crate::simulator) enum FrameError {
    /// It does not begin as a frame does.
    #[error("no frame begins here")]
    NoMark,
    /// The length is no number.
    #[error("the length of a frame is no number")]
    Length,
    /// The payload is shorter than its length, or the length cuts a character in two.
    #[error("a frame is shorter than it says")]
    Short,
    /// There are more than anyone needs.
    #[error("more than {MAX_FRAMES} frames in a message")]
    TooMany,
}

/// Appends `payload` as a frame to `message`.
pub(in crate::simulator) fn append_frame(message: &mut String, payload: &str) {
    let length: usize = payload.chars().map(char::len_utf16).sum();
    message.push_str(MARK);
    message.push_str(&length.to_string());
    message.push_str(MARK);
    message.push_str(payload);
}

/// The payloads of the frames that `message` is made of.
pub(in crate::simulator) fn decode(message: &str) -> Result<Vec<Payload<'_>>, FrameError> {
    let mut payloads = Vec::new();
    let mut rest = message;
    while !rest.is_empty() {
        if payloads.len() == MAX_FRAMES {
            return Err(FrameError::TooMany);
        }
        let after = rest.strip_prefix(MARK).ok_or(FrameError::NoMark)?;
        let (digits, after) = after.split_once(MARK).ok_or(FrameError::Length)?;
        let numeric = digits.len() <= MAX_DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
        let length = digits.parse().ok().filter(|_| numeric).ok_or(FrameError::Length)?;
        let (payload, after) = split_units(after, length).ok_or(FrameError::Short)?;
        let heartbeat = payload.strip_prefix("~h~").and_then(|number| number.parse().ok());
        payloads.push(heartbeat.map_or(Payload::Text(payload), Payload::Heartbeat));
        rest = after;
    }
    Ok(payloads)
}

/// Splits `text` after `units` UTF-16 code units.
fn split_units(text: &str, units: usize) -> Option<(&str, &str)> {
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

    fn framed(payload: &str) -> String {
        let mut message = String::new();
        append_frame(&mut message, payload);
        message
    }

    #[test]
    fn the_length_counts_utf16_code_units() {
        assert_eq!(framed("~h~1"), "~m~4~m~~h~1");
        assert_eq!(framed(r#"{"d":"国🍏"}"#), "~m~11~m~{\"d\":\"国🍏\"}");
    }

    #[test]
    fn several_frames_and_a_heartbeat_in_one_message() {
        assert_eq!(
            decode("~m~2~m~{}~m~5~m~~h~19~m~4~m~{\"\"}"),
            Ok(vec![Payload::Text("{}"), Payload::Heartbeat(19), Payload::Text("{\"\"}")])
        );
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for (message, error) in [
            ("~h~1", FrameError::NoMark),
            ("~m~x~m~{}", FrameError::Length),
            ("~m~-1~m~{}", FrameError::Length),
            ("~m~999999999~m~{}", FrameError::Length),
            ("~m~2", FrameError::Length),
            ("~m~3~m~{}", FrameError::Short),
            ("~m~1~m~🍏", FrameError::Short),
            ("~m~1~m~{}", FrameError::NoMark),
        ] {
            assert_eq!(decode(message), Err(error), "{message}");
        }
    }

    proptest! {
        #[test]
        fn what_is_framed_is_read_again(payloads in proptest::collection::vec("\\PC{0,40}", 0..8)) {
            let message = payloads.iter().map(|payload| framed(payload)).collect::<String>();
            let read = decode(&message).unwrap();
            prop_assert_eq!(read.len(), payloads.len());
            for (read, payload) in read.into_iter().zip(&payloads) {
                if let Payload::Text(text) = read {
                    prop_assert_eq!(text, payload);
                }
            }
        }

        #[test]
        fn nothing_makes_it_panic(message in "(~m~|[0-9]|~h~|\\PC){0,60}") {
            drop(decode(&message));
        }
    }
}
