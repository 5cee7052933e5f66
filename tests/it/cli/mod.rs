//! The command line as its users run it: what it prints, where, and its exit codes.

mod coverage;
mod hints;

use std::path::Path;
use std::process::{Output, Stdio};

use pocketquant::common::config::SETTINGS;
use pocketquant::simulator::FaultKind;
use tokio::io::AsyncReadExt as _;

use crate::processes::{Server, SimulatorProcess, pocketquant};
use crate::support::{demo_data, file_bars};

/// What a finished command said.
struct Said {
    out: String,
    err: String,
    code: Option<i32>,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code(),
        }
    }
}

async fn run(arguments: &[&str]) -> Said {
    pocketquant(arguments).output().await.unwrap().into()
}

/// A server with a provider; commands that call it.
struct Running {
    server: Server,
    _simulator: SimulatorProcess,
    _folder: tempfile::TempDir,
}

impl Running {
    async fn start(arguments: &[&str]) -> Self {
        Self::with(arguments, &[]).await
    }

    /// A simulator with `arguments`, a server with `changed` settings.
    async fn with(arguments: &[&str], changed: &[(&str, &str)]) -> Self {
        let simulator = SimulatorProcess::start(demo_data(), arguments).await;
        let folder = tempfile::tempdir().unwrap();
        let mut settings = simulator.settings();
        settings.extend(changed.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        let server = Server::start(folder.path(), &settings).await;
        Self { server, _simulator: simulator, _folder: folder }
    }

    async fn call(&self, arguments: &[&str]) -> Said {
        let mut command = pocketquant(arguments);
        command.env("POCKETQUANT_SERVER", self.server.url());
        command.output().await.unwrap().into()
    }

    async fn sync(&self, symbol: &str, interval: &str) {
        let said = self.call(&["sync", symbol, "-i", interval, "--full"]).await;
        assert_eq!(said.code, Some(0), "{}", said.err);
    }
}

/// A port that nothing listens on.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn the_help_of_serve_lists_every_setting_with_its_default() {
    let said = run(&["serve", "--help"]).await;
    assert_eq!(said.code, Some(0));
    for setting in SETTINGS {
        assert!(said.out.contains(setting.name), "{}", setting.name);
        if let Some(default) = setting.default {
            assert!(said.out.contains(default), "{}: {default}", setting.name);
        }
    }
    assert!(said.out.contains("--env-file"));
}

#[tokio::test]
async fn the_help_of_simulate_lists_every_fault() {
    let said = run(&["simulate", "--help"]).await;
    for kind in FaultKind::ALL {
        assert!(said.out.contains(kind.as_str()), "{kind}");
    }
}

