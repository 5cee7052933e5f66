//! `subscribe`, `unsubscribe`, `subscriptions`: which symbols the server follows by itself.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::client::{Client, ClientOptions};
use super::failure::{CallError, complain};
use super::key::{CallKey, KeyOption};
use super::names::subscription_state_text;
use super::output::{Align, Output, Rows};
use super::times::show_time;
use crate::proto::v1::{
    ListSubscriptionsRequest, SubscribeRequest, Subscription, UnsubscribeRequest,
};

/// Follow symbols until `unsubscribe`, across restarts of the server
///
/// Works while the feed is stopped too, and takes effect when it starts. A symbol that fails stops
/// no other, is named on stderr, and makes the exit code 1.
#[derive(Debug, Args)]
pub(super) struct Subscribe {
    #[command(flatten)]
    each: EachSymbol,
}

/// Follow symbols no longer
///
/// Streams that are open on them go on. A symbol that fails stops no other, is named on stderr,
/// and makes the exit code 1.
#[derive(Debug, Args)]
pub(super) struct Unsubscribe {
    #[command(flatten)]
    each: EachSymbol,
}

/// Show which symbols the server follows
#[derive(Debug, Args)]
pub(super) struct Subscriptions {
    /// Print JSON: an array of objects
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: ClientOptions,
}

#[derive(Debug, Args)]
struct EachSymbol {
    /// The symbols, as EXCHANGE:CODE, e.g. NASDAQ:AAPL
    #[arg(required = true, value_name = "SYMBOL")]
    symbols: Vec<String>,
    /// Print JSON: an array with an object a symbol
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    key: KeyOption,
    #[command(flatten)]
    client: ClientOptions,
}

impl Subscribe {
    pub(super) async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        let subscribe = async |client: &Client, symbol, key: &CallKey| {
            let request = key.on(client.request(SubscribeRequest { symbol }));
            client.answer(client.quotes().subscribe(request)).await
        };
        self.each.run(outer, subscribe).await
    }
}

impl Unsubscribe {
    pub(super) async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        let unsubscribe = async |client: &Client, symbol, key: &CallKey| {
            let request = key.on(client.request(UnsubscribeRequest { symbol }));
            client.answer(client.quotes().unsubscribe(request)).await
        };
        self.each.run(outer, unsubscribe).await
    }
}

impl Subscriptions {
    pub(super) async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        let client = Client::connect(self.client.or(outer)).await?;
        let request = client.request(ListSubscriptionsRequest {});
        let answer = client.answer(client.quotes().list_subscriptions(request)).await?;
        let mut output = Output::stdout();
        if self.json {
            output.json(&answer.subscriptions.iter().map(Report::done).collect::<Vec<_>>())?;
        } else {
            output.table(&table(&answer.subscriptions))?;
        }
        output.finish()?;
        Ok(ExitCode::SUCCESS)
    }
}

impl EachSymbol {
    /// Calls for one symbol after the other.
    async fn run(
        self,
        outer: ClientOptions,
        call: impl AsyncFn(&Client, String, &CallKey) -> Result<Subscription, CallError>,
    ) -> anyhow::Result<ExitCode> {
        let Self { symbols, json, key, client } = self;
        let keys = key.each(&symbols)?;
        let client = Client::connect(client.or(outer)).await?;
        let (mut done, mut reports, mut code) = (Vec::new(), Vec::new(), ExitCode::SUCCESS);
        for (symbol, key) in symbols.into_iter().zip(&keys) {
            match call(&client, symbol.clone(), key).await {
                Ok(subscription) => {
                    reports.push(Report::done(&subscription));
                    done.push(subscription);
                }
                Err(error) => {
                    code = ExitCode::FAILURE;
                    if !json {
                        complain(&format!("{symbol}: {error}"));
                    }
                    reports.push(Report::Failed { symbol, error });
                }
            }
        }
        let mut output = Output::stdout();
        if json {
            output.json(&reports)?;
        } else if !done.is_empty() {
            output.table(&table(&done))?;
        }
        output.finish()?;
        Ok(code)
    }
}

fn table(subscriptions: &[Subscription]) -> Rows {
    use Align::Left;
    let mut rows =
        Rows::new(&[("symbol", Left), ("state", Left), ("since", Left), ("error", Left)]);
    for each in subscriptions {
        rows.push(vec![
            each.symbol.clone(),
            subscription_state_text(each.state).to_owned(),
            show_time(each.create_time),
            each.error.clone(),
        ]);
    }
    rows
}

/// A subscription, or why there is none, for programs.
#[derive(Serialize)]
#[serde(untagged)]
enum Report {
    Done {
        symbol: String,
        state: &'static str,
        #[serde(skip_serializing_if = "String::is_empty")]
        create_time: String,
        #[serde(rename = "error_message", skip_serializing_if = "String::is_empty")]
        refused: String,
    },
    Failed {
        symbol: String,
        error: CallError,
    },
}

impl Report {
    fn done(subscription: &Subscription) -> Self {
        Self::Done {
            symbol: subscription.symbol.clone(),
            state: subscription_state_text(subscription.state),
            create_time: show_time(subscription.create_time),
            refused: subscription.error.clone(),
        }
    }
}
