//! Runs by schedule, on a clock of our own and both databases.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use pocketquant::common::config::JobSettings;
use pocketquant::common::messaging::EventBus;
use pocketquant::common::shutdown::Lifecycle;
use pocketquant::domain::job::{JobOutcome, MAX_ATTEMPTS};
use pocketquant::domain::shared::{DomainEvent, EventPayload, Symbol};
use pocketquant::features::market_data::jobs::{Clock, Job, JobReport, JobService, outage};
use pocketquant::infrastructure::persistence::{Claim, Database, JobRun, Lease};
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;
use uuid::Uuid;

use crate::database::{Store, on_both_engines};

on_both_engines!(
    missed_instants_become_one_run_and_a_restart_neither_doubles_nor_loses_one,
    a_run_that_a_crash_cut_off_is_tried_again_and_not_for_ever,
    a_stop_cuts_a_run_off_and_the_next_start_catches_up,
    a_job_never_overlaps_and_a_run_by_hand_joins,
    a_run_whose_lease_was_renewed_late_goes_on_where_it_is_carried_out,
    a_run_that_takes_too_long_or_panics_is_told,
    a_job_that_is_switched_off_runs_by_hand_only,
    outages_that_are_told_together_are_repaired_once_and_later_ones_again,
    without_its_database_no_job_runs_and_health_says_so,
);

const JOB: &str = "hourly";
const LONG: Duration = Duration::from_mins(10);

/// What all services of a test share: the clock, and how the work goes.
#[derive(Clone, Default)]
struct Scene {
    /// Minutes since the scene began at midnight.
    minutes: Arc<AtomicI64>,
    begun: Arc<Notify>,
    runs: Arc<AtomicUsize>,
    at_once: Arc<AtomicUsize>,
}

impl Scene {
    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 / 86_400 * 86_400 + minutes * 60).unwrap()
    }

    fn set(&self, hour: i64, minute: i64) {
        self.minutes.store(hour * 60 + minute, Ordering::SeqCst);
    }

    /// A process with one hourly job, whose runs each need a permit of `gate` to end.
    fn service(&self, database: &Database, gate: &Arc<Semaphore>) -> (JobService, Lifecycle) {
        let (scene, gate) = (self.clone(), Arc::clone(gate));
        let work = move || scene.clone().work(Arc::clone(&gate));
        self.with(database, Job::new(&settings(true), LONG, work))
    }

    fn with(&self, database: &Database, job: Job) -> (JobService, Lifecycle) {
        let (lifecycle, minutes) = (Lifecycle::new(), Arc::clone(&self.minutes));
        let clock = Clock::new(move || Self::at(minutes.load(Ordering::SeqCst)));
        (JobService::new(vec![job], true, database, clock, lifecycle.clone()), lifecycle)
    }

    async fn work(self, gate: Arc<Semaphore>) -> JobReport {
        assert_eq!(self.at_once.fetch_add(1, Ordering::SeqCst), 0, "two at a time");
        let _leave = Leave(Arc::clone(&self.at_once));
        self.runs.fetch_add(1, Ordering::SeqCst);
        self.begun.notify_one();
        gate.acquire().await.unwrap().forget();
        JobReport::new(JobOutcome::Succeeded, "done")
    }

    fn count(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }
}

struct Leave(Arc<AtomicUsize>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn settings(enabled: bool) -> JobSettings {
    JobSettings { job_id: JOB, schedule: "0 0 * * * *".parse().unwrap(), enabled }
}

fn open() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(Semaphore::MAX_PERMITS))
}

fn closed() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(0))
}

/// Looks once, and waits until what it began has ended.
async fn look(service: &JobService, database: &Database) -> Vec<JobRun> {
    let begun = service.look().await.unwrap();
    let mut ended = Vec::new();
    for run in begun {
        ended.push(end_of(database, run.run_id).await);
    }
    ended
}

async fn end_of(database: &Database, run_id: Uuid) -> JobRun {
    loop {
        let run = database.job_runs().get(run_id).await.unwrap().unwrap();
        if run.ended.is_some() {
            return run;
        }
        tokio::task::yield_now().await;
    }
}

fn hours(runs: &[JobRun]) -> Vec<(i64, u32)> {
    let midnight = Scene::at(0);
    let hour = |run: &JobRun| run.instant.unwrap().duration_since(midnight).as_hours();
    runs.iter().map(|run| (hour(run), run.attempt)).collect()
}

fn outcome(run: &JobRun) -> JobOutcome {
    run.ended.as_ref().unwrap().outcome
}

async fn stop(lifecycle: Lifecycle) {
    lifecycle.stop();
    lifecycle.wait(Duration::from_mins(1)).await.unwrap();
}

