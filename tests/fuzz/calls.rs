//! What callers put into metadata.

use super::CorrelationId;
use crate::fuzz::hold;

#[test]
fn correlation_ids() {
    hold!("correlation_ids", |input: &[u8]| {
        let is_printable = input.iter().all(|byte| (b' '..=b'~').contains(byte));
        let is_one = is_printable && (1..=128).contains(&input.len());
        let parsed = CorrelationId::parse(input);
        assert_eq!(parsed.is_ok(), is_one);
        if let Ok(id) = parsed {
            assert_eq!(id.as_str().as_bytes(), input);
        }
    });
}
