//! The tokens of a node, for its owners.
//!
//! ```text
//! GET    {base}/tokens           all of them, never what admits
//! POST   {base}/tokens           {"name", "role", "expires"?: seconds since 1970} makes one and tells it, this once
//! DELETE {base}/tokens/{name}    ends one
//! ```

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::{json, json_body};
use crate::access::tokens::By;
use crate::json::{Limits, check};
use crate::node::Node;
use crate::principal::{Principal, Role};
use crate::problem::Problem;

/// The name of one, if the path leads to the tokens at all.
pub(super) fn find(path: &str) -> Option<Option<&str>> {
    match path.strip_prefix("/tokens")? {
        "" => Some(None),
        rest => rest.strip_prefix('/').filter(|name| !name.contains('/')).map(Some),
    }
}

pub(super) async fn answer(
    node: &Node,
    who: &Principal,
    name: Option<&str>,
    method: &Method,
    headers: &HeaderMap,
    body: &mut Body,
) -> Result<Response, Problem> {
    match (name, method) {
        (None, &Method::GET | &Method::HEAD) => Ok(json(&json!({"tokens": node.access.tokens.list()}).to_string())),
        (Some(name), _) => {
            let token = node.access.tokens.revoke(name, By::Caller(who)).await?;
            Ok(json(&token.to_string()))
        }
        _ => create(node, who, headers, body).await,
    }
}

async fn create(node: &Node, who: &Principal, headers: &HeaderMap, body: &mut Body) -> Result<Response, Problem> {
    let body = json_body(node, headers, body).await?;
    let limits = Limits {
        bytes: 4096,
        ..node.config.limits.json()
    };
    let (name, role, expires) = read(check(&body.text, &limits)?)?;
    let made = node.access.tokens.create(&name, role, expires, By::Caller(who)).await;
    let (token, mut shown) = made?;
    shown["token"] = token.as_str().into();
    let mut response = (StatusCode::CREATED, json(&shown.to_string())).into_response();
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn read(text: &str) -> Result<(String, Role, Option<u64>), Problem> {
    let malformed = |message: &str| {
        let hint = "write {\"name\": \"anna\", \"role\": \"analyst\", \"expires\": 1800000000}; the last, in seconds since 1970, may be null";
        Problem::malformed("CALL_INVALID", message, hint)
    };
    let members: Map<String, Value> =
        serde_json::from_str(text).map_err(|_| malformed("a token is described by a JSON object"))?;
    if let Some(unknown) = members
        .keys()
        .find(|name| !["name", "role", "expires"].contains(&name.as_str()))
    {
        return Err(malformed(&format!(
            "a token has no member {}",
            crate::problem::quoted(unknown)
        )));
    }
    let name = members
        .get("name")
        .and_then(Value::as_str)
        .ok_or_else(|| malformed("'name' is missing, or is not a text"))?;
    let role = members
        .get("role")
        .and_then(Value::as_str)
        .ok_or_else(|| malformed("'role' is missing, or is not a text"))?;
    let role = role.parse().map_err(|error: String| malformed(&error))?;
    let expires = match members.get("expires") {
        None | Some(Value::Null) => None,
        Some(value) => Some(
            value
                .as_u64()
                .ok_or_else(|| malformed("'expires' is not a whole number of seconds since 1970"))?,
        ),
    };
    Ok((name.to_owned(), role, expires))
}
