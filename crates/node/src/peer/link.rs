//! What two nodes have between them, whatever becomes of their connections: a pure state machine that turns messages
//! into records and back.
//!
//! A [`Link`] outlives connections. It knows no sockets, no clock and no randomness: times are milliseconds passed in,
//! records go in and out as plaintext bytes (their encryption and transport are the caller's), and the caller chooses
//! the epoch. What it guarantees, per task: every message arrives exactly once and in order, as long as neither side
//! restarts, forgets the task, or violates the protocol.
//!
//! * **Records.** Messages are cut into records of at most [`MAX_RECORD`] bytes. Tasks take turns, record by record,
//!   so a small message never waits for the end of a large one.
//! * **Acknowledgement.** Every record carries how many data records have come in. Records stay in memory until they are
//!   acknowledged and at most a window of them is under way. Pure acknowledgements go out only if nothing else does.
//! * **Resumption.** A connection begins with both sides exchanging [`Resume`]. If the peer's incarnation is the one
//!   known, the *kept* records that it did not receive are sent again (never anything computed anew); those that come
//!   twice are taken once. The peer's epoch alone decides, so greetings that are out of date, as happen when connections
//!   cross, do no harm.
//! * **Restart.** If the incarnation is another one, both sides count from 0, and everything queued for the old one is
//!   dropped; [`Connected::peer_restarted`] says so. Every `Link` must have an epoch of its own. After a [`Violation`]
//!   a link gives itself a new epoch: what the two sides know of each other does not fit, and both begin anew instead of
//!   failing in the same way for ever.
//!
//! The layout of records is described in `record.rs`.

mod incoming;
mod outgoing;
mod record;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

use std::fmt;

use bytes::Bytes;

use incoming::Incoming;
use outgoing::Outgoing;
use record::{Body, Control, Record};

pub use record::{MAX_RECORD, Resume, TaskId, Violation};

/// Sizes and times of a link.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Bytes of records sent and not acknowledged, at most; at least 128.
    pub window_bytes: usize,
    /// A ping is sent when nothing was heard for so long, in milliseconds.
    pub keep_alive_ms: u64,
    /// An acknowledgement waits so long for a record to ride on, in milliseconds.
    pub ack_delay_ms: u64,
    /// The longest incoming message, in bytes, of tasks for which [`Link::set_limit`] was not called.
    pub default_limit: usize,
    /// Bytes of memory for incoming messages under way, of all tasks. One that would take more is too long.
    pub inbox_bytes: usize,
    /// Messages of several records under way at once in each direction. Both nodes must have the same.
    pub max_streams: usize,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            window_bytes: 8 << 20,
            keep_alive_ms: 25_000,
            ack_delay_ms: 20,
            default_limit: 4096,
            inbox_bytes: 512 << 20,
            max_streams: 256,
        }
    }
}

/// How a connection relates to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connected {
    /// State was lost, normally because the peer restarted. Whatever was queued before this call has been dropped.
    pub peer_restarted: bool,
    /// The peer was never met before. Nothing was dropped.
    pub first: bool,
}

/// One node's end of what it has with one peer.
pub struct Link {
    epoch: u64,
    peer_epoch: Option<u64>,
    /// The peer (or this end) violated the protocol: the next connection starts anew.
    broken: bool,
    connected: bool,
    outgoing: Outgoing,
    incoming: Incoming,
    /// When what was received must be acknowledged at the latest; `None` if all is.
    ack_at: Option<u64>,
    ack_delay: u64,
    /// Bytes of data records received since the last acknowledgement, and how many are too many.
    unacknowledged: usize,
    acknowledge_each: usize,
    pong: bool,
    keep_alive: Option<u64>,
    /// When the connection was made, something was heard on it, or a ping was sent.
    last_sign: u64,
    last_heard: Option<u64>,
}

