//! The HTTP face: finds the node and the resource by path. A handler translates and nothing else.
//!
//! ```text
//! {base}               the handle API            {base}/tasks     tasks and pending invitations; see `tasks` for what is below
//! {base}/peer          WebSocket between nodes   {base}/metrics   Prometheus text
//! {base}/identity      this node's keys          {base}/healthz, {base}/readyz
//! {base}/probe         the way to another node    {base}/peers     the known nodes
//! {base}/audit         entries of the audit
//! ```
//! Doubled slashes collapse, a slash at the end makes no difference.

mod audit;
mod caller;
mod forwarded;
mod handles;
mod origin;
mod peers;
mod prefix;
mod probe;
mod tasks;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::SemaphorePermit;
use tower_http::cors::{AllowOrigin, CorsLayer};
use zeroize::Zeroizing;

use self::forwarded::Forwarded;
use crate::json::append;
use crate::node::{BODIES_KIB, Node};
use crate::problem::Problem;

/// How long a client may take to send its body.
const BODY_TIME: Duration = Duration::from_secs(120);

/// Bodies up to this length never wait for room; the number of connections bounds them.
const SMALL_BODY: u64 = 64 << 10;
/// How long a larger one waits for room.
const BODY_WAIT: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 5_000 });

/// What is there beside the handle API, and what is allowed there.
const PAGES: [&str; 7] = [
    "/peer",
    "/identity",
    "/tasks",
    audit::PATH,
    "/healthz",
    "/readyz",
    "/metrics",
];
const PAGE_METHODS: &str = "GET, HEAD, OPTIONS";

/// Says who is waited for, on an empty answer to `result`.
pub const WAITING: &str = "fdrtd-waiting";

pub(crate) use self::forwarded::connected;

/// All nodes of this process.
#[derive(Clone, Debug)]
struct Site(Arc<Vec<Arc<Node>>>);

impl Site {
    /// The node with the longest base path that the path begins with, and the rest of the path.
    fn find(&self, path: &str) -> Option<(&Arc<Node>, String)> {
        let path = collapsed(path);
        let found = self
            .0
            .iter()
            .filter_map(|node| Some((node, path.strip_prefix(&node.config.base_path)?)));
        found
            .filter(|(_, rest)| rest.is_empty() || rest.starts_with('/'))
            .max_by_key(|(node, _)| node.config.base_path.len())
            .map(|(node, rest)| (node, rest.to_owned()))
    }
}

/// A path without doubled slashes and without one at its end.
fn collapsed(path: &str) -> String {
    let segments = path.split('/').filter(|segment| !segment.is_empty());
    segments.map(|segment| format!("/{segment}")).collect()
}

/// The service of all `nodes`, told apart by their base paths.
pub fn router(nodes: Vec<Arc<Node>>, cors_origins: &[String]) -> Router {
    let site = Site(Arc::new(nodes));
    Router::new()
        .fallback(answer)
        .with_state(site.clone())
        .layer(cors(cors_origins))
        .layer(axum::middleware::from_fn_with_state(site, plain_options))
}

fn cors(origins: &[String]) -> CorsLayer {
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::HEAD, Method::PUT, Method::POST])
        .allow_headers([header::CONTENT_TYPE, header::AUTHORIZATION])
        .expose_headers([header::HeaderName::from_static(WAITING)])
        .max_age(Duration::from_secs(3600))
}

/// `OPTIONS` outside of a browser's preflight asks what is allowed.
async fn plain_options(State(site): State<Site>, request: Request, next: axum::middleware::Next) -> Response {
    if request.method() != Method::OPTIONS || request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
        return next.run(request).await;
    }
    let found = site.find(request.uri().path());
    let allow = match found.as_ref().map(|(_, rest)| rest.as_str()) {
        Some("") => handles::METHODS,
        Some("/probe") => probe::METHODS,
        Some("/peers") => peers::METHODS,
        Some(page) if PAGES.contains(&page) => PAGE_METHODS,
        Some(page) if let Some(page) = tasks::Page::find(page) => page.methods(),
        _ => return path_unknown(&site, &request.into_parts().0).into_response(),
    };
    (StatusCode::OK, [(header::ALLOW, allow)]).into_response()
}

