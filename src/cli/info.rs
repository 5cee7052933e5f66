//! `info`: what a server is made of.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::client::{Client, ClientOptions};
use super::names::interval_text;
use super::output::{Align, Output, Rows};
use crate::proto::v1::{GetServerInfoRequest, GetServerInfoResponse};

/// Show the server's version, its engines, its intervals and its limits
#[derive(Debug, Args)]
pub(super) struct Info {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientOptions,
}

impl Info {
    pub(super) async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        let client = Client::connect(self.client.or(outer)).await?;
        let request = client.request(GetServerInfoRequest {});
        let info = client.answer(client.system().get_server_info(request)).await?;
        let mut output = Output::stdout();
        if self.json {
            output.json(&JsonInfo::from(&info))?;
        } else {
            print(&info, &mut output)?;
        }
        output.finish()?;
        Ok(ExitCode::SUCCESS)
    }
}

fn print(info: &GetServerInfoResponse, output: &mut Output) -> anyhow::Result<()> {
    output.line(format!("version   {}", info.version))?;
    if let Some(engines) = &info.engines {
        output.line(format!("database  {}", engines.database))?;
        output.line(format!("cache     {}", engines.cache))?;
        output.line(format!("provider  {}", engines.provider))?;
    }
    let mut intervals = Rows::new(&[
        ("interval", Align::Left),
        ("seconds", Align::Right),
        ("alignment", Align::Left),
    ]);
    for each in &info.intervals {
        let name = interval_text(each.interval).to_owned();
        intervals.push(vec![name, each.seconds.to_string(), each.alignment.clone()]);
    }
    output.line("")?;
    output.table(&intervals)?;
    let mut limits = Rows::new(&[("limit", Align::Left), ("value", Align::Right)]);
    for limit in &info.limits {
        limits.push(vec![limit.name.clone(), limit.value.to_string()]);
    }
    output.line("")?;
    output.table(&limits)
}

/// What a server is made of, for programs.
#[derive(Serialize)]
struct JsonInfo<'a> {
    version: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    engines: Option<JsonEngines<'a>>,
    intervals: Vec<JsonInterval<'a>>,
    limits: Vec<JsonLimit<'a>>,
}

#[derive(Serialize)]
struct JsonEngines<'a> {
    database: &'a str,
    cache: &'a str,
    provider: &'a str,
}

#[derive(Serialize)]
struct JsonInterval<'a> {
    interval: &'static str,
    seconds: i32,
    alignment: &'a str,
}

#[derive(Serialize)]
struct JsonLimit<'a> {
    name: &'a str,
    value: i32,
}

impl<'a> From<&'a GetServerInfoResponse> for JsonInfo<'a> {
    fn from(info: &'a GetServerInfoResponse) -> Self {
        let engines = info.engines.as_ref().map(|engines| JsonEngines {
            database: &engines.database,
            cache: &engines.cache,
            provider: &engines.provider,
        });
        let intervals = info.intervals.iter().map(|each| JsonInterval {
            interval: interval_text(each.interval),
            seconds: each.seconds,
            alignment: &each.alignment,
        });
        let limits =
            info.limits.iter().map(|limit| JsonLimit { name: &limit.name, value: limit.value });
        Self {
            version: &info.version,
            engines,
            intervals: intervals.collect(),
            limits: limits.collect(),
        }
    }
}
