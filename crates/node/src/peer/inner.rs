//! What is kept about the peers, and the rules for keeping it.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::AtomicU64},
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
};
use tracing::debug;

use super::{
    Event, OnEvent, OnNews, PeerConfig, PeerError, TaskId,
    connection::Slot,
    handshakes::Handshakes,
    link::{Link, LinkConfig},
    traffic::{Counts, Ledger},
    trust::Book,
};
use crate::{
    identity::{Identity, PeerKey},
    url::NodeUrl,
};

/// After so long without any sign an unwanted link is closed and dropped, in milliseconds.
pub(super) const IDLE_MS: u64 = 5 * 60 * 1000;
pub(super) const HOUSEKEEPING: Duration = Duration::from_secs(30);

pub(super) struct Inner {
    pub(super) identity: Arc<Identity>,
    pub(super) config: PeerConfig,
    pub(super) on_event: OnEvent,
    pub(super) on_news: OnNews,
    pub(super) book: Mutex<Book>,
    pub(super) peers: Mutex<HashMap<PeerKey, Arc<Peer>>>,
    pub(super) handshakes: Handshakes,
    /// URLs that were asked lately because somebody connected in their name.
    pub(super) asked: Mutex<HashMap<NodeUrl, Instant>>,
    /// Some link has less unacknowledged than before.
    pub(super) acknowledged: Notify,
    pub(super) shutdown: watch::Sender<bool>,
    pub(super) runtime: Handle,
    /// Links count milliseconds from here.
    pub(super) start: Instant,
    pub(super) totals: Totals,
    pub(super) traffic: Ledger,
}

#[derive(Default)]
pub(super) struct Totals {
    pub(super) connections: AtomicU64,
    pub(super) reconnects: AtomicU64,
    pub(super) refused: AtomicU64,
}

/// One peer, for as long as anything is kept about it.
pub(super) struct Peer {
    pub(super) key: PeerKey,
    pub(super) state: Mutex<State>,
    /// The link may have something to send.
    pub(super) wake: Notify,
    /// Dialling should be tried now.
    pub(super) redial: Notify,
}

pub(super) struct State {
    pub(super) link: Link,
    pub(super) wanted: HashSet<TaskId>,
    pub(super) url: Option<NodeUrl>,
    /// The connection that counts, from the end of its handshake on.
    pub(super) current: Option<Arc<Slot>>,
    /// Connections that wait for the current one to make room or to prove that it lives.
    pub(super) newcomers: usize,
    /// Whether a task that dials is running.
    pub(super) dialling: bool,
    /// Pause before the next attempt to dial.
    pub(super) backoff: Duration,
    /// Milliseconds of silence before a ping, while the peer is wanted; and what some of the tasks want instead.
    pub(super) interval: u64,
    pub(super) paces: Paces,
    /// When the peer was last wanted or connected.
    pub(super) last_use: u64,
    pub(super) last_error: Option<PeerError>,
    /// Taken out of the map: whoever still holds this looks the peer up again.
    pub(super) removed: bool,
}

/// How often tasks want a sign of a peer, in milliseconds. There may be thousands of them, so the shortest is found without looking at all.
#[derive(Default)]
pub(super) struct Paces {
    tasks: HashMap<TaskId, u64>,
    ordered: BTreeSet<(u64, TaskId)>,
}

impl Paces {
    pub(super) fn set(&mut self, task: TaskId, ms: u64) {
        self.remove(&task);
        self.tasks.insert(task, ms);
        self.ordered.insert((ms, task));
    }

    fn remove(&mut self, task: &TaskId) {
        if let Some(ms) = self.tasks.remove(task) {
            self.ordered.remove(&(ms, *task));
        }
    }

    fn shortest(&self) -> Option<u64> {
        self.ordered.first().map(|(ms, _)| *ms)
    }
}

impl Peer {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    pub(super) fn update_keep_alive(&mut self) {
        self.link.set_keep_alive(self.keep_alive());
    }

    pub(super) fn keep_alive(&self) -> Option<u64> {
        (!self.wanted.is_empty()).then(|| self.paces.shortest().unwrap_or(self.interval).min(self.interval))
    }

    /// Nobody wants it and nothing was heard for long.
    pub(super) fn is_idle(&self, now: u64) -> bool {
        let last = self.last_use.max(self.link.last_heard().unwrap_or(0));
        self.wanted.is_empty() && now.saturating_sub(last) >= IDLE_MS
    }

    pub(super) fn needs_connection(&self, now: u64) -> bool {
        !self.wanted.is_empty() || (!self.link.all_acknowledged() && !self.is_idle(now))
    }
}

impl Inner {
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn deliver(&self, event: Event) {
        (self.on_event)(event);
    }

    /// Where the traffic with that peer is counted.
    pub(super) fn counts_of(&self, key: PeerKey) -> Arc<Counts> {
        let known = lock(&self.book).standing(&key);
        self.traffic.of(key, known)
    }

