//! What stands between the network and the services: encryption, identity, limits.

use std::path::Path;

use tracing::warn;

use super::access;
use super::certificates::Certificates;
use crate::common::config::{ProtectionSettings, Settings};
use crate::common::error::with_causes;
use crate::common::grpc::transport::Encryption;
use crate::common::identity::{AuthenticationLayer, KeyFile};
use crate::common::rate_limit::{RateLimitLayer, RateLimiter};
use crate::common::shutdown::Lifecycle;
use crate::infrastructure::persistence::Cache;

/// The guard of a server.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) authentication: AuthenticationLayer,
    pub(super) limits: RateLimitLayer,
}

/// What of the guard is read from files.
pub(super) struct GuardFiles {
    certificates: Option<Certificates>,
    keys: Option<KeyFile>,
}

impl GuardFiles {
    /// Reads them; an error names the setting, the remedy, and no secret.
    pub(super) async fn read(settings: &ProtectionSettings) -> Result<Self, String> {
        let certificates = settings.tls.as_ref().map(Certificates::open).transpose()?;
        let keys = match &settings.api_keys_file {
            Some(path) => Some(key_file(path).await?),
            None => None,
        };
        Ok(Self { certificates, keys })
    }

    /// How connections are encrypted, where they are.
    pub(super) fn encryption(&self) -> Option<Encryption> {
        self.certificates.as_ref().map(Certificates::encryption)
    }

    /// The guard, which shares its limits through `cache` where it can. The files are followed
    /// until `lifecycle` stops.
    pub(super) fn guard(self, settings: &Settings, cache: &Cache, lifecycle: &Lifecycle) -> Guard {
        let protection = &settings.protection;
        let Self { certificates, keys } = self;
        let exposed = !settings.grpc_addr.ip().to_canonical().is_loopback();
        if exposed && certificates.is_none() {
            warn!(
                "GRPC_ADDR can be reached from other machines, and calls are not encrypted: set TLS_CERT and TLS_KEY"
            );
        }
        if let Some(certificates) = certificates {
            let follow = certificates.follow(lifecycle.token());
            drop(lifecycle.spawn("certificates", follow));
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
    KeyFile::open(path).await.map_err(|error| {
        let (error, path) = (with_causes(&error), path.display());
        format!("API_KEYS_FILE: {error}; make keys with `pocketquant keys new --file {path}`, or unset it to serve everybody")
    })
}
