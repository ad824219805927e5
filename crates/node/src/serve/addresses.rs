//! How many connections each address has.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use crate::addresses::AddressRange;

/// Counts connections by address. Clones count together.
#[derive(Clone)]
pub(super) struct Addresses {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
    most: usize,
    /// Everybody's connections come from these.
    proxies: Arc<[AddressRange]>,
}

/// One connection, until it is dropped.
pub(super) struct Counted {
    all: Addresses,
    address: IpAddr,
}

impl Addresses {
    pub(super) fn new(most: usize, proxies: Vec<AddressRange>) -> Addresses {
        Addresses {
            counts: Arc::default(),
            most,
            proxies: proxies.into(),
        }
    }

    /// `None` if that address has too many.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Counted> {
        let proxy = self.proxies.iter().any(|range| range.contains(address));
        let address = counted_as(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= self.most && !proxy {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Counted {
            all: self.clone(),
            address,
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.all.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// Whoever has one address of IPv6 has 2^64 of them.
fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_address_and_each_network_of_ipv6_has_its_own_count() {
        let all = Addresses::new(2, vec!["10.0.0.0/8".parse().unwrap()]);
        let enter = |text: &str| all.enter(text.parse().unwrap());
        let kept: Vec<_> = ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "2001:db8::2"]
            .map(enter)
            .into();
        assert!(kept.iter().all(Option::is_some));
        for full in ["192.0.2.1", "2001:db8::3"] {
            assert!(enter(full).is_none(), "{full}");
        }
        assert!(enter("192.0.2.2").is_some() && enter("2001:db8:0:1::1").is_some());
        let proxies: Vec<_> = (0..5).map(|_| enter("10.1.1.1")).collect();
        assert!(proxies.iter().all(Option::is_some));
        drop((kept, proxies));
        assert!(all.counts.lock().unwrap().is_empty());
        assert!(enter("192.0.2.1").is_some());
    }
}
