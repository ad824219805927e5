//! Calls from web pages. A browser on the same machine or in the same network reaches nodes that the rest of the world does not, and any page may
//! have it send requests there.
//!
//! * What changes something, or opens a connection between nodes, is refused if it comes from a page of an origin that is not configured. Browsers
//!   tell the origin with all such requests; other clients do not have one. (CORS only keeps pages from reading answers, and WebSockets know no CORS.)
//! * A node that listens on this machine only answers under names of this machine, addresses and its configured URLs. Otherwise a page could give
//!   its own name the address of this machine (DNS rebinding), and to the browser the node would be the page's own server.
//!
//! Behind a proxy the caller's host may stand in `X-Forwarded-Host`. A page that rebinds its name can send that header too, and comes from
//! 127.0.0.1 as a proxy on this machine does; what it cannot do is change `Host` and `Origin`, which browsers write. So
//!
//! * the forwarded host is checked *beside* `Host`, never instead of it: it can only have a request refused that would have passed;
//! * it makes a page one of this very server only if it is the host of a configured `public_url`. A page of another program on this machine, of
//!   `http://localhost:3000` say, must not become one by naming itself in a header.

use std::net::IpAddr;

use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderValue, Method, header};

use super::Forwarded;
use super::routes::ROUTES;
use crate::config::Config;
use crate::problem::{Problem, quoted};
use crate::url::NodeUrl;

/// Refuses what a page of a stranger may have sent; `page` is the path below the node's base path.
pub(super) fn check(config: &Config, parts: &Parts, forwarded: &Forwarded<'_>, page: &str) -> Result<(), Problem> {
    let mut names = asked_for(parts).chain(forwarded.authority);
    if config.listen.ip().is_loopback()
        && let Some(name) = names.find(|name| !is_own(config, host_of(name)))
    {
        return Err(host_unknown(config, forwarded, name, page));
    }
    let Some(origin) = parts.headers.get(header::ORIGIN).map(text) else {
        return Ok(());
    };
    let changes = !matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    if page != "/peer" && (!changes || is_allowed(config, origin, parts, forwarded)) {
        return Ok(());
    }
    Err(Problem::policy(
        "ORIGIN_REFUSED",
        format!("web pages of {} may not call this node", quoted(origin)),
        "the node's operator can name their origin in cors_origins; connections between nodes are not for pages at all",
    ))
}

/// The names under which this server was asked, with their ports; HTTP/2 has one in place of the `Host` header.
pub(super) fn asked_for(parts: &Parts) -> impl Iterator<Item = &str> {
    let hosts = parts.headers.get_all(header::HOST).iter().map(text);
    parts.uri.authority().map(Authority::as_str).into_iter().chain(hosts)
}

/// `host` of `host:port`; IPv6 addresses keep their brackets.
pub(super) fn host_of(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(at) if !authority[at..].contains(']') => &authority[..at],
        _ => authority,
    }
}

fn host_unknown(config: &Config, forwarded: &Forwarded<'_>, name: &str, page: &str) -> Problem {
    let message = format!(
        "this node listens on its own machine only and is not known as {}",
        quoted(host_of(name))
    );
    // What came before the page, and what the proxy says it has taken off.
    let base = match config.base_path.as_str() {
        "" => ROUTES
            .iter()
            .filter(|route| route.path != "/")
            .find_map(|route| page.strip_suffix(route.path))
            .unwrap_or(page),
        base_path => base_path,
    };
    let prefix = forwarded
        .prefix
        .filter(|prefix| !base.starts_with(prefix))
        .unwrap_or("");
    let path = format!("{prefix}{base}");
    let asked = |scheme: &str| NodeUrl::parse(&format!("{scheme}://{name}{path}")).ok();
    let advice = match (forwarded.scheme, asked(forwarded.scheme.unwrap_or("https"))) {
        (_, None) => "set public_url in the node's configuration".to_owned(),
        (Some(_), Some(url)) => write_url(config, &url),
        (None, Some(url)) => format!(
            "{} (or with http://, if that is what the proxy speaks)",
            write_url(config, &url)
        ),
    };
    let hint = format!("use 127.0.0.1 or localhost; if this is the name of a proxy in front, {advice}");
    Problem::policy("HOST_UNKNOWN", message, hint)
}

