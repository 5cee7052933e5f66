//! `sync`: have the server fetch series from the provider.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use futures::{FutureExt as _, StreamExt as _};
use indicatif::{MultiProgress, ProgressBar};

use super::INTERRUPTED;
use super::client::{Client, ClientOptions};
use super::failure::{complain, remark};
use super::follow_sync::follow_sync;
use super::key::{CallKey, KeyOption};
use super::names::{self, interval_parser};
use super::output::Output;
use super::progress::{moving, spinner, total};
use super::sync_report::{Outcome, print};
use crate::common::shutdown::stop_signal;
use crate::domain::shared::Interval;
use crate::proto::v1::StartSyncRequest;

/// Syncs that run at once.
const AT_ONCE: usize = 4;

/// Fetch series from the provider and store what differs
///
/// The server does the work and goes on with it when this command is interrupted, and when the
/// server itself is: it is followed again once it is back. At most four symbols are synced at
/// once; one that fails stops no other, is named on stderr, and makes the exit code 1.
#[derive(Debug, Args)]
pub(super) struct Sync {
    /// The symbols, as EXCHANGE:CODE, e.g. NASDAQ:AAPL
    #[arg(required = true, value_name = "SYMBOL")]
    symbols: Vec<String>,
    /// The bar length
    #[arg(short, long, default_value = "1d", value_parser = interval_parser())]
    interval: Interval,
    /// How many of the newest bars to fetch: 1 to 5000 [default: 5000]
    #[arg(short = 'n', long = "bars", value_name = "N", conflicts_with = "full")]
    bars: Option<i32>,
    /// Fetch all bars that the provider has, page by page
    #[arg(long)]
    full: bool,
    /// Print the ids of the syncs and do not wait: `pocketquant watch sync ID` follows one
    #[arg(long, conflicts_with = "json")]
    detach: bool,
    /// Print JSON: an array with an object a symbol
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    key: KeyOption,
    #[command(flatten)]
    client: ClientOptions,
}

impl Sync {
    /// A signal ends it sooner; what it started goes on, and is named.
    pub(super) async fn run(self, outer: ClientOptions) -> anyhow::Result<ExitCode> {
        let followed = Followed::default();
        tokio::select! {
            result = self.follow(outer, &followed) => result,
            signal = stop_signal() => {
                signal?;
                followed.tell();
                Ok(ExitCode::from(INTERRUPTED))
            }
        }
    }

    async fn follow(self, outer: ClientOptions, followed: &Followed) -> anyhow::Result<ExitCode> {
        let Self { symbols, interval, bars, full, detach, json, key, client } = self;
        let keys = key.each(&symbols)?;
        let client = Client::connect(client.or(outer)).await?;
        let request = |symbol| StartSyncRequest {
            symbol,
            interval: names::interval(interval).into(),
            bar_count: bars,
            full_history: full,
        };
        let requests: Vec<_> = symbols.into_iter().map(request).collect();
        if detach {
            return self::detach(&client, requests, &keys).await;
        }
        let progress = MultiProgress::new();
        let all = (requests.len() > AT_ONCE).then(|| progress.add(total(requests.len())));
        let syncs = requests.into_iter().zip(&keys).map(|(request, key)| {
            let spinner = spinner(format!("{} {interval}", request.symbol));
            let shown = match &all {
                Some(all) => progress.insert_before(all, spinner),
                None => progress.add(spinner),
            };
            one(&client, request, key, shown, followed)
                .inspect(|outcome| ended(all.as_ref(), outcome))
        });
        let outcomes: Vec<_> = futures::stream::iter(syncs).buffered(AT_ONCE).collect().await;
        progress.clear().context("cannot write to the terminal")?;
        print(&outcomes, json)
    }
}

/// Starts a sync and follows it to its end.
async fn one(
    client: &Client,
    request: StartSyncRequest,
    key: &CallKey,
    shown: ProgressBar,
    followed: &Followed,
) -> Outcome {
    let (symbol, interval) = (request.symbol.clone(), request.interval);
    let shown = moving(shown);
    let result = async {
        let mut service = client.market_data();
        let request = key.on(client.request(request));
        let started = client.answer(service.start_sync(request)).await?;
        followed.begin(&started.sync_id, &symbol);
        let ended = follow_sync(client, &started.sync_id, &shown).await;
        followed.end(&started.sync_id);
        ended
    };
    let result = result.await;
    shown.finish_and_clear();
    Outcome { symbol, interval, result }
}

/// The syncs that are being followed: id and symbol.
#[derive(Default)]
struct Followed(RefCell<BTreeMap<String, String>>);

impl Followed {
    fn begin(&self, sync_id: &str, symbol: &str) {
        self.0.borrow_mut().insert(sync_id.to_owned(), symbol.to_owned());
    }

    fn end(&self, sync_id: &str) {
        self.0.borrow_mut().remove(sync_id);
    }

    /// Says that the server goes on with them, and how to follow them again.
    fn tell(&self) {
        for (sync_id, symbol) in self.0.borrow().iter() {
            remark(&format!(
                "the server goes on with {symbol}: `pocketquant watch sync {sync_id}`"
            ));
        }
    }
}

/// Counts a sync that has ended.
fn ended(all: Option<&ProgressBar>, outcome: &Outcome) {
    let Some(all) = all else { return };
    all.inc(1);
    if let Err(error) = &outcome.result {
        all.set_message(format!("last failed: {} ({})", outcome.symbol, error.code));
    }
}

/// Starts syncs and prints their ids.
async fn detach(
    client: &Client,
    requests: Vec<StartSyncRequest>,
    keys: &[CallKey],
) -> anyhow::Result<ExitCode> {
    let (mut output, mut code) = (Output::stdout(), ExitCode::SUCCESS);
    for (request, key) in requests.into_iter().zip(keys) {
        let symbol = request.symbol.clone();
        let request = key.on(client.request(request));
        match client.answer(client.market_data().start_sync(request)).await {
            Ok(started) => output.line(format!("{} {symbol}", started.sync_id))?,
            Err(error) => {
                complain(&format!("{symbol}: {error}"));
                code = ExitCode::FAILURE;
            }
        }
    }
    output.finish()?;
    Ok(code)
}
