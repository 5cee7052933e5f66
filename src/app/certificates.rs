//! The server's certificate files, which are read again whenever they change.

use std::path::Path;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::common::config::TlsSettings;
use crate::common::error::with_causes;
use crate::common::grpc::transport::{Encryption, acceptor};
use crate::infrastructure::tls;

/// How often the files are looked at. Their content is compared, as that of the key file is.
const EVERY: Duration = Duration::from_secs(1);

/// Files of certificates, and the encryption that they come to.
#[derive(Clone, Debug)]
pub(super) struct Certificates {
    files: TlsSettings,
    used: Content,
    encryption: Encryption,
}

/// Certificate, key and roots of clients, as they are in the files.
type Content = [Vec<u8>; 3];

impl Certificates {
    /// Reads the files; an error names the setting and the remedy, and nothing of a key.
    pub(super) fn open(files: &TlsSettings) -> Result<Self, String> {
        let used = read(files)?;
        let encryption = Encryption::new(encryption(files, &used)?);
        Ok(Self { files: files.clone(), used, encryption })
    }

    pub(super) fn encryption(&self) -> Encryption {
        self.encryption.clone()
    }

    /// Follows the files until `stopping`: new connections get what is good within seconds. While
    /// a file is broken, or not the other's, all stays as it was, and the log says why, once. What
    /// only one look finds is passed over: certificate and key are written one after the other.
    pub(super) async fn follow(mut self, stopping: CancellationToken) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut seen, mut judged) = (None, None);
        while stopping.run_until_cancelled(ticks.tick()).await.is_some() {
            let files = self.files.clone();
            let Ok(found) = spawn_blocking(move || read(&files)).await else { return };
            let is_settled = seen.as_ref() == Some(&found);
            if is_settled && judged.as_ref() != Some(&found) {
                self.take(found.clone()).await;
                judged = Some(found.clone());
            }
            seen = Some(found);
        }
    }

    /// Uses what was found if it is new and good.
    async fn take(&mut self, found: Result<Content, String>) {
        if found.as_ref() == Ok(&self.used) {
            return;
        }
        let files = self.files.clone();
        let made = move || {
            let content = found?;
            Ok((encryption(&files, &content)?, content))
        };
        match spawn_blocking(made).await {
            Ok(Ok((acceptor, content))) => {
                self.used = content;
                self.encryption.replace(acceptor);
                info!("new connections get the certificate that is in TLS_CERT now");
            }
            Ok(Err(error)) => {
                let error: String = error;
                warn!(error, "{error}; the certificate stays as it was");
            }
            // The runtime stops.
            Err(_) => {}
        }
    }
}

fn read(files: &TlsSettings) -> Result<Content, String> {
    let TlsSettings { cert, key, client_ca } = files;
    let roots = client_ca.as_deref().map(|path| content("TLS_CLIENT_CA", path)).transpose()?;
    Ok([content("TLS_CERT", cert)?, content("TLS_KEY", key)?, roots.unwrap_or_default()])
}

fn encryption(files: &TlsSettings, content: &Content) -> Result<TlsAcceptor, String> {
    let TlsSettings { cert, key, client_ca } = files;
    tls::check_identity(cert, key).map_err(|error| {
        let error = with_causes(&error);
        format!(
            "TLS_CERT, TLS_KEY: {error}; give the server's PEM certificate and its own private key"
        )
    })?;
    if let Some(path) = client_ca {
        tls::check_roots(path).map_err(|error| {
            let error = with_causes(&error);
            format!(
                "TLS_CLIENT_CA: {error}; give the PEM certificates of those who sign your clients'"
            )
        })?;
    }
    let [cert, key, roots] = content;
    acceptor(cert, key, client_ca.is_some().then_some(roots.as_slice()))
        .map_err(|error| format!("TLS_CERT, TLS_KEY, TLS_CLIENT_CA: {}", with_causes(&error)))
}

fn content(setting: &str, path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| {
        format!("{setting}: `{}` cannot be read: {error}; give a file that can be", path.display())
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use tokio::time::sleep;

    use super::*;
    use crate::common::tracing::{Lines, LogFormat};
    use crate::infrastructure::tls::install_crypto_provider;

    fn renew(files: &TlsSettings) {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&files.cert, cert.pem()).unwrap();
        std::fs::write(&files.key, signing_key.serialize_pem()).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_wrong_is_said_once_until_it_is_right_again() {
        install_crypto_provider();
        let (lines, _guard) = Lines::capture(LogFormat::Console);
        let folder = tempfile::tempdir().unwrap();
        let file = |name| folder.path().join(name);
        let files = TlsSettings { cert: file("cert.pem"), key: file("key.pem"), client_ca: None };
        renew(&files);
        let right = std::fs::read(&files.cert).unwrap();
        let certificates = Certificates::open(&files).unwrap();
        let looked_often = async {
            let said = |what: &str| lines.text().matches(what).count();
            for (round, back) in [(1, Some(&right)), (2, None)] {
                std::fs::write(&files.cert, "nonsense").unwrap();
                sleep(10 * EVERY).await;
                assert_eq!(said("stays as it was"), 2 * round - 1, "{}", lines.text());
                std::fs::remove_file(&files.cert).unwrap();
                sleep(10 * EVERY).await;
                assert_eq!(said("stays as it was"), 2 * round, "{}", lines.text());
                match back {
                    Some(right) => std::fs::write(&files.cert, right).unwrap(),
                    None => renew(&files),
                }
                sleep(10 * EVERY).await;
            }
            assert_eq!(said("new connections get"), 1, "{}", lines.text());
            // One look falls between the certificate and its key.
            sleep(EVERY / 2).await;
            renew(&files);
            let key = std::fs::read(&files.key).unwrap();
            std::fs::write(&files.key, "").unwrap();
            sleep(EVERY).await;
            std::fs::write(&files.key, key).unwrap();
            sleep(10 * EVERY).await;
            assert_eq!(said("stays as it was"), 4, "{}", lines.text());
            assert_eq!(said("new connections get"), 2, "{}", lines.text());
        };
        tokio::select! {
            () = certificates.follow(CancellationToken::new()) => panic!("it ended"),
            () = looked_often => {}
        }
    }
}
