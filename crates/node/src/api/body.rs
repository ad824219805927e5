//! Reading the body of a request: bounded in length, time and rate, and together with all others in memory.
//!
//! Room for a large body is taken as its bytes arrive, never for what is announced, so a client holds no more than it has sent. When the room is used up
//! and others wait for it, those who send slowest have to leave: otherwise a few could send almost all of a large body and then let everybody wait.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use crate::config::Limits;
use crate::json::append;
use crate::node::Node;
use crate::problem::Problem;

/// Bodies up to this length never wait for room; the number of connections bounds them.
pub(super) const SMALL_BODY: usize = 64 << 10;
/// How long a larger one waits for more room.
const WAIT: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 5_000 });
/// The rate is looked at over so long.
const WINDOW: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 5_000 });
/// Who holds room while others wait for it has to send so much in so long.
const PRESSED_WINDOW: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 1_000 });
const PRESSED_BYTES: usize = 256 << 10;

/// The room for the large bodies of a node.
#[derive(Debug)]
pub(crate) struct Bodies {
    /// In KiB.
    room: Semaphore,
    /// How many wait for room.
    waiting: AtomicUsize,
}

impl Bodies {
    pub(crate) fn new(bytes: usize) -> Bodies {
        Bodies {
            room: Semaphore::new((bytes / 1024).min(Semaphore::MAX_PERMITS)),
            waiting: AtomicUsize::new(0),
        }
    }

    async fn take(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        let kib = u32::try_from(bytes.div_ceil(1024)).ok()?;
        if let Ok(room) = self.room.try_acquire_many(kib) {
            return Some(room);
        }
        let _waiting = Waiting::new(&self.waiting);
        tokio::time::timeout(WAIT, self.room.acquire_many(kib)).await.ok()?.ok()
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Waiting<'_> {
    fn new(count: &AtomicUsize) -> Waiting<'_> {
        count.fetch_add(1, Ordering::Relaxed);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of a request, and the room it takes among those of this node.
#[derive(Debug)]
pub(crate) struct JsonBody<'a> {
    pub(super) text: Zeroizing<Vec<u8>>,
    _room: Option<SemaphorePermit<'a>>,
}

/// Reads a JSON body within the node's limits.
pub(crate) async fn json_body<'a>(
    node: &'a Node,
    headers: &HeaderMap,
    body: &mut Body,
) -> Result<JsonBody<'a>, Problem> {
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
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok())
        .map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    let limits = &node.config.limits;
    if announced.is_some_and(|length| length > limits.body_bytes) {
        return Err(too_large(limits));
    }
    let reading = Reading {
        limits,
        bodies: &node.bodies,
        longest: announced.unwrap_or(limits.body_bytes),
        text: Zeroizing::default(),
        room: None,
    };
    reading.run(body).await
}

struct Reading<'a> {
    limits: &'a Limits,
    bodies: &'a Bodies,
    /// What it may become.
    longest: usize,
    text: Zeroizing<Vec<u8>>,
    room: Option<SemaphorePermit<'a>>,
}

/// Bytes since a moment.
struct Window {
    end: Instant,
    length: Duration,
    bytes: usize,
}

impl Window {
    fn new(length: Duration) -> Window {
        Window {
            end: Instant::now() + length,
            length,
            bytes: 0,
        }
    }

    /// What came in it, if it is over; then the next begins.
    fn over(&mut self) -> Option<usize> {
        let now = Instant::now();
        (now >= self.end).then(|| {
            self.end = now + self.length;
            std::mem::take(&mut self.bytes)
        })
    }
}

impl<'a> Reading<'a> {
    async fn run(mut self, body: &mut Body) -> Result<JsonBody<'a>, Problem> {
        let end = Instant::now() + self.limits.body_time();
        let least = usize::try_from(self.limits.slowest).unwrap_or(usize::MAX);
        let least = least.saturating_mul(usize::try_from(WINDOW.as_millis()).unwrap_or(0)) / 1000;
        let (mut window, mut pressed) = (Window::new(WINDOW), Window::new(PRESSED_WINDOW));
        loop {
            let look = end.min(window.end).min(pressed.end);
            if let Ok(frame) = timeout_at(look, body.frame()).await {
                let Some(frame) = frame else {
                    return Ok(JsonBody {
                        text: self.text,
                        _room: self.room,
                    });
                };
                if let Ok(part) = frame.map_err(|_| incomplete())?.into_data() {
                    window.bytes += part.len();
                    pressed.bytes += part.len();
                    let before = Instant::now();
                    self.take(&part).await?;
                    // While it waits for room the client cannot send.
                    let waited = before.elapsed();
                    window.end += waited;
                    pressed.end += waited;
                }
            }
            if Instant::now() >= end {
                return Err(too_slow(format!("within {} seconds", self.limits.body_time)).over("body_time"));
            }
            if window.over().is_some_and(|bytes| bytes < least) {
                return Err(too_slow(format!("at {} bytes per second at least", self.limits.slowest)).over("slowest"));
            }
            let slow = pressed.over().is_some_and(|bytes| bytes < PRESSED_BYTES);
            if slow && self.room.is_some() && self.bodies.waiting.load(Ordering::Relaxed) > 0 {
                return Err(busy(self.limits));
            }
        }
    }

    async fn take(&mut self, part: &Bytes) -> Result<(), Problem> {
        let needed = self.text.len() + part.len();
        if needed > self.limits.body_bytes {
            return Err(too_large(self.limits));
        }
        if needed > self.text.capacity() {
            // What is announced spares the surplus of the last doubling.
            let capacity = needed.max((2 * self.text.capacity()).min(self.longest));
            self.make_room(capacity).await?;
            let mut larger = Zeroizing::new(Vec::with_capacity(capacity));
            larger.extend_from_slice(&self.text);
            self.text = larger;
        }
        append(&mut self.text, part);
        Ok(())
    }

    async fn make_room(&mut self, capacity: usize) -> Result<(), Problem> {
        let has = self.room.as_ref().map_or(0, |room| room.num_permits() * 1024);
        if capacity <= SMALL_BODY || capacity <= has {
            return Ok(());
        }
        let more = self.bodies.take(capacity - has).await;
        let more = more.ok_or_else(|| busy(self.limits))?;
        match &mut self.room {
            Some(room) => room.merge(more),
            None => self.room = Some(more),
        }
        Ok(())
    }
}

