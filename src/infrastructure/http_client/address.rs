//! Which addresses may be connected to: looked at after names were resolved, so that no name can
//! lead us where we must not go, and the address that was looked at is the one connected to.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use thiserror::Error;
use url::{Host, Url};

use super::dns::{Addrs, Name, Resolve, Resolving};

/// Decides which addresses may be connected to.
#[derive(Clone)]
pub struct AddressFilter(Arc<dyn Fn(IpAddr) -> bool + Send + Sync>);

impl AddressFilter {
    /// Lets through what `allows` says. It is asked for IPv4 addresses as such, also where they
    /// are written as IPv6 ones.
    pub fn new(allows: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(allows))
    }

    fn allows(&self, address: IpAddr) -> bool {
        (self.0)(address.to_canonical())
    }

    /// Whether the host of `url` is no address, or one that is allowed: addresses are not resolved.
    pub(super) fn allows_host(&self, url: &Url) -> bool {
        match url.host() {
            Some(Host::Ipv4(address)) => self.allows(address.into()),
            Some(Host::Ipv6(address)) => self.allows(address.into()),
            Some(Host::Domain(_)) | None => true,
        }
    }
}

impl fmt::Debug for AddressFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AddressFilter")
    }
}

/// No address of a name is allowed.
#[derive(Debug, Error)]
#[error("no address is allowed")]
pub(super) struct AddressRefused;

/// Resolves names to those of their addresses that are allowed.
pub(super) struct FilteredResolver {
    pub(super) filter: AddressFilter,
    pub(super) inner: Arc<dyn Resolve>,
}

impl Resolve for FilteredResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (filter, resolving) = (self.filter.clone(), self.inner.resolve(name));
        Box::pin(async move {
            let found = resolving.await?;
            let allowed: Vec<SocketAddr> =
                found.filter(|address| filter.allows(address.ip())).collect();
            if allowed.is_empty() {
                return Err(AddressRefused.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Asks the system.
pub(super) struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let found: Vec<SocketAddr> = found.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_urls_are_looked_at_in_every_spelling() {
        let filter = AddressFilter::new(|address| !address.is_loopback());
        let allows = |url: &str| filter.allows_host(&Url::parse(url).unwrap());
        for loopback in [
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1:8080/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
        ] {
            assert!(!allows(loopback), "{loopback}");
        }
        assert!(allows("http://192.0.2.1/"));
        assert!(allows("http://name.example/"));
    }
}
