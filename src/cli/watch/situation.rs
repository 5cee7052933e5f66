//! What a table says around its rows: how the feed is, and what happened last.

use std::collections::VecDeque;

use super::super::names::connection_state_text;
use super::follow::Heard;
use super::view::lost;
use crate::proto::v1::FeedEvent;

/// Remarks that are kept.
const KEPT: usize = 3;

/// How the feed and the connection are, and the newest remarks.
#[derive(Debug, Default)]
pub(super) struct Situation {
    feed: Option<String>,
    lost: Option<String>,
    remarks: VecDeque<String>,
}

impl Situation {
    /// Takes in what happens to the connection.
    pub(super) fn hear<E>(&mut self, heard: &Heard<E>) {
        match heard {
            Heard::Lost { error, retry_in } => self.lost = Some(lost(error, *retry_in)),
            Heard::Event(_) | Heard::Back => self.lost = None,
            Heard::Ended(_) => {}
        }
    }

    /// Takes in how the feed is.
    pub(super) fn feed(&mut self, event: &FeedEvent) {
        self.feed = Some(feed_text(event));
    }

    /// Adds a remark; the oldest makes room.
    pub(super) fn remark(&mut self, text: String) {
        self.remarks.push_back(text);
        if self.remarks.len() > KEPT {
            self.remarks.pop_front();
        }
    }

    /// The line above the table: how the feed is, then `more`.
    pub(super) fn head(&self, more: &str) -> String {
        let feed = self.feed.as_deref().unwrap_or("feed: not heard of yet");
        let state = self.lost.as_deref().unwrap_or(feed);
        format!("{state} · {more}")
    }

    /// The lines below the table.
    pub(super) fn remarks(&self) -> impl ExactSizeIterator<Item = String> {
        self.remarks.iter().cloned()
    }
}

/// How the feed is, in a line.
pub(super) fn feed_text(event: &FeedEvent) -> String {
    let state = connection_state_text(event.state);
    match event.error.as_str() {
        "" => format!("feed {state}"),
        error => format!("feed {state}: {error}"),
    }
}