/// The line that makes `url` known. URLs that are configured already are not shown to somebody who may be a page of a stranger.
fn write_url(config: &Config, url: &NodeUrl) -> String {
    if config.public_url.is_empty() {
        format!("write in the node's configuration: public_url = [\"{url}\"]")
    } else {
        format!("add \"{url}\" to public_url in the node's configuration")
    }
}

fn is_allowed(config: &Config, origin: &str, parts: &Parts, forwarded: &Forwarded<'_>) -> bool {
    let configured = config
        .cors_origins
        .iter()
        .any(|allowed| allowed == "*" || allowed == origin);
    configured || is_same(config, origin, parts, forwarded)
}

/// Whether it is a page of this very server, under a name that nobody else can give it.
fn is_same(config: &Config, origin: &str, parts: &Parts, forwarded: &Forwarded<'_>) -> bool {
    let Ok(origin) = NodeUrl::parse(origin) else {
        return false;
    };
    let is_this = |scheme: &str, authority: &str| {
        NodeUrl::parse(&format!("{scheme}://{authority}")).is_ok_and(|asked| asked == origin)
    };
    if let Some(authority) = forwarded.authority {
        let scheme = forwarded.scheme.unwrap_or(origin.scheme());
        return is_this(scheme, authority) && is_public(config, origin.host());
    }
    // Without TLS, anybody on the way can put a page under the name of a node that has it.
    let mut known = config
        .public_url
        .iter()
        .filter(|url| url.authority() == origin.authority())
        .peekable();
    let scheme_fits = match forwarded.scheme {
        Some(scheme) => scheme == origin.scheme(),
        None => known.peek().is_none() || known.any(|url| url.scheme() == origin.scheme()),
    };
    let mut names = asked_for(parts).peekable();
    let asked = names.peek().is_some() && names.all(|name| is_this(origin.scheme(), name));
    scheme_fits && asked && is_own(config, origin.host())
}

/// Whether no stranger can have the name `host` lead here. Addresses are no names.
fn is_own(config: &Config, host: &str) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok() || is_public(config, host)
}

fn is_public(config: &Config, host: &str) -> bool {
    config
        .public_url
        .iter()
        .any(|url| url.host().eq_ignore_ascii_case(host))
}

