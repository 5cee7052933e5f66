//! What the records of jobs promise, on both engines.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pocketquant::domain::job::JobOutcome;
use pocketquant::infrastructure::persistence::{Claim, JobEnd, JobRun, Lease};
use uuid::Uuid;

use super::{Store, on_both_engines, time};

on_both_engines!(
    a_run_is_read_as_it_was_kept_and_ended_once,
    one_run_a_job_is_under_way_and_one_an_instant_and_attempt,
    many_claims_at_once_give_one_run,
    runs_of_processes_that_died_are_told_as_interrupted,
    a_schedule_counts_from_when_it_was_new,
    old_runs_go_and_the_newest_by_schedule_stays,
);

fn run(job_id: &str, instant: Option<i64>, attempt: u32) -> JobRun {
    JobRun {
        run_id: Uuid::now_v7(),
        job_id: job_id.to_owned(),
        instant: instant.map(time),
        attempt,
        started_at: time(instant.unwrap_or(0)) + SignedDuration::from_millis(7),
        ended: None,
    }
}

fn lease(owner: u128) -> Lease {
    Lease { owner: Uuid::from_u128(owner), length: Duration::from_hours(1) }
}

fn end(minute: i64, outcome: JobOutcome, message: &str) -> JobEnd {
    JobEnd { at: time(minute), outcome, message: message.to_owned() }
}

async fn a_run_is_read_as_it_was_kept_and_ended_once(store: &Store) {
    let runs = store.database.job_runs();
    let (begun, owner) = (run("one", Some(5), 2), Uuid::from_u128(1));
    assert_eq!(runs.newest("one").await.unwrap(), None);
    assert_eq!(runs.claim(begun.clone(), lease(1)).await.unwrap(), Claim::Claimed(begun.clone()));
    assert_eq!(runs.get(begun.run_id).await.unwrap().as_ref(), Some(&begun));
    for outcome in JobOutcome::ALL {
        let ended = JobRun { ended: Some(end(6, outcome, "what it did")), ..run("one", None, 1) };
        let (id, kept) = (ended.run_id, ended.ended.clone().unwrap());
        if runs.newest("one").await.unwrap().is_some_and(|newest| newest.ended.is_none()) {
            assert!(runs.end(begun.run_id, owner, &kept).await.unwrap());
        }
        let open = JobRun { ended: None, ..ended.clone() };
        let claim = runs.claim(open.clone(), lease(1)).await.unwrap();
        assert_eq!(claim, Claim::Claimed(open));
        assert!(!runs.end(id, Uuid::from_u128(2), &kept).await.unwrap(), "another's");
        assert!(runs.renew(id, lease(1)).await.unwrap());
        assert!(!runs.renew(id, lease(2)).await.unwrap(), "another's");
        assert!(runs.end(id, owner, &kept).await.unwrap());
        assert!(!runs.end(id, owner, &end(7, JobOutcome::Failed, "late")).await.unwrap());
        assert!(!runs.renew(id, lease(1)).await.unwrap(), "it is over");
        assert_eq!(runs.get(id).await.unwrap(), Some(ended));
    }
    assert_eq!(runs.last_scheduled("one").await.unwrap().unwrap().run_id, begun.run_id);
}

async fn one_run_a_job_is_under_way_and_one_an_instant_and_attempt(store: &Store) {
    let runs = store.database.job_runs();
    let first = run("one", Some(5), 1);
    let claim = runs.claim(first.clone(), lease(1)).await.unwrap();
    assert_eq!(claim, Claim::Claimed(first.clone()));
    for other in [run("one", Some(6), 1), run("one", None, 1)] {
        let claim = runs.claim(other, lease(2)).await.unwrap();
        assert_eq!(claim, Claim::Busy(first.clone()));
    }
    let claim = runs.claim(run("two", Some(5), 1), lease(2)).await.unwrap();
    assert!(matches!(claim, Claim::Claimed(_)), "another job");
    let done = end(6, JobOutcome::Interrupted, "");
    assert!(runs.end(first.run_id, Uuid::from_u128(1), &done).await.unwrap());
    assert_eq!(runs.claim(run("one", Some(5), 1), lease(2)).await.unwrap(), Claim::Taken);
    let again = run("one", Some(5), 2);
    let claim = runs.claim(again.clone(), lease(2)).await.unwrap();
    assert_eq!(claim, Claim::Claimed(again.clone()));
    assert_eq!(runs.last_scheduled("one").await.unwrap(), Some(again));
}

async fn many_claims_at_once_give_one_run(store: &Store) {
    let runs = store.database.job_runs();
    for instant in [Some(5), None] {
        let claims = (0..16).map(|owner| {
            let (runs, run) = (runs.clone(), run("one", instant, 1));
            tokio::spawn(async move { runs.claim(run, lease(owner)).await.unwrap() })
        });
        let claims = futures::future::join_all(claims).await;
        let won = claims.into_iter().filter(|claim| matches!(claim, Ok(Claim::Claimed(_))));
        assert_eq!(won.count(), 1, "{instant:?}");
        let won = runs.newest("one").await.unwrap().unwrap();
        for owner in 0..16 {
            let done = end(6, JobOutcome::Succeeded, "");
            runs.end(won.run_id, Uuid::from_u128(owner), &done).await.unwrap();
        }
    }
}

