//! The feed's task, step by step: what it writes and in which order, and how the end of a
//! connection is told from the word of a provider.

use tokio::sync::mpsc::error::TryRecvError;
use tokio::task::yield_now;

use super::followed::Progress;
use super::*;
use crate::domain::ohlcv::BarSource;
use crate::domain::ohlcv::services::FeedClock;
use crate::domain::quote::QuoteTick;
use crate::domain::shared::EventPayload;
use crate::domain::symbol::TradingSession;
use crate::features::market_data::quote::job::{Decided, Safe};
use crate::features::market_data::quote::ring::LiveChange;
use crate::features::market_data::quote::snapshot_codec;
use crate::features::market_data::quote::test_bench::{
    Bench, at, bar, first_hour, hour, options, symbol,
};
use crate::infrastructure::interfaces::{self, Phase};

/// A task that nobody runs, with what it hands to the writer.
pub(super) struct Desk {
    bench: Bench,
    pub(super) task: FeedTask,
    jobs: mpsc::Receiver<Job>,
    told: watch::Sender<Standing>,
}

impl Desk {
    async fn start(clock: FeedClock) -> Self {
        let bench = Bench::start().await;
        let ((_, commands), (_, releases)) = (mpsc::channel(1), mpsc::unbounded_channel());
        let hub = Hub::new(1, 0);
        let mut options = options();
        options.rules.clock = clock;
        let task = FeedTask::new(bench.parts.clone(), options, hub, commands, releases).await;
        let mut task = task.unwrap();
        let (jobs, received) = mpsc::channel(64);
        let (told, standing) = watch::channel(Standing::default());
        (task.jobs, task.standing) = (jobs, standing);
        Self { bench, task, jobs: received, told }
    }

    /// The same, connected, with a symbol that the provider has confirmed.
    pub(super) async fn joined() -> Self {
        Self::joined_on(FeedClock::Event).await
    }

    async fn joined_on(clock: FeedClock) -> Self {
        let mut desk = Self::start(clock).await;
        desk.task.start();
        let session = TradingSession::around_the_clock().into();
        let id = desk.task.manager.track(&symbol(), &session);
        let kept = desk.task.manager.snapshot(id);
        let (id, progress) = (Some(id), Progress::Joined);
        let followed = Followed { id, progress, kept, joined_before: true, ..Default::default() };
        desk.task.names.insert(id.unwrap(), symbol());
        desk.task.symbols.insert(symbol(), followed);
        desk
    }

    fn followed(&mut self) -> &mut Followed {
        self.task.symbols.get_mut(&symbol()).unwrap()
    }

    pub(super) fn trade(&mut self, second: i64) -> QuoteTick {
        let (symbol, time) = (self.followed().id.unwrap(), at(second));
        QuoteTick { symbol, time, price: 1.0, size: Some(1.0), cumulative: None }
    }

    /// What was handed to the writer.
    fn jobs(&mut self) -> Vec<Job> {
        std::iter::from_fn(|| self.jobs.try_recv().ok()).collect()
    }

    async fn hears(&mut self, state: interfaces::FeedState) {
        self.task.take_events(vec![FeedEvent::State(state)]).await;
    }
}

fn lost() -> interfaces::FeedState {
    let (provider, detail) = ("silent", "cut".to_owned());
    let retry_after = Duration::ZERO;
    let error = ProviderError::Unavailable { provider, phase: Phase::Quotes, detail, retry_after };
    interfaces::FeedState::Reconnecting { error, attempt: 1, retry_in: Duration::ZERO }
}

fn refusal() -> ProviderError {
    let (provider, detail) = ("silent", "a bad token".to_owned());
    ProviderError::AuthRequired { provider, detail, remedy: "give a good one" }
}

#[tokio::test]
async fn what_is_owed_is_written_before_the_bars_that_it_is_about() {
    let mut desk = Desk::joined().await;
    let (series, range) = (hour(), first_hour());
    let closed = bar(1.0, 1, BarSource::Ticks);
    desk.task.changes.push(BarChange::Closed { series: series.clone(), bar: closed });
    desk.task.changes.push(BarChange::Refetch { series, range });
    desk.task.hand_on().await;
    let [Job::Keep(kept), Job::Decided(decided)] = &desk.jobs()[..] else { panic!("out of order") };
    let kept = snapshot_codec::decode(&kept[0].1).unwrap();
    assert_eq!(kept.owed, [(hour().interval, range)]);
    assert!(matches!(decided[..], [Decided::Bar { .. }]));
}

