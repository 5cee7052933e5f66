//! What can happen, one step after the other, as the dice say.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::feed::{Event, Feed};
use super::market::Market;
use super::store::Store;
use super::tasks::Resolving;
use crate::domain::ohlcv::services::FeedClock;
use crate::domain::quote::{Field, QuoteUpdate, SessionState};
use crate::domain::shared::Interval;
use crate::features::market_data::quote::snapshot_codec;

/// Something that can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Trade,
    Wait,
    Take,
    Subscribe,
    Seed,
    Resolve,
    Repair,
    Write,
    Fetched,
    Rerolled,
    Save,
    Cut,
    Connect,
    LetGo,
    Follow,
    Stop,
    Crash,
}

const STEPS: [Step; 17] = [
    Step::Trade,
    Step::Wait,
    Step::Take,
    Step::Subscribe,
    Step::Seed,
    Step::Resolve,
    Step::Repair,
    Step::Write,
    Step::Fetched,
    Step::Rerolled,
    Step::Save,
    Step::Cut,
    Step::Connect,
    Step::LetGo,
    Step::Follow,
    Step::Stop,
    Step::Crash,
];

#[expect(clippy::struct_excessive_bools, reason = "they are independent of one another")]
pub(super) struct World {
    random: StdRng,
    pub(super) market: Market,
    pub(super) feed: Feed,
    pub(super) store: Store,
    /// Since when the bars are the feed's.
    pub(super) first_join: Option<Timestamp>,
    connected: bool,
    /// Whether the provider sends changes.
    is_live: bool,
    /// Whether anybody wants the symbol.
    is_wanted: bool,
    is_stopped: bool,
    /// Since when something waits to be taken.
    behind_since: Option<Timestamp>,
    eagerness: BTreeMap<Step, f64>,
    is_told: bool,
}

