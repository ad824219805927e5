//! To which addresses this node connects when somebody names a URL: a URL in a task must not become a way into the network behind the node.
//!
//! What is special is taken from the registries of special-purpose addresses (IANA, RFC 6890), range by range. Everything else that is ordinary unicast may
//! be contacted.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::Deserialize;

use crate::addresses::{AddressRange, RangeError};

/// What kind of special address it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// This machine: 127.0.0.0/8, `::1`.
    Loopback,
    /// A closed network's: RFC 1918, `fc00::/7`.
    Private,
    /// Shared by the customers of a carrier: 100.64.0.0/10.
    Shared,
    /// Of this link only: 169.254.0.0/16, `fe80::/10`.
    LinkLocal,
    /// Where clouds tell a machine its credentials.
    Metadata,
    /// "This network": 0.0.0.0/8, `::`.
    Unspecified,
    /// Of groups: 224.0.0.0/4, `ff00::/8`.
    Multicast,
    /// Of everybody on the link.
    Broadcast,
    /// For documentation, measurements or later use, or given to nobody.
    Reserved,
    /// An IPv6 address that carries an IPv4 address of one of the other kinds.
    Embedded,
}

impl Class {
    /// For people; completes "leads to …". The address itself would tell somebody about the network in which this node is.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Class::Loopback => "an address of this node's own machine",
            Class::Private => "a private address",
            Class::Shared => "an address shared by a carrier's customers (100.64.0.0/10)",
            Class::LinkLocal => "a link-local address",
            Class::Metadata => "an address at which clouds tell machines their credentials",
            Class::Unspecified => "an unspecified address",
            Class::Multicast => "a multicast address",
            Class::Broadcast => "a broadcast address",
            Class::Reserved => "a reserved address",
            Class::Embedded => "a special IPv4 address inside an IPv6 address",
        }
    }

    /// What the operator of this node can do about it.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Class::Loopback => {
                "if that node is meant, its operator and yours are the same: pin it (fdrtd peers pin), list it in allow_peer_urls, or write \
                 allow_peer_addresses = [\"loopback\"] in this node's configuration (--allow-peer-address loopback)"
            }
            Class::Private => {
                "if the peers are in your own network, pin them (fdrtd peers pin), list their URLs in allow_peer_urls, or write \
                 allow_peer_addresses = [\"private\"] or the range, such as [\"10.1.0.0/16\"], in this node's configuration (--allow-peer-address private)"
            }
            Class::Shared => {
                "if the peers are in such a network, write allow_peer_addresses = [\"shared\"] in this node's configuration (--allow-peer-address shared)"
            }
            Class::Metadata => {
                "no node is there; if one is, its very address must be written in allow_peer_addresses of this node's configuration"
            }
            _ => {
                "use a host name or address under which that node is reached from elsewhere; the operator of this node can allow a range in \
                 allow_peer_addresses"
            }
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An entry of `allow_peer_addresses`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Allowed {
    /// `loopback`.
    Loopback,
    /// `private`.
    Private,
    /// `shared`.
    Shared,
    /// A range, or one address.
    Range(AddressRange),
}

impl FromStr for Allowed {
    type Err = AllowedError;

    fn from_str(text: &str) -> Result<Allowed, AllowedError> {
        match text.trim() {
            "loopback" => Ok(Allowed::Loopback),
            "private" => Ok(Allowed::Private),
            "shared" => Ok(Allowed::Shared),
            text => text.parse().map(Allowed::Range).map_err(AllowedError),
        }
    }
}

/// Why a text is no [`Allowed`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write loopback, private, shared, an address or a range of addresses; {0}")]
pub struct AllowedError(RangeError);

impl TryFrom<String> for Allowed {
    type Error = AllowedError;
    fn try_from(text: String) -> Result<Allowed, AllowedError> {
        text.parse()
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Allowed::Loopback => f.write_str("loopback"),
            Allowed::Private => f.write_str("private"),
            Allowed::Shared => f.write_str("shared"),
            Allowed::Range(range) => range.fmt(f),
        }
    }
}

/// Which addresses may be contacted.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Any: for programs that contact what their own user names.
    open: bool,
    allowed: Vec<Allowed>,
}

impl Reach {
    /// Ordinary addresses, and those that `allowed` names.
    #[must_use]
    pub fn new(allowed: Vec<Allowed>) -> Reach {
        Reach { open: false, allowed }
    }

    /// Any address at all.
    #[must_use]
    pub fn open() -> Reach {
        Reach {
            open: true,
            allowed: Vec::new(),
        }
    }

