//! TLS for the server: from PEM files to an acceptor.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;
use tokio_rustls::TlsAcceptor;

/// Why there can be no TLS. No variant shows any part of a key.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The certificate is not PEM.
    #[error("the certificate cannot be read")]
    Certificate(#[source] pem::Error),
    /// The key is not PEM.
    #[error("the key cannot be read")]
    Key(#[source] pem::Error),
    /// The client authority is not PEM, or no certificate.
    #[error("the client authority cannot be read")]
    ClientAuthority(#[source] io::Error),
    /// No client can be checked against the authority.
    #[error("the client authority cannot be used")]
    Verifier(#[source] VerifierBuilderError),
    /// The certificate and the key do not fit, or are of no supported kind.
    #[error("the certificate and the key cannot be used")]
    Pair(#[source] rustls::Error),
}

/// How connections are encrypted; it may be replaced while they are served. Cheap to clone.
#[derive(Clone)]
pub struct Encryption(Arc<ArcSwap<TlsAcceptor>>);

impl Encryption {
    /// With `acceptor`, until another one takes its place.
    pub fn new(acceptor: TlsAcceptor) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(acceptor)))
    }

    /// New connections get `acceptor`; open ones stay as they are.
    pub fn replace(&self, acceptor: TlsAcceptor) {
        self.0.store(Arc::new(acceptor));
    }

    /// What a connection that begins now gets.
    pub(super) fn now(&self) -> Arc<TlsAcceptor> {
        self.0.load_full()
    }
}

impl std::fmt::Debug for Encryption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encryption").finish_non_exhaustive()
    }
}

/// Speaks HTTP/2 over TLS with `certificate` (a chain) and `key`; with a `client_authority`,
/// only to clients that show a certificate of it. All are PEM.
pub fn acceptor(
    certificate: &[u8],
    key: &[u8],
    client_authority: Option<&[u8]>,
) -> Result<TlsAcceptor, TlsError> {
    let chain = certificates(certificate).map_err(TlsError::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(TlsError::Key)?;
    let builder = ServerConfig::builder();
    let builder = match client_authority {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            let found = certificates(authority).map_err(io::Error::other);
            for certificate in found.map_err(TlsError::ClientAuthority)? {
                let added = roots.add(certificate).map_err(io::Error::other);
                added.map_err(TlsError::ClientAuthority)?;
            }
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build();
            builder.with_client_cert_verifier(verifier.map_err(TlsError::Verifier)?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    CertificateDer::pem_slice_iter(text).collect()
}