impl World {
    pub(super) fn new(seed: u64, is_told: bool) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let clock = if random.random_bool(0.6) { FeedClock::Event } else { FeedClock::Wall };
        let late = random.random_bool(0.3);
        let market = Market::random(&mut random, clock, late);
        let (feed, store) = (Feed::new(clock, is_told), Store::new(&market));
        let mut eagerness = BTreeMap::new();
        for step in STEPS {
            let is_rare = matches!(step, Step::Cut | Step::LetGo | Step::Stop | Step::Crash);
            let rare = match is_rare.then(|| random.random_bool(0.5)) {
                None => 1.0,
                Some(never) => {
                    if never {
                        0.0
                    } else {
                        0.03
                    }
                }
            };
            eagerness.insert(step, rare * 2_f64.powf(random.random_range(-5.0..3.0)));
        }
        let mut world = Self {
            random,
            market,
            feed,
            store,
            first_join: None,
            connected: true,
            is_live: false,
            is_wanted: true,
            is_stopped: false,
            behind_since: None,
            eagerness,
            is_told,
        };
        let before = world.random.random_range(0..40);
        for _ in 0..before.min(world.market.trades.len() / 2) {
            let _unheard = world.market.trade();
        }
        world.feed.follow(&world.store);
        world
    }

    fn can(&self, step: Step) -> bool {
        let is_wall = self.market.clock == FeedClock::Wall;
        match step {
            Step::Trade => self.market.happened < self.market.trades.len(),
            Step::Wait => is_wall,
            Step::Take => !self.feed.link.is_empty(),
            Step::Subscribe => self.connected && self.feed.is_added && !self.is_live,
            Step::Seed => !self.feed.seeding.is_empty(),
            Step::Resolve => self.feed.resolving.iter().any(|each| each.is_free(&self.store)),
            Step::Repair => !self.feed.repairs.series.is_empty(),
            Step::Write => !self.store.jobs.is_empty(),
            Step::Fetched => !self.feed.fetched.is_empty(),
            Step::Rerolled => !self.feed.rerolled.is_empty(),
            Step::Save | Step::Crash => true,
            Step::Cut => self.connected && self.feed.is_added,
            Step::Connect => !self.connected && !self.is_stopped,
            Step::LetGo | Step::Stop => self.is_wanted && !self.is_stopped,
            Step::Follow => !self.is_wanted || self.is_stopped,
        }
    }

    fn one_of(&mut self, steps: &[Step]) -> Option<Step> {
        let can: Vec<Step> = steps.iter().copied().filter(|step| self.can(*step)).collect();
        let sum: f64 = can.iter().map(|step| self.eagerness[step]).sum();
        let place = self.random.random_range(0.0..1.0) * sum;
        let mut passed = 0.0;
        can.into_iter().find(|step| {
            passed += self.eagerness[step];
            place < passed
        })
    }

    fn go(&mut self, step: Step) {
        let now = self.market.now;
        if self.is_told && !matches!(step, Step::Save | Step::Wait) {
            println!("{now} {step:?}");
        }
        match step {
            Step::Trade => self.trade(),
            Step::Wait => self.wait(),
            Step::Take => {
                let count = [1, 1, 3, 50][self.random.random_range(0..4)];
                self.feed.take_events(count, now, &mut self.store);
            }
            Step::Subscribe => {
                let snapshot = self.market.snapshot();
                self.feed.link.push_back(Event::Snapshot(snapshot));
                self.is_live = true;
            }
            Step::Seed => self.seed(),
            Step::Resolve => self.resolve(),
            Step::Repair => self.repair(),
            Step::Write => {
                let count = self.random.random_range(1..6);
                let rerolled = self.store.write(count, now);
                self.feed.rerolled.extend(rerolled);
            }
            Step::Fetched => self.feed.take_fetched(now, &mut self.store),
            Step::Rerolled => self.feed.take_rerolled(now, &mut self.store),
            Step::Save => {
                self.feed.advance(now, &mut self.store);
                self.feed.save(now, &mut self.store);
            }
            Step::Cut => self.cut(),
            Step::Connect => {
                self.connected = true;
                self.feed.link.push_back(Event::Connected);
            }
            Step::LetGo => {
                self.feed.let_go(now, &mut self.store);
                (self.is_wanted, self.is_live) = (false, false);
            }
            Step::Follow => self.follow(),
            Step::Stop => {
                self.feed.stop(now, &mut self.store);
                (self.is_stopped, self.is_live) = (true, false);
            }
            Step::Crash => self.crash(),
        }
        self.first_join = self.first_join.or(self.feed.first_join);
        let is_behind = !self.feed.link.is_empty();
        self.behind_since = is_behind.then(|| self.behind_since.unwrap_or(now));
    }

    fn wait(&mut self) {
        let now = self.market.now;
        let longest = [200, 2_000, 20_000, 200_000][self.random.random_range(0..4)];
        let passed = self.random.random_range(0..longest);
        let next = self.market.trades.get(self.market.happened);
        let next = next.map_or(Timestamp::MAX, |trade| trade.told);
        self.pass_to((now + SignedDuration::from_millis(passed)).min(next.max(now)));
    }

    fn seed(&mut self) {
        let place = self.random.random_range(0..self.feed.seeding.len());
        let fails = self.random.random_bool(0.03);
        let symbol = self.feed.symbol.clone();
        if let Some(seeded) = self.feed.seeding[place].step(&self.market, &symbol, fails) {
            self.feed.seeding.swap_remove(place);
            self.feed.fetched.push_back(seeded);
        }
    }

    fn resolve(&mut self) {
        let is_free = |each: &Resolving| each.is_free(&self.store);
        let place = self.feed.resolving.iter().position(is_free).unwrap();
        let task = &mut self.feed.resolving[place];
        if let Some(resolved) = task.step(&self.market, &self.store) {
            self.feed.resolving.swap_remove(place);
            self.feed.fetched.push_back(resolved);
        }
    }

    fn repair(&mut self) {
        let series: Vec<Interval> = self.feed.repairs.series.keys().copied().collect();
        let interval = series[self.random.random_range(0..series.len())];
        let symbol = self.feed.symbol.clone();
        let found = self.feed.repairs.step(interval, (&self.market, &symbol), &self.store);
        if self.is_told
            && let Some(found) = &found
        {
            println!("    {found:?}");
        }
        self.feed.fetched.extend(found);
    }

    fn follow(&mut self) {
        if !self.connected {
            self.connected = true;
            self.feed.link.push_back(Event::Connected);
        }
        (self.is_wanted, self.is_stopped) = (true, false);
        self.feed.follow(&self.store);
    }

    fn trade(&mut self) {
        let told = self.market.trades[self.market.happened].told;
        self.pass_to(told);
        let update = self.market.trade().unwrap();
        if self.is_told {
            println!("    {:?}", self.market.trades[self.market.happened - 1]);
        }
        if self.is_live {
            self.feed.link.push_back(Event::Update(update));
        }
    }

    /// Time passes on the machine's clock; what is due closes.
    fn pass_to(&mut self, time: Timestamp) {
        if self.market.clock == FeedClock::Event {
            return;
        }
        // Now and then the process sleeps a while, or lags behind what comes.
        let since = self.behind_since.unwrap_or(self.market.now);
        let is_long = since + SignedDuration::from_mins(1) < time;
        if is_long {
            self.feed.take_events(usize::MAX, self.market.now, &mut self.store);
        }
        if is_long || !self.random.random_bool(0.05) {
            while let Some(due) = self.feed.manager.next_deadline().filter(|due| *due <= time) {
                self.market.now = self.market.now.max(due);
                self.feed.advance(self.market.now, &mut self.store);
            }
        }
        self.market.now = self.market.now.max(time);
    }

    /// The connection is lost, with what was on its way.
    fn cut(&mut self) {
        let left = self.random.random_range(0..=self.feed.link.len());
        self.feed.link.truncate(left);
        self.feed.link.push_back(Event::Lost);
        (self.connected, self.is_live) = (false, false);
    }

    fn crash(&mut self) {
        self.store.crash();
        // Where nothing was kept, it begins anew.
        let kept = self.store.kept.as_deref().and_then(snapshot_codec::decode);
        self.first_join = self.first_join.and(kept.and_then(|kept| kept.snapshot.since));
        self.feed = Feed::new(self.market.clock, self.is_told);
        (self.connected, self.is_live, self.is_stopped) = (true, false, false);
        if self.is_wanted {
            self.feed.follow(&self.store);
        }
    }

    /// Answers everything, until nothing is owed.
    fn settle(&mut self) {
        for _ in 0..100_000 {
            let steps: Vec<Step> = [
                Step::Take,
                Step::Connect,
                Step::Subscribe,
                Step::Seed,
                Step::Resolve,
                Step::Repair,
                Step::Write,
                Step::Fetched,
                Step::Rerolled,
            ]
            .into_iter()
            .filter(|step| self.can(*step))
            .collect();
            if steps.is_empty() {
                return;
            }
            let step = steps[self.random.random_range(0..steps.len())];
            self.go(step);
        }
        panic!("it never comes to rest");
    }

    /// Plays until the last trade, then until nothing is owed.
    pub(super) fn play(&mut self) {
        while self.can(Step::Trade) {
            let Some(step) = self.one_of(&STEPS) else { break };
            self.go(step);
        }
        if !self.is_wanted || self.is_stopped {
            self.go(Step::Follow);
        }
        self.settle();
        let end = self.market.now + SignedDuration::from_mins(3);
        if self.market.clock == FeedClock::Event {
            self.market.now = end;
            let update = QuoteUpdate {
                last_time: Field::Set(end),
                session: Field::Set(SessionState::OutOfSession),
                ..QuoteUpdate::default()
            };
            self.feed.link.push_back(Event::Update(update));
        } else {
            self.pass_to(end);
            let (now, store) = (self.market.now, &mut self.store);
            self.feed.advance(now, store);
        }
        self.settle();
    }
}
