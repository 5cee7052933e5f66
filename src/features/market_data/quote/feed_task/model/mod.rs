//! Random markets against the bars that are made of them: whatever is delayed, cut, let go or
//! killed, once all that is owed was answered each closed bar is what its trades come to.
//!
//! Everything that waits (seeds, repairs, roll-ups, look-ups, the writer, the connection) goes one
//! step whenever the dice say so, each kind as eagerly as the dice said at the beginning. It does
//! not know sockets, the database's own failures, nor streams.
//!
//! `MODEL_SEEDS=100000` runs more, from `MODEL_FROM` on; `MODEL_SEED=7` runs one alone and says what
//! happens.

mod deciding;
mod feed;
mod market;
mod store;
mod tasks;
mod world;

use std::collections::BTreeMap;
use std::panic::catch_unwind;

use jiff::{SignedDuration, Timestamp};

use self::world::World;
use crate::domain::ohlcv::Ohlcv;
use crate::domain::ohlcv::services::alike;
use crate::domain::shared::Interval;

impl World {
    /// What is wrong.
    fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if !self.feed.owes_nothing() {
            mistakes.push("something is still owed".to_owned());
        }
        let Some(since) = self.first_join else { return mistakes };
        let day = self.market.trades.iter().map(|trade| trade.size).sum();
        let closed = self.market.now - SignedDuration::from_secs(2);
        for interval in Interval::ALL {
            let stored = |open: Timestamp| {
                self.store.bars.get(&(interval, open)).filter(|bar| bar.is_final())
            };
            let mut expected: BTreeMap<Timestamp, Ohlcv> = BTreeMap::new();
            for (range, values) in self.market.bars(interval) {
                let is_due = range.close() > since && range.close() <= closed;
                if is_due || stored(range.open()).is_some() {
                    expected.insert(range.open(), values);
                }
            }
            for ((of, open), bar) in &self.store.bars {
                if *of == interval && bar.is_final() && !expected.contains_key(open) {
                    mistakes.push(format!("{interval} {open} has no trade: {bar:?}"));
                }
            }
            for (open, values) in expected {
                match stored(open) {
                    None => mistakes.push(format!("{interval} {open} is missing: {values:?}")),
                    Some(bar) if !alike(&bar.values, &values, day) => {
                        mistakes.push(format!("{interval} {open} is {bar:?}, and not {values:?}"));
                    }
                    Some(_) => {}
                }
            }
        }
        mistakes
    }
}

fn run(seed: u64, is_told: bool) -> Vec<String> {
    let mut world = World::new(seed, is_told);
    world.play();
    world.mistakes()
}

#[test]
fn every_bar_comes_right_whatever_is_late_lost_or_killed() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("MODEL_SEED") {
        assert_eq!(run(seed, true), Vec::<String>::new());
        return;
    }
    let from = number("MODEL_FROM").unwrap_or(0);
    let more = from..from + number("MODEL_SEEDS").unwrap_or(40);
    let mut wrong = Vec::new();
    for seed in more {
        let mistakes =
            catch_unwind(|| run(seed, false)).unwrap_or_else(|_| vec!["panic".to_owned()]);
        if let Some(first) = mistakes.first() {
            println!("seed {seed}: {} of {first}", mistakes.len());
            wrong.push(seed);
        }
    }
    assert_eq!(wrong, Vec::<u64>::new());
}
