//! The one thing a protocol may await: messages from its peers.
//!
//! A protocol is an `async fn` over [`Net`]; its only awaits are here. From outside, [`Machine`] takes incoming messages and yields outgoing
//! ones: no clock, no socket, no thread. It is polled with a waker that does nothing, because whoever delivers a message polls next.
//!
//! Every message carries its session and its number on its channel, so that a message lost, repeated or overtaken below is noticed here, and what was broadcast goes into a
//! transcript. When the protocol has its result, the machine exchanges a **closing digest** of transcript and result with every peer:
//! parties that were told different stories find out, and the result is [`State::Confirmed`] only if all digests agree.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::ot::Base;
use crate::threshold::Thresholds;
use crate::wire::{Malformed, Reader};

/// Most parties of one task.
pub const MAX_PARTIES: usize = 64;

/// First byte of every message, so that whoever carries it can tell it from messages of its own.
pub const KIND: u8 = 3;

/// Bytes in front of every payload: [`KIND`], the session id, the number of the message on its channel as `u32`.
pub const HEADER: usize = 1 + 32 + 4;

/// Messages of one peer that may wait while this party is busy. A correct peer sends its message k + 1 on a channel when it has this party's message k, and
/// this party sends that when it has taken all before it: so no more than two wait, those of number k and k + 1, whichever peers take part in which rounds.
/// The closing digest is a message like any other.
const AHEAD: usize = 4;

/// Work of so many bytes at most is done wherever a message arrives; more of it is announced ([`Net::work_ahead`]).
pub const LIGHT: usize = 256 * 1024;

/// The place of a party in the list of nodes, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Party(u16);

impl Party {
    /// The party at `index` of `parties`; `None` if there is no such place.
    pub fn new(index: usize, parties: usize) -> Option<Party> {
        if index < parties && parties <= MAX_PARTIES {
            u16::try_from(index).ok().map(Party)
        } else {
            None
        }
    }

    /// Its place in the list of nodes.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The same as a number of fixed size, for hashes.
    pub(crate) fn number(self) -> u16 {
        self.0
    }

    /// All parties in order.
    pub fn all(parties: usize) -> impl Iterator<Item = Party> + use<> {
        (0..parties.min(MAX_PARTIES)).filter_map(move |i| Party::new(i, parties))
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "party {}", self.0)
    }
}

impl fmt::Debug for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What a peer can be shown to have done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// Bytes that do not decode.
    #[error("sent a message that cannot be read: {0}")]
    Malformed(#[from] Malformed),
    /// A message of another number than the one that is due.
    #[error("sent a message out of turn")]
    OutOfTurn,
    /// More messages than the protocol has.
    #[error("sent more messages than the protocol has")]
    TooMany,
    /// Values that no party sends that keeps to the protocol, whatever its input and coins.
    #[error("sent values that do not belong together")]
    Inconsistent,
}

/// Why a computation ended without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Abort {
    /// A peer broke the protocol, provably.
    #[error("{0} {1}")]
    Peer(Party, Fault),
    /// The closing digests differ, so not everybody was told the same; or what has opened cannot come from any data. Nobody can be named, since the teller of
    /// two stories and a slanderer look alike.
    #[error("what the parties were told does not agree, so the result cannot be trusted")]
    StoriesDiffer,
    /// The parties together have more names than the protocol has room for. All of them find so alike.
    #[error("there are too many different categories to find them")]
    TooManyNames,
    /// A mistake of this program.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

/// What the parties of one session share, and what this party alone has.
///
/// Secrets: `pairs[j]` is known to this party and party j only (both contributed half of it); `coins` to this party only.
pub struct Session {
    /// Identifies the session; every key is derived with it, so that nothing derived is ever used in two sessions.
    pub sid: [u8; 32],
    /// This party.
    pub me: Party,
    /// The number of parties.
    pub parties: usize,
    /// One secret per party: the seed of the lower party, then that of the higher one. The own entry is not used.
    pub pairs: Vec<Zeroizing<[u8; 64]>>,
    /// Fresh randomness of this party, never used before.
    pub coins: Zeroizing<[u8; 32]>,
    /// By party: base oblivious transfers of an earlier session that *both* hold; `None` where they are made anew. May be shorter than the list of parties.
    pub bases: Vec<Option<Arc<Base>>>,
    /// What has to be compared before anything opens: the same at every party.
    pub thresholds: Thresholds,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("me", &self.me)
            .field("parties", &self.parties)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// A key of this party alone for one use. `index` tells uses under one label apart; a pair of both must be used once in a session.
    pub fn own_key(&self, label: &str, index: u32) -> Zeroizing<[u8; 32]> {
        let mut kdf = blake3::Hasher::new_derive_key("fdrtd 2026-11 coins of one party, version 1");
        kdf.update(&self.coins[..]).update(&self.sid);
        kdf.update(&(label.len() as u64).to_le_bytes()).update(label.as_bytes());
        kdf.update(&index.to_le_bytes());
        let key = Zeroizing::new(*kdf.finalize().as_bytes());
        zeroize::Zeroize::zeroize(&mut kdf);
        key
    }

