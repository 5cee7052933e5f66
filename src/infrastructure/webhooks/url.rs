//! Where a webhook may be.

use std::fmt;
use std::net::IpAddr;

use thiserror::Error;
use url::{Host, Url};

/// Longest URL, in characters.
pub const MAX_URL_LENGTH: usize = 2_048;
/// The lowest port that may be called besides those of HTTP: mail and remote shells lie below.
const FIRST_PORT: u16 = 1_024;

/// An absolute URL of `https`, or of `http`, to a host, without a user or password. `Debug` and
/// `Display` show its host and not its path, which may be as good as a password.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl(Url);

/// Why a text is no such URL; it repeats nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum InvalidUrl {
    /// It is no URL with a host, or not of HTTP.
    #[error("must be an absolute URL that begins with `https://` and names a host")]
    Malformed,
    /// It is longer than anybody needs.
    #[error("must have {MAX_URL_LENGTH} characters at most")]
    TooLong,
    /// It holds a user or a password.
    #[error("must not hold a user or password: messages are signed, check the signature")]
    Credentials,
    /// Its port is one of another protocol.
    #[error("must have port 443 or 80, or one from {FIRST_PORT} on")]
    Port,
}

impl WebhookUrl {
    /// Reads `text`. Odd spellings of addresses (`0x7f.1`) become what they mean.
    pub fn parse(text: &str) -> Result<Self, InvalidUrl> {
        if text.chars().count() > MAX_URL_LENGTH {
            return Err(InvalidUrl::TooLong);
        }
        let mut url = Url::parse(text).map_err(|_| InvalidUrl::Malformed)?;
        if !matches!(url.scheme(), "https" | "http") || !url.has_host() {
            return Err(InvalidUrl::Malformed);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidUrl::Credentials);
        }
        let port = url.port_or_known_default().unwrap_or_default();
        if !matches!(port, 80 | 443) && port < FIRST_PORT {
            return Err(InvalidUrl::Port);
        }
        url.set_fragment(None);
        Ok(Self(url))
    }

    /// All of it.
    pub const fn as_url(&self) -> &Url {
        &self.0
    }

    /// Whether messages to it are encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Its host: a name or an address.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// The address that it names; none where it names a host, which is looked up.
    pub fn address(&self) -> Option<IpAddr> {
        match self.0.host()? {
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
            Host::Domain(_) => None,
        }
    }
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), self.host())
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebhookUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_spellings_of_an_address_are_that_address() {
        for odd in [
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://127.1/",
            "https://127.0.0.1./",
            "https://①②⑦.0.0.1/",
        ] {
            let address = WebhookUrl::parse(odd).unwrap().address();
            assert_eq!(address, Some("127.0.0.1".parse().unwrap()), "{odd}");
        }
        let mapped = WebhookUrl::parse("https://[::ffff:7f00:1]/").unwrap().address().unwrap();
        assert_eq!(mapped.to_canonical(), "127.0.0.1".parse::<IpAddr>().unwrap());
        assert_eq!(WebhookUrl::parse("https://example.com/").unwrap().address(), None);
    }

    #[test]
    fn what_is_no_place_for_a_webhook_is_refused() {
        for (text, expected) in [
            ("", InvalidUrl::Malformed),
            ("example.com", InvalidUrl::Malformed),
            ("ftp://example.com", InvalidUrl::Malformed),
            ("https://", InvalidUrl::Malformed),
            ("file:///etc/passwd", InvalidUrl::Malformed),
            ("https://me:secret@example.com", InvalidUrl::Credentials),
            ("https://me@example.com", InvalidUrl::Credentials),
            ("https://example.com:25/", InvalidUrl::Port),
            ("https://example.com:22/", InvalidUrl::Port),
            ("https://example.com:0/", InvalidUrl::Port),
        ] {
            assert_eq!(WebhookUrl::parse(text), Err(expected), "{text}");
        }
        let long = format!("https://example.com/{}", "x".repeat(2_048));
        assert_eq!(WebhookUrl::parse(&long), Err(InvalidUrl::TooLong));
        let url = WebhookUrl::parse("https://example.com:8443/hook/t0ken?k=v#f").unwrap();
        assert_eq!(format!("{url:?}"), "WebhookUrl(https://example.com)");
        assert_eq!(url.as_url().as_str(), "https://example.com:8443/hook/t0ken?k=v");
    }
}
