//! What a reverse proxy says of a call: who calls, and under which scheme, host and prefix.
//!
//! Anybody can write `X-Forwarded-*` headers. They are read only if the connection comes from an address in `trusted_proxies`, and then:
//!
//! * of a list, the entry at the right end counts, which the nearest proxy has written; in `X-Forwarded-For`, the first from the right that is not
//!   itself a trusted proxy;
//! * they say under which name the *proxy* was called and never excuse the `Host` header (see [`super::origin`]): a trusted address is no proof. What
//!   a browser on the proxy's machine sends comes from the same address, and a page may add such headers to requests to its own server, which a
//!   node on loopback is for a page with a rebound name. What a page cannot write is `Host` and `Origin`;
//! * no access depends on the address found here. It is for the log and the limits of rate.
//!
//! A proxy that is trusted should set all of them, or take them out of what it passes on: `docs/proxies` shows how.

use std::io;
use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::{Extension, Router};

use crate::addresses::AddressRange;

/// The other end of the connection that a request came on.
#[derive(Clone, Copy, Debug)]
struct Connected(IpAddr);

/// The service for one connection: its requests know where they come from.
pub(crate) fn connected(router: Router, other_end: io::Result<SocketAddr>) -> Router {
    match other_end {
        Ok(address) => router.layer(Extension(Connected(address.ip().to_canonical()))),
        // It is gone already. Nobody is trusted.
        Err(_) => router,
    }
}

/// See the [module](self). Members are `None` where nobody who is trusted has said anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Forwarded<'a> {
    /// Who calls, as far as it can be known.
    pub(super) caller: Option<IpAddr>,
    /// `http` or `https`.
    pub(super) scheme: Option<&'static str>,
    /// Host and perhaps port under which the proxy was called; not checked in any way.
    pub(super) authority: Option<&'a str>,
    /// What the proxy has taken off the path's beginning; not checked in any way.
    pub(super) prefix: Option<&'a str>,
}

impl Forwarded<'_> {
    /// What is known of a request.
    pub(super) fn read<'a>(parts: &'a Parts, trusted: &[AddressRange]) -> Forwarded<'a> {
        let is_trusted = |address: IpAddr| trusted.iter().any(|range| range.contains(address));
        let Some(&Connected(other_end)) = parts.extensions.get::<Connected>() else {
            return Forwarded::default();
        };
        if !is_trusted(other_end) {
            return Forwarded {
                caller: Some(other_end),
                ..Forwarded::default()
            };
        }
        let headers = &parts.headers;
        let mut caller = other_end;
        for entry in from_the_right(headers, "x-forwarded-for") {
            let Some(address) = address(entry) else { break };
            caller = address;
            if !is_trusted(address) {
                break;
            }
        }
        let last = |name| from_the_right(headers, name).next().filter(|entry| !entry.is_empty());
        Forwarded {
            caller: Some(caller),
            scheme: last("x-forwarded-proto").and_then(scheme),
            authority: last("x-forwarded-host"),
            prefix: last("x-forwarded-prefix"),
        }
    }
}

/// The entries of a list that may be spread over several headers. What is no text is an entry that is nothing.
fn from_the_right<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a str> {
    let lists: Vec<&str> = headers
        .get_all(name)
        .iter()
        .map(|value| value.to_str().unwrap_or("?"))
        .collect();
    lists.into_iter().rev().flat_map(|list| list.rsplit(',')).map(str::trim)
}

fn scheme(text: &str) -> Option<&'static str> {
    ["https", "http"]
        .into_iter()
        .find(|known| text.eq_ignore_ascii_case(known))
}

/// An address, which some proxies write with a port or in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let found = bare.parse::<IpAddr>().ok().or_else(with_port)?;
    Some(found.to_canonical())
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::http::Request;

    use super::*;

    /// A request for `uri` that comes from `from` with these headers.
    pub(in crate::api) fn request(uri: &str, from: &str, headers: &[(&'static str, &str)]) -> Parts {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        parts.extensions.insert(Connected(from.parse().unwrap()));
        parts
    }

    fn trusted() -> Vec<AddressRange> {
        ["127.0.0.1", "10.0.0.0/8"].map(|text| text.parse().unwrap()).to_vec()
    }

    const ALL: [(&str, &str); 4] = [
        ("x-forwarded-for", "192.0.2.7"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "node.example"),
        ("x-forwarded-prefix", "/public1"),
    ];

    #[test]
    fn strangers_are_not_believed() {
        for from in ["127.0.0.2", "192.0.2.1", "::1", "11.0.0.1"] {
            let parts = request("/", from, &ALL);
            let expected = Forwarded {
                caller: Some(from.parse().unwrap()),
                ..Forwarded::default()
            };
            assert_eq!(Forwarded::read(&parts, &trusted()), expected);
        }
        assert_eq!(Forwarded::read(&request("/", "127.0.0.1", &ALL), &[]).authority, None);
        // A connection whose other end is not known.
        let (parts, ()) = Request::builder()
            .header(ALL[2].0, ALL[2].1)
            .body(())
            .unwrap()
            .into_parts();
        assert_eq!(Forwarded::read(&parts, &trusted()), Forwarded::default());
    }

    #[test]
    fn trusted_proxies_are() {
        let said = Forwarded {
            caller: Some("192.0.2.7".parse().unwrap()),
            scheme: Some("https"),
            authority: Some("node.example"),
            prefix: Some("/public1"),
        };
        for from in ["127.0.0.1", "10.1.2.3"] {
            assert_eq!(Forwarded::read(&request("/", from, &ALL), &trusted()), said);
        }
        let nothing = request(
            "/",
            "10.1.2.3",
            &[("x-forwarded-host", " "), ("x-forwarded-proto", "gopher")],
        );
        let expected = Forwarded {
            caller: Some("10.1.2.3".parse().unwrap()),
            ..Forwarded::default()
        };
        assert_eq!(Forwarded::read(&nothing, &trusted()), expected);
    }

    #[test]
    fn the_nearest_proxy_has_the_last_word() {
        let twice = [
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-host", "a.example, node.example "),
        ];
        let parts = request("/", "127.0.0.1", &twice);
        assert_eq!(Forwarded::read(&parts, &trusted()).authority, Some("node.example"));
        let proto = request("/", "127.0.0.1", &[("x-forwarded-proto", "https, HTTP")]);
        assert_eq!(Forwarded::read(&proto, &trusted()).scheme, Some("http"));
    }

    #[test]
    fn the_caller_is_the_first_from_the_right_who_is_no_proxy() {
        for (list, caller) in [
            ("192.0.2.7", "192.0.2.7"),
            ("198.51.100.1, 192.0.2.7, 10.0.0.9", "192.0.2.7"),
            ("10.0.0.8, 10.0.0.9", "10.0.0.8"),
            ("192.0.2.7, unknown, 10.0.0.9", "10.0.0.9"),
            ("192.0.2.7:4711", "192.0.2.7"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("\u{fc}", "127.0.0.1"),
            ("", "127.0.0.1"),
        ] {
            let parts = request("/", "127.0.0.1", &[("x-forwarded-for", list)]);
            let found = Forwarded::read(&parts, &trusted()).caller.unwrap();
            assert_eq!(found, caller.parse::<IpAddr>().unwrap(), "{list}");
        }
    }
}
