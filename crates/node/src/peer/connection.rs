//! One connection after its handshake: which of several stays, the greeting of the links, and moving records.

use std::{
    convert::Infallible,
    fmt::Display,
    future::{pending, poll_fn},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message, protocol::frame::coding::CloseCode},
};
use tracing::debug;

use super::{
    Event, PeerError, dial,
    inner::{Inner, Peer, State},
    link::Resume,
    noise::Channel,
    traffic::Counts,
    ws::{Authenticated, HANDSHAKE_TIMEOUT},
};
use crate::identity::PeerKey;

/// Records per flush.
const BATCH: usize = 32;
/// How long the current connection may take to show that it lives when another one offers itself.
const PROBE: Duration = Duration::from_millis(if cfg!(test) { 500 } else { 3000 });
/// After a connection that lived so long the next attempt to dial is made at once.
const GOOD: Duration = Duration::from_secs(1);
/// Connections of one peer that wait for the current one to end, at most.
const MAX_NEWCOMERS: usize = 8;
/// Time for the closing frame.
const FAREWELL: Duration = Duration::from_millis(200);
/// A peer is given up after two pings without an answer and this much more, in milliseconds.
const GRACE_MS: u64 = 5_000;

/// The place of a connection among those of its pair, and what others may tell it.
pub(super) struct Slot {
    dialler: PeerKey,
    close: Notify,
    probe: Notify,
    /// Counts signs of life after a probe.
    alive: watch::Sender<u64>,
    /// Whether the links have greeted each other.
    up: AtomicBool,
    done: watch::Sender<bool>,
}

impl Slot {
    fn new(dialler: PeerKey) -> Self {
        Self {
            dialler,
            close: Notify::new(),
            probe: Notify::new(),
            alive: watch::Sender::new(0),
            up: AtomicBool::new(false),
            done: watch::Sender::new(false),
        }
    }

    /// Asks the connection to end.
    pub(super) fn close(&self) {
        self.close.notify_one();
    }

    async fn ended(&self) {
        // The sender lives in `self`, so this ends by the condition only.
        let _ = self.done.subscribe().wait_for(|done| *done).await;
    }
}

/// Runs an authenticated connection to its end; the answer says why it ended.
pub(super) async fn run<S>(inner: &Arc<Inner>, made: Authenticated<S>, dialler: PeerKey) -> PeerError
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let place = match occupy(inner, made.peer, dialler).await {
        Ok(place) => place,
        Err(error) => return error,
    };
    let mut connection = Connection {
        inner,
        peer: &place.peer,
        slot: &place.slot,
        counts: inner.counts_of(place.peer.key),
        socket: made.socket,
        channel: made.channel,
        plain: Vec::new(),
        scratch: Vec::new(),
        events: Vec::new(),
        probed: false,
    };
    let end = tokio::select! {
        biased;
        () = place.slot.close.notified() => PeerError::Closed("replaced or not needed any more".to_owned()),
        () = inner.stopped() => PeerError::Closed("this node shuts down".to_owned()),
        end = connection.live() => end,
    };
    let mut socket = connection.socket;
    place.peer.lock().last_error = Some(end.clone());
    if place.slot.up.load(Relaxed) {
        inner.deliver(Event::Down { peer: place.peer.key });
    }
    // Only now may another connection begin, so that events stay in order.
    drop(place);
    let _ = timeout(FAREWELL, socket.close(None)).await;
    end
}

/// The right to be the connection of a pair; given back when dropped.
struct Place<'a> {
    inner: &'a Arc<Inner>,
    peer: Arc<Peer>,
    slot: Arc<Slot>,
    begin: Instant,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let was_up = self.slot.up.load(Relaxed);
        if was_up {
            self.inner.totals.connections.fetch_sub(1, Relaxed);
        }
        {
            let mut state = self.peer.lock();
            state.current = None;
            if was_up && self.begin.elapsed() >= GOOD {
                state.backoff = Duration::ZERO;
            }
            let now = self.inner.now();
            state.last_use = now;
            state.link.disconnected(now);
            dial::ensure(self.inner, &self.peer, &mut state);
        }
        self.slot.done.send_replace(true);
    }
}

/// Waits until this connection is the one of its pair, or learns that it is superfluous.
async fn occupy(inner: &Arc<Inner>, key: PeerKey, dialler: PeerKey) -> Result<Place<'_>, PeerError> {
    let slot = Arc::new(Slot::new(dialler));
    let mut waiting = false;
    loop {
        let peer = inner.admit(key)?;
        let rival = {
            let mut state = peer.lock();
            if state.removed {
                continue;
            }
            state.newcomers -= usize::from(waiting);
            match state.current.clone() {
                None => {
                    state.current = Some(slot.clone());
                    drop(state);
                    let begin = Instant::now();
                    return Ok(Place {
                        inner,
                        peer,
                        slot,
                        begin,
                    });
                }
                Some(_) if state.newcomers >= MAX_NEWCOMERS => {
                    return Err(PeerError::Closed("too many connections of one peer".to_owned()));
                }
                Some(rival) => {
                    state.newcomers += 1;
                    rival
                }
            }
        };
        waiting = true;
        // Both ends come to the same: the smaller key decides, or the one that dialled again.
        let preferred = dialler == rival.dialler || dialler == inner.identity.key().min(key);
        if !preferred && lives(&rival).await {
            let mut state = peer.lock();
            state.newcomers -= 1;
            dial::ensure(inner, &peer, &mut state);
            return Err(PeerError::Closed(
                "another connection of the two nodes is kept".to_owned(),
            ));
        }
        rival.close();
        rival.ended().await;
    }
}