async fn answer(State(site): State<Site>, request: Request) -> Response {
    let (parts, mut body) = request.into_parts();
    let response = route(&site, parts, &mut body).await;
    if !body.is_end_stream() {
        // Refused before it was read. Clients look at the answer only when they have sent everything, and a connection that ends under them looks
        // like a broken network.
        tokio::spawn(tokio::time::timeout(BODY_TIME, discard(body)));
    }
    response
}

async fn discard(mut body: Body) {
    while let Some(Ok(_)) = body.frame().await {}
}

async fn route(site: &Site, parts: Parts, body: &mut Body) -> Response {
    let Some((node, rest)) = site.find(parts.uri.path()) else {
        return path_unknown(site, &parts).into_response();
    };
    let forwarded = Forwarded::read(&parts, &node.config.trusted_proxies);
    if let Err(problem) = origin::check(&node.config, &parts, &forwarded, &rest) {
        tracing::debug!(caller = ?forwarded.caller, code = problem.code, "a request was refused");
        return problem.into_response();
    }
    let who = match caller::authenticate(node, &parts.headers) {
        Ok(who) => who,
        Err(problem) => return problem.into_response(),
    };
    let result = match (rest.as_str(), &parts.method) {
        ("", _) => handles::answer(node, &who, &parts.method, &parts.headers, body).await,
        ("/peer", &Method::GET | &Method::HEAD) => Ok(peer(node, Request::from_parts(parts, Body::empty()))),
        ("/identity", &Method::GET | &Method::HEAD) => Ok(json(&node.identity_document())),
        ("/tasks", &Method::GET | &Method::HEAD) => Ok(tasks::list(node, &who)),
        (audit::PATH, &Method::GET | &Method::HEAD) => audit::answer(node, &who, parts.uri.query()).await,
        ("/probe", &Method::POST) => probe::answer(node, &parts.headers, body).await,
        ("/probe", _) => return not_allowed(probe::METHODS),
        ("/peers", &Method::GET | &Method::HEAD | &Method::POST | &Method::DELETE) => {
            peers::answer(node, &who, &parts, body).await
        }
        ("/peers", _) => return not_allowed(peers::METHODS),
        ("/healthz" | "/readyz", &Method::GET | &Method::HEAD) => Ok(json("{\"status\":\"ok\"}")),
        ("/metrics", &Method::GET | &Method::HEAD) => Ok(metrics(node)),
        (page, _) if PAGES.contains(&page) => return not_allowed(PAGE_METHODS),
        (page, method) if let Some(page) = tasks::Page::find(page) => {
            page.answer(node, &who, method, &parts.headers).await
        }
        _ => Err(path_unknown(site, &parts)),
    };
    result.unwrap_or_else(IntoResponse::into_response)
}

fn peer(node: &Node, request: Request) -> Response {
    match node.peers().upgrade(request) {
        Ok(response) => response,
        Err(error) => {
            let hint = "this is for other nodes; a proxy in front must pass WebSocket upgrades on";
            let mut problem = Problem::malformed("PEER_UPGRADE", error.to_string(), hint);
            problem.status = StatusCode::UPGRADE_REQUIRED.as_u16();
            let mut response = problem.into_response();
            response
                .headers_mut()
                .insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            response
        }
    }
}

fn metrics(node: &Node) -> Response {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        node.metrics_text(),
    )
        .into_response()
}

/// A JSON text as an answer.
fn json(text: &str) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], format!("{text}\n")).into_response()
}

fn not_allowed(allow: &'static str) -> Response {
    let problem = Problem::method(
        "METHOD_NOT_ALLOWED",
        "this method is not allowed here",
        format!("allowed are {allow}"),
    );
    let mut response = problem.into_response();
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

fn path_unknown(site: &Site, parts: &Parts) -> Problem {
    let path = collapsed(parts.uri.path());
    let paths: Vec<&str> = site
        .0
        .iter()
        .map(|node| node.config.base_path.as_str())
        .map(|path| if path.is_empty() { "/" } else { path })
        .collect();
    let advice = site
        .0
        .iter()
        .find_map(|node| prefix::advice(&node.config, parts, &path));
    let advice = advice.unwrap_or_else(|| {
        "check the path of the URL, and behind a proxy base_path, which is the path as it arrives at the node"
            .to_owned()
    });
    Problem::unknown(
        "PATH_UNKNOWN",
        "there is nothing under this path",
        format!("the nodes here are under {}; {advice}", paths.join(", ")),
    )
}

/// The body of a request, and the room it takes among those of this node.
struct JsonBody<'a> {
    text: Zeroizing<Vec<u8>>,
    _room: Option<SemaphorePermit<'a>>,
}