    /// Whether `address` may be contacted; otherwise what it is. `configured`: for a URL that the operator of this node has named.
    ///
    /// # Errors
    /// The kind of the address.
    pub fn check(&self, address: IpAddr, configured: bool) -> Result<(), Class> {
        let Some(class) = classify(address).filter(|_| !self.open) else {
            return Ok(());
        };
        let allowed = |entry: &Allowed| match entry {
            Allowed::Loopback => class == Class::Loopback,
            Allowed::Private => class == Class::Private,
            Allowed::Shared => class == Class::Shared,
            // Somebody who allows a whole network does not think of this one address in it.
            Allowed::Range(range) => range.contains(address) && (class != Class::Metadata || range.is_single()),
        };
        let named = configured && matches!(class, Class::Loopback | Class::Private);
        if named || self.allowed.iter().any(allowed) {
            Ok(())
        } else {
            Err(class)
        }
    }
}

/// What is special about an address; `None` for ordinary ones.
#[must_use]
pub fn classify(address: IpAddr) -> Option<Class> {
    match address.to_canonical() {
        IpAddr::V4(address) => classify_v4(address),
        IpAddr::V6(address) => classify_v6(address),
    }
}

/// Addresses at which clouds tell machines their credentials: AWS, Azure, GCP and most others; AWS for containers and pods; Azure's wire server; Oracle; Alibaba.
const METADATA_V4: [Ipv4Addr; 6] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(100, 100, 100, 200),
];

/// The same in IPv6: AWS (instances, pods), GCP, Scaleway.
const METADATA_V6: [Ipv6Addr; 4] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
];

/// First address, prefix, class. The first that fits counts.
const SPECIAL_V4: [(Ipv4Addr, u32, Class); 17] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, Class::Unspecified),    // RFC 791
    (Ipv4Addr::new(10, 0, 0, 0), 8, Class::Private),       // RFC 1918
    (Ipv4Addr::new(100, 64, 0, 0), 10, Class::Shared),     // RFC 6598
    (Ipv4Addr::new(127, 0, 0, 0), 8, Class::Loopback),     // RFC 1122
    (Ipv4Addr::new(169, 254, 0, 0), 16, Class::LinkLocal), // RFC 3927
    (Ipv4Addr::new(172, 16, 0, 0), 12, Class::Private),    // RFC 1918
    (Ipv4Addr::new(192, 0, 0, 0), 24, Class::Reserved),    // RFC 6890: IETF protocol assignments
    (Ipv4Addr::new(192, 0, 2, 0), 24, Class::Reserved),    // RFC 5737: documentation
    (Ipv4Addr::new(192, 31, 196, 0), 24, Class::Reserved), // RFC 7535: AS112
    (Ipv4Addr::new(192, 52, 193, 0), 24, Class::Reserved), // RFC 7450: AMT
    (Ipv4Addr::new(192, 88, 99, 0), 24, Class::Reserved),  // RFC 7526: 6to4 relays, deprecated
    (Ipv4Addr::new(192, 168, 0, 0), 16, Class::Private),   // RFC 1918
    (Ipv4Addr::new(192, 175, 48, 0), 24, Class::Reserved), // RFC 7534: AS112
    (Ipv4Addr::new(198, 18, 0, 0), 15, Class::Reserved),   // RFC 2544: benchmarks
    (Ipv4Addr::new(198, 51, 100, 0), 24, Class::Reserved), // RFC 5737: documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24, Class::Reserved),  // RFC 5737: documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4, Class::Multicast),    // RFC 5771
];

/// The same for IPv6. What is in none of these and outside of 2000::/3 is given to nobody (RFC 4291).
const SPECIAL_V6: [(Ipv6Addr, u32, Class); 7] = [
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, Class::Private), // RFC 4193
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, Class::LinkLocal), // RFC 4291
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, Class::Multicast), // RFC 4291
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, Class::Reserved), // RFC 2928: protocol assignments, Teredo, ORCHID
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, Class::Reserved), // RFC 3849: documentation
    (Ipv6Addr::new(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0), 48, Class::Reserved), // RFC 7534: AS112
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, Class::Reserved), // RFC 9637: documentation
];

fn classify_v4(address: Ipv4Addr) -> Option<Class> {
    if METADATA_V4.contains(&address) {
        return Some(Class::Metadata);
    }
    if address.is_broadcast() {
        return Some(Class::Broadcast);
    }
    let bits = u32::from(address);
    let within = |first: Ipv4Addr, prefix: u32| (bits ^ u32::from(first)) >> (32 - prefix) == 0;
    let special = SPECIAL_V4.iter().find(|(first, prefix, _)| within(*first, *prefix));
    // RFC 1112: for later use.
    let reserved = (bits >= 0xf000_0000).then_some(Class::Reserved);
    special.map(|(_, _, class)| *class).or(reserved)
}

