//! What this node's owner allows.
//!
//! ```text
//! GET  {base}/policy          all rules, in words as well
//! POST {base}/policy/check    whether a task would be allowed; nothing is made and nobody is asked
//! ```

use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::Response;

use super::{json, json_body};
use crate::json::{Limits, Parameters, check};
use crate::node::Node;
use crate::principal::{Principal, Role};
use crate::problem::Problem;

pub(super) async fn answer(
    node: &Node,
    who: &Principal,
    path: &str,
    headers: &HeaderMap,
    body: &mut Body,
) -> Result<Response, Problem> {
    match path {
        "/policy" => {
            // With whom this node computes is nothing for passers-by.
            let known = !who.is_anonymous() || who.role() == Role::Owner;
            Ok(json(&node.simon.tasks().context().policy.document(known).to_string()))
        }
        _ => {
            let body = json_body(node, headers, body).await?;
            let limits = Limits {
                bytes: 1 << 20,
                ..node.config.limits.json()
            };
            let question = Parameters::parse("policy/check", check(&body.text, &limits)?)?;
            Ok(json(&node.simon.check(question)?.to_string()))
        }
    }
}
