//! Secrets appear in no log, error or dump: one is planted wherever there is room for one.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use pocketquant::proto::v1::Interval;
use pocketquant::proto::v1::system_client::SystemClient;
use pocketquant::proto::v1::{CreateWebhookRequest, SyncSymbolRequest};
use tonic::Request;
use tonic::transport::Channel;

use crate::processes::{Server, SimulatorProcess, pocketquant};
use crate::servers;
use crate::support::demo_data;

/// In every secret, and nowhere else.
const PLANTED: &str = "zQ7Planted";

fn secret(name: &str) -> String {
    format!("{PLANTED}{name}")
}

/// Fails where one of `secrets`, or any planted one, is in `lines`.
fn search<'a>(what: &str, lines: impl IntoIterator<Item = &'a str>, secrets: &[&str]) {
    for line in lines {
        let found = line.contains(PLANTED) || secrets.iter().any(|secret| line.contains(secret));
        assert!(!found, "{what} shows a secret: {line}");
    }
}

/// Runs the binary to its end, and searches all that it says.
async fn run(
    folder: &Path,
    arguments: &[&str],
    settings: &[(&str, String)],
    secrets: &[&str],
) -> String {
    let output = pocketquant(arguments)
        .current_dir(folder)
        .envs(settings.iter().map(|(name, value)| (*name, value)))
        .env("LOG_LEVEL", "trace")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .await
        .unwrap();
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    search(&format!("{arguments:?}"), said.lines(), secrets);
    said
}

/// A webhook whose secret, and whose place, nobody else is to know.
async fn create_webhook(channel: Channel, key: &str) {
    // Nobody is there: what is said of that names neither.
    let mut request = Request::new(CreateWebhookRequest {
        url: format!(
            "http://127.0.0.1:{}/{}?token={}",
            servers::free_port(),
            secret("Path"),
            secret("Query")
        ),
        secret: Some(format!("whsec_{}", PLANTED.repeat(4))),
        ..Default::default()
    });
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    SystemClient::new(channel).create_webhook(request).await.unwrap();
}

/// Starts a server that logs everything, syncs through it with `key` and with a wrong key, with a
/// webhook that is told of it, and searches its log.
async fn serve(simulator: &SimulatorProcess, settings: &[(&str, String)], key: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut all: BTreeMap<String, String> = simulator.settings();
    all.insert("LOG_LEVEL".to_owned(), "trace".to_owned());
    all.insert("WEBHOOK_ALLOWED_NETWORKS".to_owned(), "127.0.0.0/8".to_owned());
    all.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    let server = Server::start(folder.path(), &all).await;
    let channel = Channel::from_shared(server.url()).unwrap().connect().await.unwrap();
    create_webhook(channel.clone(), key).await;
    let mut client = pocketquant::proto::v1::market_data_client::MarketDataClient::new(channel);
    for key in [key, &format!("id.{}", secret("Wrong"))] {
        let mut request = Request::new(SyncSymbolRequest {
            symbol: "NYSE:IBM".to_owned(),
            interval: Interval::Interval1d.into(),
            bar_count: Some(10),
            full_history: false,
        });
        request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        if let Err(status) = client.sync_symbol(request).await {
            search("an error", [format!("{status:?}").as_str()], &[key]);
        }
    }
    let log = std::sync::Arc::clone(&server.log);
    assert_eq!(server.terminate().await, Some(0));
    let lines = log.lock().unwrap().clone();
    // Libraries trace what they send; their other lines are there.
    assert!(lines.iter().any(|line| line.contains("DEBUG")), "the log is not at its finest level");
    search("the log", lines.iter().map(String::as_str), &[key]);
}

