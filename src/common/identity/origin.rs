//! The address that a call comes from: the peer's, or what a trusted proxy says.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

use crate::common::constants::HEADER_FORWARDED_FOR;

/// The address of whoever made the call that came from `peer`.
///
/// `X-Forwarded-For` counts only where the peer is one of `proxies`: each proxy appends the
/// address that it saw, so the caller is the last one that is not a proxy of ours. What stands
/// before it, anybody may have written.
pub(super) fn caller_address(peer: IpAddr, headers: &HeaderMap, proxies: &[IpNet]) -> IpAddr {
    let trusted = |address: IpAddr| proxies.iter().any(|network| network.contains(&address));
    let mut caller = peer.to_canonical();
    if !trusted(caller) {
        return caller;
    }
    let values: Vec<_> = headers.get_all(HEADER_FORWARDED_FOR).iter().collect();
    let said = values.iter().rev().flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
    for text in said {
        // What cannot be read ends the chain: the proxy that passed it on is the caller then.
        let Some(address) = address(text) else { return caller };
        caller = address;
        if !trusted(caller) {
            return caller;
        }
    }
    caller
}

/// An address, with or without a port.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|each| each.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(peer: &str, said: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in said {
            headers.append(HEADER_FORWARDED_FOR, value.parse().unwrap());
        }
        let proxies = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        caller_address(peer.parse().unwrap(), &headers, &proxies).to_string()
    }

    #[test]
    fn what_an_untrusted_peer_says_changes_nothing() {
        assert_eq!(caller("192.0.2.1", &["203.0.113.9"]), "192.0.2.1");
        assert_eq!(caller("::ffff:192.0.2.1", &["203.0.113.9"]), "192.0.2.1");
    }

    #[test]
    fn behind_proxies_the_last_address_that_is_none_of_them_counts() {
        assert_eq!(caller("10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(caller("10.0.0.1", &["1.1.1.1, 203.0.113.9, 10.0.0.2"]), "203.0.113.9");
        assert_eq!(caller("fd00::1", &["1.1.1.1", "203.0.113.9:443,10.0.0.2"]), "203.0.113.9");
        assert_eq!(caller("10.0.0.1", &["[2001:db8::1]:80"]), "2001:db8::1");
    }

    #[test]
    fn a_chain_that_breaks_off_ends_with_the_last_proxy() {
        assert_eq!(caller("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(caller("10.0.0.1", &["203.0.113.9, unknown, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(caller("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
    }
}