fn too_large(limits: &Limits) -> Problem {
    let limit = limits.body_bytes;
    Problem::too_large(
        "BODY_TOO_LARGE",
        format!("the request is longer than {limit} bytes"),
        "send less at once, or ask this node's operator to raise limits.body_bytes",
    )
    .exceeds("body_bytes", limit)
}

fn busy(limits: &Limits) -> Problem {
    Problem::unavailable(
        "BODY_BUSY",
        "this node is receiving as many large requests as it can hold",
        "send it again in a moment",
    )
    .exceeds("bodies_bytes", limits.bodies_bytes)
}

fn too_slow(how: String) -> Problem {
    Problem::timeout(
        "BODY_TOO_SLOW",
        format!("the request's body did not arrive {how}"),
        "send it again over a faster connection, or send less at once",
    )
}

fn incomplete() -> Problem {
    Problem::malformed("BODY_INCOMPLETE", "the request's body did not arrive", "send it again")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::convert::Infallible;
    use std::sync::Arc;

    use axum::http::HeaderValue;
    use futures_util::stream;
    use tokio::sync::mpsc;

    use super::*;
    use crate::config::Config;

    const ROOM: usize = 1024;

    async fn node() -> Arc<Node> {
        let mut config = Config {
            ephemeral: true,
            ..Config::default()
        };
        config.limits.bodies_bytes = ROOM << 10;
        config.limits.body_bytes = ROOM << 10;
        config.limits.slowest = 100;
        Node::start(config).await.unwrap()
    }

    async fn read<'a>(node: &'a Node, body: &mut Body, length: Option<usize>) -> Result<JsonBody<'a>, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(length) = length {
            headers.insert(header::CONTENT_LENGTH, length.into());
        }
        json_body(node, &headers, body).await
    }

    fn spaces(length: usize) -> Bytes {
        " ".repeat(length).into()
    }

    /// A body whose parts come when they are sent.
    fn sent() -> (mpsc::UnboundedSender<Bytes>, Body) {
        let (send, sent) = mpsc::unbounded_channel();
        let parts = stream::unfold(sent, |mut sent: mpsc::UnboundedReceiver<Bytes>| async move {
            Some((Ok::<_, Infallible>(sent.recv().await?), sent))
        });
        (send, Body::from_stream(parts))
    }

    fn free(node: &Node) -> usize {
        node.bodies.room.available_permits()
    }

    #[tokio::test]
    async fn large_bodies_share_a_bounded_room() {
        let node = node().await;
        let of = |length: usize| Body::from(spaces(length));
        let large = read(&node, &mut of(SMALL_BODY + 1), Some(SMALL_BODY + 1))
            .await
            .unwrap();
        assert_eq!((large.text.len(), free(&node)), (SMALL_BODY + 1, ROOM - 65));
        drop(large);
        assert_eq!(free(&node), ROOM);
        let all = node
            .bodies
            .room
            .acquire_many(u32::try_from(ROOM).unwrap())
            .await
            .unwrap();
        for length in [Some(SMALL_BODY + 1), None] {
            let refused = read(&node, &mut of(SMALL_BODY + 1), length).await.unwrap_err();
            assert_eq!((refused.status, refused.code), (503, "BODY_BUSY"));
        }
        assert!(read(&node, &mut of(SMALL_BODY), None).await.is_ok());
        drop(all);
        assert!(read(&node, &mut of(SMALL_BODY + 1), None).await.is_ok());
        assert_eq!(free(&node), ROOM);
    }

    #[tokio::test]
    async fn what_is_announced_takes_no_room_and_a_body_that_does_not_come_ends() {
        let node = node().await;
        let (_send, mut silent) = sent();
        let reading = read(&node, &mut silent, Some(ROOM << 10));
        let other = async {
            tokio::task::yield_now().await;
            free(&node)
        };
        let (refused, free) = tokio::join!(reading, other);
        assert_eq!(free, ROOM);
        let refused = refused.unwrap_err();
        assert_eq!((refused.status, refused.code), (408, "BODY_TOO_SLOW"));
    }

    #[tokio::test]
    async fn who_sends_slowly_leaves_when_others_wait() {
        let node = node().await;
        let (send, mut slow) = sent();
        send.send(spaces(ROOM << 10).slice(..(ROOM << 10) - 1)).unwrap();
        let slow = read(&node, &mut slow, Some(ROOM << 10));
        let other = async {
            while free(&node) > 0 {
                tokio::task::yield_now().await;
            }
            // Of those who wait, at least one is served at last.
            loop {
                let mut body = Body::from(spaces(SMALL_BODY + 1));
                match read(&node, &mut body, None).await {
                    Ok(body) => return body.text.len(),
                    Err(busy) => assert_eq!(busy.code, "BODY_BUSY"),
                }
            }
        };
        let (refused, length) = tokio::join!(slow, other);
        assert_eq!((refused.unwrap_err().code, length), ("BODY_BUSY", SMALL_BODY + 1));
        assert_eq!(free(&node), ROOM);
    }
}
