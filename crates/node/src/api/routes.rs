//! The table of all routes below a base path. What is not in it is not there: dispatch, admission, `OPTIONS`, the metrics and the tests of
//! `openapi.json` and docs/access.md all go by this table. A new page takes a line here, an arm in [`super::page`], an entry in `openapi.json` and a
//! line in docs/access.md.

use axum::http::Method;

use crate::access::roles::Action;

/// What somebody needs to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing: it is for other nodes, which show who they are in another way, or says nothing.
    Nothing,
    /// To be admitted, with a role that permits this.
    To(Action),
}

use Need::{Nothing, To};

/// One page, or one kind of pages.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Its path; `{…}` stands for any one segment.
    pub(crate) path: &'static str,
    /// What is allowed there, as the header `Allow` says it.
    pub(super) allow: &'static str,
    /// What each method takes. `HEAD` is like `GET`.
    pub(crate) needs: &'static [(&'static str, Need)],
}

/// What a page is that can be looked at only.
const PAGE: &str = "GET, HEAD, OPTIONS";
const ACTION: &str = "POST, OPTIONS";

pub(crate) const ROUTES: [Route; 25] = [
    route(
        "/",
        "OPTIONS, PUT, POST, GET, HEAD",
        &[
            ("GET", To(Action::Catalogue)),
            ("PUT", To(Action::Catalogue)),
            ("POST", To(Action::Use)),
        ],
    ),
    route(
        "/representations",
        "GET, HEAD, POST, PUT, OPTIONS",
        &[
            ("GET", To(Action::Catalogue)),
            ("POST", To(Action::Catalogue)),
            ("PUT", To(Action::Use)),
        ],
    ),
    route(
        "/representation/{uuid}",
        "GET, HEAD, PATCH, DELETE, OPTIONS",
        &[
            ("GET", To(Action::Use)),
            ("PATCH", To(Action::Use)),
            ("DELETE", To(Action::Use)),
        ],
    ),
    route("/representation/{uuid}/{attribute}", PAGE, &[("GET", To(Action::Use))]),
    route("/peer", PAGE, &[("GET", Nothing)]),
    route("/identity", PAGE, &[("GET", Nothing)]),
    route("/invitations/{task}", PAGE, &[("GET", Nothing)]),
    route("/healthz", PAGE, &[("GET", Nothing)]),
    route("/readyz", PAGE, &[("GET", Nothing)]),
    route("/openapi.json", PAGE, &[("GET", Nothing)]),
    route("/metrics", PAGE, &[("GET", To(Action::Metrics))]),
    route("/tasks", PAGE, &[("GET", To(Action::Look))]),
    route("/tasks/{id}", PAGE, &[("GET", To(Action::Look))]),
    route("/tasks/{id}/events", PAGE, &[("GET", To(Action::Look))]),
    route("/tasks/{id}/receipt", PAGE, &[("GET", To(Action::Look))]),
    route("/tasks/{id}/cancel", ACTION, &[("POST", To(Action::Cancel))]),
    route("/tasks/{id}/approve", ACTION, &[("POST", To(Action::Decide))]),
    route("/tasks/{id}/decline", ACTION, &[("POST", To(Action::Decide))]),
    route("/policy", PAGE, &[("GET", To(Action::Catalogue))]),
    route("/policy/check", ACTION, &[("POST", To(Action::Catalogue))]),
    route(
        "/peers",
        "GET, HEAD, POST, DELETE, OPTIONS",
        &[
            ("GET", To(Action::Review)),
            ("POST", To(Action::Decide)),
            ("DELETE", To(Action::Decide)),
        ],
    ),
    route("/audit", PAGE, &[("GET", To(Action::Review))]),
    route("/probe", ACTION, &[("POST", To(Action::Probe))]),
    route(
        "/tokens",
        "GET, HEAD, POST, OPTIONS",
        &[("GET", To(Action::Tokens)), ("POST", To(Action::Tokens))],
    ),
    route("/tokens/{name}", "DELETE, OPTIONS", &[("DELETE", To(Action::Tokens))]),
];

const fn route(path: &'static str, allow: &'static str, needs: &'static [(&'static str, Need)]) -> Route {
    Route { path, allow, needs }
}

