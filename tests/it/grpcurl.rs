//! The lines that the README prints, typed as a person would, with the real grpcurl 1.8.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use crate::engines::{Engine, on_every_engine};
use crate::support::{TestApp, TestSimulator, demo_data};

// grpcurl is fetched by scripts/test, as the servers are.
on_every_engine!(
    #[ignore = "needs grpcurl: run scripts/test"]
    the_printed_calls_work_by_hand,
    #[ignore = "needs grpcurl: run scripts/test"]
    the_readmes_blocks_answer_what_is_printed_below_them,
);

struct Answer {
    ok: bool,
    stdout: String,
    stderr: String,
}

async fn grpcurl(arguments: &[&str]) -> Answer {
    let program = std::env::var_os("TEST_GRPCURL").expect("scripts/test says where grpcurl is");
    let output = Command::new(program)
        .arg("-plaintext")
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    Answer {
        ok: output.status.success(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

async fn the_printed_calls_work_by_hand(engine: Engine) {
    let simulator = TestSimulator::start(demo_data()).await;
    let app = TestApp::on(engine, &simulator, &[]).await;
    let address = app.url.trim_start_matches("http://");

    let request = r#"{"symbol":"NYSE:IBM","interval":"INTERVAL_1D","bar_count":500}"#;
    let sync = ["-d", request, address, "pocketquant.v1.MarketData/SyncSymbol"];
    let synced = grpcurl(&sync).await;
    assert!(synced.ok, "{}", synced.stderr);
    let synced: Value = serde_json::from_str(&synced.stdout).unwrap();
    assert_eq!((&synced["barsInserted"], &synced["totalBars"]), (&500.into(), &500.into()));
    let again: Value = serde_json::from_str(&grpcurl(&sync).await.stdout).unwrap();
    assert_eq!(again["barsUnchanged"], 500);

    let request = r#"{"symbol":"NYSE:IBM","interval":"INTERVAL_1D","limit":3}"#;
    let bars = grpcurl(&["-d", request, address, "pocketquant.v1.MarketData/GetBars"]).await;
    let bars: Value = serde_json::from_str(&bars.stdout).unwrap();
    assert_eq!(bars["bars"].as_array().unwrap().len(), 3);
    assert_eq!(bars["bars"][0]["openTime"], "2013-03-01T14:30:00Z");
    assert_eq!(bars["bars"][0]["state"], "BAR_STATE_CLOSED");

    let request = r#"{"service":"readiness"}"#;
    let health = grpcurl(&["-d", request, address, "grpc.health.v1.Health/Check"]).await;
    assert!(health.stdout.contains("SERVING"), "{}", health.stderr);

    let request = r#"{"symbol":"nope","limit":0}"#;
    let wrong = grpcurl(&["-d", request, address, "pocketquant.v1.MarketData/GetBars"]).await;
    assert!(!wrong.ok);
    for readable in ["INVALID_FIELDS", "fieldViolations", "\"symbol\"", "\"interval\"", "\"limit\""]
    {
        assert!(wrong.stderr.contains(readable), "{readable}: {}", wrong.stderr);
    }
    let request = r#"{"symbol":"NYSE:NOPE","interval":"INTERVAL_1D"}"#;
    let unknown = grpcurl(&["-d", request, address, "pocketquant.v1.MarketData/SyncSymbol"]).await;
    assert!(unknown.stderr.contains("SYMBOL_NOT_FOUND"), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("google.rpc.ResourceInfo"), "{}", unknown.stderr);

    let described = grpcurl(&[address, "describe", "pocketquant.v1.MarketData"]).await;
    assert!(described.stdout.contains("rpc SyncSymbol"), "{}", described.stderr);
    // Without the server's reflection: all that the contract imports is beside it.
    let proto = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
    let files = ["-import-path", proto, "-proto", "pocketquant/v1/market_data.proto"];
    let described = [&files[..], &["describe", "pocketquant.v1.MarketData"]].concat();
    let described = grpcurl(&described).await;
    assert!(described.stdout.contains("rpc SyncSymbol"), "{}", described.stderr);
}

/// Marks what an answer holds, in the order in which it is there.
const ANSWERS: &str = "# -> ";

async fn the_readmes_blocks_answer_what_is_printed_below_them(engine: Engine) {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    // As the README has it started, but for the port.
    let simulator = TestSimulator::start(&project.join("demo")).await;
    let app = TestApp::on(engine, &simulator, &[]).await;
    let address = app.url.trim_start_matches("http://");

    let readme = std::fs::read_to_string(project.join("README.md")).unwrap();
    let (http, ws) = (&simulator.endpoints.http_url, &simulator.endpoints.ws_url);
    let (_, port) = http.rsplit_once(':').unwrap();
    for (name, url) in [("WS", ws), ("HTTP", http)] {
        let set = format!("TRADINGVIEW_{name}_URL={} ", url.replace(port, "7070"));
        assert!(readme.contains(&set), "{set}");
    }
    let fenced =
        readme.split("```").skip(1).step_by(2).filter_map(|text| text.strip_prefix("sh\n"));
    let blocks: Vec<&str> = fenced.filter(|block| block.contains("grpcurl ")).collect();
    assert!(blocks.len() >= 6, "the blocks are not found");
    for block in blocks {
        let said = typed(&block.replace("localhost:50051", address)).await;
        let answers = block.lines().filter_map(|line| line.strip_prefix(ANSWERS));
        let mut rest = said.as_str();
        let mut failures = 0;
        for expected in answers.flat_map(|answers| answers.split(", ")) {
            let Some((_, after)) = rest.split_once(expected) else {
                panic!("no `{expected}` after that which is before it:\n{block}\n{said}");
            };
            rest = after;
            failures += usize::from(expected.starts_with("Code: "));
        }
        assert_eq!(said.matches("ERROR:").count(), failures, "{block}\n{said}");
    }
}

/// What a shell prints, errors among it, when `block` is typed into it.
async fn typed(block: &str) -> String {
    let script = format!("exec 2>&1\ngrpcurl() {{ \"$TEST_GRPCURL\" \"$@\"; }}\n{block}");
    let mut shell = Command::new("bash");
    let output = shell.args(["-c", &script]).stdin(Stdio::null()).kill_on_drop(true).output().await;
    String::from_utf8(output.unwrap().stdout).unwrap()
}
