//! What this node's owner decides about tasks.
//!
//! ```text
//! POST {base}/tasks/{id}/approve    lets a task go on that waits for it
//! POST {base}/tasks/{id}/decline    ends a task that does not compute yet; {"reason": …} stays at this node
//! ```

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use super::{json_body, tasks};
use crate::json::{Limits, check};
use crate::node::Node;
use crate::principal::Principal;
use crate::problem::Problem;

/// Longest reason, in characters.
const LONGEST: usize = 500;

/// What is decided.
#[derive(Clone, Copy)]
pub(super) enum Decision {
    Approve,
    Decline,
}

/// From the path below the base path: the task's id and what is decided about it.
pub(super) fn find(path: &str) -> Option<(&str, Decision)> {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match segments[..] {
        ["tasks", id, "approve"] => Some((id, Decision::Approve)),
        ["tasks", id, "decline"] => Some((id, Decision::Decline)),
        _ => None,
    }
}

pub(super) async fn answer(
    node: &Node,
    who: &Principal,
    (id, decision): (&str, Decision),
    headers: &HeaderMap,
    body: &mut Body,
) -> Result<Response, Problem> {
    let task = tasks::find(node, who, id).map_err(|problem| super::handles::with_place(node, headers, problem))?;
    match decision {
        Decision::Approve => task.approve(who).await?,
        Decision::Decline => {
            let reason = read_reason(node, headers, body).await?;
            task.decline(who, reason.as_deref())?;
            task.flush_records().await?;
        }
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `{"reason": text}`, or nothing.
async fn read_reason(node: &Node, headers: &HeaderMap, body: &mut Body) -> Result<Option<String>, Problem> {
    const HINT: &str = "write {\"reason\": \"…\"}, or send no body";
    let malformed = |message: &str| Problem::malformed("CALL_INVALID", message, HINT);
    if body.is_end_stream() {
        return Ok(None);
    }
    let body = json_body(node, headers, body).await?;
    let limits = Limits {
        depth: 2,
        bytes: 8 * LONGEST,
        ..node.config.limits.json()
    };
    let text = check(&body.text, &limits)?;
    let mut members: Map<String, Value> =
        serde_json::from_str(text).map_err(|_| malformed("a decision is a JSON object"))?;
    match members.remove("reason") {
        _ if !members.is_empty() => Err(malformed("a decision has the member 'reason' only")),
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(reason)) if reason.chars().count() <= LONGEST && !reason.chars().any(char::is_control) => {
            Ok(Some(reason))
        }
        Some(_) => Err(malformed("'reason' is one line of up to 500 characters")),
    }
}
