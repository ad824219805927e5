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
//! `{id}` is the task's id, which all parties know, or the object's, which only its owner knows. For anonymous callers, who are many, only the latter
//! names a task. To end one takes being its owner, or an owner of the node.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, watch};
use uuid::Uuid;

use crate::access::roles::{self, Action};
use crate::access::{Caller, Lease};
use crate::node::Node;
use crate::principal::{Principal, Role};
use crate::problem::Problem;
use crate::task::Task;

/// A comment is sent so often, so that no proxy takes a quiet stream for a dead one.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

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

    pub(super) async fn answer(
        self,
        node: &Node,
        caller: &Caller,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Response, Problem> {
        let who = &caller.who;
        let answered = match (self, method) {
            (Page::Progress(id), _) => {
                find(node, who, id).map(|task| super::json(&task.progress_for(knows(who, &task)).to_string()))
            }
            (Page::Events(id), &Method::HEAD) => find(node, who, id).map(|_| event_stream(stream::empty())),
            (Page::Events(id), _) => events(node, caller, id),
            (Page::Receipt(id), _) => receipt(node, who, id),
            (Page::Cancel(id), _) => cancel(node, who, id).await,
            (Page::Invitation(id), _) => invitation(node, id),
        };
        answered.map_err(|problem| super::handles::with_place(node, headers, problem))
    }
}

pub(super) fn list(node: &Node, who: &Principal) -> Response {
    let tasks = node.simon.tasks();
    let body = json!({
        "tasks": tasks.list(who),
        "invitations": tasks.invitations(who),
    });
    super::json(&body.to_string())
}

pub(super) fn find(node: &Node, who: &Principal, id: &str) -> Result<Arc<Task>, Problem> {
    let parsed = Uuid::try_parse(id).ok();
    parsed.and_then(|id| node.simon.tasks().find(who, &id)).ok_or_else(|| {
        Problem::unknown(
            "TASK_UNKNOWN",
            "this node has no task with this id",
            "it may be deleted or expired, or another node's: GET {base}/tasks lists your tasks at this node; without a token a task is found by the id \
             of its object (the callback of its handle) only",
        )
    })
}

/// Whoever has the salt can test guesses of the result, so it is for those who may have the result.
fn receipt(node: &Node, who: &Principal, id: &str) -> Result<Response, Problem> {
    let task = find(node, who, id)?;
    // Anonymous callers find a task by its object only, which is what shows them to be its owner.
    let with_salt = task.owner == *who;
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

async fn cancel(node: &Node, who: &Principal, id: &str) -> Result<Response, Problem> {
    let task = find(node, who, id)?;
    if task.owner != *who {
        roles::check(who, Action::Decide)?;
    }
    task.cancel(who);
    task.flush_records().await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Whether they are told everything about a task that they may look at.
fn knows(who: &Principal, task: &Task) -> bool {
    task.owner == *who || who.role() == Role::Owner
}

fn events(node: &Node, caller: &Caller, id: &str) -> Result<Response, Problem> {
    let task = find(node, &caller.who, id)?;
    let most = node.config.limits.streams;
    let room = Arc::clone(&node.streams).try_acquire_owned().map_err(|_| {
        Problem::unavailable(
            "STREAMS_BUSY",
            format!("{most} streams of events are open, more than that this node does not serve at once"),
            "try again later, or ask for the task's progress instead",
        )
        .exceeds("streams", most)
    })?;
    let watching = Watching {
        changes: task.changes(),
        stopping: node.simon.tasks().context().stopping.subscribe(),
        known: knows(&caller.who, &task),
        task,
        last: Value::Null,
        over: false,
        lease: caller.lease.clone(),
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
    /// They may know why this node declined.
    known: bool,
    changes: watch::Receiver<u64>,
    stopping: watch::Receiver<bool>,
    /// What was told last.
    last: Value,
    over: bool,
    /// The stream ends with it.
    lease: Lease,
    _room: OwnedSemaphorePermit,
}

impl Watching {
    /// The next event: at once the first time, then when something has changed. Changes that come faster than they are read are told together.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Watching)> {
        while !self.over {
            // Seen before it is looked at, so that no change in between is missed.
            self.changes.borrow_and_update();
            self.over = self.task.ended().is_some();
            let progress = self.task.progress_for(self.known);
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
                () = self.lease.clone().over() => return None,
            }
        }
        None
    }
}