async fn missed_instants_become_one_run_and_a_restart_neither_doubles_nor_loses_one(store: &Store) {
    let (database, scene) = (&store.database, Scene::default());
    scene.set(0, 30);
    let (first, lifecycle) = scene.service(database, &open());
    assert!(look(&first, database).await.is_empty(), "nothing passed since it is there");
    stop(lifecycle).await;

    // It was stopped before it ever ran: the first instant is not lost.
    scene.set(1, 10);
    let (service, lifecycle) = scene.service(database, &open());
    assert_eq!(hours(&look(&service, database).await), [(1, 1)]);
    scene.set(2, 0);
    assert_eq!(hours(&look(&service, database).await), [(2, 1)]);
    for minute in [0, 1, 59] {
        scene.set(2, minute);
        assert!(look(&service, database).await.is_empty());
    }
    stop(lifecycle).await;

    // 3, 4 and 5 passed.
    scene.set(5, 20);
    let (service, lifecycle) = scene.service(database, &open());
    assert_eq!(hours(&look(&service, database).await), [(5, 1)]);
    assert!(look(&service, database).await.is_empty());
    stop(lifecycle).await;
    let (again, _lifecycle) = scene.service(database, &open());
    assert!(look(&again, database).await.is_empty(), "a restart doubles nothing");
    scene.set(4, 30);
    assert!(look(&again, database).await.is_empty(), "a clock that went back runs nothing again");
    scene.set(6, 0);
    assert_eq!(hours(&look(&again, database).await), [(6, 1)]);
    assert_eq!(scene.count(), 4);
}

async fn a_run_that_a_crash_cut_off_is_tried_again_and_not_for_ever(store: &Store) {
    let (database, scene) = (&store.database, Scene::default());
    let runs = database.job_runs();
    scene.set(0, 30);
    let (service, _lifecycle) = scene.service(database, &open());
    assert!(look(&service, database).await.is_empty());
    scene.set(1, 30);
    let crashed = |attempt| JobRun {
        run_id: Uuid::now_v7(),
        job_id: JOB.to_owned(),
        instant: Some(Scene::at(60)),
        attempt,
        started_at: Scene::at(60),
        ended: None,
    };
    let lapsed = Lease { owner: Uuid::now_v7(), length: Duration::ZERO };
    let first = crashed(1);
    let claim = runs.claim(first.clone(), lapsed).await.unwrap();
    assert_eq!(claim, Claim::Claimed(first.clone()));
    let (service, _lifecycle) = scene.service(database, &open());
    assert_eq!(hours(&look(&service, database).await), [(1, 2)]);
    assert_eq!(outcome(&end_of(database, first.run_id).await), JobOutcome::Interrupted);
    let (service, _lifecycle) = scene.service(database, &open());
    assert!(look(&service, database).await.is_empty(), "it was caught up");

    scene.set(2, 30);
    for attempt in 1..=MAX_ATTEMPTS {
        let each = JobRun { instant: Some(Scene::at(120)), ..crashed(attempt) };
        assert!(matches!(runs.claim(each, lapsed).await, Ok(Claim::Claimed(_))));
        runs.interrupt(Uuid::now_v7(), &[]).await.unwrap();
    }
    let (service, _lifecycle) = scene.service(database, &open());
    assert!(look(&service, database).await.is_empty(), "enough is enough");
    scene.set(3, 0);
    assert_eq!(hours(&look(&service, database).await), [(3, 1)]);
}

async fn a_stop_cuts_a_run_off_and_the_next_start_catches_up(store: &Store) {
    let (database, scene) = (&store.database, Scene::default());
    let (service, lifecycle) = scene.service(database, &closed());
    scene.set(0, 30);
    service.look().await.unwrap();
    scene.set(1, 0);
    let begun = service.look().await.unwrap();
    assert_eq!(hours(&begun), [(1, 1)]);
    scene.begun.notified().await;
    let caller = service.clone();
    let by_hand = tokio::spawn(async move { caller.run_now(JOB).await });
    stop(lifecycle).await;
    let ended = end_of(database, begun[0].run_id).await;
    assert_eq!(outcome(&ended), JobOutcome::Interrupted);
    drop(by_hand.await.unwrap());
    let newest = async || database.job_runs().newest(JOB).await.unwrap();
    let before = newest().await;
    assert!(service.run_now(JOB).await.is_err(), "it stops");
    assert_eq!(newest().await, before, "nothing is begun");

    let (service, _lifecycle) = scene.service(database, &open());
    assert_eq!(hours(&look(&service, database).await), [(1, 2)]);
}

