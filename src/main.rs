//! The binary: parses the command line, sets the process up, runs, exits.

use std::process::ExitCode;

use clap::Parser as _;
use mimalloc::MiMalloc;
use pocketquant::cli::Cli;
use pocketquant::infrastructure::tls::install_crypto_provider;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    install_crypto_provider();
    cli.run().await
}
