//! Ranges of addresses, such as those of trusted proxies.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::Deserialize;
use thiserror::Error;

/// One address, or a range in the notation `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct AddressRange {
    first: IpAddr,
    prefix: u32,
}

/// Why a text is not a range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RangeError {
    /// Neither an address nor a range of them.
    #[error(
        "an address such as 127.0.0.1, or a range such as 10.0.0.0/8 or fd00::/8, is needed; names are not looked up"
    )]
    Unreadable,
    /// The address has bits beyond the prefix: one of the two is a mistake.
    #[error("{0} is not the first address of its range; write {1}")]
    NotFirst(String, AddressRange),
    /// All addresses there are.
    #[error("this range holds all addresses, and so would trust everybody")]
    Everybody,
}

impl AddressRange {
    /// Whether `address` lies in it. An IPv4 address is the same one when it comes in an IPv6 socket.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && bits(address) & self.mask() == bits(self.first)
    }

    /// Whether it holds one address only.
    pub(crate) fn is_single(&self) -> bool {
        self.prefix == width(self.first)
    }

    /// The bits of an address that the range fixes. IPv4 addresses fill the lower 32 bits.
    fn mask(&self) -> u128 {
        let width = width(self.first);
        let all = u128::MAX >> (128 - width);
        all & !all.checked_shr(self.prefix).unwrap_or(0)
    }
}

impl FromStr for AddressRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<AddressRange, RangeError> {
        let (address, prefix) = match text.trim().split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text.trim(), None),
        };
        let given: IpAddr = address.parse().map_err(|_| RangeError::Unreadable)?;
        let prefix = match prefix {
            Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| RangeError::Unreadable)?
            }
            Some(_) => return Err(RangeError::Unreadable),
            None => width(given),
        };
        if prefix > width(given) {
            return Err(RangeError::Unreadable);
        }
        if prefix == 0 {
            return Err(RangeError::Everybody);
        }
        let mut range = AddressRange { first: given, prefix };
        let first = bits(given) & range.mask();
        range.first = match given {
            // The upper bits of an IPv4 address are zero, those of the mask as well.
            IpAddr::V4(_) => IpAddr::V4(u32::try_from(first).unwrap_or_default().into()),
            IpAddr::V6(_) => IpAddr::V6(first.into()),
        };
        if range.first != given {
            return Err(RangeError::NotFirst(text.trim().to_owned(), range));
        }
        Ok(range)
    }
}

impl TryFrom<String> for AddressRange {
    type Error = RangeError;
    fn try_from(text: String) -> Result<AddressRange, RangeError> {
        text.parse()
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == width(self.first) {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}/{}", self.first, self.prefix)
        }
    }
}

fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn range(text: &str) -> Result<AddressRange, RangeError> {
        text.parse()
    }

    #[test]
    fn ranges_hold_what_their_prefix_says() {
        for (text, inside, outside) in [
            (
                "127.0.0.1",
                &["127.0.0.1", "::ffff:127.0.0.1"][..],
                &["127.0.0.2", "::1", "::7f00:1"][..],
            ),
            (
                "10.0.0.0/8",
                &["10.0.0.0", "10.255.255.255"],
                &["9.255.255.255", "11.0.0.0", "::10.0.0.1"],
            ),
            ("192.168.4.0/22", &["192.168.7.255"], &["192.168.8.0", "192.168.3.255"]),
            ("128.0.0.0/1", &["255.255.255.255", "128.0.0.0"], &["127.255.255.255"]),
            ("::1", &["::1"], &["::2", "127.0.0.1", "0.0.0.1"]),
            ("fd00::/8", &["fd00::1", "fdff::"], &["fe00::", "253.0.0.1"]),
            ("2001:db8::8/127", &["2001:db8::8", "2001:db8::9"], &["2001:db8::a"]),
        ] {
            let parsed = range(text).unwrap();
            assert_eq!(parsed.to_string(), text);
            for address in inside {
                assert!(parsed.contains(address.parse().unwrap()), "{address} is in {text}");
            }
            for address in outside {
                assert!(!parsed.contains(address.parse().unwrap()), "{address} is not in {text}");
            }
        }
        assert_eq!(range(" 10.0.0.0/08 "), range("10.0.0.0/8"));
        assert_eq!(range("10.1.2.3/32"), range("10.1.2.3"));
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in [
            "",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "localhost",
            "10.0.0.1:80",
            "10.0.0.0/99999999999",
            "[::1]",
        ] {
            assert_eq!(range(text), Err(RangeError::Unreadable), "{text}");
        }
        for text in ["0.0.0.0/0", "::/0", "1.2.3.4/0"] {
            assert_eq!(range(text), Err(RangeError::Everybody), "{text}");
        }
        for (text, meant) in [("10.1.0.0/8", "write 10.0.0.0/8"), ("fd00::1/8", "write fd00::/8")] {
            assert!(range(text).unwrap_err().to_string().ends_with(meant), "{text}");
        }
    }
}