async fn a_job_never_overlaps_and_a_run_by_hand_joins(store: &Store) {
    let (database, scene, gate) = (&store.database, Scene::default(), closed());
    let (service, _lifecycle) = scene.service(database, &gate);
    scene.set(0, 30);
    service.look().await.unwrap();
    scene.set(1, 0);
    let begun = service.look().await.unwrap();
    scene.begun.notified().await;
    let by_hand: Vec<_> = (0..3)
        .map(|_| {
            let caller = service.clone();
            tokio::spawn(async move { caller.run_now(JOB).await })
        })
        .collect();
    for hour in [2, 3] {
        scene.set(hour, 0);
        assert!(service.look().await.unwrap().is_empty(), "the one of 1 still runs");
    }
    gate.add_permits(1);
    let ended = end_of(database, begun[0].run_id).await;
    assert_eq!(outcome(&ended), JobOutcome::Succeeded);
    for joined in by_hand {
        // One that came too late to join has begun a run of its own.
        gate.add_permits(1);
        let joined = joined.await.unwrap().unwrap();
        assert_eq!(outcome(&joined), JobOutcome::Succeeded);
    }
    gate.add_permits(9);
    assert_eq!(hours(&look(&service, database).await), [(3, 1)], "2 and 3 are one");

    let (gate, before) = (closed(), scene.count());
    let (service, _lifecycle) = scene.service(database, &gate);
    let by_hand = |caller: JobService| tokio::spawn(async move { caller.run_now(JOB).await });
    let first = by_hand(service.clone());
    while scene.count() == before {
        tokio::task::yield_now().await;
    }
    let mut second = Box::pin(service.run_now(JOB));
    // Until it has seen the one that runs, and waits for it.
    let waits = timeout(Duration::from_secs(1), &mut second).await;
    assert!(waits.is_err(), "it is not run beside it: {waits:?}");
    scene.set(4, 0);
    assert!(service.look().await.unwrap().is_empty(), "the one by hand runs");
    gate.add_permits(1);
    let (first, second) = (first.await.unwrap().unwrap(), second.await.unwrap());
    assert_eq!((first.run_id, first.instant), (second.run_id, None));
    gate.add_permits(1);
    assert_eq!(hours(&look(&service, database).await), [(4, 1)]);
}

async fn a_run_whose_lease_was_renewed_late_goes_on_where_it_is_carried_out(store: &Store) {
    let (database, scene, gate) = (&store.database, Scene::default(), closed());
    let (service, _lifecycle) = scene.service(database, &gate);
    scene.set(0, 30);
    let caller = service.clone();
    let running = tokio::spawn(async move { caller.run_now(JOB).await });
    scene.begun.notified().await;
    store.lapse_leases().await;
    // The first look asks what became of runs.
    assert!(service.look().await.unwrap().is_empty());
    let under_way = database.job_runs().newest(JOB).await.unwrap().unwrap();
    assert_eq!(under_way.ended, None);
    gate.add_permits(1);
    let ended = running.await.unwrap().unwrap();
    assert_eq!((ended.run_id, outcome(&ended)), (under_way.run_id, JobOutcome::Succeeded));
    // One that nobody here carries out, as its claim was not heard of, is not waited for.
    let lost = JobRun { run_id: Uuid::now_v7(), ended: None, ..ended };
    let lapsed = Lease { owner: Uuid::now_v7(), length: Duration::ZERO };
    assert!(matches!(database.job_runs().claim(lost.clone(), lapsed).await, Ok(Claim::Claimed(_))));
    gate.add_permits(1);
    assert_ne!(service.run_now(JOB).await.unwrap().run_id, lost.run_id);
}

async fn a_run_that_takes_too_long_or_panics_is_told(store: &Store) {
    let (database, scene) = (&store.database, Scene::default());
    scene.set(0, 30);
    let endless = Job::new(&settings(true), Duration::from_millis(20), || {
        std::future::pending::<JobReport>()
    });
    let (service, _lifecycle) = scene.with(database, endless);
    let run = service.run_now(JOB).await.unwrap();
    assert_eq!(outcome(&run), JobOutcome::TimedOut);
    assert!(run.ended.unwrap().message.contains("20ms"));
    let clumsy = Job::new(&settings(true), LONG, || async { panic!("dropped it") });
    let (service, _lifecycle) = scene.with(database, clumsy);
    let run = service.run_now(JOB).await.unwrap();
    assert_eq!(outcome(&run), JobOutcome::Failed);
    assert_eq!(database.job_runs().newest(JOB).await.unwrap(), Some(run));
    let report = JobReport::new(JobOutcome::Failed, "é".repeat(2_000));
    assert_eq!(report.message.len(), 1_000, "a message is bounded");
}

