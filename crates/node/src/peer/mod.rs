//! The other nodes: who they are, whether they can be reached, and messages to and from them.
//!
//! [`Peers`] is the whole face. Below it, from the bottom:
//!
//! * [`link`]: what two nodes have between them across connections (order, acknowledgement, resumption); pure.
//! * `noise`: the encrypted channel of one connection; pure.
//! * `ws`: sockets, the WebSocket and the handshake.
//! * `connection`: one task per connection that moves records between a socket and a link.
//! * [`probe`]: tests the way to a node, layer by layer.
//! * `handshakes`: how many may be in progress.
//! * `inner`: what is kept about each peer; `dial`: one task per peer that is wanted and not connected.
//! * `traffic`: counts.
//! * `trust`: which URLs are contacted and which key is expected where; `acquaintance`: how that is learnt.
//!
//! **One connection per pair.** Both sides may dial. A new connection replaces the current one if the same side dialled
//! both, or if the node with the smaller key dialled the new one; otherwise it is dropped, unless the current one shows
//! no sign of life. Nothing is lost either way, because the link resumes.
//!
//! **Locks.** The map of peers, then one peer's state; both are held for moments, never across an `await` and never
//! while an event is delivered, so a handler of events may call anything here.
//!
//! Not supported: dialling through proxies.

mod acquaintance;
mod connection;
mod delivered;
mod dial;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod handshakes;
mod inner;
pub mod link;
mod noise;
pub mod probe;
mod traffic;
mod trust;
mod ws;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    http::{Request, Response},
};
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::Handle,
    sync::{Notify, watch},
    time::timeout,
};
use tracing::{debug, info};

use crate::{
    config::Limits,
    connect::Connector,
    identity::{Identity, PeerKey},
    metrics::Metrics,
    reach::Reach,
    url::NodeUrl,
};
use handshakes::{Handshakes, Place};
use inner::{Inner, Totals, housekeeping, lock};
use probe::Probe;
use trust::Book;

pub use acquaintance::News;
pub use error::{PeerError, TlsFault};
pub use link::TaskId;
pub use traffic::Traffic;
pub use trust::{Known, Memory, PinError, Source, Trust};
pub use ws::UpgradeError;

/// How this node treats other nodes.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// How keys become known.
    pub trust: Trust,
    /// The keys that are known beforehand.
    pub pinned: Vec<(NodeUrl, PeerKey)>,
    /// Whether `http` URLs beyond this machine may be dialled.
    pub allow_plain_http: bool,
    /// URLs that may be dialled, with everything below them; empty for any.
    pub allow_urls: Vec<String>,
    /// A peer with open tasks that is silent is pinged after so many milliseconds.
    pub keep_alive_ms: u64,
    /// Longest pause between two attempts to dial, in milliseconds.
    pub dial_retry_max_ms: u64,
    /// Addresses to which connections may be opened.
    pub reach: Reach,
    /// The URL of this node, told to peers.
    pub own_url: Option<NodeUrl>,
    /// Where this node is reached, host and port only: what is there may have any address that the operator's own network has.
    pub own_servers: Vec<NodeUrl>,
    /// Opens the connections.
    pub connector: Connector,
    /// Incoming handshakes in progress, at most.
    pub max_handshakes: usize,
    /// Links without a task that wants them, at most.
    pub max_strangers: usize,
    /// Bytes of messages under way from one peer, at most.
    pub inbox_bytes: usize,
    /// Bytes that wait for one peer's acknowledgement, at most.
    pub outbox_bytes: usize,
    /// Where limits that are hit are counted.
    pub metrics: Metrics,
}

impl Default for PeerConfig {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            trust: Trust::Tofu,
            pinned: Vec::new(),
            allow_plain_http: false,
            allow_urls: Vec::new(),
            reach: Reach::default(),
            own_servers: Vec::new(),
            keep_alive_ms: 25_000,
            dial_retry_max_ms: 5_000,
            own_url: None,
            connector: Connector::default(),
            max_handshakes: limits.peer_handshakes,
            max_strangers: limits.peer_strangers,
            inbox_bytes: limits.peer_inbox_bytes,
            outbox_bytes: limits.peer_outbox_bytes,
            metrics: Metrics::default(),
        }
    }
}

