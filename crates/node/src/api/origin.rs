//! Calls from web pages. A browser on the same machine or in the same network reaches nodes that the rest of the world does not, and any page may
//! have it send requests there.
//!
//! * What changes something, or opens a connection between nodes, is refused if it comes from a page of an origin that is not configured. Browsers
//!   tell the origin with all such requests; other clients do not have one. (CORS only keeps pages from reading answers, and WebSockets know no CORS.)
//! * A node that listens on this machine only answers under names of this machine, addresses and its configured URLs. Otherwise a page could give
//!   its own name the address of this machine (DNS rebinding), and to the browser the node would be the page's own server.

use std::net::IpAddr;

use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};

use crate::config::Config;
use crate::problem::{Problem, quoted};

/// Refuses what a page of a stranger may have sent; `page` is the path below the node's base path.
pub(super) fn check(config: &Config, parts: &Parts, page: &str) -> Result<(), Problem> {
    let name = text(&parts.headers, header::HOST).map(host_of);
    if let Some(name) = name
        && config.listen.ip().is_loopback()
        && !is_own(config, name)
    {
        return Err(Problem::policy(
            "HOST_UNKNOWN",
            format!(
                "this node listens on its own machine only and is not known as {}",
                quoted(name)
            ),
            "use 127.0.0.1 or localhost; behind a proxy, set public_url in the node's configuration",
        ));
    }
    let Some(origin) = text(&parts.headers, header::ORIGIN) else {
        return Ok(());
    };
    let changes = matches!(parts.method, Method::PUT | Method::POST);
    if page != "/peer" && (!changes || is_allowed(config, origin, &parts.headers)) {
        return Ok(());
    }
    Err(Problem::policy(
        "ORIGIN_REFUSED",
        format!("web pages of {} may not call this node", quoted(origin)),
        "the node's operator can name their origin in cors_origins; connections between nodes are not for pages at all",
    ))
}

fn is_allowed(config: &Config, origin: &str, headers: &HeaderMap) -> bool {
    let configured = config
        .cors_origins
        .iter()
        .any(|allowed| allowed == "*" || allowed == origin);
    let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
    // A page of this very server, under a name that nobody else can give it.
    let same = !authority.is_empty() && text(headers, header::HOST) == Some(authority);
    configured || (same && is_own(config, host_of(authority)))
}

/// Whether no stranger can have the name `host` lead here. Addresses are no names.
fn is_own(config: &Config, host: &str) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok()
        || config
            .public_url
            .iter()
            .any(|url| url.host().eq_ignore_ascii_case(host))
}

/// A header's text; what is no text is nobody's name.
fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

/// `host` of `host:port`; IPv6 addresses keep their brackets.
fn host_of(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(at) if !authority[at..].contains(']') => &authority[..at],
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::http::Request;

    use super::*;
    use crate::url::NodeUrl;

    fn config() -> Config {
        Config {
            public_url: vec![NodeUrl::parse("https://node.example/public1").unwrap()],
            cors_origins: vec!["https://app.example".to_owned()],
            ..Config::default()
        }
    }

    fn asked(config: &Config, method: Method, page: &str, host: &str, origin: Option<&str>) -> Option<&'static str> {
        let mut request = Request::builder().method(method).header(header::HOST, host);
        if let Some(origin) = origin {
            request = request.header(header::ORIGIN, origin);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        check(config, &parts, page).err().map(|problem| problem.code)
    }

    #[test]
    fn a_rebound_name_is_not_this_node() {
        let own = [
            "127.0.0.1:55500",
            "localhost",
            "LOCALHOST:1",
            "[::1]:55500",
            "192.168.0.7",
            "node.example",
            "Node.Example:443",
        ];
        let others = [
            "evil.example:55500",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "node.example.evil",
            "",
            "?",
            "[evil",
        ];
        let open = Config {
            listen: "0.0.0.0:55500".parse().unwrap(),
            ..config()
        };
        for (hosts, answer) in [(&own[..], None), (&others[..], Some("HOST_UNKNOWN"))] {
            for host in hosts {
                for method in [Method::GET, Method::POST] {
                    assert_eq!(asked(&config(), method.clone(), "", host, None), answer, "{host}");
                    // Who listens to others has names that are not known here.
                    assert_eq!(asked(&open, method, "", host, None), None, "{host}");
                }
            }
        }
    }

    #[test]
    fn pages_of_strangers_change_nothing() {
        let host = "127.0.0.1:55500";
        let allowed = ["https://app.example", "http://127.0.0.1:55500"];
        let refused = [
            "https://evil.example",
            "http://app.example",
            "https://app.example.evil",
            "http://127.0.0.1:3000",
            "http://localhost:55500",
            "null",
            "",
            "://",
        ];
        for (origins, answer) in [(&allowed[..], None), (&refused[..], Some("ORIGIN_REFUSED"))] {
            for origin in origins {
                for method in [Method::PUT, Method::POST] {
                    assert_eq!(asked(&config(), method, "", host, Some(origin)), answer, "{origin}");
                }
                // What only reads is left to CORS, which keeps the answer from the page.
                assert_eq!(asked(&config(), Method::GET, "/tasks", host, Some(origin)), None);
                assert_eq!(
                    asked(&config(), Method::GET, "/peer", host, Some(origin)),
                    Some("ORIGIN_REFUSED")
                );
            }
        }
        assert_eq!(
            asked(&config(), Method::GET, "/peer", host, None),
            None,
            "nodes have no origin"
        );
        // To the browser, a page under a rebound name is of the node's own origin.
        let open = Config {
            listen: "0.0.0.0:55500".parse().unwrap(),
            ..config()
        };
        let rebound = asked(
            &open,
            Method::POST,
            "",
            "evil.example:55500",
            Some("http://evil.example:55500"),
        );
        assert_eq!(rebound, Some("ORIGIN_REFUSED"));
        let own = asked(&open, Method::POST, "", "node.example", Some("https://node.example"));
        assert_eq!(own, None);
        let any = Config {
            cors_origins: vec!["*".to_owned()],
            ..config()
        };
        assert_eq!(asked(&any, Method::POST, "", host, Some("https://evil.example")), None);
    }
}