#[tokio::test]
async fn mistakes_on_the_command_line_are_exit_code_2() {
    for arguments in [
        &["bars", "A:B", "-i", "7m"][..],
        &["bars", "A:B", "--from", "2024-01-31T09:30"],
        &["bars", "A:B", "--json", "--csv"],
        &["sync", "A:B", "--full", "--bars", "7"],
        &["health", "--server", "ftp://nowhere"],
        &["health", "--correlation-id", "tab\there"],
        &["--server", "http://127.0.0.1:1", "demo"],
        &["serve", "--env-file", "/nowhere/settings.env"],
        &["simulate", "--data", "/tmp", "--fault", "gremlins"],
        &["simulate", "--data", "demo", "--listen", "0.0.0.0:0"],
    ] {
        let said = run(arguments).await;
        assert_eq!(said.code, Some(2), "{arguments:?}: {}", said.err);
        assert!(said.err.starts_with("error: ") && said.out.is_empty(), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_hint_and_exit_code_1() {
    let said = run(&["health", "--server", &nowhere()]).await;
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""));
    assert!(said.err.contains("is `pocketquant serve` running?"), "{}", said.err);

    let said = run(&["--server", &nowhere(), "bars", "NYSE:IBM"]).await;
    assert!(said.code == Some(1) && said.err.contains("Connection refused"), "{}", said.err);
}

#[tokio::test]
async fn a_server_that_never_answers_costs_a_probe_no_more_than_its_time() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let said = run(&["health", "--server", &url, "--timeout", "200ms"]).await;
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("within 200ms"), "{}", said.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_says_by_its_exit_code_whether_the_server_serves() {
    let running = Running::start(&[]).await;
    for arguments in [&["health"][..], &["health", "--service", "pocketquant.v1.MarketData"]] {
        let said = running.call(arguments).await;
        assert_eq!((said.code, said.out.as_str()), (Some(0), "SERVING\n"), "{}", said.err);
    }
    let said = running.call(&["health", "--json"]).await;
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let expected = serde_json::json!({"service": "readiness", "status": "SERVING"});
    assert_eq!((said.code, json), (Some(0), expected));
    let said = running.call(&["health", "--service", "nonsense"]).await;
    assert_eq!((said.code, said.out.as_str()), (Some(1), ""));
    assert!(said.err.contains("`nonsense`") && said.err.contains("readiness"), "{}", said.err);
    assert_eq!(running.server.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_names_each_failure_and_does_the_rest() {
    let running = Running::start(&[]).await;
    let symbols = ["NYSE:NOPE", "nyse:ibm", "nonsense", "CME:ES"];
    let id = ["--correlation-id", "from-the-shell"];
    let arguments = [&["sync", "-n", "10"][..], &symbols, &id].concat();

    let said = running.call(&arguments).await;
    assert_eq!(said.code, Some(1));
    let rows: Vec<&str> = said.out.lines().skip(1).collect();
    assert_eq!(rows.len(), 2, "{}", said.out);
    assert!(rows[0].starts_with("NYSE:IBM") && rows[1].starts_with("CME:ES"), "{}", said.out);
    for text in ["NYSE:NOPE: NOT_FOUND", "SYMBOL_NOT_FOUND", "INVALID_FIELDS", "from-the-shell"] {
        assert!(said.err.contains(text), "{text}: {}", said.err);
    }

    let said = running.call(&[&arguments[..], &["--json"]].concat()).await;
    assert_eq!((said.code, said.err.as_str()), (Some(1), ""));
    let reports: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(reports[0]["error"]["reason"], "SYMBOL_NOT_FOUND");
    assert_eq!(reports[0]["error"]["correlation_id"], "from-the-shell");
    assert_eq!(reports[1]["bars_unchanged"], 10);
    assert_eq!(reports[2]["error"]["violations"][0]["field"], "symbol");
    assert_eq!(reports.as_array().unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detached_sync_is_followed_to_its_end_and_can_be_cancelled() {
    let running = Running::start(&[]).await;
    let said = running.call(&["sync", "NYSE:IBM", "NYSE:NOPE", "--detach"]).await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    let ids: Vec<&str> = said.out.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(ids.len(), 2, "{}", said.out);

    let followed = running.call(&["watch", "sync", ids[0]]).await;
    assert_eq!((followed.code, followed.err.as_str()), (Some(0), ""));
    assert!(followed.out.contains("NYSE:IBM") && followed.out.contains("3270"), "{}", followed.out);
    let followed = running.call(&["watch", "sync", ids[1], "--json"]).await;
    assert_eq!(followed.code, Some(1));
    assert!(followed.out.contains("SYMBOL_NOT_FOUND"), "{}", followed.out);
    let over = running.call(&["cancel", ids[0]]).await;
    assert_eq!(
        (over.code, over.out.as_str()),
        (Some(0), "NYSE:IBM: completed, 3270 bars fetched\n")
    );
    let unknown = running.call(&["cancel", "0192aaaa-0000-7000-8000-000000000000"]).await;
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.err.contains("SYNC_NOT_FOUND"), "{}", unknown.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_that_is_cancelled_is_said_to_be() {
    let running = Running::start(&["--fault", "silence"]).await;
    let said = running.call(&["sync", "NYSE:IBM", "--detach"]).await;
    let id = said.out.split(' ').next().unwrap();
    let said = running.call(&["cancel", id]).await;
    assert_eq!((said.code, said.out.as_str()), (Some(0), "NYSE:IBM: cancelled, 0 bars fetched\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bars_come_as_a_table_as_json_and_as_csv() {
    let running = Running::start(&[]).await;
    running.sync("NYSE:IBM", "1d").await;

    let said = running.call(&["bars", "NYSE:IBM", "-n", "2"]).await;
    let rows: Vec<&str> = said.out.lines().collect();
    assert_eq!(rows.len(), 3, "{}", said.out);
    for text in ["2013-03-01T14:30:00Z", "2013-03-01T21:00:00Z", "202.91", "closed", "provider"] {
        assert!(rows[1].contains(text), "{text}: {}", said.out);
    }

    let said = running.call(&["bars", "NYSE:IBM", "-n", "2", "--json", "--oldest-first"]).await;
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&json["symbol"], &json["interval"]), (&"NYSE:IBM".into(), &"1d".into()));
    assert_eq!(json["bars"].as_array().unwrap().len(), 2);
    assert_eq!(json["bars"][0]["open_time"], "2000-03-01T14:30:00Z");
    assert_eq!(
        (&json["bars"][0]["state"], &json["bars"][0]["revision"]),
        (&"closed".into(), &1.into())
    );

    let range = ["--from", "2013-02-28", "--to", "2013-03-01T14:30:00Z"];
    let said = running.call(&[&["bars", "NYSE:IBM", "--csv"][..], &range].concat()).await;
    let expected = "time,close_time,open,high,low,close,volume,state,revision,source\n\
        2013-02-28T14:30:00Z,2013-02-28T21:00:00Z,202.18,203.123,200.79,200.83,4689200,closed,1,provider\n";
    assert_eq!(said.out, expected);

    let said = running.call(&["bars", "NYSE:IBM", "--to", "1990-01-01", "--json"]).await;
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(json["bars"], serde_json::json!([]));

    let said = running.call(&["bars", "NYSE:GE"]).await;
    assert!(said.code == Some(1) && said.out.is_empty() && said.err.contains("NOT_SYNCED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_volume_is_shown_as_missing() {
    let running = Running::start(&["--fault", "no-volume"]).await;
    running.sync("NYSE:IBM", "1d").await;
    let said = running.call(&["bars", "NYSE:IBM", "-n", "1", "--csv"]).await;
    assert!(said.out.ends_with(",202.91,,closed,1,provider\n"), "{}", said.out);
    let said = running.call(&["bars", "NYSE:IBM", "-n", "1", "--json"]).await;
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert!(json["bars"][0].get("volume").is_none(), "{json}");
    let said = running.call(&["export", "NYSE:IBM"]).await;
    assert!(said.out.ends_with(",202.91,,closed\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_the_file_value_for_value_and_many_bars_come_in_pages() {
    let running = Running::start(&[]).await;
    running.sync("BINANCE:BTCUSDT", "1h").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.csv");

    let arguments = ["export", "BINANCE:BTCUSDT", "-i", "1h", "-o", path.to_str().unwrap()];
    let said = running.call(&arguments).await;
    assert_eq!((said.code, said.out.as_str()), (Some(0), ""), "{}", said.err);
    assert!(said.err.contains("55765 bars"), "{}", said.err);
    let file = file_bars(&demo_data().join("BINANCE_BTCUSDT_1h.csv"));
    assert!(file_bars(&path) == file, "the export differs from the file");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");

    let said = running.call(&["bars", "BINANCE:BTCUSDT", "-i", "1h", "-n", "12001", "--csv"]).await;
    let page = folder.path().join("page.csv");
    std::fs::write(&page, without_close_time(&said.out)).unwrap();
    let mut newest = file_bars(&page);
    newest.reverse();
    assert!(newest == file[file.len() - 12_001..], "the newest bars differ from the file's");
}

/// `bars --csv` with the columns in the file's places.
fn without_close_time(csv: &str) -> String {
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        [&cells[..1], &cells[2..]].concat().join(",") + "\n"
    };
    csv.lines().map(row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_export_leaves_the_old_file_alone() {
    let running = Running::start(&[]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.csv");
    std::fs::write(&path, "precious").unwrap();
    let said = running.call(&["export", "NYSE:IBM", "-o", path.to_str().unwrap()]).await;
    assert!(said.code == Some(1) && said.err.contains("NOT_SYNCED"), "{}", said.err);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_is_nothing_to_complain_about() {
    let running = Running::start(&[]).await;
    running.sync("BINANCE:BTCUSDT", "1h").await;
    for arguments in [
        &["export", "BINANCE:BTCUSDT", "-i", "1h"][..],
        &["bars", "BINANCE:BTCUSDT", "-i", "1h", "-n", "20000", "--csv"],
        &["bars", "BINANCE:BTCUSDT", "-i", "1h", "-n", "20000", "--json"],
        &["bars", "BINANCE:BTCUSDT", "-i", "1h", "-n", "20000"],
    ] {
        let mut command = pocketquant(arguments);
        command.env("POCKETQUANT_SERVER", running.server.url());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut head = [0; 100];
        child.stdout.take().unwrap().read_exact(&mut head).await.unwrap();
        let said = Said::from(child.wait_with_output().await.unwrap());
        assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_symbols_and_info_show_what_is_there() {
    let running = Running::start(&[]).await;
    running.sync("NYSE:IBM", "1d").await;
    let failed = running.call(&["sync", "NYSE:NOPE"]).await;
    assert_eq!(failed.code, Some(1));

    let json = async |arguments: &[&str]| {
        let said = running.call(arguments).await;
        assert_eq!(said.code, Some(0), "{}", said.err);
        serde_json::from_str::<serde_json::Value>(&said.out).unwrap()
    };
    let statuses = json(&["status", "--json"]).await;
    assert_eq!(statuses.as_array().unwrap().len(), 2);
    for arguments in [
        &["status", "nyse:ibm", "--json"][..],
        &["status", "NYSE:IBM", "-i", "1d", "--json"],
        &["status", "--state", "completed", "--exchange", "NYSE", "--json"],
    ] {
        let statuses = json(arguments).await;
        assert_eq!(statuses[0]["symbol"], "NYSE:IBM", "{arguments:?}");
        assert_eq!((&statuses[0]["bar_count"], &statuses[1]), (&3270.into(), &().into()));
    }
    let failed = json(&["status", "--state", "error", "--json"]).await;
    assert!(failed[0]["error_message"].as_str().unwrap().contains("NYSE:NOPE"), "{failed}");

    let symbols = json(&["symbols", "--active", "true", "--json"]).await;
    assert_eq!(symbols[0]["symbol"], "NYSE:IBM");
    assert_eq!(symbols, json(&["symbols", "NYSE:IBM", "--json"]).await);
    let info = json(&["info", "--json"]).await;
    assert_eq!(info["engines"]["database"], "sqlite");
    assert_eq!(info["intervals"].as_array().unwrap().len(), 13);
    for command in ["status", "symbols", "info"] {
        let said = running.call(&[command]).await;
        assert!(said.code == Some(0) && !said.out.contains('\u{1b}'), "{command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn symbols_are_searched_changed_and_deleted() {
    let running = Running::start(&[]).await;
    running.sync("NYSE:IBM", "1d").await;
    let json = async |arguments: &[&str]| {
        let said = running.call(arguments).await;
        assert_eq!(said.code, Some(0), "{}", said.err);
        serde_json::from_str::<serde_json::Value>(&said.out).unwrap()
    };
    let found = json(&["search", "bitcoin", "--exchange", "binance", "--type", "crypto", "--json"]);
    let found = found.await;
    assert_eq!((&found[0]["symbol"], &found[1]), (&"BINANCE:BTCUSDT".into(), &().into()));
    let found = running.call(&["search", "b", "-n", "1"]).await;
    assert_eq!((found.code, found.out.lines().count()), (Some(0), 2), "{}", found.out);
    let wrong = running.call(&["search", "b", "--type", "shares"]).await;
    assert!(wrong.code == Some(1) && wrong.err.contains("must be one of stock"), "{}", wrong.err);

    let update = ["symbols", "update", "nyse:ibm", "--name", "Big Blue", "--active", "false"];
    let changed = json(&[&update[..], &["--json"]].concat()).await;
    assert_eq!(changed["name"], "Big Blue");
    assert_eq!(json(&["symbols", "--active", "false", "--json"]).await[0], changed);
    assert_eq!(running.call(&["symbols", "update", "NYSE:IBM"]).await.code, Some(2));
    let shown = running.call(&update).await.out;
    assert!(shown.lines().nth(1).is_some_and(|row| row.contains("Big Blue")), "{shown}");

    // Nobody can be asked whether it is meant.
    let asked = running.call(&["symbols", "delete", "NYSE:IBM", "--bars"]).await;
    assert!(asked.code == Some(2) && asked.err.contains("--yes"), "{}", asked.err);
    let deleted = running.call(&["symbols", "delete", "NYSE:IBM", "--yes"]).await;
    assert_eq!(
        (deleted.code, deleted.out.as_str()),
        (Some(0), "deleted NYSE:IBM; its bars stay\n")
    );
    assert_eq!(running.call(&["bars", "NYSE:IBM", "-i", "1d"]).await.code, Some(0));
    let deleted = running.call(&["symbols", "delete", "NYSE:IBM", "--bars", "-y"]).await;
    assert_eq!(deleted.code, Some(0), "{}", deleted.err);
    let gone = running.call(&["bars", "NYSE:IBM", "-i", "1d"]).await;
    assert!(gone.code == Some(1) && gone.err.contains("NOT_SYNCED"), "{}", gone.err);
}

/// How many files and folders are in `folder`.
fn entries(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_reads_back_every_bar_and_cleans_up() {
    let temporary = tempfile::tempdir().unwrap();
    let mut command = pocketquant(&["demo", "--once"]);
    let said = Said::from(command.env("TMPDIR", temporary.path()).output().await.unwrap());
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(said.err, "", "warnings are for trouble");
    for (series, bars) in [
        ("BINANCE:BTCUSDT 1h", 55_765),
        ("NYSE:IBM 1d", 3_270),
        ("NASDAQ:AAPL-UNADJ 1d", 3_270),
        ("BINANCE:BTCUSDT 1d", 2_329),
    ] {
        let line = said.out.lines().find(|line| line.contains(series) && line.contains(" page"));
        let line = line.unwrap_or_else(|| panic!("{series}: {}", said.out));
        let count = bars.to_string();
        assert!(line.matches(&count).count() >= 2 && line.contains(": equal"), "{line}");
    }
    let live: Vec<_> = said.out.lines().filter(|line| line.contains("CME:ES 1m 2013")).collect();
    assert!(live.len() >= 4 && said.out.contains("CME:ES 5m 2013"), "{}", said.out);
    assert!(live.iter().all(|line| line.contains("source ticks, equal to")), "{live:#?}");
    assert!(said.out.contains("grpcurl -plaintext") && said.out.contains("2013-03-01T14:30:00Z"));
    assert_eq!(entries(temporary.path()), 0, "the temporary folder is removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_demo_cleans_up_too() {
    let temporary = tempfile::tempdir().unwrap();
    let mut command = pocketquant(&["demo"]);
    command.env("TMPDIR", temporary.path()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains("Ctrl-C") {
        assert_ne!(out.read_buf(&mut said).await.unwrap(), 0, "it ended by itself");
    }
    let pid = child.id().unwrap().to_string();
    let sent = tokio::process::Command::new("kill").args(["-INT", &pid]).status().await.unwrap();
    assert!(sent.success());
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
    assert_eq!(entries(temporary.path()), 0, "the temporary folder is removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_of_a_new_database_finds_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let migrate = async |arguments: &[&str]| {
        let mut command = pocketquant(arguments);
        Said::from(command.current_dir(folder.path()).output().await.unwrap())
    };
    let said = migrate(&["migrate"]).await;
    assert_eq!(
        (said.code, said.out.as_str()),
        (Some(0), "no bar is stored twice\n"),
        "{}",
        said.err
    );
    let said = migrate(&["migrate", "--apply", "--json"]).await;
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&json["applied"], &json["removed"]), (&true.into(), &0.into()));
}
