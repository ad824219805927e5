//! What this node's owner allows.
//!
//! ```text
//! GET  {base}/policy          all rules, in words as well
//! POST {base}/policy/check    whether a task would be allowed; nothing is made and nobody is asked
//! ```

use axum::body::Body;
use axum::http::{HeaderMap, Method};
use axum::response::Response;

use super::{PAGE_METHODS, json, json_body, not_allowed};
use crate::json::{Limits, Parameters, check};
use crate::node::Node;
use crate::principal::{Principal, Role};
use crate::problem::Problem;

const CHECK_METHODS: &str = "POST, OPTIONS";

/// The methods of a page, if it is one of these.
pub(super) fn methods(path: &str) -> Option<&'static str> {
    match path {
        "/policy" => Some(PAGE_METHODS),
        "/policy/check" => Some(CHECK_METHODS),
        _ => None,
    }
}

pub(super) async fn answer(
    node: &Node,
    who: &Principal,
    path: &str,
    method: &Method,
    headers: &HeaderMap,
    body: &mut Body,
) -> Result<Response, Problem> {
    match (path, method) {
        ("/policy", &Method::GET | &Method::HEAD) => {
            // With whom this node computes is nothing for passers-by.
            let known = !who.is_anonymous() || who.role() == Role::Owner;
            Ok(json(&node.simon.tasks().context().policy.document(known).to_string()))
        }
        ("/policy/check", &Method::POST) => {
            let body = json_body(node, headers, body).await?;
            let limits = Limits {
                depth: node.config.limits.json_depth,
                bytes: 1 << 20,
            };
            let question = Parameters::parse("policy/check", check(&body.text, &limits)?)?;
            Ok(json(&node.simon.check(question)?.to_string()))
        }
        _ => Ok(not_allowed(methods(path).unwrap_or(PAGE_METHODS))),
    }
}
