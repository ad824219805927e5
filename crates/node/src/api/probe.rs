//! `POST {base}/probe`: has this node test the way to another one.

use axum::body::Body;
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Map, Value};

use super::{json, json_body};
use crate::identity::PeerKey;
use crate::json::{Limits, check};
use crate::node::Node;
use crate::problem::Problem;
use crate::url::NodeUrl;

/// `{"url": …, "key"?: …}` → [`crate::peer::probe::Probe`].
pub(super) async fn answer(node: &Node, headers: &HeaderMap, body: &mut Body) -> Result<Response, Problem> {
    let body = json_body(node, headers, body).await?;
    let limits = Limits {
        bytes: 4096,
        ..node.config.limits.json()
    };
    let (url, key) = read(check(&body.text, &limits)?)?;
    let Ok(_place) = node.probes.try_acquire() else {
        return Err(Problem::unavailable(
            "PROBES_BUSY",
            "this node is testing as many connections to other nodes as it does at once",
            "ask again in a moment",
        )
        .exceeds("probes", node.config.limits.probes));
    };
    let found = node.peers().probe(&url, key).await;
    let text = serde_json::to_string(&found)
        .map_err(|_| Problem::internal("INTERNAL", "the answer cannot be written", "tell this node's operator"))?;
    Ok(json(&text))
}

fn read(text: &str) -> Result<(NodeUrl, Option<PeerKey>), Problem> {
    const HINT: &str = "write {\"url\": \"https://host/public1\"}, and \"key\" beside it if it is known";
    let malformed = |message: &str| Problem::malformed("CALL_INVALID", message, HINT);
    let members: Map<String, Value> = serde_json::from_str(text).map_err(|_| malformed("a probe is a JSON object"))?;
    let url = members.get("url").and_then(Value::as_str);
    let url = url.ok_or_else(|| malformed("'url' is missing in the probe, or is not a text"))?;
    let url = NodeUrl::parse(url).map_err(|error| Problem::input("NODE_URL_UNUSABLE", error.to_string(), HINT))?;
    let key = match members.get("key") {
        None | Some(Value::Null) => None,
        Some(Value::String(key)) => Some(key.parse().map_err(|_| malformed("'key' is not the key of a node"))?),
        Some(_) => return Err(malformed("'key' is not the key of a node")),
    };
    Ok((url, key))
}
