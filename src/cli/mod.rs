//! The command line: one file a command, and what they share.
//!
//! It parses and shows; what a command means is decided by the service, the simulator or the
//! server that is called. Output goes to stdout; logs, progress and errors go to stderr.

mod bars;
mod cancel;
mod client;
mod coverage;
mod demo;
mod events;
mod export;
mod failure;
mod feed;
mod follow_sync;
mod health;
mod info;
mod jobs;
mod key;
mod keys;
mod migrate;
mod names;
mod output;
mod pages;
mod progress;
mod quote;
mod repair;
mod search;
mod series;
mod serve;
mod settings;
mod simulate;
mod status;
mod subscriptions;
mod symbols;
mod sync;
mod sync_report;
mod target;
mod times;
mod watch;
mod webhooks;

use std::future::Future;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand};

use crate::common::shutdown::stop_signal;
use client::ClientOptions;
use failure::{UsageMistake, report};

/// Market data over gRPC that says whether it is final.
///
/// PocketQuant copies historical bars from a provider into a database and serves them over gRPC.
/// `pocketquant demo` shows it without any other software; `pocketquant serve` runs the service;
/// the client commands call a running one.
#[derive(Debug, Parser)]
#[command(name = "pocketquant", version, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    client: ClientOptions,
    #[command(subcommand)]
    command: Command,
}

/// What to do. Boxed where the arguments are many.
#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Demo),
    Serve(serve::Serve),
    Sync(sync::Sync),
    Cancel(cancel::Cancel),
    Bars(Box<bars::Bars>),
    Export(Box<export::Export>),
    Coverage(coverage::Coverage),
    Repair(repair::Repair),
    Watch(Box<watch::Watch>),
    Quote(quote::Quote),
    Subscribe(subscriptions::Subscribe),
    Unsubscribe(subscriptions::Unsubscribe),
    Subscriptions(subscriptions::Subscriptions),
    Feed(feed::Feed),
    Status(status::Status),
    Symbols(Box<symbols::Symbols>),
    Search(search::Search),
    Webhooks(webhooks::Webhooks),
    Events(events::Events),
    Jobs(jobs::Jobs),
    Info(info::Info),
    Health(health::Health),
    Keys(keys::Keys),
    Migrate(migrate::Migrate),
    Simulate(Box<simulate::Simulate>),
}

impl Cli {
    /// Runs the command to its end. What goes wrong is printed to stderr and told by the exit
    /// code: 1 for a failure, 2 for a mistake on the command line, 130 when interrupted.
    pub async fn run(self) -> ExitCode {
        match Box::pin(self.dispatch()).await {
            Ok(code) => code,
            Err(error) => match error.downcast::<UsageMistake>() {
                Ok(UsageMistake(mistake)) => usage(&mistake),
                Err(error) => report(&error),
            },
        }
    }

    async fn dispatch(self) -> anyhow::Result<ExitCode> {
        let outer = self.client;
        match self.command {
            Command::Demo(command) => {
                outer.refuse_given()?;
                Box::pin(command.run()).await
            }
            Command::Serve(command) => {
                outer.refuse_given()?;
                Box::pin(command.run()).await
            }
            Command::Simulate(command) => {
                outer.refuse_given()?;
                Box::pin(command.run()).await
            }
            Command::Keys(command) => {
                outer.refuse_given()?;
                command.run()
            }
            Command::Migrate(command) => {
                outer.refuse_given()?;
                Box::pin(until_stopped(command.run())).await
            }
            Command::Sync(command) => Box::pin(command.run(outer)).await,
            Command::Cancel(command) => until_stopped(command.run(outer)).await,
            Command::Bars(command) => until_stopped(command.run(outer)).await,
            Command::Export(command) => until_stopped(command.run(outer)).await,
            Command::Coverage(command) => until_stopped(command.run(outer)).await,
            Command::Repair(command) => until_stopped(command.run(outer)).await,
            Command::Watch(command) => Box::pin(command.run(outer)).await,
            Command::Quote(command) => until_stopped(command.run(outer)).await,
            Command::Subscribe(command) => until_stopped(command.run(outer)).await,
            Command::Unsubscribe(command) => until_stopped(command.run(outer)).await,
            Command::Subscriptions(command) => until_stopped(command.run(outer)).await,
            Command::Feed(command) => until_stopped(command.run(outer)).await,
            Command::Status(command) => until_stopped(command.run(outer)).await,
            Command::Symbols(command) => until_stopped(command.run(outer)).await,
            Command::Search(command) => until_stopped(command.run(outer)).await,
            Command::Webhooks(command) => until_stopped(command.run(outer)).await,
            Command::Events(command) => until_stopped(command.run(outer)).await,
            Command::Jobs(command) => until_stopped(command.run(outer)).await,
            Command::Info(command) => until_stopped(command.run(outer)).await,
            Command::Health(command) => until_stopped(command.run(outer)).await,
        }
    }
}

/// The exit code of a process that a signal has ended.
const INTERRUPTED: u8 = 130;

/// Runs a command that ends by itself; a signal ends it sooner, and it cleans up behind itself.
async fn until_stopped(
    command: impl Future<Output = anyhow::Result<ExitCode>>,
) -> anyhow::Result<ExitCode> {
    tokio::select! {
        result = command => result,
        signal = stop_signal() => signal.map(|()| ExitCode::from(INTERRUPTED)).map_err(Into::into),
    }
}

/// Prints a mistake on the command line as clap prints those that it finds itself.
fn usage(mistake: &str) -> ExitCode {
    const USAGE: u8 = 2;
    // Where stderr is closed there is nobody to tell.
    let _unheard = Cli::command().error(ErrorKind::ValueValidation, mistake).print();
    ExitCode::from(USAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