#[tokio::test]
async fn what_trades_correct_while_it_is_fetched_again_is_fetched_once_more() {
    let mut desk = Desk::joined().await;
    let (series, range) = (hour(), first_hour());
    desk.task.changes.push(BarChange::Refetch { series: series.clone(), range });
    desk.task.hand_on().await;
    let (old, bar) = (bar(1.0, 1, BarSource::Ticks), bar(2.0, 2, BarSource::Ticks));
    desk.task.changes.push(BarChange::Revised { series: series.clone(), old: old.stored, bar });
    desk.task.hand_on().await;
    for expected in [vec![(series.interval, range)], vec![]] {
        let (series, bars) = (series.clone(), Vec::new());
        let answer = Fetched::Repaired { series, range, bars, answered: None, done: true };
        desk.task.take_fetched(answer).await;
        assert_eq!(desk.followed().owed.list(), expected);
    }
}

#[tokio::test]
async fn what_a_join_puts_in_doubt_is_written_before_any_of_its_bars() {
    let mut desk = Desk::joined().await;
    desk.followed().progress = Progress::Joining;
    desk.task.joined(&symbol(), at(60)).await;
    let jobs = desk.jobs();
    assert!(matches!(jobs[..], [.., Job::Keep(_)]), "{jobs:?}");
}

#[tokio::test]
async fn a_gap_is_told_from_when_the_feed_was_heard_and_not_from_the_last_trade() {
    let mut desk = Desk::joined_on(FeedClock::Wall).await;
    let trade = desk.trade(60);
    desk.task.manager.ticks(at(60), &[trade]);
    (desk.followed().progress, desk.followed().cut_at) = (Progress::Joining, Some(at(7_000)));
    desk.task.joined(&symbol(), at(7_200)).await;
    let jobs = desk.jobs();
    let gap = Decided::Live(LiveChange::Gap(symbol(), at(7_000), at(7_200)));
    let is_told = |job: &Job| matches!(job, Job::Decided(decided) if decided.contains(&gap));
    assert!(jobs.iter().any(is_told), "{jobs:?}");
    let Some(Job::Keep(kept)) = jobs.last() else { panic!("{jobs:?}") };
    let kept = snapshot_codec::decode(&kept[0].1).unwrap();
    assert_eq!(kept.snapshot.doubt.map(|(from, _)| from), Some(at(60)), "trades may be missing");
}

#[tokio::test]
async fn what_an_earlier_run_heard_last_begins_a_gap() {
    for (clock, end) in [(FeedClock::Event, 90), (FeedClock::Wall, 7_200)] {
        let mut desk = Desk::joined_on(clock).await;
        desk.followed().joined_before = false;
        (desk.followed().heard_before, desk.followed().quote.last_time) =
            (Some(at(60)), Some(at(90)));
        desk.task.joined(&symbol(), at(7_200)).await;
        let gap = Decided::Live(LiveChange::Gap(symbol(), at(60), at(end)));
        let jobs = desk.jobs();
        let is_told = |job: &Job| matches!(job, Job::Decided(decided) if decided.contains(&gap));
        assert_eq!(jobs.iter().filter(|job| is_told(job)).count(), 1, "{jobs:?}");
        desk.task.joined(&symbol(), at(7_300)).await;
        assert!(!desk.jobs().iter().any(is_told), "it is told once");
    }
}

#[tokio::test]
async fn what_an_earlier_run_closed_and_did_not_write_down_begins_the_doubt() {
    let mut desk = Desk::joined_on(FeedClock::Wall).await;
    desk.followed().progress = Progress::Joining;
    desk.followed().closed_before = Some(at(60));
    desk.task.joined(&symbol(), at(7_200)).await;
    let Some(Job::Keep(kept)) = desk.jobs().pop() else { panic!("not kept") };
    let kept = snapshot_codec::decode(&kept[0].1).unwrap();
    assert_eq!(kept.snapshot.doubt.map(|(from, _)| from), Some(at(60)));
}

#[tokio::test]
async fn that_a_time_had_no_trade_is_said_only_where_the_feed_would_have_heard_it() {
    let mut desk = Desk::joined().await;
    let over = BarChange::IntervalClosed { series: hour(), close_time: at(3_600) };
    let told = Decided::Live(LiveChange::IntervalClosed(hour(), at(3_600)));
    desk.task.changes.push(over.clone());
    desk.task.hand_on().await;
    let [Job::Decided(decided)] = &desk.jobs()[..] else { panic!("not told") };
    assert_eq!(decided[..], *std::slice::from_ref(&told));

    desk.followed().cut_at = Some(at(0));
    desk.task.changes.push(over.clone());
    desk.task.hand_on().await;
    assert!(desk.jobs().is_empty(), "nobody knows");
    // Behind its bar there is no doubt.
    let bar = bar(1.0, 1, BarSource::Ticks);
    desk.task.changes = vec![BarChange::Closed { series: hour(), bar }, over];
    desk.task.hand_on().await;
    let [Job::Decided(decided)] = &desk.jobs()[..] else { panic!("not told") };
    assert_eq!(decided[1], told);
}

