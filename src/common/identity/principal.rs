//! Who a call counts for: limits and idempotency keys are per principal.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// Who makes a call: the strongest of what the caller shows. A request's extensions hold it from
/// the authentication layer on. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// The principal that the API key belongs to; its keys of a rotation are one.
    ApiKey(Arc<str>),
    /// The subject of the client's certificate.
    Certificate(Arc<str>),
    /// The address that the call comes from, without its port.
    Address(IpAddr),
}

impl Principal {
    /// What its calls are counted under: an IPv6 address counts with its network of 64 bits,
    /// as whoever has one address of it has them all.
    #[must_use]
    pub fn counted(&self) -> Self {
        match self {
            Self::ApiKey(_) | Self::Certificate(_) => self.clone(),
            Self::Address(address) => Self::Address(match address.to_canonical() {
                IpAddr::V4(address) => IpAddr::V4(address),
                IpAddr::V6(address) => {
                    IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)))
                }
            }),
        }
    }
}

/// `key:NAME`, `certificate:NAME` or `address:IP`: different for different principals.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ApiKey(name) => write!(f, "key:{name}"),
            Self::Certificate(name) => write!(f, "certificate:{name}"),
            Self::Address(address) => write!(f, "address:{}", address.to_canonical()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Principal {
        Principal::Address(text.parse().unwrap())
    }

    #[test]
    fn each_principal_has_its_own_name() {
        assert_eq!(Principal::ApiKey("alice".into()).to_string(), "key:alice");
        assert_eq!(Principal::Certificate("alice".into()).to_string(), "certificate:alice");
        assert_eq!(address("::ffff:10.0.0.1").to_string(), "address:10.0.0.1");
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one() {
        assert_eq!(address("2001:db8::1").counted(), address("2001:db8::ffff:1").counted());
        assert_ne!(address("2001:db8::1").counted(), address("2001:db8:0:1::1").counted());
        assert_ne!(address("10.0.0.1").counted(), address("10.0.0.2").counted());
        assert_eq!(address("::ffff:10.0.0.1").counted(), address("10.0.0.1"));
    }
}