impl Route {
    /// The route of a path without doubled slashes and without one at its end; the empty one is the base path itself.
    pub(super) fn find(path: &str) -> Option<&'static Route> {
        ROUTES.iter().find(|route| route.matches(path))
    }

    fn matches(&self, path: &str) -> bool {
        let (mut own, mut given) = (segments(self.path), segments(path));
        loop {
            match (own.next(), given.next()) {
                (None, None) => return true,
                (Some(own), Some(given)) if own == given || own.starts_with('{') => {}
                _ => return false,
            }
        }
    }

    /// What a request needs; `None` for a method that is not allowed.
    pub(super) fn need(&self, method: &Method) -> Option<Need> {
        let method = match *method {
            Method::HEAD => "GET",
            _ => method.as_str(),
        };
        let found = self.needs.iter().find(|(known, _)| *known == method);
        found.map(|(_, need)| *need)
    }

    /// Whether requests count for the limits of an address. Peers, and those who look whether the node lives, have limits of their own or cost
    /// nothing; nobody at the same address shall be able to silence them.
    pub(super) fn is_counted(&self) -> bool {
        !matches!(self.path, "/peer" | "/healthz" | "/readyz")
    }
}

/// A method as a label: one of those that have a meaning anywhere here.
pub(super) fn method_label(method: &Method) -> &'static str {
    ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"]
        .into_iter()
        .find(|known| *known == method.as_str())
        .unwrap_or("other")
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn paths_are_found_segment_by_segment() {
        let found = |path| Route::find(path).map(|route| route.path);
        assert_eq!(found(""), Some("/"));
        assert_eq!(found("/tasks/x"), Some("/tasks/{id}"));
        assert_eq!(found("/tasks/x/cancel"), Some("/tasks/{id}/cancel"));
        for nothing in [
            "/tasks/x/y",
            "/x",
            "/metrics/x",
            "/{id}",
            "/tasks/x/cancel/y",
            "/Identity",
        ] {
            assert_eq!(found(nothing), None, "{nothing}");
        }
        let page = Route::find("/tasks").unwrap();
        assert_eq!(page.need(&Method::HEAD), Some(To(Action::Look)));
        assert_eq!(page.need(&Method::POST), None);
        assert_eq!(Route::find("/identity").unwrap().need(&Method::GET), Some(Nothing));
        assert_eq!(Route::find("/tokens").unwrap().need(&Method::DELETE), None);
        assert_eq!(Route::find("").unwrap().need(&Method::PATCH), None);
    }

    /// `OPTIONS` is allowed everywhere, and described for no page.
    fn described(methods: impl Iterator<Item = String>) -> BTreeSet<String> {
        methods.filter(|method| method != "OPTIONS").collect()
    }

    #[test]
    fn what_is_allowed_has_a_need_and_the_other_way_round() {
        for route in &ROUTES {
            let allowed = described(route.allow.split(", ").map(ToOwned::to_owned));
            let mut needed: BTreeSet<String> = route.needs.iter().map(|(method, _)| (*method).to_owned()).collect();
            if needed.contains("GET") {
                needed.insert("HEAD".to_owned());
            }
            assert_eq!(allowed, needed, "{}", route.path);
        }
    }

    #[test]
    fn openapi_describes_all_routes_and_no_others() {
        let document: Value = serde_json::from_str(super::super::OPENAPI).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let known: BTreeSet<&str> = ROUTES.iter().map(|route| route.path).collect();
        assert_eq!(paths.keys().map(String::as_str).collect::<BTreeSet<_>>(), known);
        for route in &ROUTES {
            let operations = paths[route.path].as_object().unwrap().keys();
            let operations = operations
                .filter(|name| *name != "parameters")
                .map(|name| name.to_uppercase());
            let allowed = route.allow.split(", ").map(ToOwned::to_owned);
            assert_eq!(described(operations), described(allowed), "{}", route.path);
        }
    }

    #[test]
    fn the_documentation_lists_them_all() {
        let text = include_str!("../../../../docs/access.md");
        let shown = text.lines().filter_map(|line| {
            let (request, takes) = line.strip_prefix("| `")?.split_once("` | ")?;
            let (method, path) = request.split_once(" {base}")?;
            let path = if path.is_empty() { "/" } else { path };
            Some(format!("{method} {path}: {}", takes.trim_end_matches(" |")))
        });
        let takes = |need: &Need| match need {
            Nothing => "nothing".to_owned(),
            To(action) => format!("{action:?}"),
        };
        let listed = ROUTES.iter().flat_map(|route| {
            let needs = route.needs.iter();
            needs.map(move |(method, need)| format!("{method} {}: {}", route.path, takes(need)))
        });
        assert_eq!(shown.collect::<BTreeSet<_>>(), listed.collect::<BTreeSet<_>>());
    }
}
