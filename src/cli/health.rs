//! `health`: ask a server whether it can serve, for probes.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use serde::Serialize;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;

use super::client::{Client, ClientOptions};
use super::output::Output;
use crate::common::constants::HEALTH_READINESS;

/// How long a probe waits when nothing else is said.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);
/// The code of a service that has no such health name.
const NOT_FOUND: &str = "NOT_FOUND";

/// Ask a server whether it can serve; exit code 0 only if it can
///
/// Made for probes: the answer is what the server's last check found, and it comes within 3
/// seconds unless --timeout says otherwise.
#[derive(Debug, Args)]
pub(super) struct Health {
    /// What to ask about: readiness, liveness, database, cache, or a service such as
    /// pocketquant.v1.MarketData
    #[arg(long, value_name = "NAME", default_value = HEALTH_READINESS)]
    service: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientOptions,
}

impl Health {
    pub(super) async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        let Self { service, json, client } = self;
        let client = Client::connect(client.or(outer).or_timeout(PROBE_TIMEOUT)).await?;
        let request = client.request(HealthCheckRequest { service: service.clone() });
        let answer = client.answer(client.health().check(request)).await.map_err(|error| {
            if error.code == NOT_FOUND {
                return anyhow!(
                    "the server has no health of the name `{service}`: use readiness, liveness, database, cache, or a service such as pocketquant.v1.MarketData"
                );
            }
            error.into()
        })?;
        let status = answer.status();
        let mut output = Output::stdout();
        if json {
            output.json(&JsonHealth { service: &service, status: status.as_str_name() })?;
        } else {
            output.line(status.as_str_name())?;
        }
        output.finish()?;
        Ok(match status {
            ServingStatus::Serving => ExitCode::SUCCESS,
            ServingStatus::NotServing | ServingStatus::Unknown | ServingStatus::ServiceUnknown => {
                ExitCode::FAILURE
            }
        })
    }
}

/// What the server's last check found, for programs.
#[derive(Serialize)]
struct JsonHealth<'a> {
    service: &'a str,
    status: &'static str,
}
