//! The address of a node: an `http` or `https` base URL in one normal form, so that two spellings of one node compare equal.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use axum::http::Uri;
use serde::{Deserialize, Serialize};

/// Longest URL that is taken, in bytes.
pub const MAX_URL: usize = 512;

/// The base URL of a node, normalised.
///
/// Scheme and host are lower case, the default port is dropped, doubled and trailing slashes are gone. There is no
/// user information, query, fragment, escape or dot segment, so no two different normal forms reach the same place by spelling alone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeUrl(String);

/// Why a text is not the URL of a node. The texts complete "the node URL …".
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UrlError {
    /// More than [`MAX_URL`] bytes.
    #[error("the node URL is longer than {MAX_URL} bytes")]
    TooLong,
    /// Spaces, control characters, backslashes, percent escapes or anything outside ASCII.
    #[error(
        "the node URL contains a character that is not allowed (plain ASCII without spaces or '%' only), expected something like https://node.example.org/public1"
    )]
    Character,
    /// Neither `http://` nor `https://`.
    #[error("the node URL must begin with https:// or http://, for example https://node.example.org/public1")]
    Scheme,
    /// `user:password@`.
    #[error("the node URL must not contain a user name or password, write https://node.example.org/public1")]
    UserInfo,
    /// `?…` or `#…`.
    #[error("the node URL must not contain '?' or '#', write https://node.example.org/public1")]
    QueryOrFragment,
    /// No host, or not a host name or address.
    #[error(
        "the node URL has no valid host, expected something like https://node.example.org or http://127.0.0.1:8000 or http://[::1]:8000"
    )]
    Host,
    /// Port missing after the colon, zero or above 65535.
    #[error("the port of the node URL must be a number from 1 to 65535, for example http://127.0.0.1:8000")]
    Port,
    /// `.` or `..` as a path segment.
    #[error(
        "the node URL must not contain the path segments '.' or '..', write the path out: https://node.example.org/public1"
    )]
    DotSegment,
}

impl NodeUrl {
    /// Parses and normalises.
    ///
    /// # Errors
    /// [`UrlError`] says what is wrong and shows a URL that would do.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        if text.len() > MAX_URL {
            return Err(UrlError::TooLong);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let (scheme, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => ("http", 80),
            "https" => ("https", 443),
            _ => return Err(UrlError::Scheme),
        };
        if rest.contains(['?', '#']) {
            return Err(UrlError::QueryOrFragment);
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(UrlError::UserInfo);
        }
        let (host, port) = split_port(authority)?;
        let host = normal_host(host)?;
        let port = match port {
            Some(text) => parse_port(text)?,
            None => default_port,
        };
        let mut url = format!("{scheme}://{host}");
        if port != default_port {
            url.push_str(&format!(":{port}"));
        }
        for segment in path.split('/').filter(|segment| !segment.is_empty()) {
            if segment == "." || segment == ".." {
                return Err(UrlError::DotSegment);
            }
            if !segment.bytes().all(is_path_byte) {
                return Err(UrlError::Character);
            }
            url.push('/');
            url.push_str(segment);
        }
        // What is dialled later is parsed by the `http` crate: it must see the same host.
        let uri: Uri = url.parse().map_err(|_| UrlError::Host)?;
        if uri.host() != Some(&host) {
            return Err(UrlError::Host);
        }
        Ok(Self(url))
    }

    /// The normal form, without a trailing slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &str {
        if self.is_tls() { "https" } else { "http" }
    }

    /// Whether the URL is `https`.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.0.starts_with("https:")
    }

    /// Host and, unless it is the scheme's default, port: what a `Host` header carries.
    #[must_use]
    pub fn authority(&self) -> &str {
        let rest = self.after_scheme();
        &rest[..rest.find('/').unwrap_or(rest.len())]
    }

    /// The host, lower case; an IPv6 address in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        let authority = self.authority();
        match authority.rfind(':') {
            Some(at) if !authority[at..].contains(']') => &authority[..at],
            _ => authority,
        }
    }

    /// The port, the scheme's default if none is written.
    #[must_use]
    pub fn port(&self) -> u16 {
        let written = self.authority()[self.host().len()..].strip_prefix(':');
        let default = if self.is_tls() { 443 } else { 80 };
        written.and_then(|text| text.parse().ok()).unwrap_or(default)
    }

    /// The base path: empty, or `/public1` and the like, never with a trailing slash.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.after_scheme()[self.authority().len()..]
    }

    /// Whether the host is this machine by its spelling: `localhost`, 127.0.0.0/8 or `[::1]`. Names are not looked up.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || bare.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
            || bare.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// The server alone, without a path.
    #[must_use]
    pub fn server(&self) -> NodeUrl {
        Self(format!("{}://{}", self.scheme(), self.authority()))
    }

    /// Whether this URL is `prefix` or lies below it: whole hosts and whole path segments only.
    #[must_use]
    pub fn is_under(&self, prefix: &NodeUrl) -> bool {
        self.0
            .strip_prefix(&prefix.0)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn after_scheme(&self) -> &str {
        let scheme = if self.is_tls() { "https://" } else { "http://" };
        &self.0[scheme.len()..]
    }
}

