//! `ListJobs` and `RunJob`, and what the jobs do.

use std::collections::HashMap;

use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::{Interval, JobOutcome, SyncState};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::engines::{Engine, on_every_engine};
use crate::support::{TestApp, TestSimulator, demo_data, reason};

on_every_engine!(
    every_tracked_series_is_synced_four_at_a_time_and_one_that_never_was_is_left_alone,
    a_run_under_a_key_is_carried_out_once,
    jobs_run_by_their_schedule_and_say_so,
);

const ALL: &str = "market_data_sync_all";
const DAILY: &str = "market_data_sync_daily";

/// Series that the provider has.
const SERIES: [(&str, Interval); 7] = [
    ("NYSE:IBM", Interval::Interval1d),
    ("NYSE:IBM", Interval::Interval1w),
    ("NYSE:IBM", Interval::Interval1mo),
    ("BINANCE:BTCUSDT", Interval::Interval1d),
    ("BINANCE:BTCUSDT", Interval::Interval1h),
    ("BINANCE:BTCUSDT", Interval::Interval4h),
    ("NASDAQ:AAPL-UNADJ", Interval::Interval1d),
];

async fn run(app: &TestApp, job_id: &str) -> Result<pb::JobRun, Status> {
    let request = pb::RunJobRequest { job_id: job_id.to_owned() };
    let answer = app.system.clone().run_job(request).await?;
    Ok(answer.into_inner().run.unwrap())
}

async fn list(app: &TestApp) -> Vec<pb::Job> {
    app.system.clone().list_jobs(pb::ListJobsRequest {}).await.unwrap().into_inner().jobs
}

async fn every_tracked_series_is_synced_four_at_a_time_and_one_that_never_was_is_left_alone(
    engine: Engine,
) {
    let simulator = TestSimulator::start(demo_data()).await;
    let mut app = TestApp::on(engine, &simulator, &[]).await;
    let nothing = run(&app, ALL).await.unwrap();
    assert_eq!(
        (nothing.outcome(), nothing.message.as_str()),
        (JobOutcome::Succeeded, "0 of 0 series synced")
    );
    for (symbol, interval) in SERIES {
        app.sync(symbol, interval, 3).await.unwrap();
    }
    for bad in ["NYSE:NONE1", "NYSE:NONE2"] {
        app.sync(bad, Interval::Interval1d, 3).await.unwrap_err();
    }

    let days = run(&app, DAILY).await.unwrap();
    assert_eq!(
        (days.outcome(), days.message.as_str()),
        (JobOutcome::Succeeded, "3 of 3 series synced")
    );
    assert_eq!(app.status("NYSE:IBM", Interval::Interval1d).await.unwrap().bar_count, 10);
    assert_eq!(app.status("NYSE:IBM", Interval::Interval1w).await.unwrap().bar_count, 3);

    simulator.fault("slow", Some("100"), None, true).await;
    let all = run(&app, ALL);
    let mut most = 0;
    let watching = async {
        loop {
            let request = pb::ListSyncStatusesRequest {
                state: Some(SyncState::Syncing.into()),
                ..Default::default()
            };
            let answer = app.market_data.clone().list_sync_statuses(request).await.unwrap();
            most = most.max(answer.into_inner().statuses.len());
        }
    };
    let all = tokio::select! {
        all = all => all.unwrap(),
        () = watching => unreachable!(),
    };
    assert!((2..=4).contains(&most), "{most} at once");
    assert_eq!(
        (all.outcome(), all.message.as_str()),
        (JobOutcome::Succeeded, "7 of 7 series synced")
    );
    for (symbol, interval) in SERIES {
        let bars = app.status(symbol, interval).await.unwrap().bar_count;
        assert!((100..=500).contains(&bars), "{symbol} {interval:?}: {bars}");
    }
    let listed = list(&app).await;
    let last: HashMap<_, _> =
        listed.iter().map(|job| (job.job_id.as_str(), &job.last_run)).collect();
    assert_eq!(last[ALL].as_ref(), Some(&all));
    assert_eq!(last[DAILY].as_ref(), Some(&days));
    assert_eq!(last["retention"], &None);
    let kept = run(&app, "retention").await.unwrap();
    assert_eq!(kept.outcome(), JobOutcome::Succeeded, "{}", kept.message);

    app.stop().await;
}

