//! Who makes a request.

use axum::http::{HeaderMap, header};

use crate::node::Node;
use crate::principal::Principal;
use crate::problem::Problem;

/// By the credentials in the request's header.
pub(super) fn authenticate(node: &Node, headers: &HeaderMap) -> Result<Principal, Problem> {
    let operator = headers
        .get(header::AUTHORIZATION)
        .is_some_and(|given| node.operator.admits(given.as_bytes()));
    Ok(if operator {
        Principal::operator()
    } else {
        Principal::anonymous()
    })
}