/// A header's text; what is no text is nobody's name.
fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or("?")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::http::Request;

    use super::super::forwarded::tests::request;
    use super::*;

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
        check(config, &parts, &Forwarded::default(), page)
            .err()
            .map(|problem| problem.code)
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
                for method in [Method::PUT, Method::POST, Method::DELETE] {
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

    /// The answer to a `POST` through a proxy on 127.0.0.1; `host` and what the proxy says.
    fn through_proxy(
        config: &Config,
        host: &str,
        origin: Option<&str>,
        said: &[(&'static str, &str)],
    ) -> Option<Problem> {
        let mut headers = vec![("host", host)];
        headers.extend(origin.map(|origin| ("origin", origin)));
        headers.extend(said);
        let mut parts = request("/", "127.0.0.1", &headers);
        parts.method = Method::POST;
        let forwarded = Forwarded::read(&parts, &config.trusted_proxies);
        check(config, &parts, &forwarded, "").err()
    }

    fn trusting() -> Config {
        Config {
            trusted_proxies: vec!["127.0.0.1".parse().unwrap()],
            ..config()
        }
    }

    #[test]
    fn a_forwarded_host_never_excuses_the_host_that_was_asked_for() {
        let code = |host, forwarded| {
            through_proxy(&trusting(), host, None, &[("x-forwarded-host", forwarded)]).map(|problem| problem.code)
        };
        // A page with a rebound name, which knows what to write.
        assert_eq!(code("evil.example:55500", "node.example"), Some("HOST_UNKNOWN"));
        assert_eq!(code("evil.example:55500", "127.0.0.1:55500"), Some("HOST_UNKNOWN"));
        // A proxy that was itself called under a rebound name.
        assert_eq!(code("127.0.0.1:55500", "evil.example"), Some("HOST_UNKNOWN"));
        assert_eq!(code("127.0.0.1:55500", "node.example:8443"), None);
        assert_eq!(code("node.example", "Node.Example"), None);
    }

    #[test]
    fn two_names_for_one_request_must_both_be_known() {
        let mut parts = request("http://evil.example/", "127.0.0.1", &[("host", "node.example")]);
        let code = |parts: &Parts| {
            check(&config(), parts, &Forwarded::default(), "")
                .err()
                .map(|problem| problem.code)
        };
        assert_eq!(code(&parts), Some("HOST_UNKNOWN"));
        parts = request("https://node.example/", "127.0.0.1", &[]);
        assert_eq!(code(&parts), None);
        parts = request("/", "127.0.0.1", &[("host", "node.example"), ("host", "evil.example")]);
        assert_eq!(code(&parts), Some("HOST_UNKNOWN"));
    }

    #[test]
    fn a_page_of_the_proxys_own_server_is_known_by_scheme_host_and_port() {
        let code = |origin, said: &[(&'static str, &str)]| {
            through_proxy(&trusting(), "127.0.0.1:55500", Some(origin), said).map(|problem| problem.code)
        };
        let refused = Some("ORIGIN_REFUSED");
        let https = [("x-forwarded-proto", "https"), ("x-forwarded-host", "node.example")];
        assert_eq!(code("https://node.example", &https), None);
        assert_eq!(
            code(
                "https://node.example",
                &[("x-forwarded-proto", "https"), ("x-forwarded-host", "Node.example:443")]
            ),
            None
        );
        assert_eq!(code("http://node.example", &https), refused);
        assert_eq!(code("https://node.example:8443", &https), refused);
        assert_eq!(code("https://evil.example", &https), refused);
        assert_eq!(code("null", &https), refused);
        // Called through the proxy, the name of the machine behind it is another server.
        assert_eq!(code("http://127.0.0.1:55500", &https), refused);
        // Names that every machine has are nobody's public ones.
        assert_eq!(
            code("http://localhost:3000", &[("x-forwarded-host", "localhost:3000")]),
            refused
        );
        assert_eq!(
            code("http://127.0.0.1:3000", &[("x-forwarded-host", "127.0.0.1:3000")]),
            refused
        );
        // Nobody is trusted: the same headers mean nothing.
        let answer = through_proxy(&config(), "127.0.0.1:55500", Some("https://node.example"), &https);
        assert_eq!(answer.map(|problem| problem.code), refused);
    }

    #[test]
    fn a_page_without_tls_is_not_one_of_a_server_with_it() {
        let asked = |origin| asked(&config(), Method::POST, "", "node.example", Some(origin));
        assert_eq!(asked("https://node.example"), None);
        assert_eq!(asked("http://node.example"), Some("ORIGIN_REFUSED"));
    }

    #[test]
    fn the_refusal_of_a_host_shows_the_line_to_write() {
        let hint = |config: &Config, host, said: &[(&'static str, &str)]| {
            through_proxy(config, host, None, said).unwrap().hint
        };
        let new = Config {
            base_path: "/public1".to_owned(),
            public_url: Vec::new(),
            ..trusting()
        };
        let direct = hint(&new, "new.example:8443", &[]);
        assert!(
            direct.contains("public_url = [\"https://new.example:8443/public1\"]"),
            "{direct}"
        );
        let kept = hint(&new, "new.example", &[("x-forwarded-proto", "http")]);
        assert!(
            kept.ends_with("public_url = [\"http://new.example/public1\"]"),
            "{kept}"
        );
        let stripped = Config {
            base_path: String::new(),
            ..new.clone()
        };
        let https = [
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "new.example"),
            ("x-forwarded-prefix", "/public1"),
        ];
        let text = hint(&stripped, "127.0.0.1", &https);
        assert!(
            text.ends_with("public_url = [\"https://new.example/public1\"]"),
            "{text}"
        );
        let more = hint(&trusting(), "new.example", &https[..1]);
        assert!(
            more.ends_with("add \"https://new.example\" to public_url in the node's configuration"),
            "{more}"
        );
        assert!(!more.contains("node.example"));
        // The proxy keeps the prefix, which the node does not know either.
        let parts = request("/", "127.0.0.2", &[("host", "new.example")]);
        let kept = check(&stripped, &parts, &Forwarded::default(), "/public1/identity")
            .unwrap_err()
            .hint;
        assert!(
            kept.contains("public_url = [\"https://new.example/public1\"]"),
            "{kept}"
        );
        let odd = hint(&new, "new example\"", &[]);
        assert!(odd.ends_with("set public_url in the node's configuration"), "{odd}");
    }
}
