//! What the command line says where something is not as its user thinks.

use std::process::Stdio;
use std::time::Duration;

use pocketquant::infrastructure::tls::install_crypto_provider;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::time::{sleep, timeout};

use super::{Running, Said, nowhere, run};
use crate::certificates::renew;
use crate::processes::{Server, pocketquant};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn an_api_key_may_begin_with_a_hyphen() {
    let said = run(&["status", "--server", &nowhere(), "--api-key", "-62Xnk.secret"]).await;
    assert!(said.code == Some(1) && said.err.contains("cannot reach"), "{}", said.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_in_the_file_of_settings_that_are_none_are_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let file = "GRPC_ADDRR=127.0.0.1:1\nSOMEBODY_ELSES=hush\nLOG_LEVEL=info\n";
    std::fs::write(folder.path().join(".env"), file).unwrap();
    let settings = [("JOBS_ENABELD".to_owned(), "false".to_owned())];
    let server = Server::start(folder.path(), &settings.into()).await;
    let lines = server.lines();
    let warnings: Vec<_> = lines.iter().filter(|line| line.contains("is no setting")).collect();
    assert_eq!(warnings.len(), 2, "{lines:#?}");
    assert!(warnings[0].contains("GRPC_ADDRR") && warnings[0].contains("is GRPC_ADDR meant?"));
    assert!(warnings[1].contains("SOMEBODY_ELSES") && !warnings[1].contains("meant"));
    assert!(!lines.concat().contains("hush"), "{lines:#?}");
    assert_eq!(server.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_an_encrypted_connection_from_coming_about_is_hinted_at() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Server::start(folder.path(), &[].into()).await;
    let said = run(&["health", "--server", &format!("https://{}", plain.address)]).await;
    assert!(said.code == Some(1) && said.err.contains("give `http://`"), "{}", said.err);
    assert_eq!(plain.terminate().await, Some(0));

    install_crypto_provider();
    renew(folder.path());
    let file = |name: &str| folder.path().join(name).display().to_string();
    let settings = [("TLS_CERT", file("cert.pem")), ("TLS_KEY", file("key.pem"))];
    let settings = settings.map(|(name, value)| (name.to_owned(), value));
    let encrypted = Server::start(folder.path(), &settings.into()).await;
    let url = format!("https://{}", encrypted.address.replace("127.0.0.1", "localhost"));
    let said = run(&["health", "--server", &url]).await;
    assert!(said.code == Some(1) && said.err.contains("--tls-ca names"), "{}", said.err);
    let said = run(&["health", "--server", &url, "--tls-ca", &file("cert.pem")]).await;
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(encrypted.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_sync_says_that_it_goes_on_and_how_to_follow_it() {
    let running = Running::with(&["--fault", "slow=4000"], &[("LOG_LEVEL", "debug")]).await;
    let mut command = pocketquant(&["sync", "NYSE:IBM"]);
    command.env("POCKETQUANT_SERVER", running.server.url());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It asks how the sync goes once it knows its id.
    let asked = async {
        while !running.server.lines().iter().any(|line| line.contains("watch_sync")) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("{:#?}", running.server.lines()));
    let pid = child.id().unwrap().to_string();
    let sent = tokio::process::Command::new("kill").args(["-INT", &pid]).status().await.unwrap();
    assert!(sent.success());
    let said = Said::from(child.wait_with_output().await.unwrap());
    assert_eq!((said.code, said.out.as_str()), (Some(130), ""), "{}", said.err);
    let (_, id) = said.err.split_once("NYSE:IBM: `pocketquant watch sync ").unwrap();
    let followed = running.call(&["watch", "sync", id.trim_end().trim_end_matches('`')]).await;
    assert_eq!(followed.code, Some(0), "{}", followed.err);
}

#[tokio::test]
async fn a_simulator_warns_of_symbols_without_files() {
    let folder = tempfile::tempdir().unwrap();
    let demo = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("demo");
    for name in ["symbols.json", "NYSE_IBM_1d.csv.gz"] {
        std::fs::copy(demo.join(name), folder.path().join(name)).unwrap();
    }
    let mut command = pocketquant(&["simulate", "--data", folder.path().to_str().unwrap()]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next_line().await.unwrap().is_some(), "it is ready");
    child.start_kill().unwrap();
    let said = Said::from(child.wait_with_output().await.unwrap());
    assert_eq!(said.err.matches("neither bars nor trades").count(), 3, "{}", said.err);
    assert!(said.err.contains("CME:ES") && !said.err.contains("NYSE:IBM"), "{}", said.err);
}