impl fmt::Display for NodeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for NodeUrl {
    type Err = UrlError;
    fn from_str(text: &str) -> Result<Self, UrlError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for NodeUrl {
    type Error = UrlError;
    fn try_from(text: String) -> Result<Self, UrlError> {
        Self::parse(&text)
    }
}

impl From<NodeUrl> for String {
    fn from(url: NodeUrl) -> Self {
        url.0
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<&str>), UrlError> {
    if authority.starts_with('[') {
        let end = authority.find(']').ok_or(UrlError::Host)? + 1;
        let (host, rest) = authority.split_at(end);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(UrlError::Host),
        };
    }
    Ok(match authority.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    })
}

fn normal_host(host: &str) -> Result<String, UrlError> {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let ip: Ipv6Addr = inner.parse().map_err(|_| UrlError::Host)?;
        return Ok(format!("[{ip}]"));
    }
    if !host.is_ascii() || host.contains(['%', '\\', ' ']) {
        return Err(UrlError::Character);
    }
    let host = host.to_ascii_lowercase();
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if host.len() > 253 || !host.split('.').all(is_label) {
        return Err(UrlError::Host);
    }
    // Resolvers read 127.1 or 0x7f000001 as IPv4 addresses: only the ordinary spelling passes, so that policy sees what is dialled.
    let last = host.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
    if numeric && host.parse::<Ipv4Addr>().is_err() {
        return Err(UrlError::Host);
    }
    Ok(host)
}

fn parse_port(text: &str) -> Result<u16, UrlError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(port) if digits && port != 0 => Ok(port),
        _ => Err(UrlError::Port),
    }
}

fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+,=:!$&*".contains(&byte)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spellings_of_one_node_are_equal() {
        for (text, normal) in [
            ("HTTP://Node.Example.ORG", "http://node.example.org"),
            ("http://node.example.org:80/", "http://node.example.org"),
            (
                "https://node.example.org:443//public1///",
                "https://node.example.org/public1",
            ),
            ("https://node.example.org:80/a//b/", "https://node.example.org:80/a/b"),
            ("http://127.0.0.1:08000/Public1", "http://127.0.0.1:8000/Public1"),
            ("http://[0:0::1]:9000/x", "http://[::1]:9000/x"),
            (" http://localhost ", "http://localhost"),
        ] {
            assert_eq!(NodeUrl::parse(text).unwrap().as_str(), normal, "{text}");
        }
    }

    #[test]
    fn parts() {
        let url = NodeUrl::parse("https://[::1]:9000/a/b/").unwrap();
        assert_eq!(
            (url.scheme(), url.host(), url.port(), url.path()),
            ("https", "[::1]", 9000, "/a/b")
        );
        assert_eq!(url.authority(), "[::1]:9000");
        assert_eq!(url.server().as_str(), "https://[::1]:9000");
        let url = NodeUrl::parse("http://[::1]").unwrap();
        assert_eq!(
            (url.scheme(), url.host(), url.port(), url.path()),
            ("http", "[::1]", 80, "")
        );
        let url = NodeUrl::parse("http://h:81").unwrap();
        assert_eq!((url.host(), url.port(), url.path(), url.is_tls()), ("h", 81, "", false));
    }

    #[test]
    fn loopback_by_spelling_only() {
        for text in ["http://localhost:1", "http://127.8.9.1", "http://[::1]:5/x"] {
            assert!(NodeUrl::parse(text).unwrap().is_loopback(), "{text}");
        }
        for text in [
            "http://localhost.example.org",
            "http://128.0.0.1",
            "http://[::2]",
            "http://127.0.0.1.example.org",
        ] {
            assert!(!NodeUrl::parse(text).unwrap().is_loopback(), "{text}");
        }
    }

    #[test]
    fn prefixes_end_at_a_boundary() {
        let prefix = NodeUrl::parse("https://a.example/x").unwrap();
        let under = |text: &str| NodeUrl::parse(text).unwrap().is_under(&prefix);
        assert!(under("https://a.example/x") && under("https://a.example/x/y"));
        assert!(!under("https://a.example/xy") && !under("https://a.example") && !under("http://a.example/x"));
        let host = NodeUrl::parse("https://a.example").unwrap();
        assert!(!NodeUrl::parse("https://a.example.evil.org").unwrap().is_under(&host));
        assert!(!NodeUrl::parse("https://a.example:8443").unwrap().is_under(&host));
    }

    #[test]
    fn refusals_name_the_fault() {
        for (text, error) in [
            ("ftp://h", UrlError::Scheme),
            ("h:8000", UrlError::Scheme),
            ("", UrlError::Scheme),
            ("http://", UrlError::Host),
            ("http:///x", UrlError::Host),
            ("http://u:p@h", UrlError::UserInfo),
            ("http://h/?q", UrlError::QueryOrFragment),
            ("http://h#f", UrlError::QueryOrFragment),
            ("http://h/a/../b", UrlError::DotSegment),
            ("http://h/./b", UrlError::DotSegment),
            ("http://h/%2e%2e/b", UrlError::Character),
            ("http://h/a b", UrlError::Character),
            ("http://h/a\\b", UrlError::Character),
            ("http://h\u{e9}", UrlError::Character),
            ("http://h/\u{e9}", UrlError::Character),
            ("http://h:", UrlError::Port),
            ("http://h:0", UrlError::Port),
            ("http://h:65536", UrlError::Port),
            ("http://h:+80", UrlError::Port),
            ("http://::1", UrlError::Host),
            ("http://[::1", UrlError::Host),
            ("http://[::1]x", UrlError::Host),
            ("http://127.1", UrlError::Host),
            ("http://2130706433", UrlError::Host),
            ("http://0x7f000001", UrlError::Host),
            ("http://0x7f.1", UrlError::Host),
            ("http://0x7f.0.0.0x1", UrlError::Host),
            ("http://127.0.0.0x1", UrlError::Host),
            ("http://0177.0.0.1", UrlError::Host),
            ("http://017700000001", UrlError::Host),
            ("http://127.0.01", UrlError::Host),
            ("http://127.0.0.01", UrlError::Host),
            ("http://1.2.3.4.5", UrlError::Host),
            ("http://256.0.0.1", UrlError::Host),
            ("http://0", UrlError::Host),
            ("http://localhost.", UrlError::Host),
            ("http://127.0.0.1.", UrlError::Host),
            ("http://[::ffff:127.0.0.1%25lo]", UrlError::Host),
            ("http://[fe80::1%eth0]", UrlError::Host),
            ("http://a..b", UrlError::Host),
            ("http://a.b.", UrlError::Host),
        ] {
            assert_eq!(NodeUrl::parse(text), Err(error), "{text}");
        }
        let long = format!("http://h/{}", "a".repeat(MAX_URL));
        assert_eq!(NodeUrl::parse(&long), Err(UrlError::TooLong));
    }

    #[test]
    fn serde_is_the_text() {
        let url: NodeUrl = serde_json::from_str("\"HTTP://H/\"").unwrap();
        assert_eq!(serde_json::to_string(&url).unwrap(), "\"http://h\"");
        assert!(serde_json::from_str::<NodeUrl>("\"gopher://h\"").is_err());
    }

    proptest! {
        #[test]
        fn normal_forms_are_fixed_points(text in "(?i:https?)://[a-zA-Z0-9.:\\[\\]-]{0,20}[/a-zA-Z0-9.%~]{0,20}") {
            if let Ok(url) = NodeUrl::parse(&text) {
                prop_assert_eq!(NodeUrl::parse(url.as_str()).unwrap(), url.clone());
                let port = if url.authority() == url.host() { String::new() } else { format!(":{}", url.port()) };
                prop_assert_eq!(format!("{}://{}{}{}", url.scheme(), url.host(), port, url.path()), url.as_str());
            }
        }

        #[test]
        fn any_text_is_survived(text in ".{0,60}") {
            let _ = NodeUrl::parse(&text);
            let _ = NodeUrl::parse(&format!("http://{text}"));
        }
    }
}
