//! A certificate authority and a server certificate for loopback, made afresh at every start.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::NamedTempFile;
use tokio_rustls::TlsAcceptor;

use crate::simulator::SimulatorError;

/// What a client must trust, in a file that goes with the simulator, and the server's side of it.
pub(super) struct Certificate {
    file: NamedTempFile,
    acceptor: TlsAcceptor,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("file", &self.file.path()).finish_non_exhaustive()
    }
}

impl Certificate {
    /// A certificate for `localhost`, 127.0.0.1 and `address`.
    pub(super) fn make(address: IpAddr) -> Result<Self, SimulatorError> {
        let authority = authority().map_err(refused)?;
        let file = write_authority(&authority.pem()).map_err(refused)?;
        let acceptor = acceptor(&authority, address)?;
        Ok(Self { file, acceptor })
    }

    /// The authority's certificate in PEM.
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// What answers TLS handshakes.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.clone()
    }
}

fn refused(error: impl std::fmt::Display) -> SimulatorError {
    SimulatorError::Certificate(error.to_string())
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "PocketQuant simulator");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

fn write_authority(pem: &str) -> std::io::Result<NamedTempFile> {
    let mut file =
        tempfile::Builder::new().prefix("pocketquant-sim-ca-").suffix(".pem").tempfile()?;
    file.write_all(pem.as_bytes())?;
    file.flush()?;
    Ok(file)
}

fn acceptor(
    authority: &CertifiedIssuer<'static, KeyPair>,
    address: IpAddr,
) -> Result<TlsAcceptor, SimulatorError> {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).map_err(refused)?;
    params.subject_alt_names.push(SanType::IpAddress(Ipv4Addr::LOCALHOST.into()));
    if address != IpAddr::V4(Ipv4Addr::LOCALHOST) {
        params.subject_alt_names.push(SanType::IpAddress(address));
    }
    let key = KeyPair::generate().map_err(refused)?;
    let certificate = params.signed_by(&key, authority).map_err(refused)?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(refused)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .map_err(refused)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
