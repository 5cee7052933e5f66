//! `simulate`: run the provider's side from a folder of files.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use tracing::{error, info};

use super::output::Output;
use super::settings::{isolated, start_logging};
use super::times::{parse_offset, parse_time};
use crate::common::shutdown::stop_signal;
use crate::simulator::{FaultKind, FaultSpec, Simulator, SimulatorConfig};

/// Run a local server that speaks TradingView's protocol from a folder of files
///
/// The folder holds EXCHANGE_CODE_INTERVAL.csv (time,open,high,low,close,volume) and, if wanted,
/// symbols.json and ticks/. When it is ready, one JSON line with ws_url, http_url and search_url
/// (and ca_file with --tls) is printed, and nothing else. It ends with SIGTERM or Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = faults_help())]
#[expect(clippy::doc_markdown, reason = "clap shows it as it is")]
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
        let simulator = Simulator::bind(self.config()).await?;
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

    fn config(self) -> SimulatorConfig {
        let Self { data, listen, allow_remote, tls, history_limit, now, .. } = self;
        SimulatorConfig {
            listen,
            allow_remote,
            tls,
            history_limit,
            now,
            clock_offset: self.clock_offset.unwrap_or_default(),
            faults: self.faults,
            require_origin: self.require_origin,
            ..SimulatorConfig::new(data)
        }
    }
}

fn faults_help() -> String {
    let mut text = String::from("Faults (--fault KIND[=ARG][@SYMBOL]):\n");
    for kind in FaultKind::ALL {
        let (name, help) = (kind.as_str(), kind.help());
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "  {name:<18} {help}");
    }
    text.push_str(
        "\nAt run time: POST {http_url}/_sim/faults with {\"kind\",\"arg\",\"symbol\",\"on\"}",
    );
    text
}
