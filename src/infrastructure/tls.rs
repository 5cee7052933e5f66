//! How connections are encrypted: one cryptography provider, one set of trusted roots.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use thiserror::Error;

/// Why encryption could not be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file of certificates cannot be read.
    #[error("cannot read certificates from `{}`: {source}", path.display())]
    Certificates {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// A file of certificates holds none.
    #[error("`{}` holds no PEM certificate", .0.display())]
    NoCertificate(PathBuf),
    /// A file has no private key that can be read. It says nothing of what is in it.
    #[error("`{}` holds no PEM private key", .0.display())]
    NoKey(PathBuf),
    /// A private key is not the one of its certificate.
    #[error("the private key in `{}` is not that of the certificate", path.display())]
    OtherKey {
        /// The key's file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// A root certificate cannot be trusted.
    #[error("a certificate in `{}` is unusable: {source}", path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// The cryptography provider lacks the protocol versions.
    #[error("cannot set up TLS")]
    Protocol(#[from] rustls::Error),
}

/// Makes ring the process's cryptography provider; calling it again changes nothing. The program,
/// tests and benches call it first: with no default, or a second provider, TLS panics at run time.
pub fn install_crypto_provider() {
    // An error says that a default is in place already.
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// Trusts the public web's roots and those in `ca_file` (PEM).
pub fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = ca_file {
        let added = usable_roots(path)?;
        roots.roots.extend(added.roots);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Checks that `cert` holds certificates (PEM) and `key` the private key of the first.
pub fn check_identity(cert: &Path, key: &Path) -> Result<(), TlsError> {
    let certificates = certificates(cert)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|_| TlsError::NoKey(key.to_owned()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, private)
        .map(drop)
        .map_err(|source| TlsError::OtherKey { path: key.to_owned(), source })
}

/// Checks that `path` holds certificates (PEM) that can be roots.
pub fn check_roots(path: &Path) -> Result<(), TlsError> {
    usable_roots(path).map(drop)
}

fn usable_roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        let unusable = |source| TlsError::Certificate { path: path.to_owned(), source };
        roots.add(certificate).map_err(unusable)?;
    }
    Ok(roots)
}

/// The certificates in a file: one at least.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unreadable = |source| TlsError::Certificates { path: path.to_owned(), source };
    let found = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    if found.is_empty() { Err(TlsError::NoCertificate(path.to_owned())) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file(content: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file
    }

    #[test]
    fn extra_roots_are_added_to_the_public_ones() {
        let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let ca_file = file(&certified.cert.pem());
        assert!(client_config(Some(ca_file.path())).is_ok());
        assert!(client_config(None).is_ok());
    }

    #[test]
    fn a_bad_file_of_roots_is_named() {
        let text = file("no certificate");
        let error = client_config(Some(text.path())).unwrap_err();
        assert!(matches!(error, TlsError::NoCertificate(_)), "{error}");
        assert!(error.to_string().contains(&text.path().display().to_string()));

        let broken = file("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let error = client_config(Some(broken.path())).unwrap_err();
        assert!(matches!(error, TlsError::Certificate { .. }), "{error}");

        let error = client_config(Some(Path::new("/nowhere/ca.pem"))).unwrap_err();
        assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
    }

    #[test]
    fn a_key_that_is_not_the_certificates_is_named() {
        let pair = || rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (one, other) = (pair(), pair());
        let (cert, key) = (file(&one.cert.pem()), file(&one.signing_key.serialize_pem()));
        check_identity(cert.path(), key.path()).unwrap();
        check_roots(cert.path()).unwrap();

        let wrong = file(&other.signing_key.serialize_pem());
        let error = check_identity(cert.path(), wrong.path()).unwrap_err().to_string();
        assert!(error.contains(&wrong.path().display().to_string()), "{error}");
        let error = check_identity(cert.path(), cert.path()).unwrap_err();
        assert!(matches!(error, TlsError::NoKey(_)), "{error}");
        let error = check_identity(key.path(), key.path()).unwrap_err();
        assert!(matches!(error, TlsError::NoCertificate(_)), "{error}");
        assert!(matches!(check_roots(key.path()), Err(TlsError::NoCertificate(_))));
    }

    #[test]
    fn the_provider_can_be_installed_twice() {
        install_crypto_provider();
        install_crypto_provider();
        assert!(rustls::crypto::CryptoProvider::get_default().is_some());
    }
}
