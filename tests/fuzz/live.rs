//! Stream cursors, and what is kept of bars over a crash.

use super::cursor::Cursor;
use super::snapshot_codec;
use crate::fuzz::hold;

#[test]
fn cursors() {
    hold!("cursors", |input: &[u8]| {
        let text = String::from_utf8_lossy(input);
        // What is accepted is what was given out, to the letter.
        if let Some(cursor) = Cursor::decode(&text) {
            assert_eq!(cursor.encode(), text);
        }
        let sequence = input.iter().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
        let cursor = Cursor::at(sequence);
        assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
    });
}

#[test]
fn snapshots() {
    hold!("snapshots", |input: &[u8]| {
        let Some((snapshot, repairs)) = snapshot_codec::decode(input) else { return };
        let held = snapshot.minutes.len() + snapshot.parents.len() + snapshot.days.len();
        assert!(held + snapshot.refetches.len() + repairs.len() <= input.len());
        let again = snapshot_codec::encode(&snapshot, &repairs);
        assert_eq!(snapshot_codec::decode(&again), Some((snapshot, repairs)));
    });
}
