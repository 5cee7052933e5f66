//! What stands between the network and the services: encryption, identity, limits.

use std::path::Path;

use tokio_rustls::TlsAcceptor;
use tracing::warn;

use super::access;
use crate::common::config::{ProtectionSettings, Settings, TlsSettings};
use crate::common::error::with_causes;
use crate::common::grpc::transport::acceptor;
use crate::common::identity::{AuthenticationLayer, KeyFile};
use crate::common::rate_limit::{RateLimitLayer, RateLimiter};
use crate::common::shutdown::Lifecycle;
use crate::infrastructure::persistence::Cache;
use crate::infrastructure::tls;

/// The guard of a server.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) authentication: AuthenticationLayer,
    pub(super) limits: RateLimitLayer,
}

/// What of the guard is read from files.
pub(super) struct GuardFiles {
    pub(super) tls: Option<TlsAcceptor>,
    keys: Option<KeyFile>,
}

impl GuardFiles {
    /// Reads them; an error names the setting, the remedy, and no secret.
    pub(super) async fn read(settings: &ProtectionSettings) -> Result<Self, String> {
        let tls = settings.tls.as_ref().map(encryption).transpose()?;
        let keys = match &settings.api_keys_file {
            Some(path) => Some(key_file(path).await?),
            None => None,
        };
        Ok(Self { tls, keys })
    }

    /// The guard, which shares its limits through `cache` where it can. The key file is followed
    /// until `lifecycle` stops.
    pub(super) fn guard(self, settings: &Settings, cache: &Cache, lifecycle: &Lifecycle) -> Guard {
        let protection = &settings.protection;
        let Self { tls, keys } = self;
        let exposed = !settings.grpc_addr.ip().to_canonical().is_loopback();
        if exposed && tls.is_none() {
            warn!(
                "GRPC_ADDR can be reached from other machines, and calls are not encrypted: set TLS_CERT and TLS_KEY"
            );
        }
        if let Some(keys) = keys.clone() {
            let stopping = lifecycle.token();
            drop(lifecycle.spawn("api keys", async move { keys.follow(stopping).await }));
        }
        let proxies = protection.trusted_proxies.clone();
        let calls =
            protection.rate_limit.map(|quota| RateLimiter::new(quota, cache.shared_buckets()));
        Guard {
            authentication: AuthenticationLayer::new(access::rules(), keys, proxies),
            limits: RateLimitLayer::new(calls, protection.streams_per_principal),
        }
    }
}

async fn key_file(path: &Path) -> Result<KeyFile, String> {
    let keys = KeyFile::open(path).await.map_err(|error| {
        let error = with_causes(&error);
        format!("API_KEYS_FILE: {error}; make keys with `pocketquant keys new`, or unset it to serve everybody")
    })?;
    if keys.ring().is_empty() {
        let path = path.display();
        return Err(format!(
            "API_KEYS_FILE: `{path}` holds no key, so nobody could call; make one with `pocketquant keys new --file {path}`"
        ));
    }
    Ok(keys)
}

fn encryption(files: &TlsSettings) -> Result<TlsAcceptor, String> {
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
    let (cert, key) = (content("TLS_CERT", cert)?, content("TLS_KEY", key)?);
    let client_ca = client_ca.as_ref().map(|path| content("TLS_CLIENT_CA", path)).transpose()?;
    acceptor(&cert, &key, client_ca.as_deref())
        .map_err(|error| format!("TLS_CERT, TLS_KEY, TLS_CLIENT_CA: {}", with_causes(&error)))
}

fn content(setting: &str, path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| {
        format!("{setting}: `{}` cannot be read: {error}; give a file that can be", path.display())
    })
}
