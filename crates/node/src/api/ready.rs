//! `GET {base}/readyz`: whether this node can work.

use std::time::{Duration, Instant};

use axum::response::Response;
use tokio::sync::Mutex;

use super::json;
use crate::node::Node;
use crate::problem::Problem;

/// How long the storage may take for one record.
const PATIENCE: Duration = Duration::from_secs(5);
/// A write that succeeded counts for so long: whoever asks again and again shall not keep the disk busy.
const FRESH: Duration = Duration::from_secs(1);
/// The record that is written, and for how many seconds it is kept.
const KIND: &str = "readiness";
const KEPT: u64 = 60;

/// When the storage was written to last.
#[derive(Debug, Default)]
pub(crate) struct Readiness(Mutex<Option<Instant>>);

pub(super) async fn answer(node: &Node) -> Result<Response, Problem> {
    let not_ready = |what: &str, hint: &str| Problem::unavailable("NOT_READY", what, hint);
    if *node.simon.tasks().context().stopping.borrow() {
        return Err(not_ready(
            "this node is stopping",
            "use another node, or start this one again",
        ));
    }
    // Whoever comes meanwhile waits for the same write.
    let mut last = node.readiness.0.lock().await;
    if !last.is_some_and(|last| last.elapsed() < FRESH) {
        *last = None;
        let store = &node.simon.tasks().context().store;
        let expires = node.simon.tasks().context().clock.now() + KEPT;
        let written = store.put(KIND, "storage".to_owned(), Vec::new(), expires);
        let hint = "see the node's log; often the disk is full, or the data directory cannot be written to";
        match tokio::time::timeout(PATIENCE, written).await {
            Ok(Ok(())) => *last = Some(Instant::now()),
            Ok(Err(error)) => {
                tracing::error!(%error, "the storage cannot be written to");
                return Err(not_ready("the storage of this node cannot be written to", hint));
            }
            Err(_) => return Err(not_ready("the storage of this node does not answer", hint)),
        }
    }
    Ok(json("{\"status\":\"ok\"}"))
}
