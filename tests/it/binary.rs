//! The binary from outside: encryption, settings, logs.

use std::collections::BTreeMap;
use std::process::Stdio;

use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::Interval;
use tonic::Code;

use crate::processes::{Server, SimulatorProcess, pocketquant};
use crate::support::{demo_data, fact, reason};

fn newest_ten() -> pb::SyncSymbolRequest {
    pb::SyncSymbolRequest {
        symbol: "NYSE:IBM".to_owned(),
        interval: Interval::Interval1d.into(),
        bar_count: Some(10),
        full_history: false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_goes_through_wss_and_https_with_the_right_certificate() {
    let simulator = SimulatorProcess::start(demo_data(), &["--tls"]).await;
    let mut settings = simulator.settings();
    assert!(settings["TRADINGVIEW_WS_URL"].starts_with("wss://"));
    assert!(settings["TRADINGVIEW_HTTP_URL"].starts_with("https://"));
    // The cookies make it fetch a token over https first.
    settings.insert("TRADINGVIEW_SESSIONID".to_owned(), "a-session".to_owned());

    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &settings).await;
    let status = server.market_data().await.sync_symbol(newest_ten()).await.unwrap_err();
    assert_eq!(reason(&status), (Code::Unavailable, "PROVIDER_UNAVAILABLE".to_owned()));
    assert_eq!(fact(&status, "phase").as_deref(), Some("tls"), "{status:?}");
    assert_eq!(server.terminate().await, Some(0));

    let ca_file = simulator.endpoints["ca_file"].as_str().unwrap().to_owned();
    settings.insert("TRADINGVIEW_CA_FILE".to_owned(), ca_file);
    let server = Server::start(folder.path(), &settings).await;
    let synced = server.market_data().await.sync_symbol(newest_ten()).await.unwrap().into_inner();
    assert_eq!(synced.bars_inserted, 10);
    assert_eq!(server.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_a_call_carries_its_correlation_id() {
    let simulator = SimulatorProcess::start(demo_data(), &[]).await;
    for format in ["json", "console"] {
        let mut settings = simulator.settings();
        settings.insert("LOG_LEVEL".to_owned(), "pocketquant=debug,info".to_owned());
        let folder = tempfile::tempdir().unwrap();
        settings.insert("LOG_FORMAT".to_owned(), format.to_owned());
        let server = Server::start(folder.path(), &settings).await;
        let mut client = server.market_data().await;
        let before = server.lines().len();
        let mut good = tonic::Request::new(newest_ten());
        good.metadata_mut().insert("x-correlation-id", "trace-me".parse().unwrap());
        client.sync_symbol(good).await.unwrap();
        let log = std::sync::Arc::clone(&server.log);
        assert_eq!(server.terminate().await, Some(0));

        let lines = log.lock().unwrap().clone();
        let stopping = lines.iter().position(|line| line.contains("asked to stop")).unwrap();
        let of_the_call = &lines[before..stopping];
        // That it connected, what it did, how the handler and the call ended.
        assert!(of_the_call.len() >= 4, "{lines:#?}");
        for line in of_the_call {
            assert!(line.contains("trace-me"), "{format}: {line}");
            if format == "json" {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                assert_eq!(line["correlation_id"], "trace-me", "{line}");
            }
        }
    }
}

/// Starts the server with settings that are wrong, and answers what it says.
async fn refused(settings: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let settings: BTreeMap<_, _> = settings.iter().copied().collect();
    let output = pocketquant(&["serve"])
        .current_dir(folder.path())
        .envs(settings)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .await
        .unwrap();
    assert_ne!(output.status.code(), Some(0));
    assert!(output.status.code().is_some(), "it ends by itself");
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_are_all_named_with_their_remedy_and_without_secrets() {
    let said = refused(&[
        ("GRPC_ADDR", "127.0.0.1:99999"),
        ("LOG_FORMAT", "xml"),
        ("HISTORY_TIMEOUT", "soon"),
        ("MONGODB_URL", "mysql://root:hunter2@db/x"),
    ])
    .await;
    for name in ["GRPC_ADDR", "LOG_FORMAT", "HISTORY_TIMEOUT", "MONGODB_URL"] {
        assert!(said.contains(name), "{name}: {said}");
    }
    assert!(said.contains("99999") && said.contains("xml") && said.contains("soon"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");

    let exposed = refused(&[("GRPC_ADDR", "0.0.0.0:50051")]).await;
    assert!(exposed.contains("ALLOW_INSECURE"), "{exposed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_cannot_be_reached_are_all_named() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let busy = listener.local_addr().unwrap().to_string();
    let said = refused(&[
        ("GRPC_ADDR", busy.as_str()),
        ("MONGODB_URL", "mongodb://user:hunter2@127.0.0.1:1/?serverSelectionTimeoutMS=200"),
        ("REDIS_URL", "redis://:hunter3@127.0.0.1:1"),
    ])
    .await;
    assert!(said.contains(&busy) && said.contains("GRPC_ADDR"), "{said}");
    assert!(said.matches("127.0.0.1:1").count() >= 2, "{said}");
    assert!(said.contains("MONGODB_URL") && said.contains("REDIS_URL"), "{said}");
    assert!(!said.contains("hunter"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_bars_may_wait_and_cannot_be_read_it_does_not_start() {
    let (folder, simulator) =
        (tempfile::tempdir().unwrap(), SimulatorProcess::start(demo_data(), &[]).await);
    let settings = simulator.settings();
    // Nothing waits, and the folder takes no spool: bars can wait in memory.
    let data = folder.path().join("data");
    let lock = data.join("spool.lock");
    std::fs::create_dir_all(&lock).unwrap();
    let server = Server::start(folder.path(), &settings).await;
    assert!(server.lines().iter().any(|line| line.contains("no spool in DATA_DIR")));
    assert_eq!(server.terminate().await, Some(0));

    std::fs::remove_dir(lock).unwrap();
    assert_eq!(Server::start(folder.path(), &settings).await.terminate().await, Some(0));
    let file = rusqlite::Connection::open(data.join("spool.db")).unwrap();
    file.pragma_update(None, "user_version", 99).unwrap();
    drop(file);
    let mut serve = pocketquant(&["serve"]);
    serve.current_dir(folder.path()).envs(&settings).env("GRPC_ADDR", "127.0.0.1:0");
    let refused = serve.output().await.unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success());
    assert!(said.contains("may hold bars that wait") && said.contains("a newer version"), "{said}");
}
