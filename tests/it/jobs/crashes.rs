//! Runs of real processes that are killed and stopped, and the commands that show them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::JobOutcome;
use pocketquant::proto::v1::system_client::SystemClient;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

use crate::engines::{Engine, on_every_engine};
use crate::processes::{Server, SimulatorProcess, pocketquant};
use crate::support::demo_data;

on_every_engine!(a_run_that_is_killed_is_told_and_caught_up_by_the_next_start);

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(2);
const DAILY: &str = "market_data_sync_daily";

/// A server with one tracked series and one job that takes seconds.
async fn start(
    folder: &std::path::Path,
    settings: &BTreeMap<String, String>,
) -> (Server, SystemClient<Channel>) {
    let server = Server::start(folder, settings).await;
    let channel = Channel::from_shared(server.url()).unwrap().connect().await.unwrap();
    (server, SystemClient::new(channel))
}

async fn last_run(client: &mut SystemClient<Channel>) -> Option<pb::JobRun> {
    let answer = client.list_jobs(pb::ListJobsRequest {}).await.unwrap().into_inner();
    answer.jobs.into_iter().find(|job| job.job_id == DAILY).unwrap().last_run
}

async fn until(
    client: &mut SystemClient<Channel>,
    wanted: impl Fn(&pb::JobRun) -> bool,
) -> pb::JobRun {
    let looking = async {
        loop {
            if let Some(run) = last_run(client).await.filter(&wanted) {
                return run;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, looking).await.expect("such a run")
}

/// Starts the server with the daily job due soon, and not before it has looked for the first time:
/// what was due before is none of its business.
async fn start_before_it_is_due(
    folder: &std::path::Path,
    settings: &mut BTreeMap<String, String>,
) -> (Server, SystemClient<Channel>) {
    for lead in [6, 12, 24, 48] {
        let soon = TimeZone::UTC.to_datetime(Timestamp::now() + SignedDuration::from_secs(lead));
        let schedule = format!("{} {} {} * * *", soon.second(), soon.minute(), soon.hour());
        settings.insert("JOB_MARKET_DATA_SYNC_DAILY_SCHEDULE".to_owned(), schedule);
        let (server, mut client) = start(folder, settings).await;
        let answer = client.list_jobs(pb::ListJobsRequest {}).await.unwrap().into_inner();
        let job = answer.jobs.into_iter().find(|job| job.job_id == DAILY).unwrap();
        let left = job.next_run_time.unwrap().seconds - Timestamp::now().as_second();
        if (2..=lead).contains(&left) {
            return (server, client);
        }
        assert_eq!(server.terminate().await, Some(0));
    }
    panic!("a server takes more than 40 s to start");
}

/// The settings of `engine`, with a provider that takes its time.
async fn settings(engine: Engine, simulator: &SimulatorProcess) -> BTreeMap<String, String> {
    let mut settings = simulator.settings();
    for (name, value) in engine.settings().await {
        settings.insert(name.to_owned(), value);
    }
    settings
}

async fn a_run_that_is_killed_is_told_and_caught_up_by_the_next_start(engine: Engine) {
    let folder = tempfile::tempdir().unwrap();
    let simulator = SimulatorProcess::start(demo_data(), &["--fault", "slow=4000"]).await;
    let mut settings = settings(engine, &simulator).await;
    // Tracked from here on.
    let (server, _) = start(folder.path(), &settings).await;
    let request = pb::SyncSymbolRequest {
        symbol: "NYSE:IBM".to_owned(),
        interval: pb::Interval::Interval1d.into(),
        bar_count: Some(5),
        full_history: false,
    };
    server.market_data().await.sync_symbol(request).await.unwrap();
    assert_eq!(server.terminate().await, Some(0));

    settings.insert("JOBS_ENABLED".to_owned(), "true".to_owned());
    for other in ["MARKET_DATA_SYNC_ALL", "REPAIR_GAPS", "RETENTION"] {
        settings.insert(format!("JOB_{other}_ENABLED"), "false".to_owned());
    }
    let (server, mut client) = start_before_it_is_due(folder.path(), &mut settings).await;
    let running = until(&mut client, |run| run.outcome() == JobOutcome::Running).await;
    assert_eq!(running.attempt, 1);
    server.kill().await;

    let (server, mut client) = start(folder.path(), &settings).await;
    let again = until(&mut client, |run| run.run_id != running.run_id).await;
    assert_eq!((again.attempt, &again.scheduled_time), (2, &running.scheduled_time));
    let told = async {
        while !server.lines().iter().any(|line| line.contains("was cut off")) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, told).await.unwrap_or_else(|_| panic!("{:#?}", server.lines()));
    // A stop cuts it off as well, within its bound, and says so.
    assert_eq!(server.terminate().await, Some(0));
    let (server, mut client) = start(folder.path(), &settings).await;
    let done = until(&mut client, |run| run.outcome() == JobOutcome::Succeeded).await;
    assert_eq!((done.attempt, &done.scheduled_time), (3, &running.scheduled_time));
    assert_eq!(done.message, "1 of 1 series synced");
    assert_eq!(server.terminate().await, Some(0));

    let (server, mut client) = start(folder.path(), &settings).await;
    assert_eq!(last_run(&mut client).await, Some(done), "a restart doubles nothing");
    assert_eq!(server.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod and Redis: run scripts/test"]
async fn a_run_by_hand_joins_the_one_of_another_server() {
    let simulator = SimulatorProcess::start(demo_data(), &["--fault", "slow=3000"]).await;
    let settings = settings(Engine::Servers, &simulator).await;
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (one, mut client) = start(folders[0].path(), &settings).await;
    let (other, mut second) = start(folders[1].path(), &settings).await;
    let request = pb::SyncSymbolRequest {
        symbol: "NYSE:IBM".to_owned(),
        interval: pb::Interval::Interval1d.into(),
        bar_count: Some(5),
        full_history: false,
    };
    one.market_data().await.sync_symbol(request).await.unwrap();
    let request = || pb::RunJobRequest { job_id: DAILY.to_owned() };
    let mut caller = client.clone();
    let first = tokio::spawn(async move { caller.run_job(request()).await });
    until(&mut client, |run| run.outcome() == JobOutcome::Running).await;
    let joined = second.run_job(request()).await.unwrap().into_inner().run.unwrap();
    let first = first.await.unwrap().unwrap().into_inner().run.unwrap();
    assert_eq!((&first, first.outcome()), (&joined, JobOutcome::Succeeded));
    assert_eq!(one.terminate().await, Some(0));
    assert_eq!(other.terminate().await, Some(0));
}

#[tokio::test]
async fn the_command_line_lists_jobs_and_runs_them() {
    let simulator = SimulatorProcess::start(demo_data(), &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let (server, _) = start(folder.path(), &simulator.settings()).await;
    let call = async |arguments: &[&str]| {
        let mut command = pocketquant(arguments);
        command.env("POCKETQUANT_SERVER", server.url());
        let output = command.output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), text, String::from_utf8(output.stderr).unwrap())
    };
    let (code, out, _) = call(&["jobs", "run", "retention"]).await;
    assert_eq!(code, Some(0));
    assert!(out.starts_with("retention: succeeded in "), "{out}");
    let (code, out, _) = call(&["jobs", "list"]).await;
    assert_eq!(code, Some(0));
    assert!(out.contains("0 0 9-17 * * Mon-Fri") && out.contains("off"), "{out}");
    let (_, out, _) = call(&["jobs", "list", "--json"]).await;
    let jobs: serde_json::Value = serde_json::from_str(&out).unwrap();
    let retention =
        jobs.as_array().unwrap().iter().find(|job| job["job_id"] == "retention").unwrap();
    assert_eq!(retention["last_run"]["outcome"], "succeeded");
    assert_eq!(retention["enabled"], false);

    // Nothing but what fails is tracked.
    let (code, _, err) = call(&["sync", "NYSE:IBM", "-i", "1d", "-n", "3"]).await;
    assert_eq!(code, Some(0), "{err}");
    drop(simulator);
    let (code, out, _) = call(&["jobs", "run", DAILY, "--json"]).await;
    assert_eq!(code, Some(1));
    let run: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(run["outcome"], "failed");
    let (code, _, err) = call(&["jobs", "run", "nothing"]).await;
    assert_eq!(code, Some(1));
    assert!(err.contains("JOB_NOT_FOUND") || err.contains("there is no job `nothing`"), "{err}");
    assert_eq!(server.terminate().await, Some(0));
}
