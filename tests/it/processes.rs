//! The real binary as its users run it, and the simulator as a process beside it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use pocketquant::proto::v1::market_data_client::MarketDataClient;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tonic::transport::Channel;

/// `pocketquant` with these arguments, and nothing of the test's own environment that it reads.
pub fn pocketquant(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pocketquant"));
    command.args(arguments).env_clear().kill_on_drop(true).stdin(Stdio::null());
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// `pocketquant serve` as a process; killed when dropped.
pub struct Server {
    pub address: String,
    pub log: Arc<Mutex<Vec<String>>>,
    child: Child,
}

impl Server {
    /// Starts it in `folder` with `settings`, and waits until it serves.
    pub async fn start(folder: &Path, settings: &BTreeMap<String, String>) -> Self {
        Self::launch(pocketquant(&["serve"]), folder, settings).await
    }

    /// The same, through `script`, whose `$0` is the program.
    pub async fn start_in_shell(
        script: &str,
        folder: &Path,
        settings: &BTreeMap<String, String>,
    ) -> Self {
        let mut shell = Command::new("bash");
        shell.args(["-c", script, env!("CARGO_BIN_EXE_pocketquant")]).env_clear();
        shell.kill_on_drop(true).stdin(Stdio::null());
        shell.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        Self::launch(shell, folder, settings).await
    }

    async fn launch(
        mut command: Command,
        folder: &Path,
        settings: &BTreeMap<String, String>,
    ) -> Self {
        command
            .current_dir(folder)
            .env("GRPC_ADDR", "127.0.0.1:0")
            .env("LOG_FORMAT", "json")
            .env("RATE_LIMIT_PER_SECOND", "0")
            // A full hour may strike while a test runs.
            .env("JOBS_ENABLED", "false")
            .envs(settings)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, mut serving) = mpsc::channel(1);
        let kept = Arc::clone(&log);
        drop(tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let address = line.split_once("serving gRPC on ").map(|(_, rest)| {
                    let is_of_it = |c: &char| c.is_ascii_digit() || ".:".contains(*c);
                    rest.chars().take_while(is_of_it).collect::<String>()
                });
                kept.lock().unwrap().push(line);
                if let Some(address) = address {
                    drop(sender.send(address).await);
                }
            }
        }));
        let address = serving.recv().await;
        let address = address.unwrap_or_else(|| panic!("no start: {:#?}", log.lock().unwrap()));
        Self { address, log, child }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub async fn market_data(&self) -> MarketDataClient<Channel> {
        let channel = Channel::from_shared(self.url()).unwrap().connect().await.unwrap();
        MarketDataClient::new(channel)
    }

    /// kill -9.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// SIGTERM, and the exit code.
    pub async fn terminate(mut self) -> Option<i32> {
        let pid = self.child.id().unwrap().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().await.unwrap();
        assert!(sent.success());
        self.child.wait().await.unwrap().code()
    }

    pub fn pid(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// The log so far.
    pub fn lines(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

/// `pocketquant simulate` as a process; killed when dropped.
pub struct SimulatorProcess {
    pub endpoints: serde_json::Value,
    _child: Child,
}

impl SimulatorProcess {
    /// Starts it on the folder `data`, and waits for its one line.
    pub async fn start(data: &Path, arguments: &[&str]) -> Self {
        let mut command = pocketquant(&["simulate", "--data"]);
        command.arg(data).args(arguments).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().expect("a line that says it is ready");
        Self { endpoints: serde_json::from_str(&line).unwrap(), _child: child }
    }

    /// The settings that make it a server's provider.
    pub fn settings(&self) -> BTreeMap<String, String> {
        let url = |name: &str| self.endpoints[name].as_str().unwrap().to_owned();
        BTreeMap::from([
            ("TRADINGVIEW_WS_URL".to_owned(), url("ws_url")),
            ("TRADINGVIEW_HTTP_URL".to_owned(), url("http_url")),
        ])
    }
}
