//! The pages about tasks.
//!
//! ```text
//! GET  {base}/tasks                 the caller's tasks without what gives access to them, and the pending invitations
//! GET  {base}/tasks/{id}            progress
//! GET  {base}/tasks/{id}/events     progress at every change, as server-sent events, until the task has ended
//! GET  {base}/tasks/{id}/receipt    its receipt; with the salt for its owner only
//! POST {base}/tasks/{id}/cancel     ends it for all parties
//! GET  {base}/invitations/{task}    what a link to the task leads to
//! ```
//! `{id}` is the task's id, which all parties know, or the object's, which only its owner knows: it takes the latter, or the operator's token, to end
//! a task.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, watch};
use uuid::Uuid;

use super::{PAGE_METHODS, not_allowed};
use crate::node::{Node, STREAMS};
use crate::problem::Problem;
use crate::services::Principal;
use crate::task::Task;

/// A comment is sent so often, so that no proxy takes a quiet stream for a dead one.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

const CANCEL_METHODS: &str = "POST, OPTIONS";

/// One of the pages that have an id in their path.
#[derive(Clone, Copy)]
pub(super) enum Page<'a> {
    Progress(&'a str),
    Events(&'a str),
    Receipt(&'a str),
    Cancel(&'a str),
    Invitation(&'a str),
}

impl<'a> Page<'a> {
    /// From the path below the base path.
    pub(super) fn find(path: &'a str) -> Option<Page<'a>> {
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        match segments[..] {
            ["tasks", id] => Some(Page::Progress(id)),
            ["tasks", id, "events"] => Some(Page::Events(id)),
            ["tasks", id, "receipt"] => Some(Page::Receipt(id)),
            ["tasks", id, "cancel"] => Some(Page::Cancel(id)),
            ["invitations", id] => Some(Page::Invitation(id)),
            _ => None,
        }
    }

    /// What is allowed there.
    pub(super) fn methods(self) -> &'static str {
        match self {
            Page::Cancel(_) => CANCEL_METHODS,
            Page::Progress(_) | Page::Events(_) | Page::Receipt(_) | Page::Invitation(_) => PAGE_METHODS,
        }
    }

    pub(super) async fn answer(
        self,
        node: &Node,
        who: &Principal,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Response, Problem> {
        let answered = match (self, method) {
            (Page::Progress(id), &Method::GET | &Method::HEAD) => {
                find(node, who, id).map(|(task, _)| super::json(&task.progress().to_string()))
            }
            (Page::Events(id), &Method::HEAD) => find(node, who, id).map(|_| event_stream(stream::empty())),
            (Page::Events(id), &Method::GET) => events(node, who, id),
            (Page::Receipt(id), &Method::GET | &Method::HEAD) => receipt(node, who, id),
            (Page::Cancel(id), &Method::POST) => cancel(node, who, id, headers).await,
            (Page::Invitation(id), &Method::GET | &Method::HEAD) => invitation(node, id),
            _ => Ok(not_allowed(self.methods())),
        };
        answered.map_err(|problem| super::handles::with_place(node, headers, problem))
    }
}

pub(super) fn list(node: &Node, who: &Principal) -> Response {
    let tasks = node.simon.tasks();
    let body = json!({
        "tasks": tasks.list(who),
        "invitations": tasks.invitations(),
    });
    super::json(&body.to_string())
}

/// Also whether the id is that of the object.
fn find(node: &Node, who: &Principal, id: &str) -> Result<(Arc<Task>, bool), Problem> {
    let parsed = Uuid::try_parse(id).ok();
    parsed.and_then(|id| node.simon.tasks().find(who, &id)).ok_or_else(|| {
        Problem::unknown(
            "TASK_UNKNOWN",
            "this node has no task with this id",
            "it may be deleted or expired, or another node's: GET {base}/tasks lists the tasks of this node",
        )
    })
}

/// Whoever has the salt can test guesses of the result, so it is for those who may have the result.
fn receipt(node: &Node, who: &Principal, id: &str) -> Result<Response, Problem> {
    let (task, by_object) = find(node, who, id)?;
    let with_salt = by_object || (task.owner == *who && !who.is_anonymous());
    task.receipt(with_salt).map(|receipt| super::json(&receipt.to_string()))
}

fn invitation(node: &Node, id: &str) -> Result<Response, Problem> {
    let parsed = Uuid::try_parse(id).ok();
    let invitation = parsed.and_then(|id| node.simon.tasks().invitation_to(&id));
    let invitation = invitation.ok_or_else(|| {
        Problem::unknown(
            "TASK_UNKNOWN",
            "this node has no open task with this id",
            "it has ended or was deleted: ask the inviting party for a new invitation",
        )
    })?;
    Ok(super::json(&invitation.to_string()))
}

async fn cancel(node: &Node, who: &Principal, id: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let (task, by_owner) = find(node, who, id)?;
    let token = headers.get(header::AUTHORIZATION);
    if !by_owner && !token.is_some_and(|token| node.operator.admits(token.as_bytes())) {
        let what = if token.is_some() {
            "the token in the header Authorization is not that of this node's operator"
        } else {
            "everybody knows this task's id; to end the task takes more"
        };
        return Err(Problem::unauthorized(
            "OPERATOR_ONLY",
            what,
            "name the task by its object's id (the callback of its handle), or send 'Authorization: Bearer …' with the text of the file \
             operator.token in this node's data directory",
        ));
    }
    task.cancel(if by_owner { &task.owner } else { who });
    task.flush_records().await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn events(node: &Node, who: &Principal, id: &str) -> Result<Response, Problem> {
    let (task, _) = find(node, who, id)?;
    let room = Arc::clone(&node.streams).try_acquire_owned().map_err(|_| {
        Problem::unavailable(
            "STREAMS_BUSY",
            format!("{STREAMS} streams of events are open, more than that this node does not serve at once"),
            "try again later, or ask for the task's progress instead",
        )
    })?;
    let watching = Watching {
        changes: task.changes(),
        stopping: node.simon.tasks().context().stopping.subscribe(),
        task,
        last: Value::Null,
        over: false,
        _room: room,
    };
    Ok(event_stream(stream::unfold(watching, Watching::next)))
}

fn event_stream(events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    let mut response = Sse::new(events)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response();
    // nginx keeps answers back unless it is told not to.
    response.headers_mut().insert(
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    );
    response
}

/// Somebody who watches a task.
struct Watching {
    task: Arc<Task>,
    changes: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
    /// What was told last.
    last: Value,
    over: bool,
    _room: OwnedSemaphorePermit,
}

impl Watching {
    /// The next event: at once the first time, then when something has changed. Changes that come faster than they are read are told together.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Watching)> {
        while !self.over {
            // Seen before it is looked at, so that no change in between is missed.
            self.changes.borrow_and_update();
            self.over = self.task.ended().is_some();
            let progress = self.task.progress();
            let mut known = progress.clone();
            if let Some(known) = known.as_object_mut() {
                // Passes by itself; that is no news.
                known.remove("seconds_left");
            }
            if self.over || known != self.last {
                self.last = known;
                let event = Event::default().event("progress").data(progress.to_string());
                return Some((Ok(event), self));
            }
            tokio::select! {
                changed = self.changes.changed() => changed.ok()?,
                _ = self.stopping.wait_for(|stopping| *stopping) => return None,
            }
        }
        None
    }
}