async fn runs_of_processes_that_died_are_told_as_interrupted(store: &Store) {
    let runs = store.database.job_runs();
    let (owner, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let lapsed = |owner| Lease { length: Duration::ZERO, ..lease(owner) };
    let (alive, under_way) = (run("alive", Some(1), 1), run("under way", Some(1), 1));
    let (dead, unknown) = (run("dead", Some(2), 1), run("unknown", Some(3), 1));
    runs.claim(alive.clone(), lease(1)).await.unwrap();
    runs.claim(under_way.clone(), lapsed(1)).await.unwrap();
    runs.claim(dead.clone(), lapsed(2)).await.unwrap();
    // Nobody carries it out: its claim was kept, and the answer was lost.
    runs.claim(unknown.clone(), lapsed(1)).await.unwrap();
    let mut told = runs.interrupt(owner, &[under_way.run_id]).await.unwrap();
    told.sort_unstable();
    assert_eq!(told, ["dead", "unknown"]);
    assert!(runs.interrupt(owner, &[under_way.run_id]).await.unwrap().is_empty());
    for goes_on in [alive, under_way] {
        assert_eq!(runs.get(goes_on.run_id).await.unwrap(), Some(goes_on));
    }
    let told = runs.get(dead.run_id).await.unwrap().unwrap().ended.unwrap();
    assert_eq!(told.outcome, JobOutcome::Interrupted);
    assert!(told.at > dead.started_at, "when its lease lapsed");
    assert!(!told.message.is_empty());
    let done = end(9, JobOutcome::Succeeded, "");
    assert!(!runs.end(dead.run_id, other, &done).await.unwrap(), "it is over");
}

async fn a_schedule_counts_from_when_it_was_new(store: &Store) {
    let runs = store.database.job_runs();
    let since = async |schedule, now| runs.since("one", schedule, time(now)).await.unwrap();
    assert_eq!(since("0 0 * * * *", 1).await, time(1));
    assert_eq!(since("0 0 * * * *", 2).await, time(1));
    assert_eq!(since("0 5 * * * *", 3).await, time(3));
    assert_eq!(since("0 5 * * * *", 4).await, time(3));
    assert_eq!(runs.since("two", "0 5 * * * *", time(5)).await.unwrap(), time(5));
    let same = "0 7 * * * *";
    let both = tokio::join!(runs.since("new", same, time(1)), runs.since("new", same, time(2)));
    let kept = runs.since("new", same, time(3)).await.unwrap();
    assert_eq!((both.0.unwrap(), both.1.unwrap()), (kept, kept));
}

async fn old_runs_go_and_the_newest_by_schedule_stays(store: &Store) {
    let runs = store.database.job_runs();
    let owner = Uuid::from_u128(1);
    let mut all = Vec::new();
    for minute in 0..10 {
        let scheduled = (minute <= 2).then_some(minute);
        let each = JobRun { started_at: time(minute), ..run("one", scheduled, 1) };
        runs.claim(each.clone(), lease(1)).await.unwrap();
        if minute < 9 {
            let done = end(minute, JobOutcome::Succeeded, "");
            assert!(runs.end(each.run_id, owner, &done).await.unwrap());
        }
        all.push(each.run_id);
    }
    let other = run("two", Some(0), 1);
    runs.claim(other.clone(), lease(1)).await.unwrap();
    let left = async || {
        let mut left = Vec::new();
        for (minute, id) in all.iter().enumerate() {
            if runs.get(*id).await.unwrap().is_some() {
                left.push(minute);
            }
        }
        left
    };
    runs.prune("one", 10).await.unwrap();
    assert_eq!(left().await.len(), 10);
    runs.prune("one", 3).await.unwrap();
    assert_eq!(left().await, [2, 7, 8, 9]);
    runs.prune("one", 1).await.unwrap();
    assert_eq!(left().await, [2, 9]);
    assert!(runs.get(other.run_id).await.unwrap().is_some());
    assert_eq!(runs.last_scheduled("one").await.unwrap().unwrap().instant, Some(time(2)));
    let by_hand = run("hand", None, 1);
    runs.claim(by_hand.clone(), lease(1)).await.unwrap();
    runs.end(by_hand.run_id, owner, &end(1, JobOutcome::Succeeded, "")).await.unwrap();
    let later = JobRun { started_at: Timestamp::now(), ..run("hand", None, 1) };
    runs.claim(later.clone(), lease(1)).await.unwrap();
    runs.prune("hand", 1).await.unwrap();
    assert_eq!(runs.get(by_hand.run_id).await.unwrap(), None);
}
