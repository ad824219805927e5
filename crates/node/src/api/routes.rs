//! Every request that is answered, and what it takes to be. What is not in this list is not answered: a new page has to be given its line here.

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

/// Method, path below the base path, and need. `HEAD` is like `GET`.
pub(crate) const ROUTES: [(&str, &str, Need); 24] = [
    ("GET", "", Need::To(Action::Catalogue)),
    ("PUT", "", Need::To(Action::Catalogue)),
    ("POST", "", Need::To(Action::Use)),
    ("GET", "/peer", Need::Nothing),
    ("GET", "/identity", Need::Nothing),
    ("GET", "/invitations/{task}", Need::Nothing),
    ("GET", "/healthz", Need::Nothing),
    ("GET", "/readyz", Need::Nothing),
    ("GET", "/metrics", Need::To(Action::Metrics)),
    ("GET", "/tasks", Need::To(Action::Look)),
    ("GET", "/tasks/{id}", Need::To(Action::Look)),
    ("GET", "/tasks/{id}/events", Need::To(Action::Look)),
    ("POST", "/tasks/{id}/cancel", Need::To(Action::Cancel)),
    ("POST", "/tasks/{id}/approve", Need::To(Action::Decide)),
    ("POST", "/tasks/{id}/decline", Need::To(Action::Decide)),
    ("GET", "/policy", Need::To(Action::Catalogue)),
    ("POST", "/policy/check", Need::To(Action::Catalogue)),
    ("GET", "/peers", Need::To(Action::Review)),
    ("POST", "/peers", Need::To(Action::Decide)),
    ("DELETE", "/peers", Need::To(Action::Decide)),
    ("POST", "/probe", Need::To(Action::Probe)),
    ("GET", "/tokens", Need::To(Action::Tokens)),
    ("POST", "/tokens", Need::To(Action::Tokens)),
    ("DELETE", "/tokens/{name}", Need::To(Action::Tokens)),
];

/// What a request needs; `None` if it is not answered.
pub(super) fn need(method: &Method, path: &str) -> Option<Need> {
    let method = if *method == Method::HEAD {
        "GET"
    } else {
        method.as_str()
    };
    let found = ROUTES
        .iter()
        .find(|(known, pattern, _)| *known == method && fits(pattern, path));
    found.map(|(_, _, need)| *need)
}

/// Whether requests of this path count for the limits of an address. Peers, and those who look whether the node lives, have limits of their own or
/// cost nothing; nobody at the same address shall be able to silence them.
pub(super) fn is_counted(path: &str) -> bool {
    !matches!(path, "/peer" | "/healthz" | "/readyz")
}

fn fits(pattern: &str, path: &str) -> bool {
    let (mut wanted, mut found) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return true,
            (Some(wanted), Some(found)) if wanted == found || (wanted.starts_with('{') && !found.is_empty()) => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_lists_them_all() {
        let text = include_str!("../../../../docs/access.md");
        let shown = text.lines().filter_map(|line| {
            let (request, takes) = line.strip_prefix("| `")?.split_once("` | ")?;
            let (method, path) = request.split_once(" {base}")?;
            Some((
                method.to_owned(),
                path.to_owned(),
                takes.trim_end_matches(" |").to_owned(),
            ))
        });
        let takes = |need: &Need| match need {
            Need::Nothing => "nothing".to_owned(),
            Need::To(action) => format!("{action:?}"),
        };
        let listed = ROUTES
            .iter()
            .map(|(method, path, need)| ((*method).to_owned(), (*path).to_owned(), takes(need)));
        assert_eq!(shown.collect::<Vec<_>>(), listed.collect::<Vec<_>>());
    }

    #[test]
    fn patterns_fit_whole_paths_only() {
        let found = |method: Method, path| need(&method, path);
        assert_eq!(found(Method::HEAD, "/tasks/x"), Some(Need::To(Action::Look)));
        assert_eq!(found(Method::GET, ""), Some(Need::To(Action::Catalogue)));
        assert_eq!(found(Method::GET, "/identity"), Some(Need::Nothing));
        assert_eq!(found(Method::DELETE, "/tokens/anna"), Some(Need::To(Action::Tokens)));
        for (method, path) in [
            (Method::GET, "/"),
            (Method::GET, "/tasks/"),
            (Method::GET, "/tasks/x/y"),
            (Method::GET, "/tasks/x/cancel"),
            (Method::POST, "/tasks"),
            (Method::DELETE, "/tokens"),
            (Method::GET, "/Identity"),
            (Method::PATCH, ""),
        ] {
            assert_eq!(found(method, path), None, "{path}");
        }
    }
}