impl Link {
    /// A link that has never been connected. `epoch` is random and not zero (which is read as 1), and no other link to
    /// the same peer has ever had it: the peer tells by it whether this is the link it knows.
    pub fn new(epoch: u64, config: LinkConfig) -> Self {
        Self {
            epoch: epoch.max(1),
            peer_epoch: None,
            broken: false,
            connected: false,
            outgoing: Outgoing::new(config.window_bytes, config.max_streams),
            incoming: Incoming::new(config.default_limit, config.inbox_bytes, config.max_streams),
            ack_at: None,
            ack_delay: config.ack_delay_ms,
            unacknowledged: 0,
            acknowledge_each: config.window_bytes / 4,
            pong: false,
            keep_alive: Some(config.keep_alive_ms),
            last_sign: 0,
            last_heard: None,
        }
    }

    /// Queues a message, connected or not. Its bytes are shared, not copied.
    pub fn send(&mut self, task: TaskId, message: Bytes) {
        self.outgoing.push(task, message);
    }

    /// Bytes of the task's messages that the peer has not acknowledged yet.
    pub fn queued(&self, task: TaskId) -> usize {
        self.outgoing.queued(task)
    }

    /// Bytes of all messages that the peer has not acknowledged yet.
    pub fn total_queued(&self) -> usize {
        self.outgoing.total_queued()
    }

