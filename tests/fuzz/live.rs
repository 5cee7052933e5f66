//! Stream cursors, what is kept of bars over a crash, and what waits on disk for the database.

use super::cursor::Cursor;
use super::{snapshot_codec, spool_codec};
use crate::fuzz::hold;
use crate::infrastructure::spool::SpoolEntry;

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
        let Some(kept) = snapshot_codec::decode(input) else { return };
        let bars = &kept.snapshot;
        let held = bars.minutes.len() + bars.parents.len() + bars.days.len();
        assert!(held + bars.refetches.len() + kept.owed.len() <= input.len());
        assert_eq!(snapshot_codec::decode(&snapshot_codec::encode(&kept)), Some(kept));
    });
}

#[test]
fn spool_entries() {
    hold!("spool_entries", |input: &[u8]| {
        let bytes = input.to_vec().into();
        let Some(job) = spool_codec::decode(&SpoolEntry { subject: None, bytes }) else { return };
        let again = spool_codec::encode([&job]);
        let back: Vec<_> = again.iter().filter_map(spool_codec::decode).collect();
        assert_eq!(format!("{back:?}"), format!("{:?}", [job]));
    });
}