/// Waits for room for a body of that length, which small ones need not.
async fn room_for(node: &Node, length: u64) -> Result<Option<SemaphorePermit<'_>>, Problem> {
    if length <= SMALL_BODY {
        return Ok(None);
    }
    // One that is longer than all the room takes it all.
    let kib = u32::try_from(length.div_ceil(1024)).unwrap_or(u32::MAX).min(BODIES_KIB);
    match tokio::time::timeout(BODY_WAIT, node.bodies.acquire_many(kib)).await {
        Ok(Ok(room)) => Ok(Some(room)),
        _ => Err(Problem::unavailable(
            "BODY_BUSY",
            "this node is receiving as many large requests as it can hold",
            "send it again in a moment",
        )),
    }
}

/// Reads a JSON body within the node's limits.
async fn json_body<'a>(node: &'a Node, headers: &HeaderMap, body: &mut Body) -> Result<JsonBody<'a>, Problem> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or("");
    if !kind
        .split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
    {
        return Err(Problem::media(
            "CONTENT_TYPE",
            "the request's body is not marked as JSON",
            "send the header Content-Type: application/json",
        ));
    }
    let limit = node.config.limits.body_bytes;
    let too_large = || {
        Problem::too_large(
            "BODY_TOO_LARGE",
            format!("the request is longer than {limit} bytes"),
            "send less at once, or ask this node's operator to raise limits.body_bytes",
        )
    };
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let room = room_for(node, announced.unwrap_or(limit as u64)).await?;
    let read = async {
        let mut text = Zeroizing::default();
        let mut body = Limited::new(body, limit);
        while let Some(frame) = body.frame().await {
            if let Ok(part) = frame?.into_data() {
                append(&mut text, &part);
            }
        }
        Ok::<_, axum::BoxError>(text)
    };
    match tokio::time::timeout(BODY_TIME, read).await {
        Ok(Ok(text)) => Ok(JsonBody { text, _room: room }),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        _ => Err(Problem::malformed(
            "BODY_INCOMPLETE",
            "the request's body did not arrive",
            "send it again",
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Config;

    async fn read(node: &Node, body: String, announced: bool) -> Result<JsonBody<'_>, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if announced {
            headers.insert(header::CONTENT_LENGTH, body.len().into());
        }
        json_body(node, &headers, &mut Body::from(body)).await
    }

    #[tokio::test]
    async fn large_bodies_share_a_bounded_room() {
        let config = Config {
            ephemeral: true,
            ..Config::default()
        };
        let node = Node::start(config).await.unwrap();
        let text = |length: u64| " ".repeat(usize::try_from(length).unwrap());
        let large = read(&node, text(SMALL_BODY + 1), true).await.unwrap();
        assert_eq!(large.text.len() as u64, SMALL_BODY + 1);
        assert_eq!(node.bodies.available_permits(), BODIES_KIB as usize - 65);
        drop(large);
        // Of unknown length: the longest that it may become.
        let unknown = read(&node, text(1), false).await.unwrap();
        assert_eq!(
            node.bodies.available_permits(),
            BODIES_KIB as usize - node.config.limits.body_bytes / 1024
        );
        drop(unknown);

        let all = node.bodies.acquire_many(BODIES_KIB).await.unwrap();
        for (length, announced) in [(SMALL_BODY + 1, true), (1, false)] {
            let refused = read(&node, text(length), announced).await.err().unwrap();
            assert_eq!((refused.status, refused.code), (503, "BODY_BUSY"));
        }
        assert!(read(&node, text(SMALL_BODY), true).await.is_ok());
        drop(all);
        assert!(read(&node, text(SMALL_BODY + 1), true).await.is_ok());
    }
}