    /// Whether the peer has acknowledged everything; unlike a count of bytes, this regards empty messages too.
    pub fn all_acknowledged(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// Lets incoming messages of the task be that long, from the next that begins.
    pub fn set_limit(&mut self, task: TaskId, max_message_bytes: usize) {
        self.incoming.set_limit(task, max_message_bytes);
    }

    /// The task is over: drops its outgoing messages as far as they are not cut into records, its incoming message under
    /// way, and its limit.
    pub fn forget(&mut self, task: TaskId) {
        self.outgoing.forget(task);
        self.incoming.forget(task);
    }

    /// How many messages were dropped because the memory for those under way was used up.
    pub fn overflows(&self) -> u64 {
        self.incoming.overflows()
    }

    /// What to tell the peer at the start of a connection. It may be out of date when the connection is there, except that
    /// a greeting from before a [`Violation`] must not be used any more.
    pub fn hello(&self) -> Resume {
        Resume {
            epoch: self.epoch,
            peer_epoch: self.peer_epoch,
            received: self.incoming.received(),
        }
    }

    /// A connection is there, and the peer said `peer` on it. A connection before it is over: none of its records may be
    /// passed in any more.
    ///
    /// # Errors
    /// [`Violation::AckAhead`] if the peer says it received more than was sent. The connection must be closed; the link
    /// begins anew with the next.
    pub fn connected(&mut self, now: u64, peer: Resume) -> Result<Connected, Violation> {
        let known = self.peer_epoch == Some(peer.epoch);
        let first = self.peer_epoch.is_none() && !self.broken;
        // A peer that did not know this epoch when it greeted had received nothing from it.
        let received = match peer.peer_epoch {
            Some(epoch) if epoch == self.epoch => peer.received,
            _ => 0,
        };
        let checked = if known {
            self.outgoing.acknowledge(received)
        } else if received > 0 {
            // This end never talked to that incarnation.
            Err(Violation::AckAhead {
                acknowledged: received,
                sent: 0,
            })
        } else {
            Ok(())
        };
        if let Err(violation) = checked {
            self.start_over();
            return Err(violation);
        }
        if !known && !first {
            self.outgoing.clear();
            self.incoming.clear();
            self.ack_at = None;
            self.unacknowledged = 0;
        }
        self.outgoing.rewind();
        self.peer_epoch = Some(peer.epoch);
        self.broken = false;
        self.connected = true;
        self.pong = false;
        self.last_sign = now;
        Ok(Connected {
            peer_restarted: !known && !first,
            first,
        })
    }

    /// The connection is over. Everything is kept for the next.
    pub fn disconnected(&mut self, _now: u64) {
        self.connected = false;
    }

    /// Whether the last of [`Link::connected`] and [`Link::disconnected`] was the former, and no violation came since.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Replaces the content of `out` by the plaintext of the next record, which must then be sent on the connection.
    /// Returns false, leaving `out` as it is, if there is nothing to send now: everything is sent, the window is full, or
    /// the link is not connected.
    pub fn next_record(&mut self, now: u64, out: &mut Vec<u8>) -> bool {
        if !self.connected {
            return false;
        }
        let ack = self.incoming.received();
        if self.pong {
            self.pong = false;
            record::write_control(out, Control::Pong, ack);
        } else if self.ping_at().is_some_and(|at| at <= now) {
            self.last_sign = now;
            record::write_control(out, Control::Ping, ack);
        } else if let Some((seq, cut)) = self.outgoing.next() {
            record::write_data(out, ack, seq, cut);
        } else if self.ack_at.is_some_and(|at| at <= now) {
            record::write_control(out, Control::Ack, ack);
        } else {
            return false;
        }
        self.ack_at = None;
        self.unacknowledged = 0;
        true
    }

    /// Takes a record's plaintext from the connection. What became complete is then found by [`Link::next_message`].
    ///
    /// # Errors
    /// If the peer violates the protocol. The connection must be closed; the link begins anew with the next.
    pub fn record(&mut self, now: u64, bytes: &[u8]) -> Result<(), Violation> {
        if !self.connected {
            return Err(Violation::NotConnected);
        }
        self.last_heard = Some(now);
        self.last_sign = now;
        let taken = self.take(now, bytes);
        if taken.is_err() {
            self.start_over();
        }
        taken
    }

    /// The next complete message, in the order in which they became complete.
    pub fn next_message(&mut self) -> Option<(TaskId, Bytes)> {
        self.incoming.next_message()
    }

    /// The task of an incoming message that is longer than its limit, once for each; the message itself is skipped.
    pub fn too_long(&mut self) -> Option<TaskId> {
        self.incoming.too_long()
    }

    /// The task of an incoming message for which the memory did not suffice, once for each; the message itself is skipped.
    pub fn no_room(&mut self) -> Option<TaskId> {
        self.incoming.no_room()
    }

    /// After [`Link::next_record`] returned false: when it is to be called again even if nothing happens until then. May
    /// lie in the past.
    pub fn next_wakeup(&self, _now: u64) -> Option<u64> {
        if !self.connected {
            return None;
        }
        [self.ack_at, self.ping_at()].into_iter().flatten().min()
    }

    /// When a record last came in, on this connection or an earlier one.
    pub fn last_heard(&self) -> Option<u64> {
        self.last_heard
    }

    /// The time without a sign of the peer after which to ping it, in milliseconds; `None` for no pings.
    pub fn set_keep_alive(&mut self, ms: Option<u64>) {
        self.keep_alive = ms;
    }

    fn take(&mut self, now: u64, bytes: &[u8]) -> Result<(), Violation> {
        let record = Record::decode(bytes)?;
        self.outgoing.acknowledge(record.ack)?;
        match record.body {
            Body::Control(Control::Ack | Control::Pong) => {}
            Body::Control(Control::Ping) => self.pong = true,
            Body::Data {
                seq,
                task,
                part,
                payload,
            } => {
                // What comes twice is acknowledged too: the peer may not have heard the first acknowledgement.
                self.unacknowledged += bytes.len();
                let due = if self.unacknowledged >= self.acknowledge_each {
                    now
                } else {
                    now.saturating_add(self.ack_delay)
                };
                self.ack_at = Some(self.ack_at.map_or(due, |at| at.min(due)));
                self.incoming.accept(seq, task, part, payload)?;
            }
        }
        Ok(())
    }

    fn ping_at(&self) -> Option<u64> {
        self.keep_alive.map(|ms| self.last_sign.saturating_add(ms))
    }

    /// Makes the next connection look like a restart of this end to the peer, and to this end like one of the peer. What
    /// is queued is dropped then and not now, so that the caller has a reason to connect.
    fn start_over(&mut self) {
        self.epoch = self.epoch.wrapping_add(1).max(1);
        self.peer_epoch = None;
        self.broken = true;
        self.connected = false;
    }
}

/// Counts only: messages are nobody's business.
impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("connected", &self.connected)
            .field("sent", &self.outgoing.next_seq())
            .field("in_flight", &self.outgoing.in_flight())
            .field("queued", &self.outgoing.total_queued())
            .field("received", &self.incoming.received())
            .finish_non_exhaustive()
    }
}
