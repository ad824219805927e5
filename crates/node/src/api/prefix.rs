//! A request for a path that no node here has: whether a proxy in front keeps or strips a prefix that the node expects otherwise.

use axum::http::request::Parts;

use super::Forwarded;
use super::origin::{asked_for, host_of};
use super::routes::Route;
use crate::config::Config;
use crate::url::NodeUrl;

/// What to change in the node's configuration, if `path` (collapsed) is what is left of one of its own URLs.
pub(super) fn advice(config: &Config, parts: &Parts, path: &str) -> Option<String> {
    let forwarded = Forwarded::read(parts, &config.trusted_proxies);
    let host = forwarded.authority.or_else(|| asked_for(parts).next()).map(host_of)?;
    // Who calls the node directly, under another name, has mistyped the path.
    let through_proxy = config
        .public_url
        .iter()
        .filter(|url| url.host().eq_ignore_ascii_case(host));
    through_proxy.into_iter().find_map(|url| {
        let arrives = arriving(url, path)?;
        let does = if arrives == url.path() { "keeps" } else { "strips" };
        (arrives != config.base_path).then(|| {
            format!(
                "the proxy in front {does} the prefix of {url}, and this node expects {}: set base_path = \"{arrives}\" in its configuration, or have the proxy pass the path as the node expects it",
                if config.base_path.is_empty() { "none" } else { config.base_path.as_str() },
            )
        })
    })
}

/// The longest end of the path of `url` that `path` begins with, if what follows is a page of a node.
fn arriving<'a>(url: &'a NodeUrl, path: &str) -> Option<&'a str> {
    let whole = url.path();
    let ends = whole.match_indices('/').map(|(at, _)| &whole[at..]).chain([""]);
    ends.into_iter().find(|end| {
        path.strip_prefix(*end)
            .is_some_and(|rest| rest.is_empty() || (rest.starts_with('/') && Route::find(rest).is_some()))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::forwarded::tests::request;
    use super::*;

    fn config(base_path: &str, public_url: &str) -> Config {
        Config {
            base_path: base_path.to_owned(),
            public_url: vec![NodeUrl::parse(public_url).unwrap()],
            trusted_proxies: vec!["127.0.0.1".parse().unwrap()],
            ..Config::default()
        }
    }

    fn told(base_path: &str, url: &str, path: &str, host: &str) -> String {
        let headers = [("host", host)];
        advice(&config(base_path, url), &request("/", "127.0.0.1", &headers), path).unwrap_or_default()
    }

    #[test]
    fn a_kept_prefix_is_told_from_a_stripped_one() {
        let url = "https://node.example/x/public1";
        for (base_path, path, does, arrives) in [
            ("", "/x/public1", "keeps", "/x/public1"),
            ("", "/x/public1/identity", "keeps", "/x/public1"),
            ("/public1", "/x/public1/peer", "keeps", "/x/public1"),
            ("/x/public1", "/public1/identity", "strips", "/public1"),
            ("/x/public1", "/identity", "strips", ""),
            ("/x/public1", "", "strips", ""),
        ] {
            let text = told(base_path, url, path, "node.example");
            assert!(
                text.contains(&format!("{does} the prefix")),
                "{base_path} {path}: {text}"
            );
            assert!(
                text.contains(&format!("set base_path = \"{arrives}\"")),
                "{base_path} {path}: {text}"
            );
        }
        for path in ["/public1/else", "/elsewhere", "/x/public1x", "/x"] {
            assert_eq!(told("/node", url, path, "node.example"), "", "{path}");
        }
        assert_eq!(told("", url, "/robots.txt", "node.example"), "");
    }

    #[test]
    fn a_direct_call_is_not_blamed_on_the_proxy() {
        let url = "https://node.example/public1";
        assert_eq!(told("/public1", url, "/identity", "127.0.0.1:55500"), "");
        let through = [("host", "127.0.0.1:55500"), ("x-forwarded-host", "node.example")];
        let parts = request("/identity", "127.0.0.1", &through);
        assert!(advice(&config("/public1", url), &parts, "/identity").is_some());
        let forged = request("/identity", "127.0.0.2", &through);
        assert_eq!(advice(&config("/public1", url), &forged, "/identity"), None);
    }
}
