//! The same with TLS around it.

use std::sync::Arc;

use pocketquant::common::grpc::transport::acceptor;
use pocketquant::infrastructure::tls::install_crypto_provider;
use pocketquant::proto::v1 as pb;
use pocketquant::proto::v1::system_client::SystemClient;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use super::Alone;
use super::raw::Raw;

struct Pair {
    certificate: String,
    key: String,
    der: CertificateDer<'static>,
}

fn pair() -> Pair {
    install_crypto_provider();
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    Pair { certificate: cert.pem(), key: signing_key.serialize_pem(), der: cert.der().clone() }
}

async fn server(pair: &Pair, clients: Option<&Pair>) -> Alone {
    let authority = clients.map(|pair| pair.certificate.as_bytes());
    let tls = acceptor(pair.certificate.as_bytes(), pair.key.as_bytes(), authority).unwrap();
    Alone::start(Some(tls)).await
}

#[tokio::test(start_paused = true)]
async fn half_a_handshake_and_silence_after_it_are_ended() {
    let pair = pair();
    let server = server(&pair, None).await;
    // A record that announces a ClientHello of 512 bytes and has none of them.
    for said in [&b""[..], b"\x16\x03\x01\x02\x00"] {
        let started = Instant::now();
        let mut raw = Raw::connect(server.address).await;
        raw.send(said).await;
        raw.until_closed().await;
        assert_eq!(started.elapsed().as_secs(), 10, "after `{}`", said.escape_ascii());
    }

    let mut roots = RootCertStore::empty();
    roots.add(pair.der.clone()).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let socket = TcpStream::connect(server.address).await.unwrap();
    let started = Instant::now();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap();
    Raw(stream).until_closed().await;
    assert_eq!(started.elapsed().as_secs(), 10, "after a whole handshake");
}

async fn call(server: &Alone, tls: ClientTlsConfig) -> Result<(), String> {
    let url = format!("https://localhost:{}", server.address.port());
    let endpoint = Endpoint::from_shared(url).unwrap().tls_config(tls).unwrap();
    let channel = endpoint.connect().await.map_err(|error| error.to_string())?;
    let call = SystemClient::new(channel).get_health(pb::GetHealthRequest {}).await;
    call.map(drop).map_err(|status| status.to_string())
}

#[tokio::test]
async fn calls_go_through_tls_and_a_client_authority_keeps_others_out() {
    let (ours, clients, others) = (pair(), pair(), pair());
    let trust = || {
        let root = Certificate::from_pem(&ours.certificate);
        ClientTlsConfig::new().ca_certificate(root).domain_name("localhost")
    };
    let identity = |pair: &Pair| Identity::from_pem(&pair.certificate, &pair.key);

    let open = server(&ours, None).await;
    call(&open, trust()).await.unwrap();

    let closed = server(&ours, Some(&clients)).await;
    call(&closed, trust().identity(identity(&clients))).await.unwrap();
    call(&closed, trust()).await.unwrap_err();
    call(&closed, trust().identity(identity(&others))).await.unwrap_err();
}

#[test]
fn what_is_no_certificate_or_key_says_which() {
    let pair = pair();
    let (certificate, key) = (pair.certificate.as_bytes(), pair.key.as_bytes());
    let said = |certificate, key, authority| {
        acceptor(certificate, key, authority).map(drop).unwrap_err().to_string()
    };
    assert_eq!(said(certificate, b"nonsense", None), "the key cannot be read");
    let other = super::tls::pair();
    assert_eq!(
        said(certificate, other.key.as_bytes(), None),
        "the certificate and the key cannot be used"
    );
    assert_eq!(said(b"nonsense", key, None), "the certificate and the key cannot be used");
    assert_eq!(said(certificate, key, Some(b"")), "the client authority cannot be used");
}
