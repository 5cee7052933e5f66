//! `jobs`: what the server does by itself, and have it done now.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::client::{Client, ClientOptions};
use super::key::KeyOption;
use super::names::job_outcome_text;
use super::output::{Align, Output, Rows};
use super::times::{show_duration, show_time};
use crate::proto::v1::{Job, JobOutcome, JobRun, ListJobsRequest, RunJobRequest};

/// Show what the server does by itself, or have it done now
#[derive(Debug, Args)]
pub(super) struct Jobs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    List(List),
    Run(Run),
}

/// Show when each job runs next, and how it went last
#[derive(Debug, Args)]
struct List {
    /// Print JSON: an array of objects
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientOptions,
}

/// Run a job now, and wait for the end
///
/// Where it runs already, that run is joined. It goes on when this command is interrupted. The exit
/// code is 0 only if the job did all that it was to do. `repair_gaps` looks at the last 7 days of
/// the machine's clock; for what is older there is `pocketquant repair`.
#[derive(Debug, Args)]
struct Run {
    /// Which job, as `jobs list` names it
    #[arg(value_name = "JOB_ID")]
    job_id: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    key: KeyOption,
    #[command(flatten)]
    client: ClientOptions,
}

impl Jobs {
    pub(super) async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        match self.action {
            Action::List(list) => list.run(outer).await,
            Action::Run(run) => run.run(outer).await,
        }
    }
}

impl List {
    async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        let client = Client::connect(self.client.or(outer)).await?;
        let request = client.request(ListJobsRequest {});
        let jobs = client.answer(client.system().list_jobs(request)).await?.jobs;
        let mut output = Output::stdout();
        if self.json {
            output.json(&jobs.iter().map(JsonJob::from).collect::<Vec<_>>())?;
        } else {
            output.table(&table(&jobs))?;
        }
        output.finish()?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Run {
    async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        let Self { job_id, json, key, client } = self;
        let client = Client::connect(client.or(outer)).await?;
        let request = key.whole().on(client.request(RunJobRequest { job_id }));
        let answer = client.answer(client.system().run_job(request)).await?;
        let run = answer.run.unwrap_or_default();
        let mut output = Output::stdout();
        if json {
            output.json(&JsonRun::from(&run))?;
        } else {
            let (outcome, message) = (job_outcome_text(run.outcome), &run.message);
            let elapsed = show_duration(run.elapsed);
            output.line(format!("{}: {outcome} in {elapsed}: {message}", run.job_id))?;
        }
        output.finish()?;
        let succeeded = run.outcome() == JobOutcome::Succeeded;
        Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn table(jobs: &[Job]) -> Rows {
    use Align::Left;
    let mut rows = Rows::new(&[
        ("job", Left),
        ("schedule (UTC)", Left),
        ("next run", Left),
        ("last run", Left),
        ("outcome", Left),
        ("message", Left),
    ]);
    for job in jobs {
        let next = if job.enabled { show_time(job.next_run_time) } else { "off".to_owned() };
        let last = job.last_run.as_ref();
        rows.push(vec![
            job.job_id.clone(),
            job.schedule.clone(),
            next,
            last.map(|run| show_time(run.start_time)).unwrap_or_default(),
            last.map(|run| job_outcome_text(run.outcome).to_owned()).unwrap_or_default(),
            last.map(|run| run.message.clone()).unwrap_or_default(),
        ]);
    }
    rows
}

/// A job, for programs. Absent is what it does not have.
#[derive(Serialize)]
struct JsonJob<'a> {
    job_id: &'a str,
    schedule: &'a str,
    enabled: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    next_run_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_run: Option<JsonRun<'a>>,
}

/// A run, for programs. Absent is what it does not have.
#[derive(Serialize)]
struct JsonRun<'a> {
    run_id: &'a str,
    job_id: &'a str,
    start_time: String,
    elapsed: String,
    outcome: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "String::is_empty")]
    scheduled_time: String,
    attempt: i32,
}

impl<'a> From<&'a Job> for JsonJob<'a> {
    fn from(job: &'a Job) -> Self {
        Self {
            job_id: &job.job_id,
            schedule: &job.schedule,
            enabled: job.enabled,
            next_run_time: show_time(job.next_run_time),
            last_run: job.last_run.as_ref().map(JsonRun::from),
        }
    }
}

impl<'a> From<&'a JobRun> for JsonRun<'a> {
    fn from(run: &'a JobRun) -> Self {
        Self {
            run_id: &run.run_id,
            job_id: &run.job_id,
            start_time: show_time(run.start_time),
            elapsed: show_duration(run.elapsed),
            outcome: job_outcome_text(run.outcome),
            message: &run.message,
            scheduled_time: show_time(run.scheduled_time),
            attempt: run.attempt,
        }
    }
}
