//! `GET {base}/tasks`: the caller's tasks without what gives access to them, and the pending invitations.

use axum::response::Response;
use serde_json::json;

use crate::node::Node;
use crate::services::Principal;

pub(super) fn list(node: &Node) -> Response {
    let tasks = node.simon.tasks();
    let body = json!({
        "tasks": tasks.list(&Principal::anonymous()),
        "invitations": tasks.invitations(),
    });
    super::json(&body.to_string())
}