    /// The key of this pair for one use: both sides derive the same one.
    ///
    /// KDF(secret of the pair, sid, label, lower party, higher party, round) with BLAKE3 in its key-derivation mode. Every field has a fixed
    /// length or carries its length, so different uses cannot collide.
    pub fn pair_key(&self, label: &str, peer: Party, round: u32) -> Zeroizing<[u8; 32]> {
        let (low, high) = (self.me.min(peer), self.me.max(peer));
        let mut kdf = blake3::Hasher::new_derive_key("fdrtd 2026-11 key of a pair of parties, version 1");
        if let Some(secret) = self.pairs.get(peer.index()) {
            kdf.update(&secret[..]);
        }
        kdf.update(&self.sid);
        kdf.update(&(label.len() as u64).to_le_bytes()).update(label.as_bytes());
        kdf.update(&low.0.to_le_bytes())
            .update(&high.0.to_le_bytes())
            .update(&round.to_le_bytes());
        let key = Zeroizing::new(*kdf.finalize().as_bytes());
        zeroize::Zeroize::zeroize(&mut kdf);
        key
    }
}

#[derive(Default)]
struct Mailbox {
    incoming: Vec<VecDeque<Bytes>>,
    outgoing: Vec<(Party, Bytes)>,
    waiting: Vec<Party>,
    round: u32,
    opened: Option<String>,
    own: Option<Zeroizing<String>>,
    bases: Vec<(Party, Arc<Base>)>,
    /// The protocol has paused before much work.
    heavy: bool,
}

/// A protocol's side of the network: authenticated, ordered channels to every other party.
pub struct Net {
    session: Session,
    mailbox: Arc<Mutex<Mailbox>>,
    round: u32,
    /// By party: messages exchanged with it. A message to one is answered by one from it, so both count alike.
    channels: Vec<u32>,
    transcript: blake3::Hasher,
    /// What opens next.
    opens: &'static str,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net")
            .field("session", &self.session)
            .field("round", &self.round)
            .finish_non_exhaustive()
    }
}

impl Net {
    /// The session this protocol runs in.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Rounds so far, of this party: with some peers there may have been fewer messages ([`Net::exchange`]).
    pub fn round(&self) -> u32 {
        self.round
    }

    /// Messages exchanged with `peer` so far: the same number at both ends, so it may go into keys of the pair.
    pub fn messages_with(&self, peer: Party) -> u32 {
        self.channels.get(peer.index()).copied().unwrap_or(0)
    }

    /// Says what opens from here on: one of the declared outputs, in its words. Tests compare what has opened with what was declared.
    pub fn will_open(&mut self, what: &'static str) {
        self.opens = what;
    }

    /// What only this party's owner learns, as JSON text: it is neither told to others nor compared with them.
    pub fn tell_owner(&mut self, own: Zeroizing<String>) {
        lock(&self.mailbox).own = Some(own);
    }

    /// Base oblivious transfers that were made in this session: they serve the rest of it, and later ones if all goes well.
    pub fn keep_base(&mut self, peer: Party, base: Arc<Base>) {
        let bases = &mut self.session.bases;
        bases.resize(self.session.parties.max(bases.len()), None);
        bases[peer.index()] = Some(Arc::clone(&base));
        lock(&self.mailbox).bases.push((peer, base));
    }