/// Whether a connection shows a sign of life soon. False too if it ends.
async fn lives(slot: &Slot) -> bool {
    let mut alive = slot.alive.subscribe();
    slot.probe.notify_one();
    tokio::select! {
        () = slot.ended() => false,
        seen = timeout(PROBE, alive.changed()) => matches!(seen, Ok(Ok(()))),
    }
}

struct Connection<'a, S> {
    inner: &'a Arc<Inner>,
    peer: &'a Arc<Peer>,
    slot: &'a Arc<Slot>,
    counts: Arc<Counts>,
    socket: WebSocketStream<S>,
    channel: Channel,
    /// The plaintext of an outgoing record.
    plain: Vec<u8>,
    /// The plaintext of an incoming record.
    scratch: Vec<u8>,
    /// Events to deliver; kept for its capacity.
    events: Vec<Event>,
    /// Somebody asked for a sign of life.
    probed: bool,
}

/// What a socket did: something came in, or all that was to be sent is sent, or both.
struct Step {
    incoming: Option<Option<Result<Message, tungstenite::Error>>>,
    flushed: Option<Result<(), tungstenite::Error>>,
}

impl<S> Connection<'_, S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    async fn live(&mut self) -> PeerError {
        let Err(end) = timeout(HANDSHAKE_TIMEOUT, self.greet())
            .await
            .unwrap_or(Err(PeerError::Timeout("the greeting")))
        else {
            let Err(end) = self.drive().await;
            return end;
        };
        end
    }

    /// Both links tell each other what they have: the first record of either side.
    async fn greet(&mut self) -> Result<(), PeerError> {
        let hello = self.peer.lock().link.hello();
        let record = self.channel.seal(&hello.encode())?;
        self.socket.send(Message::Binary(record)).await?;
        let record = loop {
            match self.socket.next().await {
                Some(Ok(Message::Binary(record))) => break record,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(Some(frame)))) if frame.code == CloseCode::Policy => {
                    let text = "it talks to pinned peers only, and this node is not among them";
                    return Err(PeerError::Closed(text.to_owned()));
                }
                Some(Ok(_)) | None => {
                    return Err(PeerError::Closed("before the greeting".to_owned()));
                }
                Some(Err(error)) => return Err(error.into()),
            }
        };
        let resume = Resume::decode(self.channel.open(&record, &mut self.scratch)?).map_err(closed)?;
        let connected = {
            let mut state = self.peer.lock();
            let connected = state.link.connected(self.inner.now(), resume).map_err(closed)?;
            state.last_error = None;
            // A greeting acknowledges too.
            self.inner.acknowledged.notify_waiters();
            connected
        };
        self.slot.up.store(true, Relaxed);
        self.slot.alive.send_modify(|signs| *signs += 1);
        self.inner.totals.connections.fetch_add(1, Relaxed);
        if !connected.first {
            self.inner.totals.reconnects.fetch_add(1, Relaxed);
        }
        let peer = self.peer.key;
        debug!(peer = %peer.fingerprint(), restarted = connected.peer_restarted, "connected");
        if connected.peer_restarted {
            self.inner.deliver(Event::Restarted { peer });
        }
        self.inner.deliver(Event::Up { peer });
        Ok(())
    }

    /// Moves records both ways until the connection ends.
    ///
    /// Reading never waits for writing: two nodes that send in bulk to each other would otherwise both wait with full
    /// sockets for the other one to read.
    async fn drive(&mut self) -> Result<Infallible, PeerError> {
        let begin = self.inner.now();
        let mut flushing = false;
        loop {
            if !flushing {
                flushing = self.fill()?;
            }
            let (wakeup, given_up) = self.times(begin, flushing)?;
            let (peer, slot) = (self.peer, self.slot);
            tokio::select! {
                biased;
                () = slot.probe.notified() => {
                    self.probed = true;
                    self.socket.start_send_unpin(Message::Ping(Bytes::new()))?;
                    flushing = true;
                }
                step = step(&mut self.socket, flushing) => {
                    if let Some(flushed) = step.flushed {
                        flushed?;
                        flushing = false;
                    }
                    if let Some(incoming) = step.incoming {
                        self.take(incoming)?;
                    }
                }
                () = peer.wake.notified(), if !flushing => {}
                () = at(wakeup) => {}
                () = at(given_up) => return Err(PeerError::Timeout("it answers no ping")),
            }
        }
    }

    /// When there may be something to send without any other event, and when a silent peer is given up.
    fn times(&self, begin: u64, flushing: bool) -> Result<(Option<Instant>, Option<Instant>), PeerError> {
        let now = self.inner.now();
        let state = self.peer.lock();
        if !state.link.is_connected() {
            return Err(PeerError::Closed("the link ended".to_owned()));
        }
        let instant = |ms: u64| Instant::now() + Duration::from_millis(ms.saturating_sub(now));
        let wakeup = state.link.next_wakeup(now).filter(|_| !flushing).map(instant);
        let heard = state.link.last_heard().unwrap_or(0).max(begin);
        let given_up = state
            .keep_alive()
            .map(|ms| heard.saturating_add(ms.saturating_mul(2)).saturating_add(GRACE_MS));
        // Instants end somewhere; nobody waits for a day.
        Ok((
            wakeup,
            given_up.map(|at| instant(at.min(now.saturating_add(86_400_000)))),
        ))
    }

    /// Hands records to the socket: a batch, or until the link has no more or the socket is full. True if something
    /// is to be flushed.
    fn fill(&mut self) -> Result<bool, PeerError> {
        let mut fed = false;
        for _ in 0..BATCH {
            // Whether the socket is full is asked here without waiting: `step` waits, with the right waker.
            match self.socket.poll_ready_unpin(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => return Ok(true),
            }
            let now = self.inner.now();
            if !self.peer.lock().link.next_record(now, &mut self.plain) {
                break;
            }
            let record = self.channel.seal(&self.plain)?;
            self.counts.sent(record.len());
            self.socket.start_send_unpin(Message::Binary(record))?;
            fed = true;
        }
        if self.channel.is_worn_out() {
            return Err(PeerError::Closed("its keys have been used enough".to_owned()));
        }
        Ok(fed)
    }

    /// Takes what came in and delivers what became complete by it.
    fn take(&mut self, incoming: Option<Result<Message, tungstenite::Error>>) -> Result<(), PeerError> {
        let message = incoming.ok_or_else(|| PeerError::Closed("by the peer".to_owned()))??;
        if self.probed {
            self.probed = false;
            self.slot.alive.send_modify(|signs| *signs += 1);
        }
        match message {
            Message::Binary(record) => self.record(&record),
            Message::Ping(_) | Message::Pong(_) => Ok(()),
            Message::Close(_) => Err(PeerError::Closed("by the peer".to_owned())),
            Message::Text(_) | Message::Frame(_) => Err(PeerError::Closed("a record is text".to_owned())),
        }
    }

    fn record(&mut self, record: &[u8]) -> Result<(), PeerError> {
        let from = self.peer.key;
        self.counts.received(record.len());
        let plain = self.channel.open(record, &mut self.scratch)?;
        {
            let mut state = self.peer.lock();
            let outstanding = |state: &State| (state.link.total_queued(), state.link.all_acknowledged());
            let before = outstanding(&state);
            let overflows = state.link.overflows();
            let taken = state.link.record(self.inner.now(), plain);
            if state.link.overflows() > overflows {
                tracing::warn!(peer = %from.fingerprint(), "its messages under way need too much memory (limits.peer_inbox_bytes)");
                self.inner.config.metrics.limit_hit("peer_inbox_bytes");
            }
            // What became complete before a violation counts.
            while let Some((task, bytes)) = state.link.next_message() {
                self.events.push(Event::Message { from, task, bytes });
            }
            while let Some(task) = state.link.too_long() {
                self.events.push(Event::TooLong { from, task });
            }
            while let Some(task) = state.link.no_room() {
                self.events.push(Event::NoRoom { from, task });
            }
            if outstanding(&state) != before {
                self.inner.acknowledged.notify_waiters();
            }
            drop(state);
            for event in self.events.drain(..) {
                self.inner.deliver(event);
            }
            taken.map_err(closed)
        }
    }
}

/// Waits for the socket. Nothing is lost if this is dropped.
async fn step<S>(socket: &mut WebSocketStream<S>, flushing: bool) -> Step
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    poll_fn(|context| {
        let mut step = Step {
            incoming: None,
            flushed: None,
        };
        if flushing && let Poll::Ready(flushed) = socket.poll_flush_unpin(context) {
            step.flushed = Some(flushed);
        }
        if let Poll::Ready(incoming) = socket.poll_next_unpin(context) {
            step.incoming = Some(incoming);
        }
        if step.incoming.is_none() && step.flushed.is_none() {
            Poll::Pending
        } else {
            Poll::Ready(step)
        }
    })
    .await
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}

fn closed(violation: impl Display) -> PeerError {
    PeerError::Closed(violation.to_string())
}
