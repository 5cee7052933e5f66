//! Which addresses may be called: those of the public internet, and networks that the settings
//! name. Without it, whoever may create a webhook could make this server call its neighbours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use thiserror::Error;

use crate::infrastructure::http_client::AddressFilter;

/// IPv4 networks that are not the public internet (IANA's special-purpose registry).
const SPECIAL_V4: [(Ipv4Addr, u8); 15] = [
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    // Multicast, reserved and broadcast.
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// The only IPv6 network that is given out as public, `2000::/3` ...
const GLOBAL_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// ... without what of it is something else: protocol assignments with Teredo, documentation, and
/// 6to4, which wraps any IPv4 address. NAT64 and mapped addresses lie outside of `2000::/3`.
const SPECIAL_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Why a URL may not be called, as far as it says itself.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RefusedUrl {
    /// Its host may not be called.
    #[error("`{host}` is at no address that may be called; see WEBHOOK_ALLOWED_NETWORKS")]
    Address {
        /// The name, or the address, that was to be called.
        host: String,
    },
    /// Its host may be called by `https` only.
    #[error(
        "must begin with `https://`: `http` is for networks that WEBHOOK_ALLOWED_NETWORKS names"
    )]
    NotEncrypted,
}

/// Which addresses may be called. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AddressPolicy {
    allowed: Arc<[IpNet]>,
    is_public_allowed: bool,
}

impl AddressPolicy {
    /// The public internet, and the networks `allowed`.
    pub fn new(allowed: &[IpNet]) -> Self {
        Self { allowed: allowed.into(), is_public_allowed: true }
    }

    /// The same without the public internet.
    #[must_use]
    pub fn only_allowed(&self) -> Self {
        Self { is_public_allowed: false, ..self.clone() }
    }

    /// Whether `address` may be called. An IPv4 address that is wrapped in an IPv6 one is judged
    /// as what it is.
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let is_allowed = self.allowed.iter().any(|network| network.contains(&address));
        is_allowed || (self.is_public_allowed && is_public(address))
    }

    /// Whether a host called `name` can be at an address that may be called: `localhost` is this
    /// machine (RFC 6761), any other name may be anywhere.
    pub fn permits_name(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.');
        if name == "localhost" || name.ends_with(".localhost") {
            let here: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            return here.into_iter().any(|address| self.permits(address));
        }
        self.is_public_allowed || !self.allowed.is_empty()
    }

    /// [`Self::permits`] for the HTTP client: it asks after each look-up of a name.
    pub(super) fn filter(self) -> AddressFilter {
        AddressFilter::new(move |address| self.permits(address))
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|(network, bits)| {
            let shift = u32::from(32 - bits);
            address.to_bits() >> shift == network.to_bits() >> shift
        }),
        IpAddr::V6(address) => {
            let is_in = |(network, bits): &(Ipv6Addr, u8)| {
                let shift = u32::from(128 - bits);
                address.to_bits() >> shift == network.to_bits() >> shift
            };
            is_in(&GLOBAL_V6) && !SPECIAL_V6.iter().any(is_in)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(policy: &AddressPolicy, address: &str) -> bool {
        policy.permits(address.parse().unwrap())
    }

    #[test]
    fn only_the_public_internet_may_be_called() {
        let policy = AddressPolicy::new(&[]);
        for public in ["1.1.1.1", "100.63.255.255", "100.128.0.0", "172.32.0.1", "2606:4700::1111"]
        {
            assert!(permits(&policy, public), "{public}");
        }
        for private in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.8.8.8",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!permits(&policy, private), "{private}");
        }
    }

    #[test]
    fn networks_that_are_named_may_be_called_too() {
        let policy = AddressPolicy::new(&["127.0.0.0/8".parse().unwrap()]);
        assert!(permits(&policy, "127.0.0.1") && permits(&policy, "::ffff:127.0.0.1"));
        assert!(permits(&policy, "1.1.1.1") && !permits(&policy, "10.0.0.1"));
        let policy = policy.only_allowed();
        assert!(permits(&policy, "127.0.0.1") && !permits(&policy, "1.1.1.1"));
    }

    #[test]
    fn a_name_may_be_called_unless_it_can_lead_to_nothing_that_may() {
        let (public, local) = (AddressPolicy::new(&[]), ["127.0.0.0/8".parse().unwrap()]);
        let local = AddressPolicy::new(&local);
        for (policy, elsewhere, here) in [
            (&public, true, false),
            (&public.only_allowed(), false, false),
            (&local, true, true),
            (&local.only_allowed(), true, true),
        ] {
            assert_eq!(policy.permits_name("example.com"), elsewhere, "{policy:?}");
            for name in ["localhost", "localhost.", "a.localhost"] {
                assert_eq!(policy.permits_name(name), here, "{name}: {policy:?}");
            }
        }
    }
}