#[tokio::test]
async fn the_end_of_a_connection_is_no_word_of_the_provider() {
    let mut desk = Desk::joined().await;
    desk.task.take_events(vec![FeedEvent::Alive]).await;
    assert!(desk.task.heard_at.is_some());
    desk.task.heard_at = Some(at(7));
    desk.followed().snapshot_begins = false;
    for _ in 0..2 {
        desk.hears(lost()).await;
        assert_eq!(desk.task.heard_at, Some(at(7)));
        assert_eq!(desk.followed().cut_at, Some(at(7)), "what came last, and not when it was cut");
        assert!(desk.followed().snapshot_begins);
        desk.task.heard_at = Some(at(7));
    }
    assert_eq!(desk.task.hub.feed().last_message_at, Some(at(7)));
}

#[tokio::test]
async fn that_the_feed_is_up_or_down_is_told_once() {
    let mut desk = Desk::joined().await;
    for state in [lost(), lost(), interfaces::FeedState::Connected, lost(), lost()] {
        desk.hears(state.clone()).await;
        desk.hears(state).await;
    }
    let told = desk.bench.told();
    let is_up = |payload: &EventPayload| matches!(payload, EventPayload::FeedConnected);
    let told: Vec<bool> = told.iter().rev().map(|told| is_up(&told.event.payload)).collect();
    assert_eq!(told, [false, true, false]);
}

#[tokio::test]
async fn a_provider_that_refuses_who_we_are_ends_the_feed_for_every_symbol() {
    let mut desk = Desk::joined().await;
    drop(std::mem::replace(&mut desk.jobs, mpsc::channel(1).1));
    desk.hears(interfaces::FeedState::Terminal { error: refusal() }).await;
    assert!(!desk.task.started && desk.task.link.is_none());
    let feed = desk.task.hub.feed();
    assert_eq!((feed.connection, feed.refused), (Connection::Stopped, true));
    assert_eq!(desk.followed().progress, Progress::Refused);
}

#[tokio::test]
async fn a_look_up_that_is_refused_for_who_we_are_ends_a_feed_that_follows_nothing_else() {
    for is_idle in [false, true] {
        let mut desk = Desk::joined().await;
        drop(std::mem::replace(&mut desk.jobs, mpsc::channel(1).1));
        desk.task.link_is_idle = is_idle;
        desk.task.refused(&symbol(), refusal()).await;
        assert_eq!(desk.followed().progress, Progress::Refused);
        assert_eq!(desk.task.started, !is_idle, "an open connection goes on for the others");
    }
}

#[tokio::test]
async fn while_nothing_is_followed_the_look_ups_are_the_connection() {
    let mut desk = Desk::joined().await;
    let shown = |desk: &Desk| {
        desk.task.show_lookups();
        desk.task.hub.feed().connection
    };
    assert_eq!(shown(&desk), Connection::Idle);
    desk.followed().progress = Progress::Resolving;
    assert_eq!(shown(&desk), Connection::Connecting);
    desk.followed().error = Some(refusal());
    assert_eq!(shown(&desk), Connection::Reconnecting);
    desk.hears(interfaces::FeedState::Connected).await;
    assert_eq!(shown(&desk), Connection::Connected, "there is one");
}

#[tokio::test]
async fn without_room_the_connection_is_let_go_and_with_room_all_is_followed_again() {
    let mut desk = Desk::joined().await;
    desk.hears(interfaces::FeedState::Connected).await;
    desk.task.heard_at = Some(at(7));
    desk.task.hold(true).await;
    assert!(desk.task.link.is_some() && desk.followed().cut_at.is_none());

    desk.task.hold(false).await;
    assert!(desk.task.link.is_none());
    assert_eq!(desk.followed().cut_at, Some(at(7)), "what is missed from here on is an outage");
    let feed = desk.task.hub.feed();
    assert_eq!((feed.connection, feed.connected_since), (Connection::Reconnecting, None));
    assert!(feed.last_error.unwrap().contains("SPOOL_MAX_SIZE"));
    desk.task.hold(false).await;
    assert!(desk.task.link.is_none(), "it stays so");

    desk.task.hold(true).await;
    assert!(desk.task.link.is_some());
    assert_eq!(desk.bench.provider.commands(), [FeedCommand::Add(symbol())]);
    // A feed that was stopped meanwhile stays so.
    desk.task.link = None;
    desk.task.started = false;
    desk.task.hold(true).await;
    assert!(desk.task.link.is_none());
}

