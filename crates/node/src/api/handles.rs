//! The handle API (generation 0.2), at the base path: `GET` lists services, `PUT` selects one, `POST` calls a function.
//!
//! Statuses: 200 a value, 201 an object, 202 a service, 204 nothing; errors are problem+json.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::answer::{delivered, shared};
use super::{json, json_body, waiting};
use crate::json::{HANDLES, Kind, ObjectRef, Parameters, check, members};
use crate::node::{Node, Service};
use crate::problem::{Problem, quoted};
use crate::services::{Callback, Principal, Reply};

/// Longest text of identifiers, in bytes: they are read as a structure, which takes many times the memory of its text.
const MAX_IDENTIFIERS: usize = 16 << 10;

pub(super) async fn answer(
    node: &Node,
    who: &Principal,
    method: &Method,
    headers: &HeaderMap,
    body: &mut Body,
) -> Result<Response, Problem> {
    match *method {
        Method::GET | Method::HEAD => {
            let mut response = json(&node.catalogue());
            response
                .headers_mut()
                .insert(header::VARY, HeaderValue::from_static("accept"));
            Ok(response)
        }
        Method::PUT => {
            let body = json_body(node, headers, body).await?;
            select(node, body_text(node, &body.text)?)
        }
        _ => {
            let body = json_body(node, headers, body).await?;
            let called = call(node, who, body_text(node, &body.text)?).await;
            called.map_err(|problem| with_place(node, headers, problem))
        }
    }
}

pub(super) fn body_text<'a>(node: &Node, bytes: &'a [u8]) -> Result<&'a str, Problem> {
    check(bytes, &node.config.limits.json())
}

fn select(node: &Node, text: &str) -> Result<Response, Problem> {
    let wanted = identifiers(text)?;
    let service = node.select(&wanted).ok_or_else(|| service_unknown(&wanted))?;
    let mut response = json(&format!("\"{}\"", node.handle(service)));
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

pub(super) fn identifiers(text: &str) -> Result<Map<String, Value>, Problem> {
    if text.len() > MAX_IDENTIFIERS {
        return Err(Problem::too_large(
            "BODY_TOO_LARGE",
            format!("the identifiers of a service take more than {MAX_IDENTIFIERS} bytes"),
            "for example {\"microservice\": \"KeyValueStorage\"}",
        ));
    }
    serde_json::from_str(text).map_err(|_| {
        Problem::malformed(
            "IDENTIFIERS_INVALID",
            "the identifiers of a service are a JSON object",
            "for example {\"microservice\": \"KeyValueStorage\"}",
        )
    })
}

pub(super) fn service_unknown(wanted: &Map<String, Value>) -> Problem {
    let shown = wanted.iter().next().map_or_else(String::new, |(name, value)| {
        format!(
            ": {}={}",
            quoted(name),
            value.as_str().map_or_else(|| "…".to_owned(), quoted)
        )
    });
    Problem::unknown(
        "SERVICE_UNKNOWN",
        format!("microservice not available{shown}"),
        "list_microservices() shows what this node has",
    )
}

/// The members of a call; others are ignored.
struct Call<'a> {
    handle: String,
    function: String,
    parameters: &'a str,
    callback: Option<Callback>,
}

async fn call(node: &Node, who: &Principal, text: &str) -> Result<Response, Problem> {
    let call = read_call(text)?;
    let service = service_of(node, &call.handle)?;
    let mut parameters = Parameters::parse(&call.function, call.parameters)?;
    if node.is_public(service, &call.function) {
        parameters.resolve(
            &HANDLES,
            &node.config.limits.json(),
            |parameter, reference: &ObjectRef| {
                let from = service_of(node, &reference.handle)?;
                let as_input = service.takes_input(&call.function, parameter);
                node.value_of(from, who, &reference.callback, as_input)
            },
        )?;
    }
    let reply = node
        .call(service, who, &call.function, parameters, call.callback.as_ref())
        .await?;
    Ok(translate(&call.handle, reply))
}

fn translate(handle: &str, reply: Reply) -> Response {
    match reply {
        Reply::Value(text) if text == "null" => StatusCode::NO_CONTENT.into_response(),
        Reply::Value(text) => json(&text),
        Reply::Shared(text) => shared("", text, "\n"),
        Reply::Computed(text, delivery) => delivered(json(&text), delivery),
        Reply::Object(callback) => {
            let mut response = json(&json!({"callback": callback, "handle": handle}).to_string());
            *response.status_mut() = StatusCode::CREATED;
            response
        }
        Reply::Nothing => StatusCode::NO_CONTENT.into_response(),
        Reply::Waiting(text) => waiting(StatusCode::NO_CONTENT.into_response(), &text),
    }
}

fn service_of(node: &Node, handle: &str) -> Result<Service, Problem> {
    node.service(handle).ok_or_else(|| {
        Problem::unknown(
            "HANDLE_UNKNOWN",
            "microservice not available: this node has no service with this handle",
            "select the service with this node's api: a handle of another node is not known here",
        )
    })
}

/// Who mixes up several nodes is told which one this is.
pub(super) fn with_place(node: &Node, headers: &HeaderMap, mut problem: Problem) -> Problem {
    if matches!(problem.code, "HANDLE_UNKNOWN" | "OBJECT_UNKNOWN" | "TASK_UNKNOWN") {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        problem.hint = format!("{} (this is the node {})", problem.hint, node.name(host));
    }
    problem
}

fn read_call(text: &str) -> Result<Call<'_>, Problem> {
    const HINT: &str = "a call is {\"handle\": …, \"function\": …, \"parameters\": {…}, \"callback\": …}";
    let wrong = |name: &str, kind: &str| {
        Problem::malformed("CALL_INVALID", format!("'{name}' of the call is not {kind}"), HINT)
    };
    let missing = |name: &str| Problem::malformed("CALL_INVALID", format!("'{name}' is missing in the call"), HINT);
    let (mut handle, mut function, mut parameters, mut callback) = (None, None, None, None);
    for (name, raw) in members(text)? {
        let slot = match &*name {
            "handle" => &mut handle,
            "function" => &mut function,
            "parameters" => &mut parameters,
            "callback" => &mut callback,
            _ => continue,
        };
        // Whoever reads the call before this node could take the other one.
        if slot.replace(raw).is_some() {
            return Err(wrong(&name, "given once only"));
        }
    }
    let string = |name, raw: Option<&str>| {
        serde_json::from_str::<String>(raw.ok_or_else(|| missing(name))?).map_err(|_| wrong(name, "a string"))
    };
    let handle = string("handle", handle)?;
    let function = string("function", function)?;
    let parameters = parameters.ok_or_else(|| missing("parameters"))?;
    if Kind::of(parameters) != Kind::Object {
        return Err(wrong("parameters", "an object"));
    }
    let callback = match callback {
        None | Some("null") => None,
        Some(raw) if raw.len() > 4096 => return Err(wrong("callback", "of usable length")),
        Some(raw) => match serde_json::from_str(raw) {
            Ok(value @ (Value::String(_) | Value::Object(_))) => Some(value),
            _ => return Err(wrong("callback", "a string or an object")),
        },
    };
    Ok(Call {
        handle,
        function,
        parameters,
        callback,
    })
}
