//! Counts the driver's connections by what it tells of them.

use std::sync::atomic::{AtomicU32, Ordering};

use mongodb::event::cmap::CmapEvent;

/// How many connections there are.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: AtomicU32,
    in_use: AtomicU32,
}

impl Connections {
    /// Takes in what the driver's pool did.
    #[expect(clippy::wildcard_enum_match_arm, reason = "others change no number")]
    pub(super) fn count(&self, event: &CmapEvent) {
        match event {
            CmapEvent::ConnectionCreated(_) => up(&self.open),
            CmapEvent::ConnectionClosed(_) => down(&self.open),
            CmapEvent::ConnectionCheckedOut(_) => up(&self.in_use),
            CmapEvent::ConnectionCheckedIn(_) => down(&self.in_use),
            _ => {}
        }
    }

    /// Those in use, and those that are idle.
    pub(super) fn counted(&self) -> (u32, u32) {
        let in_use = self.in_use.load(Ordering::Relaxed);
        (in_use, self.open.load(Ordering::Relaxed).saturating_sub(in_use))
    }
}

fn up(count: &AtomicU32) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// Never below none, in whatever order the driver tells.
fn down(count: &AtomicU32) {
    let less = |count: u32| count.checked_sub(1);
    let _before = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
}
