//! The table of all routes below a base path. What is not in it is not there: dispatch, `OPTIONS`, the metrics and the test of `openapi.json` all go by
//! this table. A new page takes a line here, an arm in [`super::route`], and an entry in `openapi.json`.

use axum::http::Method;

/// One page, or one kind of pages.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// Its path; `{…}` stands for any one segment.
    pub(super) path: &'static str,
    /// What is allowed there, as the header `Allow` says it.
    pub(super) allow: &'static str,
}

/// What a page is that can be looked at only.
const PAGE: &str = "GET, HEAD, OPTIONS";
const ACTION: &str = "POST, OPTIONS";

pub(super) const ROUTES: [Route; 18] = [
    route("/", "OPTIONS, PUT, POST, GET, HEAD"),
    route("/peer", PAGE),
    route("/identity", PAGE),
    route("/probe", ACTION),
    route("/peers", "GET, HEAD, POST, DELETE, OPTIONS"),
    route("/policy", PAGE),
    route("/policy/check", ACTION),
    route("/healthz", PAGE),
    route("/readyz", PAGE),
    route("/metrics", PAGE),
    route("/openapi.json", PAGE),
    route("/tasks", PAGE),
    route("/tasks/{id}", PAGE),
    route("/tasks/{id}/events", PAGE),
    route("/tasks/{id}/cancel", ACTION),
    route("/tasks/{id}/approve", ACTION),
    route("/tasks/{id}/decline", ACTION),
    route("/invitations/{id}", PAGE),
];

const fn route(path: &'static str, allow: &'static str) -> Route {
    Route { path, allow }
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

    pub(super) fn allows(&self, method: &Method) -> bool {
        self.allow.split(", ").any(|allowed| allowed == method.as_str())
    }
}

/// A method as a label: one of those that have a meaning anywhere here.
pub(super) fn method_label(method: &Method) -> &'static str {
    ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"]
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
        for nothing in ["/tasks/x/y", "/x", "/metrics/x", "/{id}", "/tasks/x/cancel/y"] {
            assert_eq!(found(nothing), None, "{nothing}");
        }
        let page = Route::find("/tasks").unwrap();
        assert!(page.allows(&Method::HEAD) && !page.allows(&Method::POST));
    }

    /// `OPTIONS` is allowed everywhere, and described for no page.
    fn described(methods: impl Iterator<Item = String>) -> BTreeSet<String> {
        methods.filter(|method| method != "OPTIONS").collect()
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
}
