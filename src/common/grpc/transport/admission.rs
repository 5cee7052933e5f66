//! How many connections there may be: altogether, and from one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;
use tracing::warn;

use crate::common::constants::REFUSALS_LOGGED_EVERY;

/// Counts connections. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    limit: u32,
    limit_per_address: u32,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    total: u32,
    by_address: HashMap<IpAddr, u32>,
    warned: Option<Instant>,
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// There are as many as there may be.
    Full,
    /// Its address has as many as it may have.
    AddressFull,
}

/// A connection that counts until this is dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    admission: Admission,
    address: IpAddr,
}

impl Admission {
    pub(super) fn new(limit: u32, limit_per_address: u32) -> Self {
        Self { limit, limit_per_address, counts: Arc::default() }
    }

    /// Counts a connection from `address`, if there is room for one.
    pub(super) fn admit(&self, address: IpAddr) -> Result<Admitted, Refused> {
        let address = network(address);
        let mut counts = self.counts();
        if counts.total >= self.limit {
            return Err(Refused::Full);
        }
        let count = counts.by_address.entry(address).or_default();
        if *count >= self.limit_per_address {
            return Err(Refused::AddressFull);
        }
        *count += 1;
        counts.total += 1;
        drop(counts);
        Ok(Admitted { admission: self.clone(), address })
    }

    /// Says that `peer` was refused, but not each time: who floods us must not flood the log.
    pub(super) fn warn(&self, refused: Refused, peer: SocketAddr) {
        let now = Instant::now();
        let mut counts = self.counts();
        if counts.warned.is_some_and(|at| now.duration_since(at) < REFUSALS_LOGGED_EVERY) {
            return;
        }
        counts.warned = Some(now);
        drop(counts);
        match refused {
            Refused::Full => {
                warn!(limit = self.limit, "connections are refused: {} are open", self.limit);
            }
            Refused::AddressFull => {
                let limit = self.limit_per_address;
                warn!(limit, %peer, "connections of {} are refused: it has {limit}", peer.ip());
            }
        }
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut counts = self.admission.counts();
        counts.total = counts.total.saturating_sub(1);
        if let Some(count) = counts.by_address.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

/// What counts as one address: of IPv6 its /64, which is what one customer gets.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_by_address_and_altogether_until_they_end() {
        let admission = Admission::new(3, 2);
        let [one, two] = ["10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap());
        let first = admission.admit(one).unwrap();
        let _second = admission.admit(one).unwrap();
        assert_eq!(admission.admit(one).unwrap_err(), Refused::AddressFull);
        let _other = admission.admit(two).unwrap();
        assert_eq!(admission.admit(two).unwrap_err(), Refused::Full);
        drop(first);
        let _again = admission.admit(one).unwrap();
        assert_eq!(admission.admit(one).unwrap_err(), Refused::Full);
    }

    #[test]
    fn nothing_is_kept_of_who_left() {
        let admission = Admission::new(3, 2);
        drop(admission.admit("10.0.0.1".parse().unwrap()));
        assert!(admission.counts().by_address.is_empty());
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_count_as_one() {
        let admission = Admission::new(9, 1);
        let _one = admission.admit("2001:db8::1".parse().unwrap()).unwrap();
        let sibling = admission.admit("2001:db8::ffff:2".parse().unwrap());
        assert_eq!(sibling.unwrap_err(), Refused::AddressFull);
        let _mapped = admission.admit("::ffff:10.0.0.1".parse().unwrap()).unwrap();
        let same = admission.admit("10.0.0.1".parse().unwrap());
        assert_eq!(same.unwrap_err(), Refused::AddressFull);
        let _other = admission.admit("2001:db8:0:1::1".parse().unwrap()).unwrap();
    }
}