    /// Returns when the node shuts down.
    pub(super) async fn stopped(&self) {
        // The sender lives in `self`, so this ends by the condition only.
        let _ = self.shutdown.subscribe().wait_for(|stop| *stop).await;
    }

    pub(super) fn is_stopped(&self) -> bool {
        *self.shutdown.borrow()
    }

    pub(super) fn all(&self) -> Vec<Arc<Peer>> {
        lock(&self.peers).values().cloned().collect()
    }

    /// Runs `work` on a peer's state, which is made if there is none. Nothing is done for this node's own key.
    pub(super) fn with(&self, key: PeerKey, work: impl FnOnce(&Arc<Peer>, &mut State)) {
        if key == self.identity.key() {
            debug!("a node is no peer of itself");
            return;
        }
        loop {
            let peer = lock(&self.peers)
                .entry(key)
                .or_insert_with(|| self.new_peer(key))
                .clone();
            let mut state = peer.lock();
            if !state.removed {
                return work(&peer, &mut state);
            }
        }
    }

    /// Runs `work` on a peer's state if there is any.
    pub(super) fn with_known<T>(&self, key: PeerKey, work: impl FnOnce(&Arc<Peer>, &mut State) -> T) -> Option<T> {
        let peer = lock(&self.peers).get(&key).cloned()?;
        let mut state = peer.lock();
        (!state.removed).then(|| work(&peer, &mut state))
    }

    /// The peer of an incoming connection. Refused if there are too many that nobody wants.
    ///
    /// Each may make this node hold about a megabyte in messages under way and as much in buffers.
    pub(super) fn admit(&self, key: PeerKey) -> Result<Arc<Peer>, PeerError> {
        let most = self.config.max_strangers;
        let mut peers = lock(&self.peers);
        if !peers.contains_key(&key) && peers.len() >= most {
            let now = self.now();
            let mut strangers = 0;
            peers.retain(|_, peer| {
                let mut state = peer.lock();
                strangers += usize::from(state.wanted.is_empty());
                !retire(&mut state, now)
            });
            if strangers >= most {
                self.config.metrics.limit_hit("peer_strangers");
                return Err(PeerError::Closed("too many unknown peers are connected".to_owned()));
            }
        }
        Ok(peers.entry(key).or_insert_with(|| self.new_peer(key)).clone())
    }

    pub(super) fn new_peer(&self, key: PeerKey) -> Arc<Peer> {
        let interval = self.config.keep_alive_ms;
        let mut link = Link::new(
            random_epoch(),
            LinkConfig {
                keep_alive_ms: self.config.keep_alive_ms,
                inbox_bytes: self.config.inbox_bytes,
                ..LinkConfig::default()
            },
        );
        link.set_keep_alive(None);
        let state = State {
            link,
            wanted: HashSet::new(),
            url: None,
            current: None,
            newcomers: 0,
            dialling: false,
            backoff: Duration::ZERO,
            interval,
            paces: Paces::default(),
            last_use: self.now(),
            last_error: None,
            removed: false,
        };
        Arc::new(Peer {
            key,
            state: Mutex::new(state),
            wake: Notify::new(),
            redial: Notify::new(),
        })
    }

    pub(super) fn unwant(&self, state: &mut State, task: TaskId) {
        if state.wanted.remove(&task) {
            state.paces.remove(&task);
            if state.wanted.is_empty() {
                state.last_use = self.now();
            }
            state.update_keep_alive();
        }
    }
}

/// Marks an idle peer without a connection as removed. True if it is to be taken out of the map.
pub(super) fn retire(state: &mut State, now: u64) -> bool {
    let idle = state.is_idle(now) && state.current.is_none() && state.newcomers == 0 && !state.dialling;
    state.removed |= idle;
    idle
}

pub(super) async fn housekeeping(inner: Weak<Inner>) {
    loop {
        tokio::time::sleep(HOUSEKEEPING).await;
        let Some(inner) = inner.upgrade() else { return };
        if inner.is_stopped() {
            return;
        }
        let now = inner.now();
        lock(&inner.peers).retain(|_, peer| {
            let mut state = peer.lock();
            match &state.current {
                Some(slot) if state.is_idle(now) && state.link.all_acknowledged() => slot.close(),
                _ => {}
            }
            !retire(&mut state, now)
        });
    }
}

pub(super) fn random_epoch() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the operating system gave randomness for the identity");
    u64::from_le_bytes(bytes).max(1)
}

/// A panic elsewhere does not make the state of a link inconsistent: nothing is called while a lock is held.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_pace_is_that_of_the_tasks_that_are_left() {
        let mut paces = Paces::default();
        for (task, ms) in [(1, 30), (2, 10), (3, 20), (2, 25)] {
            paces.set([task; 16], ms);
        }
        assert_eq!(paces.shortest(), Some(20));
        for (task, left) in [(3, Some(25)), (9, Some(25)), (2, Some(30)), (1, None)] {
            paces.remove(&[task; 16]);
            assert_eq!(paces.shortest(), left);
        }
        assert!(paces.tasks.is_empty() && paces.ordered.is_empty());
    }
}
