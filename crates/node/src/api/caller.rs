//! Who makes a request.

use std::net::IpAddr;

use axum::http::{HeaderMap, header};

use super::routes::{Need, Route};
use crate::access::roles;
use crate::access::{Caller, Lease, credentials_refused};
use crate::node::Node;
use crate::principal::Principal;
use crate::problem::Problem;

/// Counts a request of that address.
pub(super) fn count(node: &Node, page: &Route, from: Option<IpAddr>) -> Result<(), Problem> {
    if page.is_counted() {
        node.access.count_address(from)?;
    }
    Ok(())
}

/// Whoever sends a request to this page, if they may.
pub(super) async fn admit(
    node: &Node,
    page: &Route,
    need: Need,
    headers: &HeaderMap,
    from: Option<IpAddr>,
) -> Result<Option<Caller>, Problem> {
    count(node, page, from)?;
    let action = match need {
        Need::Nothing => {
            return Ok(Some(Caller {
                who: Principal::anonymous(),
                lease: Lease::default(),
            }));
        }
        Need::To(action) => action,
    };
    let caller = node.access.admit(credentials(headers)?, from).await?;
    node.access.count(&caller.who)?;
    roles::check(&caller.who, action)?;
    Ok(Some(caller))
}

/// The bearer token of a request. Other schemes are none of this node's: a proxy in front may have asked for a password and pass it on.
fn credentials(headers: &HeaderMap) -> Result<Option<&[u8]>, Problem> {
    let given = headers.get_all(header::AUTHORIZATION).iter();
    let mut tokens = given.filter_map(|value| bearer(value.as_bytes()));
    match (tokens.next(), tokens.next()) {
        (token, None) => Ok(token),
        // Who would it be?
        (_, Some(_)) => Err(credentials_refused()),
    }
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (scheme, token) = value.split_at(end);
    scheme.eq_ignore_ascii_case(b"bearer").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn found(values: &[&'static str]) -> Result<Option<String>, u16> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        let found = credentials(&headers).map_err(|problem| problem.status)?;
        Ok(found.map(|token| String::from_utf8(token.to_vec()).unwrap()))
    }

    #[test]
    fn bearer_tokens_are_found_beside_what_proxies_pass_on() {
        assert_eq!(found(&[]), Ok(None));
        assert_eq!(found(&["Basic dXNlcjpwYXNz"]), Ok(None));
        assert_eq!(found(&["Bearer abc"]), Ok(Some("abc".into())));
        assert_eq!(found(&["bEARER   abc  "]), Ok(Some("abc".into())));
        assert_eq!(found(&["Basic dXNlcjpwYXNz", "Bearer abc"]), Ok(Some("abc".into())));
        assert_eq!(found(&["Bearer abc", "Bearer abc"]), Err(401));
        // Somebody who means to have a token is not anonymous.
        assert_eq!(found(&["Bearer"]), Ok(Some(String::new())));
        assert_eq!(found(&["Bearerabc"]), Ok(None));
    }
}