fn classify_v6(address: Ipv6Addr) -> Option<Class> {
    if METADATA_V6.contains(&address) {
        return Some(Class::Metadata);
    }
    if address.is_loopback() {
        return Some(Class::Loopback);
    }
    if address.is_unspecified() {
        return Some(Class::Unspecified);
    }
    let bits = u128::from(address);
    let within = |first: Ipv6Addr, prefix: u32| (bits ^ u128::from(first)) >> (128 - prefix) == 0;
    if let Some((embedded, usable)) = embedded(address) {
        let special = classify_v4(embedded).map(|_| Class::Embedded);
        return special.or((!usable).then_some(Class::Reserved));
    }
    let special = SPECIAL_V6.iter().find(|(first, prefix, _)| within(*first, *prefix));
    let nobodys = (!within(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3)).then_some(Class::Reserved);
    special.map(|(_, _, class)| *class).or(nobodys)
}

/// The IPv4 address that is reached through an IPv6 address, and whether that way is still in use. Mapped ones (`::ffff:0:0/96`) do not come here.
fn embedded(address: Ipv6Addr) -> Option<(Ipv4Addr, bool)> {
    let [a, b, c, d, e, f, high, low] = address.segments();
    let last = join(high, low);
    match [a, b, c, d, e, f] {
        // RFC 6052: networks without IPv4 reach the others so.
        [0x64, 0xff9b, 0, 0, 0, 0] => Some((last, true)),
        // RFC 8215: the same with an operator's own translation, which may lead anywhere.
        [0x64, 0xff9b, 1, ..] => Some((Ipv4Addr::UNSPECIFIED, false)),
        // RFC 4291: IPv4-compatible; RFC 2765: IPv4-translated.
        [0, 0, 0, 0, 0, 0] | [0, 0, 0, 0, 0xffff, 0] => Some((last, false)),
        // RFC 3056: 6to4.
        [0x2002, high, low, ..] => Some((join(high, low), false)),
        _ => None,
    }
}

