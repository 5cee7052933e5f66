//! `simulate`: run the provider's side from a folder of files.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use tracing::{error, info};

use super::failure::UsageMistake;
use super::output::Output;
use super::settings::{isolated, start_logging};
use super::times::{parse_offset, parse_time};
use crate::common::shutdown::stop_signal;
use crate::simulator::{
    FaultKind, FaultSpec, Pace, Rebase, ReplayConfig, Simulator, SimulatorConfig, SimulatorError,
};

/// Run a local server that speaks TradingView's protocol from a folder of files
///
/// The folder holds EXCHANGE_CODE_INTERVAL.csv or .csv.gz (time,open,high,low,close,volume) and, if
/// wanted, symbols.json and ticks/. When it is ready, one JSON line with ws_url, http_url and search_url
/// (and ca_file with --tls) is printed, and nothing else. It ends with SIGTERM or Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = faults_help())]
#[expect(clippy::doc_markdown, reason = "clap shows it as it is")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(super) struct Simulate {
    /// The folder of files
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))]
    listen: SocketAddr,
    /// Allow --listen to be reachable from other machines; nobody is asked who they are
    #[arg(long)]
    allow_remote: bool,
    /// Speak wss and https, with a certificate of its own (`ca_file` in the JSON line)
    #[arg(long)]
    tls: bool,
    /// Give at most the newest N bars of a series, then say `limit`
    #[arg(long, value_name = "N")]
    history_limit: Option<u32>,
    /// Let the world stand at TIME (a date or RFC 3339): later bars do not exist
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    now: Option<Timestamp>,
    /// Let the world move: symbols with trades replay them, starting with the first subscription
    #[arg(long, help_heading = "Replay", conflicts_with = "now")]
    replay: bool,
    /// Replay N times as fast as it was, or `max`: as fast as clients read (implies --replay)
    #[arg(long, value_name = "N|max", value_parser = Pace::speed, help_heading = "Replay", conflicts_with = "now")]
    speed: Option<Pace>,
    /// Replay N trades a second, whatever time lies between them (implies --replay)
    #[arg(long, value_name = "N", value_parser = Pace::rate, help_heading = "Replay", conflicts_with_all = ["speed", "now"])]
    rate: Option<Pace>,
    /// Replay again after the last trade, moved by whole weeks, for ever (implies --replay)
    #[arg(long = "loop", help_heading = "Replay", conflicts_with = "now")]
    looping: bool,
    /// Symbols without trades replay their newest N bars: open, low, high, close (implies --replay)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Replay", conflicts_with = "now")]
    walk: Option<u32>,
    /// Move each symbol's trades so that the first lies at TIME, or at the machine's time when its
    /// replay starts; its calendar is 24x7 where its own does not suit them (implies --replay)
    #[arg(long, value_name = "TIME|now", help_heading = "Replay", conflicts_with = "now")]
    rebase: Option<Rebase>,
    /// How far the provider's clock is off, e.g. `1h` or `-90s`
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = parse_offset)]
    clock_offset: Option<SignedDuration>,
    /// Make something go wrong (see below); may be given several times
    #[arg(long = "fault", value_name = "KIND[=ARG][@SYMBOL]")]
    faults: Vec<FaultSpec>,
    /// Answer 403 to a handshake without an accepted Origin, as TradingView does
    #[arg(long)]
    require_origin: bool,
}

impl Simulate {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        start_logging(&isolated(&[])?.log)?;
        let simulator = Simulator::bind(self.config()).await.map_err(explain)?;
        let mut output = Output::stdout();
        output.line(simulator.ready_line())?;
        output.finish()?;
        info!("simulating a provider at {}", simulator.endpoints().ws_url);
        simulator
            .run(async {
                if let Err(error) = stop_signal().await {
                    error!(%error, "signals cannot be heard; stopping");
                }
            })
            .await;
        Ok(ExitCode::SUCCESS)
    }

    /// How the world moves, where any flag says that it does.
    fn replay(&self) -> Option<ReplayConfig> {
        let Self { replay, speed, rate, looping, walk, rebase, .. } = *self;
        let pace = rate.or(speed);
        let moves = replay || looping || pace.is_some() || walk.is_some() || rebase.is_some();
        let pace = pace.unwrap_or(Pace::Speed(1.0));
        moves.then_some(ReplayConfig { pace, looping, walk, rebase })
    }

    fn config(self) -> SimulatorConfig {
        let replay = self.replay();
        let Self { data, listen, allow_remote, tls, history_limit, now, .. } = self;
        SimulatorConfig {
            listen,
            allow_remote,
            tls,
            history_limit,
            now,
            replay,
            clock_offset: self.clock_offset.unwrap_or_default(),
            faults: self.faults,
            require_origin: self.require_origin,
            ..SimulatorConfig::new(data)
        }
    }
}

fn explain(error: SimulatorError) -> anyhow::Error {
    if let SimulatorError::NotLoopback(_) = error {
        return UsageMistake(format!("{error}, with --allow-remote")).into();
    }
    error.into()
}

fn faults_help() -> String {
    let mut text = String::from("Faults (--fault KIND[=ARG][@SYMBOL]):\n");
    for kind in FaultKind::ALL {
        let (name, help) = (kind.as_str(), kind.help());
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "  {name:<18} {help}");
    }
    text.push_str(
        "\nAt run time:\n  \
         POST {http_url}/_sim/faults  {\"kind\",\"arg\",\"symbol\",\"on\"}: switch a fault\n  \
         POST {http_url}/_sim/tick    {\"symbol\",\"time\",\"price\",\"size\"}: one trade more in a replay\n  \
         POST {http_url}/_sim/quote   {\"symbol\",\"values\"}: an update with just these fields\n  \
         GET  {http_url}/_sim/stats   counters, and how far each replay has come",
    );
    text
}
