//! Puts a replay where an instrument's own bars end.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::Facts;
use super::instrument::{Instrument, Sources};
use crate::domain::shared::Interval;
use crate::domain::symbol::{AROUND_THE_CLOCK, SessionSpec, TradingSession};
use crate::simulator::replay::{Opening, Pulse, Rebase, Replay, ReplayConfig, Tape};

/// A tape, and by how much it is moved.
#[derive(Debug)]
pub(super) struct Moving {
    tape: Tape,
    /// Microseconds.
    shift: i64,
}

impl Moving {
    /// Moves `tape` as `config` says. A calendar that suits the trades less well there is none of
    /// theirs: then `facts` say that the instrument never closes.
    pub(super) fn new(tape: Tape, config: ReplayConfig, facts: &mut Facts) -> Self {
        let shift = match config.rebase {
            None => 0,
            Some(Rebase::At(time)) => tape.shift_to(time),
            Some(Rebase::Now) => tape.shift_to(Timestamp::now()),
        };
        if config.rebase.is_some() && !tape.suits(&facts.session, shift) {
            tracing::info!(symbol = %facts.symbol, "the moved trades do not suit the calendar: 24x7");
            facts.session = Arc::new(TradingSession::around_the_clock());
            facts.spec = SessionSpec {
                timezone: "Etc/UTC".to_owned(),
                session: AROUND_THE_CLOCK.to_owned(),
                ..SessionSpec::default()
            };
        }
        Self { tape, shift }
    }

    /// A tape of the newest bars in `sources`, where `config` asks for that.
    pub(super) fn walk(sources: &Sources, config: ReplayConfig, facts: &mut Facts) -> Option<Self> {
        let count = usize::try_from(config.walk?).ok()?;
        let newest = |(interval, _): &(&Interval, &Vec<super::WorldBar>)| {
            sources.bars.get(interval).and_then(|bars| bars.last().map(|bar| bar.open_time))
        };
        // Of those that reach as far, the shortest.
        let (interval, bars) = sources
            .bars
            .iter()
            .reduce(|best, other| if newest(&other) > newest(&best) { other } else { best })?;
        let bars = bars.get(bars.len().saturating_sub(count)..).unwrap_or_default();
        let session = Arc::clone(&facts.session);
        let bounds = |open| session.bounds_of(*interval, open);
        let tape = Tape::walked(bars, &session, bounds)?;
        Some(Self::new(tape, config, facts))
    }
}

/// An instrument that stands where `moving` begins, and goes on with it.
pub(super) fn moving(
    facts: Facts,
    sources: Sources,
    moving: Moving,
    config: ReplayConfig,
    pulse: &Arc<Pulse>,
) -> Instrument {
    let Moving { tape, shift } = moving;
    let recorded = tape.first();
    let moved = recorded.saturating_add(SignedDuration::from_micros(shift)).unwrap_or(recorded);
    // The trades are moved: they are not where they were, and nothing of a file is after them.
    let still = Instrument::new(
        facts,
        Sources { replayed: true, ..sources },
        Some(just_before_minute_of(recorded.min(moved))),
    );
    let opening = opening(&still, moved);
    let replay = Replay::new(tape, still.facts(), opening, shift, config, Arc::clone(pulse));
    still.replayed(replay)
}

fn just_before_minute_of(time: Timestamp) -> Timestamp {
    let minute = Timestamp::from_second(time.as_second().div_euclid(60) * 60).unwrap_or(time);
    minute.saturating_sub(SignedDuration::from_nanos(1)).unwrap_or(minute)
}

/// What was before `start`, as far as bars tell it.
fn opening(still: &Instrument, start: Timestamp) -> Opening {
    let days = still.bars(Interval::D1).unwrap_or_default();
    let mut newest = days.iter().rev();
    let Some(last) = newest.next() else { return Opening::default() };
    if still.bounds_of(Interval::D1, last.open_time).contains(start) {
        let previous_close = newest.next().map(|day| day.close);
        return Opening { day: Some(*last), previous_close };
    }
    Opening { day: None, previous_close: Some(last.close) }
}