    /// Much work follows before the next message is sent or awaited, about as much as going through so many bytes (one takes about a nanosecond).
    ///
    /// Whoever drives the machine may then have it done elsewhere ([`Machine::step_lightly`]). Little work is no reason for a pause.
    pub async fn work_ahead(&mut self, bytes: usize) {
        let mut paused = bytes <= LIGHT;
        poll_fn(|_| {
            if std::mem::replace(&mut paused, true) {
                return Poll::Ready(());
            }
            lock(&self.mailbox).heavy = true;
            Poll::Pending
        })
        .await;
    }

    /// Everybody else, in order.
    pub fn peers(&self) -> impl Iterator<Item = Party> + use<> {
        let me = self.session.me;
        Party::all(self.session.parties).filter(move |party| *party != me)
    }

    /// One round: sends the same `payload` to every peer and hands what each peer sent to `take`, in order of arrival.
    ///
    /// *Unverified*: a dishonest party may send different payloads to different peers. The closing digest detects that, after the fact.
    /// `payload` must begin with [`HEADER`] spare bytes (see [`message`]), which saves a copy of a large vector.
    ///
    /// # Errors
    /// A peer's message that `take` refuses, longer than `max`, or of another round.
    pub async fn broadcast_unverified(
        &mut self,
        mut payload: Vec<u8>,
        max: usize,
        mut take: impl FnMut(Party, &[u8]) -> Result<(), Malformed>,
    ) -> Result<(), Abort> {
        if payload.len() < HEADER {
            return Err(Abort::Internal("a message without room for its header"));
        }
        let mut digests = vec![blake3::Hash::from_bytes([0; 32]); self.session.parties];
        digests[self.session.me.index()] = blake3::hash(&payload[HEADER..]);
        let peers: Vec<Party> = self.peers().collect();
        let alike = |peers: &[Party]| {
            peers
                .iter()
                .all(|peer| self.messages_with(*peer) == self.messages_with(peers[0]))
        };
        let outgoing = if let Some(first) = peers.first().filter(|_| alike(&peers)) {
            // One buffer for all.
            self.head(*first, &mut payload);
            let message = Bytes::from(payload);
            peers.iter().map(|peer| (*peer, message.clone())).collect()
        } else {
            let own = |peer: &Party| {
                let mut own = payload.clone();
                self.head(*peer, &mut own);
                (*peer, Bytes::from(own))
            };
            peers.iter().map(own).collect()
        };
        self.round_of(outgoing, max, |peer, body| {
            digests[peer.index()] = blake3::hash(body);
            take(peer, body)
        })
        .await?;
        for digest in &digests {
            self.transcript.update(digest.as_bytes());
        }
        Ok(())
    }

    /// One round with some peers: sends each its own payload, which the others do not see, and takes one of each of them. These rounds are not part of the
    /// transcript that all compare.
    ///
    /// Each payload must begin with [`HEADER`] spare bytes.
    ///
    /// # Errors
    /// As in [`Net::broadcast_unverified`].
    pub async fn exchange(
        &mut self,
        payloads: Vec<(Party, Vec<u8>)>,
        max: usize,
        take: impl FnMut(Party, &[u8]) -> Result<(), Malformed>,
    ) -> Result<(), Abort> {
        let mut outgoing = Vec::with_capacity(payloads.len());
        for (peer, mut payload) in payloads {
            if payload.len() < HEADER || peer == self.session.me {
                return Err(Abort::Internal("a message that cannot be sent"));
            }
            self.head(peer, &mut payload);
            outgoing.push((peer, Bytes::from(payload)));
        }
        self.round_of(outgoing, max, take).await
    }

    /// Fills in the header of a message that has room for it.
    fn head(&self, peer: Party, payload: &mut [u8]) {
        payload[0] = KIND;
        payload[1..33].copy_from_slice(&self.session.sid);
        payload[33..HEADER].copy_from_slice(&self.messages_with(peer).to_le_bytes());
    }

    async fn round_of(
        &mut self,
        outgoing: Vec<(Party, Bytes)>,
        max: usize,
        mut take: impl FnMut(Party, &[u8]) -> Result<(), Malformed>,
    ) -> Result<(), Abort> {
        let mut open: Vec<Party> = outgoing.iter().map(|(peer, _)| *peer).collect();
        lock(&self.mailbox).outgoing.extend(outgoing);
        while !open.is_empty() {
            let (peer, message) = self.next_of(&open).await;
            open.retain(|party| *party != peer);
            let body = self.body(peer, &message, max)?;
            take(peer, body).map_err(|malformed| Abort::Peer(peer, malformed.into()))?;
            self.channels[peer.index()] += 1;
        }
        self.end_round();
        Ok(())
    }

