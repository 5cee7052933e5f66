//! How connections are encrypted: one cryptography provider, one set of trusted roots.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

/// Why encryption could not be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The file of extra roots cannot be read.
    #[error("cannot read certificates from `{}`: {source}", path.display())]
    CaFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// The file of extra roots holds no certificate.
    #[error("`{}` holds no PEM certificate", .0.display())]
    NoCertificate(PathBuf),
    /// A certificate in the file of extra roots cannot be trusted.
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
        add_roots(&mut roots, path)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn add_roots(roots: &mut RootCertStore, path: &Path) -> Result<(), TlsError> {
    let unreadable = |source| TlsError::CaFile { path: path.to_owned(), source };
    let certificates = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    let before = roots.len();
    for certificate in certificates {
        let unusable = |source| TlsError::Certificate { path: path.to_owned(), source };
        roots.add(certificate.map_err(unreadable)?).map_err(unusable)?;
    }
    if roots.len() == before {
        return Err(TlsError::NoCertificate(path.to_owned()));
    }
    Ok(())
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
    fn the_provider_can_be_installed_twice() {
        install_crypto_provider();
        install_crypto_provider();
        assert!(rustls::crypto::CryptoProvider::get_default().is_some());
    }
}
