//! The clients that the README shows, against a server that is killed in their midst.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use pocketquant::proto::v1::Interval;
use pocketquant::proto::v1::quote_stream_client::QuoteStreamClient;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

use crate::live::{ES, PATIENCE, only_trades, real_minutes, subscribe};
use crate::processes::{Server, SimulatorProcess};
use crate::python::python;
use crate::servers::free_port;
use crate::support::{ExportedBar, demo_data, exported};

const PYTHON: &str = "examples/python/client.py";
const RUST: &str = "examples/client.rs";
/// Bars that are seen before the server is killed, that close before the client knows, and that
/// must follow.
const BEFORE: usize = 10;
const MISSED: usize = 60;
const AFTER: usize = 60;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_readme_shows_the_examples_as_they_are() {
    let readme = std::fs::read_to_string(project().join("README.md")).unwrap();
    for (name, language) in [(PYTHON, "python"), (RUST, "rust")] {
        let example = std::fs::read_to_string(project().join(name)).unwrap();
        let shown = format!("<!-- {name} -->\n```{language}\n{example}```\n<!-- /{name} -->\n");
        assert!(readme.contains(&shown), "README.md should hold this:\n{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Python packages: run scripts/test"]
async fn the_python_client_misses_nothing_when_its_server_is_killed() {
    let stubs = tempfile::tempdir().unwrap();
    let mut make = python("python3", None);
    make.arg(project().join("examples/python/stubs.py")).arg(stubs.path());
    assert!(make.status().await.unwrap().success());

    let mut client = python("python3", Some(stubs.path()));
    client.arg(project().join(PYTHON));
    client_misses_nothing(client, "").await;
}

// It is built by scripts/test: a cargo within cargo would build half of the dependencies again.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the example's program: run scripts/test"]
async fn the_rust_client_misses_nothing_when_its_server_is_killed() {
    let program = std::env::var_os("TEST_RUST_CLIENT").expect("scripts/test says where it is");
    client_misses_nothing(Command::new(program), "http://").await;
}

/// A market with a history that has ended, and one that is live.
fn market() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("ticks")).unwrap();
    for name in ["symbols.json", "ticks/CME_ES_trades.csv.gz"] {
        std::fs::copy(only_trades().join(name), folder.path().join(name)).unwrap();
    }
    let daily = "NYSE_IBM_1d.csv";
    std::fs::copy(demo_data().join(daily), folder.path().join(daily)).unwrap();
    folder
}

async fn client_misses_nothing(mut command: Command, scheme: &str) {
    let (market, folder) = (market(), tempfile::tempdir().unwrap());
    let simulator = SimulatorProcess::start(market.path(), &["--replay", "--rate", "2000"]).await;
    let mut settings = simulator.settings();
    let address = format!("127.0.0.1:{}", free_port());
    settings.insert("GRPC_ADDR".to_owned(), address.clone());
    settings.insert("FEED_CLOCK".to_owned(), "event".to_owned());
    let server = Server::start(folder.path(), &settings).await;

    command.arg(format!("{scheme}{address}"));
    let mut client = Client::start(command);
    assert_eq!(client.line().await, "synced NYSE:IBM: 3270 fetched, 3270 stored");
    assert_eq!(client.line().await, "read 3270 bars, the newest closed at 202.91");
    let refused = client.line().await;
    assert!(
        refused.starts_with("refused: ") && refused.ends_with(" SYMBOL_NOT_FOUND"),
        "{refused}"
    );
    while client.bars.len() < BEFORE {
        client.bar().await;
    }
    assert!(server.lines().iter().any(|line| line.contains("\"example-")), "no correlation id");
    subscribe(&mut quotes(&server).await).await;

    // It sees nothing of the end, of the next start, nor of the bars that close then.
    client.signal("-STOP").await;
    server.kill().await;
    let server = Server::start(folder.path(), &settings).await;
    let mut market_data = server.market_data().await;
    let missed = client.bars.len() + MISSED;
    let enough = async {
        while exported(&mut market_data, ES, Interval::Interval1m).await.len() < missed {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, enough).await.expect("bars close without the client");
    client.signal("-CONT").await;

    let minutes = real_minutes();
    let wanted = &minutes[..missed + AFTER];
    let told = async {
        while !wanted.iter().all(|bar| client.bars.get(&bar.time_ms) == Some(&bar.values)) {
            client.bar().await;
        }
    };
    let told = timeout(PATIENCE, told).await;
    assert!(told.is_ok(), "of {} bars some were never told", wanted.len());
}

async fn quotes(server: &Server) -> QuoteStreamClient<Channel> {
    let channel = Channel::from_shared(server.url()).unwrap().connect().await.unwrap();
    QuoteStreamClient::new(channel)
}

/// A running example, and the newest revision of each bar that it has shown.
struct Client {
    lines: Lines<BufReader<ChildStdout>>,
    bars: HashMap<i64, [f64; 5]>,
    child: Child,
}

impl Client {
    fn start(mut command: Command) -> Self {
        command.stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { lines, bars: HashMap::new(), child }
    }

    async fn signal(&self, signal: &str) {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
    }

    async fn line(&mut self) -> String {
        let line = timeout(PATIENCE, self.lines.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("silent after {} bars", self.bars.len()));
        line.unwrap().expect("the client goes on")
    }

    async fn bar(&mut self) {
        let line = self.line().await;
        let words: Vec<&str> = line.split(' ').collect();
        let ["bar", time, values @ .., _revision] = words.as_slice() else { panic!("{line}") };
        let values: Vec<f64> = values.iter().map(|value| value.parse().unwrap()).collect();
        let time_ms = time.parse::<Timestamp>().unwrap().as_millisecond();
        let bar = ExportedBar { time_ms, values: values.try_into().unwrap() };
        self.bars.insert(bar.time_ms, bar.values);
    }
}