/// What happens with peers. The messages of one peer come in the order in which they were sent, task by task.
#[derive(Clone, PartialEq, Eq)]
pub enum Event {
    /// A message. The sender's key is proved; whether it belongs to the task is for the receiver to check.
    Message {
        /// The sender.
        from: PeerKey,
        /// The task it names.
        task: TaskId,
        /// The message.
        bytes: Bytes,
    },
    /// A message was longer than the limit of its task and has been skipped.
    TooLong {
        /// The sender.
        from: PeerKey,
        /// The task it names.
        task: TaskId,
    },
    /// There was no memory for a message, which has been skipped: what is under way from this peer needs more than this node gives it.
    NoRoom {
        /// The sender.
        from: PeerKey,
        /// The task it names.
        task: TaskId,
    },
    /// There is a connection now.
    Up {
        /// The peer.
        peer: PeerKey,
    },
    /// There is none any more. Nothing is lost yet.
    Down {
        /// The peer.
        peer: PeerKey,
    },
    /// The node with this key has a new one. What it was to do under the old one it cannot do any more.
    Rotated {
        /// The key that is not used any more.
        old: PeerKey,
    },
    /// The peer lost its state. What was sent and not acknowledged before this event is dropped.
    Restarted {
        /// The peer.
        peer: PeerKey,
    },
}

/// Names and lengths only: messages are nobody's business.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message { from, bytes, .. } => {
                write!(f, "Message({from:?}, {} bytes)", bytes.len())
            }
            Self::TooLong { from, .. } => write!(f, "TooLong({from:?})"),
            Self::NoRoom { from, .. } => write!(f, "NoRoom({from:?})"),
            Self::Up { peer } => write!(f, "Up({peer:?})"),
            Self::Down { peer } => write!(f, "Down({peer:?})"),
            Self::Rotated { old } => write!(f, "Rotated({old:?})"),
            Self::Restarted { peer } => write!(f, "Restarted({peer:?})"),
        }
    }
}

/// How it stands with one peer.
#[derive(Clone, Debug, Default)]
pub struct PeerStatus {
    /// Whether there is a connection now.
    pub connected: bool,
    /// When something was heard from it last.
    pub last_heard: Option<Instant>,
    /// Why there is no connection, or why the last one ended. Cleared by a new connection.
    pub last_error: Option<PeerError>,
}

/// Totals since the start, except `connections`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections that are up now.
    pub connections: u64,
    /// Connections that came up, other than the first with a peer.
    pub reconnects: u64,
    /// Incoming connections of nodes that are not welcome.
    pub refused: u64,
}

