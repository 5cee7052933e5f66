//! Whom a client's certificate names.

use std::fmt::Write as _;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// Longest name that is taken as it is, in bytes.
const MAX_NAME: usize = 256;

/// The first of its alternative names (a URI as SPIFFE's before a DNS name), else the common name
/// of its subject, else its SHA-256 fingerprint. That it may be trusted is TLS's business.
pub(super) fn certificate_name(der: &[u8]) -> Arc<str> {
    let parsed = X509Certificate::from_der(der).ok();
    let name = parsed.as_ref().and_then(|(_, certificate)| named(certificate));
    let printable = |name: &&str| {
        !name.is_empty()
            && name.len() <= MAX_NAME
            && name.bytes().all(|byte| byte.is_ascii_graphic())
    };
    name.filter(printable).map_or_else(|| fingerprint(der), Into::into)
}

fn named<'a>(certificate: &'a X509Certificate<'_>) -> Option<&'a str> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let names = alternative.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let uri = names
        .iter()
        .find_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None });
    let dns = names
        .iter()
        .find_map(|name| if let GeneralName::DNSName(dns) = name { Some(*dns) } else { None });
    let common =
        || certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    uri.or(dns).or_else(common)
}

fn fingerprint(der: &[u8]) -> Arc<str> {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(der) {
        // Writing to a string cannot fail.
        let _infallible = write!(text, "{byte:02x}");
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn name(alternatives: Vec<SanType>, common: &str) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common);
        params.subject_alt_names = alternatives;
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        certificate_name(certificate.der()).to_string()
    }

    #[test]
    fn the_most_precise_name_counts() {
        let uri = || SanType::URI("spiffe://example/quotes".try_into().unwrap());
        let dns = || SanType::DnsName("quotes.example".try_into().unwrap());
        assert_eq!(name(vec![dns(), uri()], "quotes"), "spiffe://example/quotes");
        assert_eq!(name(vec![dns()], "quotes"), "quotes.example");
        assert_eq!(name(vec![], "quotes"), "quotes");
    }

    #[test]
    fn what_names_nobody_is_known_by_its_fingerprint() {
        let long = "x".repeat(MAX_NAME + 1);
        for common in ["", "two words", long.as_str()] {
            assert!(name(vec![], common).starts_with("sha256:"), "{common}");
        }
        assert_ne!(certificate_name(b"one"), certificate_name(b"other"));
    }
}
