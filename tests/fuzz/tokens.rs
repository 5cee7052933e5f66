//! Page tokens: given out by us, and sent back by whoever likes.

use super::page_token::{decode, encode};
use crate::fuzz::hold;

#[test]
fn page_tokens() {
    hold!("page_tokens", |input: &[u8]| {
        let text = String::from_utf8_lossy(input);
        let query = ["NYSE:IBM", "1d"];
        // What is accepted is what was given out, to the letter.
        if let Ok(Some(position)) = decode(&query, &text) {
            assert!(position.len() <= text.len());
            assert_eq!(encode(&query, &position), text);
        }
        // Whatever the text is, it can be a position, and only of its own query.
        let position: String = text.chars().take(100).collect();
        let token = encode(&query, &position);
        assert_eq!(decode(&query, &token), Ok(Some(position)));
        assert!(decode(&["NYSE:IBM", "1h"], &token).is_err());
        assert!(decode(&[&text, ""], &token).is_err());
    });
}