#[tokio::test]
async fn a_job_that_is_none_is_not_found_and_nonsense_is_the_callers_mistake() {
    let simulator = TestSimulator::start(demo_data()).await;
    let app = TestApp::start(&simulator).await;
    let unknown = run(&app, "nothing_like_it").await.unwrap_err();
    assert_eq!(reason(&unknown), (Code::NotFound, "JOB_NOT_FOUND".to_owned()));
    let resource = unknown.get_details_resource_info().unwrap();
    assert_eq!(
        (resource.resource_type.as_str(), resource.resource_name.as_str()),
        ("job", "nothing_like_it")
    );
    for nonsense in ["", "Retention", "a b", &"x".repeat(65)] {
        let refused = run(&app, nonsense).await.unwrap_err();
        assert_eq!(reason(&refused), (Code::InvalidArgument, "INVALID_FIELDS".to_owned()));
    }
}

async fn a_run_under_a_key_is_carried_out_once(engine: Engine) {
    let simulator = TestSimulator::start(demo_data()).await;
    let app = TestApp::on(engine, &simulator, &[]).await;
    let keyed = async |job_id: &str| {
        let mut request = Request::new(pb::RunJobRequest { job_id: job_id.to_owned() });
        request.metadata_mut().insert("idempotency-key", "tonight".parse().unwrap());
        app.system.clone().run_job(request).await
    };
    let first = keyed("retention").await.unwrap();
    let again = keyed("retention").await.unwrap();
    assert_eq!(again.metadata().get("idempotency-replayed").unwrap(), "true");
    assert_eq!(first.into_inner(), again.into_inner());
    let other = keyed(ALL).await.unwrap_err();
    assert_eq!(reason(&other).1, "IDEMPOTENCY_KEY_REUSED");
}

async fn jobs_run_by_their_schedule_and_say_so(engine: Engine) {
    let simulator = TestSimulator::start(demo_data()).await;
    let settings = [
        ("JOBS_ENABLED", "true"),
        ("JOB_RETENTION_SCHEDULE", "* * * * * *"),
        ("JOB_MARKET_DATA_SYNC_DAILY_ENABLED", "false"),
    ];
    let mut app = TestApp::on(engine, &simulator, &settings).await;
    let mut seen: Vec<pb::JobRun> = Vec::new();
    while seen.len() < 2 {
        let jobs = list(&app).await;
        let job = jobs.iter().find(|job| job.job_id == "retention").unwrap();
        let run = job.last_run.clone().filter(|run| run.outcome() == JobOutcome::Succeeded);
        seen.extend(run.filter(|run| seen.last().is_none_or(|last| last.run_id != run.run_id)));
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let instants: Vec<i64> =
        seen.iter().map(|run| run.scheduled_time.as_ref().unwrap().seconds).collect();
    assert!(instants.is_sorted_by(|a, b| a < b), "{instants:?}");

    let jobs = list(&app).await;
    let names: Vec<_> = jobs.iter().map(|job| job.job_id.as_str()).collect();
    assert_eq!(names, NAMES);
    for job in jobs {
        let runs = job.job_id != DAILY;
        assert_eq!((job.enabled, job.next_run_time.is_some()), (runs, runs), "{}", job.job_id);
    }
    let health = app.system.get_health(pb::GetHealthRequest {}).await.unwrap().into_inner();
    let jobs = health.dependencies.iter().find(|each| each.name == "jobs").unwrap();
    assert_eq!(jobs.status(), pb::HealthStatus::Serving);
    app.stop().await;

    let off = TestApp::on(engine, &simulator, &[]).await;
    assert!(list(&off).await.iter().all(|job| !job.enabled && job.next_run_time.is_none()));
}

/// Every job, in the order of the documentation.
const NAMES: [&str; 4] = [ALL, DAILY, "repair_gaps", "retention"];
