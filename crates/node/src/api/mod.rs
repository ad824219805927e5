//! The HTTP face: finds the node and the resource by path. A handler translates and nothing else.
//!
//! ```text
//! {base}               the handle API            {base}/tasks     tasks and pending invitations; see `tasks` for what is below
//! {base}/peer          WebSocket between nodes   {base}/metrics   Prometheus text
//! {base}/identity      this node's keys          {base}/healthz, {base}/readyz
//! {base}/probe         the way to another node   {base}/tokens   who may call; see `tokens`
//! {base}/peers         the known nodes           {base}/policy   what this node's owner allows
//! {base}/openapi.json  all of this for programs  {base}/audit    what was done here
//! {base}/representations, {base}/representation/…                the API of generation 0.6; see `representations`
//! ```
//! All of them, and what each of them takes, are in the table of `routes`. Doubled slashes collapse, a slash at the end makes no difference.

mod answer;
mod audit;
mod body;
mod caller;
mod decisions;
mod forwarded;
mod handles;
mod origin;
mod peers;
mod policy;
mod prefix;
mod probe;
mod ready;
mod representations;
pub(crate) mod routes;
mod tasks;
mod tokens;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use tower_http::cors::{AllowOrigin, CorsLayer};

use self::forwarded::Forwarded;
use self::routes::Route;
use crate::access::{Caller, credentials_refused};
use crate::node::Node;
use crate::problem::{Problem, Refusal};

/// Describes all routes; where the node is reached is put in when it is asked for.
const OPENAPI: &str = include_str!("openapi.json");

/// Says who is waited for, on an empty answer to `result`.
pub const WAITING: &str = "fdrtd-waiting";

pub(crate) use self::answer::Answers;
pub(crate) use self::body::Bodies;
use self::body::json_body;
pub(crate) use self::forwarded::connected;
pub(crate) use self::ready::Readiness;

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
        .allow_methods([
            Method::GET,
            Method::HEAD,
            Method::PUT,
            Method::POST,
            Method::PATCH,
            Method::DELETE,
        ])
        .allow_headers([header::CONTENT_TYPE, header::AUTHORIZATION])
        .expose_headers([header::HeaderName::from_static(WAITING), header::RETRY_AFTER])
        .max_age(Duration::from_secs(3600))
}

/// `OPTIONS` outside of a browser's preflight asks what is allowed.
async fn plain_options(State(site): State<Site>, request: Request, next: axum::middleware::Next) -> Response {
    if request.method() != Method::OPTIONS || request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
        return next.run(request).await;
    }
    let found = site.find(request.uri().path());
    let Some(route) = found.as_ref().and_then(|(_, rest)| Route::find(rest)) else {
        return path_unknown(&site, &request.into_parts().0).into_response();
    };
    (StatusCode::OK, [(header::ALLOW, route.allow)]).into_response()
}

async fn answer(State(site): State<Site>, request: Request) -> Response {
    let begin = Instant::now();
    let (parts, mut body) = request.into_parts();
    let found = site.find(parts.uri.path());
    let page = found.as_ref().and_then(|(_, rest)| Route::find(rest));
    let node = found.as_ref().map(|(node, _)| *node).or(site.0.first());
    let metrics = node.map(|node| node.metrics().clone());
    let method = routes::method_label(&parts.method);
    let mut response = route(&site, parts, &mut body).await;
    if let Some(node) = node {
        response = answer::with_room(&node.answers, &node.config.limits, response);
    }
    if let Some(metrics) = metrics {
        let path = page.map_or("other", |route| route.path);
        metrics.request(path, method, response.status().as_u16(), begin.elapsed());
        if let Some(refusal) = response.extensions().get::<Refusal>() {
            metrics.refused(refusal.code);
            refusal.exceeds.into_iter().for_each(|limit| metrics.limit_hit(limit));
        }
    }
    if !body.is_end_stream() {
        // Refused before it was read. Clients look at the answer only when they have sent everything, and a connection that ends under them looks
        // like a broken network.
        let time = match node {
            // It had its time.
            Some(node) if response.status() != StatusCode::REQUEST_TIMEOUT => node.config.limits.body_time(),
            _ => Duration::from_secs(1),
        };
        tokio::spawn(tokio::time::timeout(time, discard(body)));
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
    let Some(found) = Route::find(&rest) else {
        return path_unknown(site, &parts).into_response();
    };
    let admitted = match found.need(&parts.method) {
        Some(need) => caller::admit(node, found, need, &parts.headers, forwarded.caller).await,
        None => caller::count(node, found, forwarded.caller).and(Ok(None)),
    };
    let caller = match admitted {
        Ok(Some(caller)) => caller,
        Ok(None) => return not_allowed(found.allow),
        Err(problem) => return problem.into_response(),
    };
    let over = caller.lease.clone().over();
    let result = tokio::select! {
        // A request that has its answer gets it.
        biased;
        result = page(site, node, &rest, &caller, parts, body) => result,
        () = over => Err(credentials_refused()),
    };
    result.unwrap_or_else(IntoResponse::into_response)
}

/// Only for what `routes` lists, and for whom it admits.
async fn page(
    site: &Site,
    node: &Node,
    page: &str,
    caller: &Caller,
    parts: Parts,
    body: &mut Body,
) -> Result<Response, Problem> {
    let who = &caller.who;
    match (page, &parts.method) {
        ("", _) => handles::answer(node, who, &parts.method, &parts.headers, body).await,
        ("/peer", _) => Ok(peer(node, Request::from_parts(parts, Body::empty()))),
        ("/identity", _) => Ok(json(&node.identity_document())),
        ("/tasks", _) => Ok(tasks::list(node, who)),
        ("/audit", _) => audit::answer(node, parts.uri.query()).await,
        ("/probe", _) => probe::answer(node, &parts.headers, body).await,
        ("/peers", _) => peers::answer(node, who, &parts, body).await,
        ("/healthz", _) => Ok(json("{\"status\":\"ok\"}")),
        ("/readyz", _) => ready::answer(node).await,
        ("/metrics", _) => Ok(metrics(node)),
        ("/openapi.json", _) => Ok(openapi(node)),
        ("/policy" | "/policy/check", _) => policy::answer(node, who, page, &parts.headers, body).await,
        (page, _) if let Some(found) = decisions::find(page) => {
            decisions::answer(node, who, found, &parts.headers, body).await
        }
        (page, method) if let Some(page) = representations::Page::find(page) => {
            page.answer(node, who, method, &parts.headers, body).await
        }
        (page, method) if let Some(page) = tasks::Page::find(page) => {
            page.answer(node, caller, method, &parts.headers).await
        }
        (page, method) if let Some(name) = tokens::find(page) => {
            tokens::answer(node, who, name, method, &parts.headers, body).await
        }
        _ => Err(path_unknown(site, &parts)),
    }
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
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], node.metrics_text()).into_response()
}

fn openapi(node: &Node) -> Response {
    let base = match node.config.base_path.as_str() {
        "" => "/",
        base => base,
    };
    // A base path has no character that JSON would have to escape.
    json(
        OPENAPI
            .replacen("\"url\": \"/\"", &format!("\"url\": \"{base}\""), 1)
            .trim_end(),
    )
}

/// A JSON text as an answer.
fn json(text: &str) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], format!("{text}\n")).into_response()
}

/// An empty answer that says who or what is waited for.
fn waiting(mut response: Response, text: &str) -> Response {
    let text: String = text.chars().filter(|c| !c.is_control()).take(1000).collect();
    if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
        response.headers_mut().insert(WAITING, value);
    }
    response
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