#[tokio::test]
async fn a_symbol_is_looked_up_once_what_was_kept_of_it_is_written() {
    let mut desk = Desk::joined().await;
    desk.followed().progress = Progress::Waiting;
    desk.task.begin(&symbol());
    let Some(Job::Barrier(written)) = desk.jobs.recv().await else { panic!("no barrier") };
    yield_now().await;
    assert_eq!(desk.bench.provider.asked(), 0);
    written.send(Safe::Stored).unwrap();
    while desk.bench.provider.asked() == 0 {
        yield_now().await;
    }
}

#[tokio::test]
async fn while_the_database_is_away_look_ups_and_what_was_heard_wait() {
    let mut desk = Desk::joined().await;
    let trade = desk.trade(60);
    desk.task.manager.ticks(at(0), &[trade]);
    desk.task.note_heard().await;
    let jobs = desk.jobs();
    assert!(matches!(jobs[..], [Job::Barrier(_)]), "{jobs:?}");
    desk.told.send(Standing { has_room: true, is_behind: true }).unwrap();
    desk.task.note_heard().await;
    assert!(desk.jobs().is_empty(), "bars of the time may be missing still");
    desk.followed().progress = Progress::Waiting;
    tokio::time::pause();
    desk.task.begin(&symbol());
    let Some(Fetched::Retry(again)) = desk.task.fetched.recv().await else { panic!("no retry") };
    assert_eq!((again.symbol, desk.bench.provider.asked()), (symbol(), 0));
    assert!(matches!(desk.jobs.try_recv(), Err(TryRecvError::Empty)));
}

#[tokio::test]
async fn of_several_answers_to_roll_ups_the_last_counts() {
    let mut desk = Desk::joined().await;
    let ticks = [60, 200_000].map(|second| desk.trade(second));
    desk.task.manager.ticks(at(0), &ticks);
    desk.task.advance().await;
    assert!(!desk.jobs().is_empty(), "the first hour is closed");
    for number in [1, 2] {
        assert!(desk.followed().owed.reroll(&hour(), first_hour(), number));
    }
    for (number, is_last) in [(1, false), (2, true)] {
        let (series, range) = (hour(), first_hour());
        let values = Some(bar(if is_last { 9.0 } else { 5.0 }, 1, BarSource::Repair).stored.values);
        let rerolled = Rerolled { series, range, until: at(3_600), values, stored: None, number };
        desk.task.take_rerolled(rerolled).await;
        let jobs = desk.jobs();
        let said = format!("{jobs:?}");
        assert_eq!(!jobs.is_empty(), is_last, "{said}");
    }
}

#[tokio::test]
async fn a_feed_has_settled_once_the_last_bars_of_a_symbol_are_stored_and_noted() {
    let mut desk = Desk::joined().await;
    let trade = desk.trade(60);
    desk.task.manager.ticks(at(0), &[trade]);
    desk.task.release(vec![symbol()]).await;
    let (answer, mut settled) = oneshot::channel();
    desk.task.carry_out(Command::Settle(answer)).await;
    let mut jobs = desk.jobs();
    let last = |wanted: fn(&Job) -> bool, jobs: &[Job]| jobs.iter().rposition(wanted);
    let forming = last(|job| matches!(job, Job::Forming(..)), &jobs).unwrap();
    let kept = last(|job| matches!(job, Job::Keep(_)), &jobs).unwrap();
    // Behind them is noted that the symbol is let go, and that all is settled.
    let Some(Job::Barrier(written)) = jobs.pop() else { panic!("{jobs:?}") };
    let Some(Job::Barrier(let_go)) = jobs.pop() else { panic!("{jobs:?}") };
    assert!(forming < jobs.len() && kept < jobs.len(), "{jobs:?}");
    drop(jobs);
    written.send(Safe::Spooled).unwrap();
    for _ in 0..100 {
        yield_now().await;
    }
    assert!(settled.try_recv().is_err(), "not before what is noted before it");
    drop(let_go);
    assert_eq!(settled.await, Ok(Safe::Spooled));
}