    /// One round in the midst of a protocol: everybody compares a digest of all that was broadcast. For protocols whose next messages depend on what has opened: parties that were told different
    /// stories would take each other's for malformed, and name somebody who is honest.
    ///
    /// # Errors
    /// [`Abort::StoriesDiffer`] if anybody was told something else; a peer that sends no digest.
    pub async fn agree(&mut self) -> Result<(), Abort> {
        let mut hasher = blake3::Hasher::new_derive_key("fdrtd 2026-11 digest on the way, version 1");
        hasher
            .update(&self.session.sid)
            .update(&self.round.to_le_bytes())
            .update(self.transcript.finalize().as_bytes());
        self.compare(*hasher.finalize().as_bytes()).await
    }

    /// The last round: everybody compares a digest of all that was broadcast and of the result.
    async fn close(&mut self, result: &str) -> Result<(), Abort> {
        let mut hasher = blake3::Hasher::new_derive_key("fdrtd 2026-11 closing digest, version 2");
        hasher
            .update(&self.session.sid)
            .update(self.transcript.finalize().as_bytes())
            .update(result.as_bytes());
        self.compare(*hasher.finalize().as_bytes()).await
    }

    async fn compare(&mut self, digest: [u8; 32]) -> Result<(), Abort> {
        let mut payload = message(digest.len());
        payload.extend_from_slice(&digest);
        let mut same = true;
        let round = self.broadcast_unverified(payload, digest.len(), |_, theirs| {
            let theirs: &[u8; 32] = theirs.try_into().map_err(|_| Malformed::Short)?;
            same &= bool::from(theirs.ct_eq(&digest));
            // One that differs is enough. Whoever keeps back its own cannot hide what another one has said.
            if same { Ok(()) } else { Err(Malformed::Value) }
        });
        let round = round.await;
        if same { round } else { Err(Abort::StoriesDiffer) }
    }

    /// The next message of whichever of `open` has one.
    async fn next_of(&self, open: &[Party]) -> (Party, Bytes) {
        poll_fn(|_| {
            let mut mailbox = lock(&self.mailbox);
            for peer in open {
                if let Some(message) = mailbox.incoming.get_mut(peer.index()).and_then(VecDeque::pop_front) {
                    return Poll::Ready((*peer, message));
                }
            }
            mailbox.waiting = open.to_vec();
            Poll::Pending
        })
        .await
    }

    fn body<'a>(&self, peer: Party, message: &'a [u8], max: usize) -> Result<&'a [u8], Abort> {
        let fault = |malformed: Malformed| Abort::Peer(peer, malformed.into());
        let mut reader = Reader::new(message);
        if reader.u8().map_err(fault)? != KIND || reader.array::<32>().map_err(fault)? != self.session.sid {
            return Err(fault(Malformed::Value));
        }
        if reader.u32().map_err(fault)? != self.messages_with(peer) {
            return Err(Abort::Peer(peer, Fault::OutOfTurn));
        }
        let body = reader.rest();
        if body.len() > max {
            Err(fault(Malformed::TooLong))
        } else {
            Ok(body)
        }
    }

    fn end_round(&mut self) {
        self.round += 1;
        let mut mailbox = lock(&self.mailbox);
        mailbox.round = self.round;
        mailbox.waiting.clear();
    }
}

/// An empty message with its header's bytes in place and room for `capacity` bytes of payload.
pub fn message(capacity: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + capacity);
    bytes.extend_from_slice(&[0; HEADER]);
    bytes
}

/// How far a machine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Needs messages of [`Machine::waiting_for`].
    Running,
    /// The result is there; the peers' closing digests are not all.
    Opened(String),
    /// The result, and every peer has the same.
    Confirmed(String),
    /// No result.
    Aborted(Abort),
}

type Run = Pin<Box<dyn Future<Output = Result<(), Abort>> + Send>>;