/// Takes what happens with peers.
pub type OnEvent = Box<dyn Fn(Event) + Send + Sync>;
/// Takes the key that a URL shows for the first time, to be kept for the next life of this node.
pub type OnNews = Box<dyn Fn(News<'_>) + Send + Sync>;

/// All peers of this node. Clones are the same peers. Tasks and sockets live until [`Peers::shutdown`].
#[derive(Clone)]
pub struct Peers(Arc<Inner>);

impl Peers {
    /// Begins with no connections. `memory` is what `on_news` was called with in earlier lives of this node, and what its operator has pinned.
    ///
    /// `on_event` is called from the tasks of the connections and should be quick: while it runs, nothing else is
    /// received from that peer. `on_news` is called when a URL shows its key for the first time, or a node a new key.
    ///
    /// # Panics
    /// If called outside a tokio runtime.
    #[must_use]
    pub fn new(
        identity: Arc<Identity>,
        config: PeerConfig,
        memory: Memory,
        on_event: OnEvent,
        on_news: OnNews,
    ) -> Self {
        let book = Book::new(&config, memory);
        let inner = Arc::new(Inner {
            identity,
            handshakes: Handshakes::new(config.max_handshakes, config.metrics.clone()),
            config,
            on_event,
            on_news,
            book: Mutex::new(book),
            peers: Mutex::new(HashMap::new()),
            asked: Mutex::default(),
            acknowledged: Notify::new(),
            shutdown: watch::Sender::new(false),
            runtime: Handle::current(),
            start: Instant::now(),
            totals: Totals::default(),
            traffic: traffic::Ledger::default(),
        });
        inner.runtime.spawn(housekeeping(Arc::downgrade(&inner)));
        Self(inner)
    }

    /// Tests the way to the node at `url` layer by layer, under the rules for URLs and keys that hold for peers. Nothing is remembered. `expected` is
    /// the key that the asker knows.
    pub async fn probe(&self, url: &NodeUrl, expected: Option<PeerKey>) -> Probe {
        let known = self
            .0
            .way(url)
            .and_then(|way| Ok((way, lock(&self.0.book).expected(url)?)));
        match known {
            Ok((way, known)) => {
                let keys: Vec<PeerKey> = known.into_iter().chain(expected).collect();
                probe::probe(&way, &self.0.identity, url, &keys).await
            }
            Err(error) => Probe::refused(&error, url),
        }
    }

    /// The first of these URLs behind which that node is known to be, as far as this node has found out by itself.
    #[must_use]
    pub fn url_of(&self, key: &PeerKey, urls: &[NodeUrl]) -> Option<NodeUrl> {
        let book = lock(&self.0.book);
        urls.iter().find(|url| book.expected(url) == Ok(Some(*key))).cloned()
    }

    /// Asks `GET {url}/{page}`, at most `max_bytes` long, of the node `key` and nobody else.
    ///
    /// # Errors
    /// [`PeerError`]: `KeyChanged` if the URL shows another key now or is known to have another, `Http` for any status but 200.
    pub async fn fetch(&self, url: &NodeUrl, key: PeerKey, page: &str, max_bytes: usize) -> Result<Bytes, PeerError> {
        let other = |found| PeerError::KeyChanged { expected: key, found };
        let way = self.0.way(url)?;
        let known = lock(&self.0.book).expected(url)?;
        if let Some(known) = known.filter(|known| *known != key) {
            return Err(other(known));
        }
        let found = ws::fetch_identity(&way, url).await?.key;
        if found != key {
            return Err(other(found));
        }
        ws::fetch_page(&way, url, page, max_bytes).await
    }

    /// This node's key.
    #[must_use]
    pub fn own_key(&self) -> PeerKey {
        self.0.identity.key()
    }

    /// Whether a node with that key may connect to this one. Others are refused as soon as they have proved their key.
    #[must_use]
    pub fn welcomes(&self, key: &PeerKey) -> bool {
        lock(&self.0.book).welcomes(key)
    }

    /// Keeps a connection to `peer` as long as `task` is open. `url` is where to dial from now on.
    pub fn want(&self, peer: PeerKey, url: &NodeUrl, task: TaskId) {
        self.0.with(peer, |peer, state| {
            state.wanted.insert(task);
            state.update_keep_alive();
            if state.url.as_ref() != Some(url) {
                state.url = Some(url.clone());
                state.backoff = Duration::ZERO;
                peer.redial.notify_one();
            }
            peer.wake.notify_one();
            dial::ensure(&self.0, peer, state);
        });
    }

    /// The task needs the peer no longer.
    pub fn unwant(&self, peer: PeerKey, task: TaskId) {
        self.0.with_known(peer, |_, state| self.0.unwant(state, task));
    }

    /// Queues a message. It is sent when there is a connection; that somebody dials is up to [`Peers::want`].
    pub fn send(&self, peer: PeerKey, task: TaskId, bytes: Bytes) {
        self.0.with(peer, |peer, state| {
            state.link.send(task, bytes);
            peer.wake.notify_one();
        });
    }

    /// Lets messages of that peer and task be so long, in bytes. Otherwise 4096.
    pub fn set_limit(&self, peer: PeerKey, task: TaskId, max_message_bytes: usize) {
        self.0
            .with(peer, |_, state| state.link.set_limit(task, max_message_bytes));
    }

    /// The task is over at this node: drops its queued and half received messages and its limit, and unwants the peer.
    pub fn forget(&self, peer: PeerKey, task: TaskId) {
        self.0.with_known(peer, |peer, state| {
            state.link.forget(task);
            self.0.unwant(state, task);
            peer.wake.notify_one();
            self.0.acknowledged.notify_waiters();
        });
    }

    /// How it stands with a peer.
    #[must_use]
    pub fn status(&self, peer: PeerKey) -> PeerStatus {
        let status = self.0.with_known(peer, |_, state| PeerStatus {
            connected: state.link.is_connected(),
            last_heard: state
                .link
                .last_heard()
                .map(|ms| self.0.start + Duration::from_millis(ms)),
            last_error: state.last_error.clone(),
        });
        status.unwrap_or_default()
    }

    /// How long the peer may be silent before it is pinged, as long as it is wanted for that task. The shortest of all its tasks holds.
    pub fn set_keep_alive(&self, peer: PeerKey, task: TaskId, interval: Duration) {
        self.0.with_known(peer, |peer, state| {
            // A task that has ended meanwhile wants nothing.
            if state.wanted.contains(&task) {
                let ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
                state.paces.set(task, ms);
                state.update_keep_alive();
                peer.wake.notify_one();
            }
        });
    }

    /// Serves `{base}/peer`: answers the upgrade request, and goes on with the connection in the background.
    ///
    /// # Errors
    /// [`UpgradeError`] if the request is not such an upgrade.
    pub fn upgrade(&self, mut request: Request<Body>) -> Result<Response<Body>, UpgradeError> {
        let response = ws::switch_protocols(&request)?;
        let mut place = self.0.handshakes.enter();
        let upgrade = hyper::upgrade::on(&mut request);
        let peers = self.clone();
        self.0.runtime.spawn(async move {
            match place.hold(timeout(ws::HANDSHAKE_TIMEOUT, upgrade)).await {
                Some(Ok(Ok(io))) => peers.serve(TokioIo::new(io), place).await,
                _ => debug!("an upgrade did not take place"),
            }
        });
        Ok(response)
    }

    /// The listener's side of a connection, after the HTTP upgrade. Returns when the connection has ended.
    pub async fn accept<S>(&self, io: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.serve(io, self.0.handshakes.enter()).await;
    }

    /// Bytes of messages to that peer that it has not acknowledged.
    #[must_use]
    pub fn queued(&self, peer: PeerKey) -> usize {
        self.0
            .with_known(peer, |_, state| state.link.total_queued())
            .unwrap_or(0)
    }

    /// Waits until every peer has acknowledged everything, at most for `limit`. True if all is acknowledged.
    pub async fn drain(&self, limit: Duration) -> bool {
        let all = async {
            loop {
                let changed = self.0.acknowledged.notified();
                let mut changed = std::pin::pin!(changed);
                // Registered before looking, so that nothing is missed in between.
                changed.as_mut().enable();
                if self.0.all().iter().all(|peer| peer.lock().link.all_acknowledged()) {
                    return;
                }
                changed.await;
            }
        };
        timeout(limit, all).await.is_ok()
    }

    /// Closes all connections, for good.
    pub fn shutdown(&self) {
        self.0.shutdown.send_replace(true);
    }

    /// For metrics.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let totals = &self.0.totals;
        Counters {
            connections: totals.connections.load(Ordering::Relaxed),
            reconnects: totals.reconnects.load(Ordering::Relaxed),
            refused: totals.refused.load(Ordering::Relaxed),
        }
    }

    /// For metrics: by the short name of the peer; those that this node does not know together, as `other`.
    #[must_use]
    pub fn traffic(&self) -> Vec<(String, Traffic)> {
        self.0.traffic.read()
    }
}

impl Peers {
    /// The place is held until the peer is authenticated.
    async fn serve<S>(&self, io: S, mut place: Place)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let answered = tokio::select! {
            () = self.0.stopped() => return,
            answered = place.hold(ws::answer(&self.0.identity, io)) => answered,
        };
        drop(place);
        match answered {
            None => debug!("an incoming handshake gave way to newer ones"),
            Some(Ok(made)) if !self.welcomes(&made.peer) => {
                self.0.totals.refused.fetch_add(1, Ordering::Relaxed);
                info!(peer = %made.peer.fingerprint(), "incoming connection refused: its key is not that of a pinned peer, or has been succeeded");
                self.0.look_after(made.claimed.clone(), made.peer);
                ws::turn_away(made).await;
            }
            Some(Ok(made)) => {
                let dialler = made.peer;
                self.0.look_after(made.claimed.clone(), dialler);
                let end = connection::run(&self.0, made, dialler).await;
                debug!(peer = %dialler.fingerprint(), %end, "incoming connection ended");
            }
            Some(Err(error)) => debug!(%error, "incoming connection refused"),
        }
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Peers").field(&self.0.identity).finish()
    }
}
