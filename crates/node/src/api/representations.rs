//! The face of representations (generation 0.6).
//!
//! ```text
//! GET    {base}/representations                  the services
//! POST   {base}/representations                  the service with these identifiers: {"kwargs": {…}}
//! PUT    {base}/representations                  keeps a value: {"args": [value]}
//! PATCH  {base}/representation/{uuid}            calls a function: {"args": […], "kwargs": {…}}
//! GET    {base}/representation/{uuid}            a value
//! DELETE {base}/representation/{uuid}            lets go of an object
//! GET    {base}/representation/{uuid}/{name}     a function of an object
//! ```
//! All answers are 200 and JSON objects: `{"type": "list", "list": […]}`, `{"type": "uuid", "uuid": …}`, `{"type": "object", "object": …}` or
//! `{"type": "none"}`; errors are problem+json. Clients of this generation send a body with everything; where none is needed it is not looked at.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use http_body_util::BodyExt;
use serde_json::json;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::answer::{delivered, shared};
use super::body::SMALL_BODY;
use super::handles::{body_text, identifiers, service_unknown, with_place};
use super::{json, json_body, waiting};
use crate::json::{Kind, Parameters, elements, members};
use crate::node::Node;
use crate::node::representations::Called;
use crate::problem::Problem;
use crate::services::{Principal, Reply};

/// Most values of `args`; what function takes fewer says so itself.
const MAX_ARGS: usize = 64;

/// One of these pages.
#[derive(Clone, Copy)]
pub(super) enum Page<'a> {
    All,
    One(&'a str),
    Attribute(&'a str, &'a str),
}

impl<'a> Page<'a> {
    /// From the path below the base path.
    pub(super) fn find(path: &'a str) -> Option<Page<'a>> {
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        match segments[..] {
            ["representations"] => Some(Page::All),
            ["representation", uuid] => Some(Page::One(uuid)),
            ["representation", uuid, name] => Some(Page::Attribute(uuid, name)),
            _ => None,
        }
    }

    pub(super) async fn answer(
        self,
        node: &Node,
        who: &Principal,
        method: &Method,
        headers: &HeaderMap,
        body: &mut Body,
    ) -> Result<Response, Problem> {
        let answered = match (self, method) {
            (Page::All, &Method::POST) => {
                let body = json_body(node, headers, body).await?;
                select(node, &Call::read(body_text(node, &body.text)?)?)
            }
            (Page::All, &Method::PUT) => {
                let body = json_body(node, headers, body).await?;
                upload(node, who, &Call::read(body_text(node, &body.text)?)?).await
            }
            (Page::One(uuid), &Method::PATCH) => {
                let body = json_body(node, headers, body).await?;
                call(node, who, uuid, &Call::read(body_text(node, &body.text)?)?).await
            }
            _ => {
                skip(node, body).await;
                self.look(node, who, method).await
            }
        };
        answered.map_err(|problem| with_place(node, headers, problem))
    }

    /// What needs no body.
    async fn look(self, node: &Node, who: &Principal, method: &Method) -> Result<Response, Problem> {
        match (self, method) {
            (Page::All, _) => Ok(json(&format!(
                "{{\"list\":{},\"type\":\"list\"}}",
                node.representations()
            ))),
            (Page::One(uuid), &Method::DELETE) => {
                node.release(who, uuid).await?;
                Ok(none())
            }
            (Page::One(uuid), _) => {
                let text = node.download(who, uuid)?;
                Ok(shared("{\"type\":\"object\",\"object\":", text, "}\n"))
            }
            (Page::Attribute(uuid, name), _) => Ok(object(node.attribute(who, uuid, name)?)),
        }
    }
}

/// What a body says; other members are ignored.
struct Call<'a> {
    args: Option<&'a str>,
    kwargs: &'a str,
}

impl<'a> Call<'a> {
    fn read(text: &'a str) -> Result<Call<'a>, Problem> {
        let wrong = |name: &str, kind: &str| {
            let hint = "a call is {\"args\": […], \"kwargs\": {…}}";
            Problem::malformed("CALL_INVALID", format!("'{name}' of the call is not {kind}"), hint)
        };
        let (mut args, mut kwargs) = (None, None);
        for (name, raw) in members(text)? {
            let (slot, kind) = match &*name {
                "args" => (&mut args, Kind::Array),
                "kwargs" => (&mut kwargs, Kind::Object),
                _ => continue,
            };
            if Kind::of(raw) != kind {
                return Err(wrong(&name, kind.name()));
            }
            // Whoever reads the call before this node could take the other one.
            if slot.replace(raw).is_some() {
                return Err(wrong(&name, "given once only"));
            }
        }
        Ok(Call {
            args,
            kwargs: kwargs.unwrap_or("{}"),
        })
    }

    fn args(&self) -> Result<Vec<&'a str>, Problem> {
        self.args.map_or(Ok(Vec::new()), |args| elements(args, MAX_ARGS))
    }
}

fn select(node: &Node, call: &Call<'_>) -> Result<Response, Problem> {
    if !call.args()?.is_empty() {
        let hint = "for example {\"args\": [], \"kwargs\": {\"microservice\": \"KeyValueStorage\"}}";
        let message = "a service is found by identifiers, which have names";
        return Err(Problem::input("PARAMETER_UNKNOWN", message, hint));
    }
    let wanted = identifiers(call.kwargs)?;
    let found = node.select_representation(&wanted);
    found.map(object).ok_or_else(|| service_unknown(&wanted))
}

async fn upload(node: &Node, who: &Principal, call: &Call<'_>) -> Result<Response, Problem> {
    let mut parameters = Parameters::parse("upload", call.kwargs)?;
    if let Some(args) = call.args {
        parameters.add_positional(&["value"], args)?;
    }
    let value = parameters.required("value")?;
    let one_way = match parameters.optional("one_way") {
        Some(raw) => raw.bool()?,
        None => false,
    };
    parameters.finish()?;
    Ok(object(node.upload(who, value.into_text(), one_way).await?))
}

async fn call(node: &Node, who: &Principal, uuid: &str, call: &Call<'_>) -> Result<Response, Problem> {
    let reply = match node.call_method(who, uuid, call.args, call.kwargs).await? {
        Called::Object(uuid) => return Ok(object(uuid)),
        Called::Reply(reply) => reply,
    };
    let keep = |text: String| object(node.keep_returned(who, Arc::new(Zeroizing::new(text))));
    Ok(match reply {
        Reply::Value(text) if text == "null" => none(),
        Reply::Shared(text) if text.as_str() == "null" => none(),
        Reply::Value(text) => keep(text),
        Reply::Shared(text) => object(node.keep_returned(who, text)),
        Reply::Computed(text, delivery) => delivered(keep(text), delivery),
        Reply::Waiting(text) => waiting(none(), &text),
        // Objects were told before.
        Reply::Nothing | Reply::Object(_) => none(),
    })
}

/// Reads a small body away, so that the connection is good for the next request.
async fn skip(node: &Node, body: &mut Body) {
    let read = async {
        let mut left = SMALL_BODY;
        while !body.is_end_stream()
            && let Some(Ok(frame)) = body.frame().await
        {
            let length = frame.data_ref().map_or(0, axum::body::Bytes::len);
            let Some(rest) = left.checked_sub(length) else { return };
            left = rest;
        }
    };
    let _ = tokio::time::timeout(node.config.limits.body_time(), read).await;
}

fn object(uuid: Uuid) -> Response {
    json(&json!({"type": "uuid", "uuid": uuid.to_string()}).to_string())
}

fn none() -> Response {
    json("{\"type\":\"none\"}")
}