fn join(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> Option<Class> {
        classify(text.parse().unwrap())
    }

    #[test]
    fn every_kind_from_its_first_address_to_its_last() {
        for (class, addresses) in [
            (
                Class::Loopback,
                &["127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1"][..],
            ),
            (
                Class::Private,
                &[
                    "10.0.0.0",
                    "10.255.255.255",
                    "172.16.0.0",
                    "172.31.255.255",
                    "192.168.0.0",
                    "192.168.255.255",
                    "fc00::",
                    "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                    "::ffff:10.1.2.3",
                ],
            ),
            (Class::Shared, &["100.64.0.0", "100.127.255.255"]),
            (
                Class::LinkLocal,
                &["169.254.0.0", "169.254.255.255", "fe80::1", "febf::1"],
            ),
            (
                Class::Metadata,
                &[
                    "169.254.169.254",
                    "169.254.170.2",
                    "168.63.129.16",
                    "100.100.100.200",
                    "192.0.0.192",
                    "fd00:ec2::254",
                    "::ffff:169.254.169.254",
                ],
            ),
            (
                Class::Unspecified,
                &["0.0.0.0", "0.255.255.255", "::", "::ffff:0.0.0.0"],
            ),
            (Class::Multicast, &["224.0.0.1", "239.255.255.255", "ff02::1"]),
            (Class::Broadcast, &["255.255.255.255"]),
            (
                Class::Reserved,
                &[
                    "192.0.0.1",
                    "192.0.2.1",
                    "198.18.0.1",
                    "198.19.255.255",
                    "198.51.100.1",
                    "203.0.113.255",
                    "240.0.0.1",
                    "192.88.99.1",
                    "2001:db8::1",
                    "2001::1",
                    "2001:1ff::",
                    "3fff:fff::1",
                    "100::1",
                    "fec0::1",
                    "5f00::1",
                    "4000::",
                    "64:ff9b:1::1",
                    "2002:808:808::1",
                    "::8.8.8.8",
                ],
            ),
            (
                Class::Embedded,
                &[
                    "64:ff9b::10.0.0.1",
                    "64:ff9b::169.254.169.254",
                    "64:ff9b::127.0.0.1",
                    "2002:7f00:1::1",
                    "2002:a00:1::",
                    "::127.0.0.1",
                    "::10.0.0.1",
                    "::ffff:0:10.0.0.1",
                    "64:ff9b:1::10.0.0.1",
                ],
            ),
        ] {
            for address in addresses {
                let found = of(address);
                // Local translation leads anywhere: it is refused, whatever it is called.
                let same = found == Some(class) || (address.starts_with("64:ff9b:1:") && found.is_some());
                assert!(same, "{address}: {found:?}, not {class:?}");
            }
        }
        for ordinary in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:200::1",
            "3ffe::1",
            "64:ff9b::8.8.8.8",
            "::ffff:8.8.8.8",
        ] {
            assert_eq!(of(ordinary), None, "{ordinary}");
        }
    }

    #[test]
    fn what_is_allowed_is_allowed_and_no_more() {
        let reach = |entries: &[&str]| Reach::new(entries.iter().map(|entry| entry.parse().unwrap()).collect());
        let check =
            |reach: &Reach, address: &str, configured| reach.check(address.parse().unwrap(), configured).is_ok();
        let nothing = reach(&[]);
        for address in [
            "127.0.0.1",
            "10.0.0.1",
            "100.64.0.1",
            "169.254.169.254",
            "169.254.0.1",
            "0.0.0.0",
            "64:ff9b::10.0.0.1",
        ] {
            assert!(!check(&nothing, address, false), "{address}");
            let named = ["127.0.0.1", "10.0.0.1"].contains(&address);
            assert_eq!(
                check(&nothing, address, true),
                named,
                "{address} under a configured URL"
            );
            assert!(check(&Reach::open(), address, false));
        }
        assert!(check(&nothing, "8.8.8.8", false));
        let some = reach(&["loopback", "10.0.0.0/8", "169.254.0.0/16", "fc00::/7"]);
        assert!(check(&some, "127.0.0.1", false) && check(&some, "::1", false) && check(&some, "10.9.9.9", false));
        assert!(
            check(&some, "::ffff:10.0.0.1", false)
                && check(&some, "169.254.1.1", false)
                && check(&some, "fd00::1", false)
        );
        assert!(!check(&some, "192.168.0.1", false) && !check(&some, "64:ff9b::10.0.0.1", false));
        // A range does not open what lies hidden in it; the address itself does.
        assert!(!check(&some, "169.254.169.254", true) && !check(&some, "fd00:ec2::254", true));
        assert!(check(&reach(&["169.254.169.254"]), "169.254.169.254", false));
        let kinds = reach(&["private", "shared"]);
        assert!(
            check(&kinds, "192.168.0.1", false)
                && check(&kinds, "100.64.0.1", false)
                && check(&kinds, "fd00::1", false)
        );
        assert!(
            !check(&kinds, "100.100.100.200", true)
                && !check(&kinds, "fd00:ec2::254", true)
                && !check(&kinds, "127.0.0.1", false)
        );
    }

    #[test]
    fn entries_are_words_addresses_or_ranges() {
        for text in ["loopback", "private", "shared", "10.0.0.0/8", "fd00::1"] {
            assert_eq!(text.parse::<Allowed>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "all",
            "Private",
            "link-local",
            "10.0.0.1/8",
            "0.0.0.0/0",
            "localhost",
        ] {
            let error = text.parse::<Allowed>().unwrap_err().to_string();
            assert!(error.starts_with("write loopback, private, shared"), "{error}");
        }
    }

    proptest! {
        /// An IPv4 address is the same one in a mapped form, and no way around is more open than the address itself.
        #[test]
        fn no_other_form_opens_an_address(bits: u32) {
            let address = Ipv4Addr::from(bits);
            let class = classify(IpAddr::V4(address));
            prop_assert_eq!(classify(IpAddr::V6(address.to_ipv6_mapped())), class);
            let [a, b, c, d] = address.octets().map(u16::from);
            let (high, low) = (a << 8 | b, c << 8 | d);
            for form in [
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
                Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
                Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
            ] {
                prop_assert!(class.is_none() || classify(IpAddr::V6(form)).is_some(), "{}", form);
            }
        }

        /// The stable part of the standard library agrees.
        #[test]
        fn the_standard_library_agrees_on_ipv4(bits: u32) {
            let address = Ipv4Addr::from(bits);
            let special = address.is_private() || address.is_loopback() || address.is_link_local() || address.is_broadcast()
                || address.is_documentation() || address.is_multicast() || address.is_unspecified();
            prop_assert!(!special || classify(IpAddr::V4(address)).is_some());
        }

        #[test]
        fn the_standard_library_agrees_on_ipv6(bits: u128) {
            let address = Ipv6Addr::from(bits);
            let special = address.is_loopback() || address.is_unicast_link_local() || address.is_unique_local() || address.is_multicast()
                || address.is_unspecified();
            prop_assert!(!special || classify(IpAddr::V6(address)).is_some());
            let global = address.segments()[0] & 0xe000 == 0x2000;
            prop_assert!(global || classify(IpAddr::V6(address)).is_some() || address.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0] || address.to_canonical().is_ipv4());
        }
    }
}
