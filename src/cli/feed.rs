//! `feed`: start and stop the connection to the provider's live data, and show how it is.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::client::{Client, ClientOptions};
use super::key::KeyOption;
use super::names::connection_state_text;
use super::output::Output;
use super::times::show_time;
use crate::proto::v1::{FeedStatus, GetFeedStatusRequest, StartFeedRequest, StopFeedRequest};

/// Start or stop the feed of live data, or show how it is
#[derive(Debug, Args)]
pub(super) struct Feed {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Connect to the provider; open streams and subscriptions come alive
    Start(Change),
    /// Disconnect; bars whose time is not over are kept
    Stop(Change),
    /// Show how the connection is
    Status(Options),
}

#[derive(Debug, Args)]
struct Change {
    #[command(flatten)]
    key: KeyOption,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Args)]
struct Options {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientOptions,
}

impl Feed {
    pub(super) async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        let (Action::Start(Change { options, .. })
        | Action::Stop(Change { options, .. })
        | Action::Status(options)) = &self.action;
        let client = Client::connect(options.client.clone().or(outer)).await?;
        let mut quotes = client.quotes();
        let (status, unchanged) = match &self.action {
            Action::Start(Change { key, .. }) => {
                let request = key.whole().on(client.request(StartFeedRequest {}));
                let call = quotes.start_feed(request);
                (client.answer(call).await?, "it was started already")
            }
            Action::Stop(Change { key, .. }) => {
                let request = key.whole().on(client.request(StopFeedRequest {}));
                let call = quotes.stop_feed(request);
                (client.answer(call).await?, "it was stopped already")
            }
            Action::Status(_) => {
                let call = quotes.get_feed_status(client.request(GetFeedStatusRequest {}));
                (client.answer(call).await?, "")
            }
        };
        let mut output = Output::stdout();
        if options.json {
            output.json(&JsonFeed::new(&status, &self.action))?;
        } else {
            print(&status, unchanged, &mut output)?;
        }
        output.finish()?;
        Ok(ExitCode::SUCCESS)
    }
}

fn print(status: &FeedStatus, unchanged: &str, output: &mut Output) -> anyhow::Result<()> {
    let state = connection_state_text(status.state);
    let noted = status.unchanged && !unchanged.is_empty();
    let note = if noted { format!(" ({unchanged})") } else { String::new() };
    let (subscribed, active) = (status.subscription_count, status.active_symbols);
    let lines = [
        ("state", format!("{state}{note}")),
        ("connected since", show_time(status.connected_since)),
        ("reconnects", status.reconnects.to_string()),
        ("subscriptions", subscribed.to_string()),
        ("active symbols", active.to_string()),
        ("last message", show_time(status.last_message_time)),
        ("last error", status.last_error.clone()),
    ];
    let mut told = lines.iter().filter(|(_, value)| !value.is_empty());
    told.try_for_each(|(name, value)| output.line(format!("{name:<16} {value}")))
}

/// How the feed is, for programs. Absent is what it does not have.
#[derive(Serialize)]
struct JsonFeed<'a> {
    state: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    connected_since: String,
    reconnects: i32,
    subscription_count: i32,
    active_symbols: i32,
    #[serde(skip_serializing_if = "String::is_empty")]
    last_message_time: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    last_error: &'a str,
    /// Whether starting or stopping changed nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    unchanged: Option<bool>,
}

impl<'a> JsonFeed<'a> {
    fn new(status: &'a FeedStatus, action: &Action) -> Self {
        Self {
            state: connection_state_text(status.state),
            connected_since: show_time(status.connected_since),
            reconnects: status.reconnects,
            subscription_count: status.subscription_count,
            active_symbols: status.active_symbols,
            last_message_time: show_time(status.last_message_time),
            last_error: &status.last_error,
            unchanged: (!matches!(action, Action::Status(_))).then_some(status.unchanged),
        }
    }
}
