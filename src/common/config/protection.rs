//! How calls are protected: who may call, encrypted how, and how often.

use std::path::PathBuf;

use ipnet::IpNet;

use super::error::Mistake;
use super::parse::{self, Reader};
use super::table as t;
use crate::common::rate_limit::Quota;

/// How calls are protected. It holds names of files and not what is in them.
#[derive(Clone, Debug)]
pub struct ProtectionSettings {
    /// The API keys that callers need.
    pub api_keys_file: Option<PathBuf>,
    /// How gRPC is encrypted.
    pub tls: Option<TlsSettings>,
    /// Who is believed about where calls come from.
    pub trusted_proxies: Vec<IpNet>,
    /// What each caller may do; absent for no limit.
    pub rate_limit: Option<Quota>,
    /// Streams that one caller may have open.
    pub streams_per_principal: u32,
}

/// The files that encryption needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// Our certificates, our own first.
    pub cert: PathBuf,
    /// Our private key.
    pub key: PathBuf,
    /// The roots of our clients' certificates; absent where they need none.
    pub client_ca: Option<PathBuf>,
}

impl ProtectionSettings {
    /// Whether callers must show who they are.
    pub fn knows_callers(&self) -> bool {
        let certificates = self.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        self.api_keys_file.is_some() || certificates
    }
}

pub(super) fn protection(reader: &mut Reader<'_>) -> Option<ProtectionSettings> {
    // A file that is given and cannot be read must not look like one that is not given.
    let keys_given = reader.given(&t::API_KEYS_FILE).is_some();
    let api_keys_file = reader.read(&t::API_KEYS_FILE, parse::readable_file);
    let tls = tls(reader);
    let proxies_given = reader.given(&t::TRUSTED_PROXIES).is_some();
    let trusted_proxies = reader.read(&t::TRUSTED_PROXIES, parse::networks);
    let burst = reader.read(&t::RATE_LIMIT_BURST, parse::number(1, Quota::MAX_BURST));
    let per_second =
        reader.read(&t::RATE_LIMIT_PER_SECOND, parse::number(0, Quota::MAX_PER_SECOND));
    let streams = reader.read(&t::STREAMS_PER_PRINCIPAL, parse::number(1, 1_000_000));
    let unreadable = keys_given && api_keys_file.is_none();
    if unreadable || proxies_given && trusted_proxies.is_none() {
        return None;
    }
    Some(ProtectionSettings {
        api_keys_file,
        tls: tls?,
        trusted_proxies: trusted_proxies.unwrap_or_default(),
        // No quota where it is 0 a second.
        rate_limit: Quota::new(burst?, per_second?).ok(),
        streams_per_principal: streams?,
    })
}

#[expect(clippy::option_option, reason = "outside: is it right; inside: is it set")]
fn tls(reader: &mut Reader<'_>) -> Option<Option<TlsSettings>> {
    let mut file = |setting| {
        let given = reader.given(setting).is_some();
        (given, reader.read(setting, parse::readable_file))
    };
    let (cert, key, client_ca) = (file(&t::TLS_CERT), file(&t::TLS_KEY), file(&t::TLS_CLIENT_CA));
    let missing = [
        (&t::TLS_CERT, cert.0 && !key.0, "TLS_KEY"),
        (&t::TLS_KEY, key.0 && !cert.0, "TLS_CERT"),
        (&t::TLS_CLIENT_CA, client_ca.0 && !cert.0, "TLS_CERT"),
    ];
    for (setting, _, other) in missing.iter().filter(|each| each.1) {
        reader.note(Mistake::new(setting, &format!("it is given without {other}")));
    }
    match (cert, key, client_ca) {
        ((false, _), (false, _), (false, _)) => Some(None),
        ((_, Some(cert)), (_, Some(key)), (given, client_ca)) if given == client_ca.is_some() => {
            Some(Some(TlsSettings { cert, key, client_ca }))
        }
        _ => None,
    }
}
