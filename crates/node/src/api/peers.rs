//! `{base}/peers`: the nodes that this one knows. Viewers look, owners decide.

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use serde_json::{Map, Value};

use super::{json, json_body};
use crate::fingerprint::Expected;
use crate::json::{Limits, check};
use crate::node::Node;
use crate::principal::Principal;
use crate::problem::Problem;
use crate::url::NodeUrl;

/// `GET`: all of them. `POST` with `{"url": …, "key"?: …}`: pins the key, or shows the one to compare. `DELETE` with `?url=…`: forgets.
pub(super) async fn answer(node: &Node, who: &Principal, parts: &Parts, body: &mut Body) -> Result<Response, Problem> {
    let shown = match parts.method {
        Method::POST => {
            let wanted = read(node, &parts.headers, body).await?;
            match wanted {
                (url, Some(expected)) => node.peer_pinned(who, &url, &expected).await?,
                (url, None) => node.peer_asked(&url).await?,
            }
        }
        Method::DELETE => node.peer_forgotten(who, &url_of(parts)?).await?,
        _ => node.peers_shown(),
    };
    Ok(json(&shown.to_string()))
}

const HINT: &str =
    "write {\"url\": \"https://host/public1\"}, and beside it \"key\": the key, or the fingerprint in digits";

async fn read(node: &Node, headers: &HeaderMap, body: &mut Body) -> Result<(NodeUrl, Option<Expected>), Problem> {
    let malformed = |message: &str| Problem::malformed("CALL_INVALID", message, HINT);
    let body = json_body(node, headers, body).await?;
    let limits = Limits {
        bytes: 4096,
        ..node.config.limits.json()
    };
    let text = check(&body.text, &limits)?;
    let members: Map<String, Value> = serde_json::from_str(text).map_err(|_| malformed("a peer is a JSON object"))?;
    if let Some(other) = members.keys().find(|name| !["url", "key"].contains(&name.as_str())) {
        return Err(malformed(&format!(
            "a peer has no member {}",
            crate::problem::quoted(other)
        )));
    }
    let url = members.get("url").and_then(Value::as_str);
    let url = parse_url(url.ok_or_else(|| malformed("'url' is missing, or is not a text"))?)?;
    let expected = match members.get("key") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => {
            let unusable = |error: String| Problem::input("PEER_KEY_UNUSABLE", error, HINT);
            Some(text.parse::<Expected>().map_err(unusable)?)
        }
        Some(_) => return Err(malformed("'key' is not a text")),
    };
    Ok((url, expected))
}

fn parse_url(text: &str) -> Result<NodeUrl, Problem> {
    NodeUrl::parse(text).map_err(|error| Problem::input("NODE_URL_UNUSABLE", error.to_string(), HINT))
}

/// `?url=`, percent-encoded or as it is.
fn url_of(parts: &Parts) -> Result<NodeUrl, Problem> {
    let query = parts.uri.query().unwrap_or("");
    let url = query.split('&').find_map(|pair| pair.strip_prefix("url="));
    let url = url.ok_or_else(|| {
        let hint = "write DELETE {base}/peers?url=https://host/public1";
        Problem::malformed("CALL_INVALID", "which URL is to be forgotten is missing", hint)
    })?;
    parse_url(&decoded(url))
}

/// Undoes percent-encoding. What is not well encoded stays, and is no URL then.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = |byte: &u8| {
            char::from(*byte)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        };
        match (first, after) {
            (b'%', [high, low, next @ ..]) if let (Some(high), Some(low)) = (hex(high), hex(low)) => {
                bytes.push(high << 4 | low);
                rest = next;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn percent_encoding_is_undone_once() {
        for (text, meant) in [
            ("https%3A%2F%2Fa.example%2fx", "https://a.example/x"),
            ("https://a.example/x", "https://a.example/x"),
            ("%2541", "%41"),
            ("%", "%"),
            ("%4", "%4"),
            ("%zz%41", "%zzA"),
            ("%ff", "\u{fffd}"),
            ("", ""),
        ] {
            assert_eq!(decoded(text), meant, "{text}");
        }
    }
}