/// One party's run of one protocol: messages in, messages out. Not `Clone`: coins are used once.
pub struct Machine {
    run: Option<Run>,
    mailbox: Arc<Mutex<Mailbox>>,
    ended: Option<Result<(), Abort>>,
    me: Party,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("me", &self.me)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl Machine {
    /// A machine that will run `protocol`; nothing happens before the first [`Machine::step`]. The protocol's output is JSON text.
    pub fn new<P, F>(session: Session, protocol: P) -> Machine
    where
        P: FnOnce(Net) -> F + Send + 'static,
        F: Future<Output = (Net, Result<String, Abort>)> + Send,
    {
        let (me, parties) = (session.me, session.parties);
        let mailbox = Arc::new(Mutex::new(Mailbox {
            incoming: (0..parties).map(|_| VecDeque::new()).collect(),
            ..Mailbox::default()
        }));
        let net = Net {
            session,
            mailbox: Arc::clone(&mailbox),
            round: 0,
            channels: vec![0; parties],
            transcript: blake3::Hasher::new(),
            opens: "",
        };
        let for_result = Arc::clone(&mailbox);
        let run = async move {
            let (mut net, output) = protocol(net).await;
            let output = output?;
            lock(&for_result).opened = Some(output.clone());
            net.close(&output).await
        };
        Machine {
            run: Some(Box::pin(run)),
            mailbox,
            ended: None,
            me,
        }
    }

    /// Takes a message of a peer. Call [`Machine::step`] afterwards.
    ///
    /// # Errors
    /// When the peer sends what no correct peer would; the computation should then be given up.
    pub fn deliver(&mut self, from: Party, message: Bytes) -> Result<(), Abort> {
        if from == self.me {
            return Err(Abort::Internal("a message from oneself"));
        }
        let mut mailbox = lock(&self.mailbox);
        let queue = mailbox
            .incoming
            .get_mut(from.index())
            .ok_or(Abort::Internal("a message from no party"))?;
        if queue.len() >= AHEAD {
            return Err(Abort::Peer(from, Fault::TooMany));
        }
        queue.push_back(message);
        Ok(())
    }

    /// Runs until a message is needed or everything is done, however much work that is.
    pub fn step(&mut self) -> State {
        loop {
            lock(&self.mailbox).heavy = false;
            let state = self.step_lightly();
            if !self.is_heavy() {
                return state;
            }
        }
    }

    /// Whether the protocol has paused before much work: then [`Machine::step`] goes on without any message.
    pub fn is_heavy(&self) -> bool {
        self.run.is_some() && lock(&self.mailbox).heavy
    }

    /// The same as [`Machine::step`], but pauses before much work ([`Machine::is_heavy`]), and does nothing while it pauses.
    pub fn step_lightly(&mut self) -> State {
        if !self.is_heavy()
            && let Some(run) = &mut self.run
            && let Poll::Ready(ended) = run.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        {
            self.run = None; // drops the coins and all secrets of the run
            self.ended = Some(ended);
        }
        let opened = lock(&self.mailbox).opened.clone();
        match (&self.ended, opened) {
            (None, None) => State::Running,
            (None, Some(result)) => State::Opened(result),
            (Some(Ok(())), Some(result)) => State::Confirmed(result),
            (Some(Ok(())), None) => State::Aborted(Abort::Internal("no result at the end")),
            (Some(Err(abort)), _) => State::Aborted(*abort),
        }
    }

    /// Messages to be sent, in order per peer.
    pub fn outgoing(&mut self) -> Vec<(Party, Bytes)> {
        std::mem::take(&mut lock(&self.mailbox).outgoing)
    }

    /// Whose message the protocol cannot go on without.
    pub fn waiting_for(&self) -> Vec<Party> {
        lock(&self.mailbox).waiting.clone()
    }

    /// Rounds that are complete.
    pub fn round(&self) -> u32 {
        lock(&self.mailbox).round
    }

    /// What only this party's owner learns beside the result, as JSON text: there once the result is.
    pub fn own(&self) -> Option<Zeroizing<String>> {
        lock(&self.mailbox).own.clone()
    }

    /// Base oblivious transfers made in this session. Keep them only if the session ends with a confirmed result.
    pub fn bases(&mut self) -> Vec<(Party, Arc<Base>)> {
        std::mem::take(&mut lock(&self.mailbox).bases)
    }
}

/// A poisoned lock means that a protocol panicked; what it protects is only a queue and stays usable.
fn lock(mailbox: &Mutex<Mailbox>) -> MutexGuard<'_, Mailbox> {
    mailbox.lock().unwrap_or_else(PoisonError::into_inner)
}