async fn a_job_that_is_switched_off_runs_by_hand_only(store: &Store) {
    let (database, scene) = (&store.database, Scene::default());
    scene.set(0, 30);
    let (counted, gate) = (scene.clone(), open());
    let off = Job::new(&settings(false), LONG, move || counted.clone().work(Arc::clone(&gate)));
    let (service, _lifecycle) = scene.with(database, off);
    for hour in 1..4 {
        scene.set(hour, 0);
        assert!(look(&service, database).await.is_empty());
    }
    assert_eq!(outcome(&service.run_now(JOB).await.unwrap()), JobOutcome::Succeeded);
    assert!(service.run_now("nothing").await.is_err());
    assert_eq!(scene.count(), 1);
}

async fn outages_that_are_told_together_are_repaired_once_and_later_ones_again(store: &Store) {
    let (database, scene, gate) = (&store.database, Scene::default(), closed());
    let (service, lifecycle) = scene.service(database, &gate);
    let events = EventBus::new();
    let listening = service.clone().run_after_outages(JOB, events.subscribe(), outage);
    let listening = tokio::spawn(listening);
    scene.set(1, 0);
    let told = |minute| DomainEvent {
        time: Scene::at(minute),
        payload: EventPayload::GapDetected {
            symbol: Symbol::parse("A:B").unwrap(),
            start: Scene::at(0),
            end: Scene::at(minute),
        },
    };
    for minute in [57, 58, 59] {
        events.publish(told(minute));
    }
    scene.begun.notified().await;
    // One that comes while that run is under way has one of its own.
    events.publish(told(61));
    scene.set(1, 2);
    gate.add_permits(1);
    scene.begun.notified().await;
    assert_eq!(scene.count(), 2);
    gate.add_permits(1);
    while scene.at_once.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
    stop(lifecycle).await;
    listening.await.unwrap();
    let runs = database.job_runs();
    assert_eq!(runs.newest(JOB).await.unwrap().unwrap().instant, None);
    assert_eq!(scene.count(), 2);
}

async fn without_its_database_no_job_runs_and_health_says_so(store: &Store) {
    let (database, scene) = (&store.database, Scene::default());
    let (service, _lifecycle) = scene.service(database, &open());
    scene.set(0, 30);
    service.look().await.unwrap();
    assert_eq!(service.health(), Ok(()));
    database.close().await;
    scene.set(1, 0);
    assert!(service.look().await.is_err());
    assert!(service.health().unwrap_err().to_string().contains("unavailable"));
    assert_eq!(scene.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod: run scripts/test"]
async fn services_that_share_a_database_run_each_instant_once() {
    let store = Store::mongodb().await;
    let (database, scene) = (&store.database, Scene::default());
    scene.set(0, 30);
    let gate = open();
    let services: Vec<_> = (0..4).map(|_| scene.service(database, &gate).0).collect();
    for service in &services {
        service.look().await.unwrap();
    }
    for hour in 1..=20 {
        scene.set(hour, 0);
        let looks = services.iter().map(|service| {
            let service = service.clone();
            tokio::spawn(async move { service.look().await.unwrap() })
        });
        let begun: Vec<JobRun> =
            futures::future::join_all(looks).await.into_iter().flat_map(Result::unwrap).collect();
        assert_eq!(hours(&begun), [(hour, 1)]);
        end_of(database, begun[0].run_id).await;
    }
    assert_eq!(scene.count(), 20);

    // One that loses its run to another, as it was frozen for longer than its lease, lets go.
    let gate = closed();
    let (frozen, lifecycle) = scene.service(database, &gate);
    scene.set(21, 0);
    let begun = frozen.look().await.unwrap();
    scene.begun.notified().await;
    // One whose clock is ahead takes over nothing.
    let ahead = Scene::default();
    ahead.set(21, 30);
    let (other, _) = ahead.service(database, &gate);
    assert!(other.look().await.unwrap().is_empty());
    assert_eq!(database.job_runs().get(begun[0].run_id).await.unwrap().unwrap().ended, None);
    let interrupted = async {
        loop {
            store.lapse_leases().await;
            let jobs = database.job_runs().interrupt(Uuid::now_v7(), &[]).await.unwrap();
            // Where it is empty, the lease was renewed in between.
            if !jobs.is_empty() {
                return jobs;
            }
        }
    };
    assert_eq!(timeout(LONG, interrupted).await.unwrap(), [JOB]);
    assert_eq!(outcome(&end_of(database, begun[0].run_id).await), JobOutcome::Interrupted);
    while scene.at_once.load(Ordering::SeqCst) > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(lifecycle);
}
