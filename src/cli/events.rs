//! `events`: what has happened on the server.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::client::{Client, ClientOptions};
use super::output::{Align, Output, Rows};
use super::times::show_time;
use crate::proto::v1::{Event, ListEventsRequest};

/// Show the newest events of the server since it started, the newest first
#[derive(Debug, Args)]
pub(super) struct Events {
    /// Events at most, 1 to 1000 [default: 50]
    #[arg(long, value_name = "NUMBER")]
    limit: Option<i32>,
    /// Print JSON: an array of objects
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientOptions,
}

impl Events {
    pub(super) async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        let client = Client::connect(self.client.or(outer)).await?;
        let request = client.request(ListEventsRequest { limit: self.limit });
        let events = client.answer(client.system().list_events(request)).await?.events;
        let mut output = Output::stdout();
        if self.json {
            output.json(&events.iter().map(JsonEvent::from).collect::<Vec<_>>())?;
        } else {
            output.table(&table(&events))?;
        }
        output.finish()?;
        Ok(ExitCode::SUCCESS)
    }
}

fn table(events: &[Event]) -> Rows {
    use Align::Left;
    let mut rows = Rows::new(&[("time", Left), ("type", Left), ("id", Left), ("payload", Left)]);
    for event in events {
        rows.push(vec![
            show_time(event.time),
            event.r#type.clone(),
            event.id.clone(),
            event.payload.clone(),
        ]);
    }
    rows
}

/// An event for programs.
#[derive(Serialize)]
struct JsonEvent<'a> {
    id: &'a str,
    r#type: &'a str,
    time: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    correlation_id: &'a str,
    payload: Value,
}

impl<'a> From<&'a Event> for JsonEvent<'a> {
    fn from(event: &'a Event) -> Self {
        Self {
            id: &event.id,
            r#type: &event.r#type,
            time: show_time(event.time),
            correlation_id: &event.correlation_id,
            payload: serde_json::from_str(&event.payload).unwrap_or_default(),
        }
    }
}