/// A key file, and the key in it.
async fn key_file(folder: &Path) -> (String, String) {
    let file = folder.join("keys").display().to_string();
    let output = pocketquant(&["keys", "new", "--scopes", "admin", "--file", &file]);
    let output = { output }.output().await.unwrap();
    (file, String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_what_the_binary_says_at_its_finest_level() {
    let simulator = SimulatorProcess::start(demo_data(), &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let (file, key) = key_file(folder.path()).await;
    let keys = || ("API_KEYS_FILE", file.clone());
    for login in [
        vec![("TRADINGVIEW_AUTH_TOKEN", secret("Token"))],
        vec![
            ("TRADINGVIEW_SESSIONID", secret("Session")),
            ("TRADINGVIEW_SESSIONID_SIGN", secret("Sign")),
        ],
        vec![
            ("TRADINGVIEW_USERNAME", secret("User")),
            ("TRADINGVIEW_PASSWORD", secret("Password")),
        ],
    ] {
        serve(&simulator, &[login, vec![keys()]].concat(), &key).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_errors_and_help() {
    let folder = tempfile::tempdir().unwrap();
    let mongodb = format!(
        "mongodb://{}:{}@127.0.0.1:1/?serverSelectionTimeoutMS=200",
        secret("Name"),
        secret("Mongo")
    );
    let redis = format!("redis://{}:{}@127.0.0.1:1", secret("Name"), secret("Redis"));
    let unreachable = [
        ("MONGODB_URL", mongodb.clone()),
        ("REDIS_URL", redis.clone()),
        ("TRADINGVIEW_AUTH_TOKEN", secret("Token")),
    ];
    let said = run(folder.path(), &["serve"], &unreachable, &[]).await;
    assert!(said.contains("127.0.0.1:1"), "{said}");
    run(folder.path(), &["migrate"], &unreachable, &[]).await;
    run(folder.path(), &["serve", "--help"], &unreachable, &[]).await;

    let wrong = [
        ("MONGODB_URL", mongodb.replace("mongodb:", "mysql:")),
        ("REDIS_URL", redis.replace("redis:", "http:")),
        ("TRADINGVIEW_AUTH_TOKEN", secret("Token")),
        ("TRADINGVIEW_SESSIONID", secret("Session")),
        ("TRADINGVIEW_PASSWORD", secret("Password")),
        ("TRADINGVIEW_WS_URL", format!("wss://me:{}@localhost", secret("Socket"))),
    ];
    let said = run(folder.path(), &["serve"], &wrong, &[]).await;
    assert!(said.contains("TRADINGVIEW_PASSWORD"), "{said}");

    // Keys that the client is given, right or wrong.
    for (name, key) in [("right", format!("id.{}", secret("Key"))), ("wrong", secret("Key"))] {
        let variable = [("POCKETQUANT_API_KEY", key.clone())];
        let said = run(folder.path(), &["health", "--server", "127.0.0.1:1"], &variable, &[]).await;
        assert!(said.contains("error"), "{name}: {said}");
        run(folder.path(), &["health", "--server", "127.0.0.1:1", "--api-key", &key], &[], &[])
            .await;
    }

    // A key where its hash should be.
    let file = folder.path().join("keys");
    std::fs::write(&file, format!("id.{}\nid alice read {}\n", secret("Key"), secret("Key")))
        .unwrap();
    let keys = [("API_KEYS_FILE", file.display().to_string())];
    let said = run(folder.path(), &["serve"], &keys, &[]).await;
    assert!(said.contains("line 2"), "{said}");
    run(folder.path(), &["keys", "list"], &keys, &[]).await;
    std::fs::write(
        folder.path().join(".env"),
        format!("TRADINGVIEW_PASSWORD={} x\n", secret("Env")),
    )
    .unwrap();
    run(folder.path(), &["serve"], &[], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real mongod and Redis: run scripts/test"]
async fn no_secret_is_in_what_is_said_to_and_about_real_servers() {
    let folder = tempfile::tempdir().unwrap();
    let with_login = |url: String, name: &str| {
        url.replace("://", &format!("://{}:{}@", secret("Name"), secret(name)))
    };
    // They know no such user, and say so.
    let settings = [
        ("MONGODB_URL", with_login(servers::mongodb_url().await, "Mongo")),
        ("REDIS_URL", with_login(servers::redis_url().await, "Redis")),
    ];
    let said = run(folder.path(), &["serve"], &settings, &[]).await;
    assert!(said.contains("cannot start"), "{said}");
}
