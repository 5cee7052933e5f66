//! What the feed counts: kept at hand, as it is hot, and told in batches.

use metrics::{Counter, Gauge};

use super::feed_state::{Connection, FeedState};
use crate::common::metrics::table as t;
use crate::domain::ohlcv::BarSource;
use crate::domain::ohlcv::services::TickCounts;

/// The names of the states in metrics.
const STATES: [(Connection, &str); 5] = [
    (Connection::Stopped, "stopped"),
    (Connection::Idle, "idle"),
    (Connection::Connecting, "connecting"),
    (Connection::Connected, "connected"),
    (Connection::Reconnecting, "reconnecting"),
];

/// Counts what the feed's task and the writer do. Cheap to clone; clones count together.
#[derive(Clone)]
pub(super) struct Meter {
    messages: Counter,
    pending: Gauge,
    head: Gauge,
}

impl Meter {
    pub(super) fn new() -> Self {
        let (pending, head) = (t::BARS_PENDING.handle(), t::BAR_LOG_HEAD.handle());
        // There from the start: what has not happened yet is 0 and not unknown.
        for change in ["closed", "revised", "repaired"] {
            t::BARS.with([change]).increment(0);
        }
        pending.set(0.0);
        head.increment(0.0);
        Self { messages: t::FEED_MESSAGES.handle(), pending, head }
    }

    /// The provider said so much.
    pub(super) fn heard(&self, messages: usize) {
        self.messages.increment(whole(messages));
    }

    /// So many bars are to be written.
    pub(super) fn decided(&self, bars: usize) {
        self.pending.increment(number(bars));
    }

    /// So many bars were written, or given up.
    pub(super) fn settled(&self, bars: usize) {
        self.pending.decrement(number(bars));
    }

    /// The bar log reaches at least so far.
    pub(super) fn logged(&self, sequence: u64) {
        self.head.set(float(sequence));
    }
}

/// A bar of the feed was stored.
pub(super) fn count_bar(source: BarSource, is_new: bool) {
    let change = match source {
        BarSource::Repair => "repaired",
        BarSource::Ticks | BarSource::Provider if is_new => "closed",
        BarSource::Ticks | BarSource::Provider => "revised",
    };
    t::BARS.with([change]).increment(1);
}

/// What became of the ticks so far.
pub(super) fn observe_ticks(counts: &TickCounts) {
    let TickCounts { late, too_late, future, off_session, outranked, invalid, .. } = *counts;
    let untracked = counts.untracked;
    let apart = late + too_late + future + off_session + outranked + invalid + untracked;
    for (outcome, count) in [
        ("merged", counts.received.saturating_sub(apart)),
        ("late", late),
        ("too_late", too_late),
        ("future", future),
        ("off_session", off_session),
        ("outranked", outranked),
        ("invalid", invalid),
        ("untracked", untracked),
    ] {
        t::FEED_TICKS.with([outcome]).absolute(count);
    }
}

/// A queue, as metrics see it.
pub(super) fn observe_queue(name: &'static str, capacity: usize, free: usize) {
    t::QUEUE_LENGTH.with([name]).set(number(capacity.saturating_sub(free)));
    t::QUEUE_CAPACITY.with([name]).set(number(capacity));
}

/// The feed, as metrics see it; `published` is the newest log entry that streams were told of.
pub(super) fn observe_feed(feed: &FeedState, published: u64) {
    for (connection, name) in STATES {
        let is_it = feed.connection == connection;
        t::FEED_STATE.with([name]).set(f64::from(u8::from(is_it)));
    }
    t::FEED_RECONNECTS.handle().absolute(u64::from(feed.reconnects));
    let last = feed.last_message_at.map_or(0.0, |at| at.as_duration().as_secs_f64());
    t::FEED_LAST_MESSAGE.handle().set(last);
    t::FEED_SYMBOLS.with(["subscribed"]).set(f64::from(feed.subscriptions));
    t::FEED_SYMBOLS.with(["active"]).set(f64::from(feed.active_symbols));
    t::BAR_LOG_PUBLISHED.handle().set(float(published));
}

fn whole(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn number(count: usize) -> f64 {
    float(whole(count))
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
const fn float(value: u64) -> f64 {
    value as f64
}
