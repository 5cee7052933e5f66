//! When what is next on a tape is due.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::feed::{Entry, Feed};
use super::market::{Market, Step};
use super::plan::Pace;

/// What happens in one go, before anybody else may.
const MOST_AT_ONCE: u64 = 4_096;

/// What is due within this time goes together.
const BEAT: Duration = Duration::from_millis(5);

/// Trades a second at full speed while nobody reads.
const UNREAD_RATE: f64 = 50_000.0;

/// How often a market at full speed that nobody reads goes on.
const UNREAD_BEAT: Duration = Duration::from_millis(50);

/// The progress of one replay.
#[derive(Debug)]
pub(super) struct Run {
    pace: Pace,
    started: bool,
    /// When the market was at `origin_time`, for a speed; when counting began, for a rate.
    origin: Instant,
    origin_time: Timestamp,
    /// Trades since `origin`, for a rate.
    released: f64,
    reached: Timestamp,
}

impl Run {
    pub(super) fn new(pace: Pace, start: Timestamp) -> Self {
        let origin = Instant::now();
        Self { pace, started: false, origin, origin_time: start, released: 0.0, reached: start }
    }

    pub(super) const fn has_started(&self) -> bool {
        self.started
    }

    pub(super) fn waits_for_readers(&self) -> bool {
        self.pace == Pace::Max
    }

    pub(super) fn start(&mut self, now: Instant, position: Timestamp) {
        self.started = true;
        self.restart(now, position);
    }

    fn restart(&mut self, now: Instant, position: Timestamp) {
        self.origin = now;
        self.origin_time = position;
        self.released = 0.0;
        self.reached = position;
    }

    /// The market's time: that of its newest event, and at a speed what has passed since.
    pub(super) fn position(&self, market: &Market, now: Instant) -> Timestamp {
        let happened = market.position();
        let Pace::Speed(speed) = self.pace else { return happened };
        if !self.started {
            return happened;
        }
        let passed = self.time_at(speed, now);
        // What is due and has not happened yet bounds it.
        let next = market.next().map_or(Timestamp::MAX, |(time, _)| time);
        happened.max(self.reached).max(if next <= passed { happened } else { passed })
    }

    fn time_at(&self, speed: f64, now: Instant) -> Timestamp {
        let passed = now.saturating_duration_since(self.origin).as_secs_f64() * speed;
        let passed = SignedDuration::try_from_secs_f64(passed).unwrap_or(SignedDuration::MAX);
        self.origin_time.saturating_add(passed).unwrap_or(Timestamp::MAX)
    }

    /// Lets what is due at `now` happen, up to a bound; how much that was, and when there is more.
    pub(super) fn advance(
        &mut self,
        market: &mut Market,
        feed: &mut Feed,
        now: Instant,
    ) -> (u64, Option<Instant>) {
        let mut happened = 0;
        if !self.started {
            return (happened, None);
        }
        let mut allowed = self.allowed(feed, now);
        while let Some((time, step)) = market.next() {
            if happened == MOST_AT_ONCE {
                return (happened, Some(now));
            }
            if !self.is_due(time, step, allowed, now) {
                return (happened, Some(self.wake(time, feed, now)));
            }
            if step == Step::Trade {
                allowed -= 1.0;
                self.released += 1.0;
            }
            if let Some(change) = market.advance() {
                feed.push(Entry::Change(change));
            }
            if step == Step::NextPass {
                self.next_pass(market, now);
            }
            self.reached = self.reached.max(market.position());
            happened += 1;
        }
        (happened, None)
    }

    /// At a speed the time between passes is skipped.
    fn next_pass(&mut self, market: &Market, now: Instant) {
        if matches!(self.pace, Pace::Speed(_)) {
            self.restart(now, market.position());
        }
    }

    /// How many trades may happen, where they are counted.
    #[expect(clippy::cast_precision_loss, reason = "a window is small")]
    fn allowed(&mut self, feed: &Feed, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.origin).as_secs_f64();
        match (self.pace, feed.room()) {
            (Pace::Speed(_), _) => f64::INFINITY,
            (Pace::Rate(rate), _) => (elapsed * rate).floor() + 1.0 - self.released,
            (Pace::Max, Some((room, _))) => {
                self.origin = now;
                self.released = 0.0;
                room as f64
            }
            (Pace::Max, None) => (elapsed * UNREAD_RATE).floor() - self.released,
        }
    }

    fn is_due(&self, time: Timestamp, step: Step, allowed: f64, now: Instant) -> bool {
        match (self.pace, step) {
            (_, Step::NextPass) | (Pace::Rate(_) | Pace::Max, Step::Session | Step::End) => true,
            (Pace::Speed(speed), Step::Trade | Step::Session | Step::End) => {
                time <= self.time_at(speed, now)
            }
            (Pace::Rate(_) | Pace::Max, Step::Trade) => allowed >= 1.0,
        }
    }

    /// When what comes at `time` is due, or may be.
    fn wake(&self, time: Timestamp, feed: &Feed, now: Instant) -> Instant {
        match (self.pace, feed.room()) {
            (Pace::Speed(speed), _) => {
                let ahead = time.duration_since(self.origin_time).as_secs_f64() / speed;
                let ahead = Duration::try_from_secs_f64(ahead.max(0.0));
                let due = ahead.ok().and_then(|ahead| self.origin.checked_add(ahead));
                due.unwrap_or(now + Duration::from_hours(1)).max(now + BEAT)
            }
            (Pace::Rate(rate), _) => {
                let due = Duration::try_from_secs_f64(self.released / rate).unwrap_or(BEAT);
                (self.origin + due).max(now + BEAT)
            }
            (Pace::Max, Some((_, given_up))) => given_up.max(now + BEAT),
            (Pace::Max, None) => now + UNREAD_BEAT,
        }
    }
}
