//! Whether the feed was there for a symbol, over time.

use jiff::{SignedDuration, Timestamp};

use super::{RangeSet, TimeRange};
use crate::domain::ohlcv::BarRange;

/// How long another process is believed that its feed is there: it says so every ten seconds, and
/// may be late.
const BELIEVED_FOR: SignedDuration = SignedDuration::from_secs(25);

/// When the feed followed a symbol, and whether it was there: what is not told is that nobody
/// listened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedPresence {
    /// Whether the symbol is followed still: then the feed is away since it was heard last.
    followed: bool,
    /// Whether the feed is there now.
    there: bool,
    heard: Option<Timestamp>,
    /// When the process that follows the symbol last said that the feed is there.
    vouched: Option<Timestamp>,
    connected: RangeSet,
    down: RangeSet,
}

impl FeedPresence {
    /// As it was kept: the feed is not there now, and was `heard` last then.
    pub const fn restored(
        followed: bool,
        heard: Option<Timestamp>,
        connected: RangeSet,
        down: RangeSet,
    ) -> Self {
        Self { followed, there: false, heard, vouched: None, connected, down }
    }

    /// As it was kept by a process that said at `vouched`, by the machine's clock, that the feed is
    /// there; at no time where it had gone.
    #[must_use]
    pub const fn vouched_for(mut self, vouched: Option<Timestamp>) -> Self {
        self.vouched = vouched;
        self
    }

    /// When that was said.
    pub const fn vouched(&self) -> Option<Timestamp> {
        self.vouched
    }

    /// Whether the symbol is followed still.
    pub const fn is_followed(&self) -> bool {
        self.followed
    }

    /// Whether the feed is there now.
    pub const fn is_there(&self) -> bool {
        self.there
    }

    /// Until when the symbol was heard.
    pub const fn heard_until(&self) -> Option<Timestamp> {
        self.heard
    }

    /// When the feed was there.
    pub const fn connected(&self) -> &RangeSet {
        &self.connected
    }

    /// When it was away, but for the time since it was heard last.
    pub const fn down(&self) -> &RangeSet {
        &self.down
    }

    /// The feed is there, and all of the symbol until `at` was heard. Where it comes back, answers
    /// the time that it was away.
    pub fn heard(&mut self, at: Timestamp) -> Option<TimeRange> {
        let before = self.heard.and_then(|before| BarRange::new(before, at));
        if self.there {
            if let Some(since) = before {
                self.connected.insert(since);
                self.connected.forget_oldest();
                self.heard = Some(at);
            }
            return None;
        }
        let gap = before.filter(|_| self.followed);
        if let Some(gap) = gap {
            self.down.insert(gap);
            self.down.join_oldest();
        }
        (self.followed, self.there, self.heard) = (true, true, Some(at));
        gap
    }

    /// The feed is away.
    pub const fn cut(&mut self) {
        (self.there, self.vouched) = (false, None);
    }

    /// Nobody wants the symbol any more: what comes is not missed.
    pub const fn let_go(&mut self) {
        (self.followed, self.there) = (false, false);
    }

    /// Takes in what an earlier time has kept; the feed has been let go in between.
    pub fn follow_on(&mut self, earlier: &Self) {
        for range in earlier.connected.ranges() {
            self.connected.insert(*range);
        }
        for range in earlier.down.ranges() {
            self.down.insert(*range);
        }
        self.connected.forget_oldest();
        self.down.join_oldest();
    }

    /// Whether the process that follows the symbol has said lately, as of `now`, that the feed is
    /// there.
    pub fn is_believed(&self, now: Timestamp) -> bool {
        self.vouched.is_some_and(|at| now.duration_since(at) < BELIEVED_FOR)
    }

    /// When it was away, as of `now`. Where the process that follows the symbol has said lately
    /// that the feed is there, the time since it was heard last is no outage: it is not told yet.
    pub fn away(&self, now: Timestamp) -> RangeSet {
        let mut down = self.down.clone();
        let is_away = self.followed && !self.there && !self.is_believed(now);
        let since = self.heard.filter(|_| is_away);
        if let Some(since) = since.and_then(|since| BarRange::new(since, now)) {
            down.insert(since);
        }
        down
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ranges(pairs: &[(i64, i64)]) -> RangeSet {
        pairs.iter().filter_map(|(open, close)| BarRange::new(at(*open), at(*close))).collect()
    }

    #[test]
    fn what_lies_between_two_connections_is_an_outage() {
        let mut feed = FeedPresence::default();
        assert_eq!(feed.heard(at(10)), None, "nobody listened before");
        assert_eq!(feed.heard(at(20)), None);
        assert_eq!(feed.away(at(99)), RangeSet::default(), "it is there");
        feed.cut();
        assert_eq!(feed.away(at(50)), ranges(&[(20, 50)]), "it is away since it was heard last");
        assert_eq!(feed.heard(at(60)), BarRange::new(at(20), at(60)));
        feed.heard(at(70));
        assert_eq!(feed.connected(), &ranges(&[(10, 20), (60, 70)]));
        assert_eq!(feed.down(), &ranges(&[(20, 60)]));
    }

    #[test]
    fn a_cut_right_after_the_first_word_is_an_outage_too() {
        let mut feed = FeedPresence::default();
        feed.heard(at(10));
        feed.cut();
        assert_eq!(feed.away(at(11)), ranges(&[(10, 11)]));
    }

    #[test]
    fn a_restart_is_an_outage_and_having_let_go_is_none() {
        let mut feed =
            FeedPresence::restored(true, Some(at(10)), ranges(&[(0, 10)]), RangeSet::default());
        assert_eq!(feed.away(at(20)), ranges(&[(10, 20)]));
        assert_eq!(feed.heard(at(30)), BarRange::new(at(10), at(30)));
        feed.let_go();
        assert_eq!(feed.away(at(99)), ranges(&[(10, 30)]));
        assert_eq!(feed.heard(at(50)), None);
    }

    #[test]
    fn what_another_process_has_not_told_yet_is_no_outage_for_a_while() {
        let kept = FeedPresence::restored(true, Some(at(10)), ranges(&[(0, 10)]), ranges(&[]));
        let mut feed = kept.vouched_for(Some(at(20)));
        assert_eq!(feed.away(at(44)), RangeSet::default());
        assert_eq!(feed.away(at(45)), ranges(&[(10, 45)]), "it is silent");
        feed.cut();
        assert_eq!(feed.away(at(21)), ranges(&[(10, 21)]), "it has said that it is away");
    }

    #[test]
    fn time_that_runs_backwards_is_no_outage() {
        let mut feed =
            FeedPresence::restored(true, Some(at(100)), ranges(&[(0, 100)]), RangeSet::default());
        assert_eq!(feed.heard(at(50)), None);
        feed.heard(at(60));
        assert_eq!((feed.connected().ranges().len(), feed.down().is_empty()), (1, true));
    }

    #[test]
    fn what_was_kept_before_is_kept_on() {
        let mut feed = FeedPresence::default();
        feed.heard(at(50));
        feed.heard(at(60));
        let (connected, down) = (ranges(&[(0, 10)]), ranges(&[(3, 5)]));
        feed.follow_on(&FeedPresence::restored(false, Some(at(10)), connected, down));
        assert_eq!(feed.connected(), &ranges(&[(0, 10), (50, 60)]));
        assert_eq!(feed.away(at(99)), ranges(&[(3, 5)]));
    }
}
