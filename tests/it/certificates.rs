//! The server's certificate is replaced while it runs.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use pocketquant::infrastructure::tls::install_crypto_provider;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::time::{sleep, timeout};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use crate::processes::Server;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_mins(2);

/// Puts a new certificate and its key into `folder`; answers the certificate.
pub fn renew(folder: &Path) -> String {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), signing_key.serialize_pem()).unwrap();
    cert.pem()
}

async fn is_trusted(server: &Server, root: &str) -> bool {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(root));
    let url = format!("https://{}", server.address);
    let endpoint = Endpoint::from_shared(url).unwrap();
    endpoint.tls_config(tls.domain_name("localhost")).unwrap().connect().await.is_ok()
}

async fn until_trusted(server: &Server, root: &str) {
    let trusted = async {
        while !is_trusted(server, root).await {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, trusted).await.unwrap_or_else(|_| panic!("{:#?}", server.lines()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_taken_and_a_broken_one_is_not() {
    install_crypto_provider();
    let folder = tempfile::tempdir().unwrap();
    let first = renew(folder.path());
    let file = |name: &str| folder.path().join(name).display().to_string();
    let settings = [("TLS_CERT", file("cert.pem")), ("TLS_KEY", file("key.pem"))];
    let settings: BTreeMap<String, String> =
        settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let server = Server::start(folder.path(), &settings).await;
    assert!(is_trusted(&server, &first).await);

    let second = renew(folder.path());
    until_trusted(&server, &second).await;
    assert!(!is_trusted(&server, &first).await);

    std::fs::write(folder.path().join("key.pem"), "nonsense").unwrap();
    let refused = async {
        while !server.lines().iter().any(|line| line.contains("stays as it was")) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, refused).await.unwrap_or_else(|_| panic!("{:#?}", server.lines()));
    assert!(is_trusted(&server, &second).await);
    let third = renew(folder.path());
    until_trusted(&server, &third).await;
    let lines = server.lines();
    let taken = lines.iter().filter(|line| line.contains("new connections get")).count();
    assert_eq!(taken, 2, "what is as it was is not taken again: {lines:#?}");
    assert_eq!(server.terminate().await, Some(0));
}
