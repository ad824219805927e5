//! One task between nodes: Hello, Ready, data, closing digest, abort. A pure state machine; the clock is an argument, messages are bytes.
//!
//! ```text
//! Hello(descriptor, policy, nonce, seed)  to each peer, as soon as its key is known     ─ all joined ─▶ sid
//! Ready(sid, keys, shape)                 once all have joined and the own input is there ─ all ready ─▶ data
//! Data(sid, round, bytes)                 one per peer and round, then the closing digest
//! Abort(reason)                           at any time
//! ```
//!
//! **sid** = H(version, task, descriptor, all keys, all policies, all nonces). The secret of a pair is both parties' seeds; every key is derived
//! with the sid, so a new Hello of anybody (after a restart, with a fresh nonce) makes all keys new. Nothing is derived before all have said Hello
//! and nothing of the input leaves before all are Ready.
//!
//! What a peer sees before the data: the descriptor, policy, nonce and seed; then a hash of the input's shape under the sid. Column names do not travel.
//!
//! A result that could not be confirmed by everybody's closing digest is given with a warning; different digests give no result.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;
use fdrtd_mpc::microprotocol::{Prepared, Shape};
use fdrtd_mpc::net::{self, Machine, Party, State};
use fdrtd_mpc::wire::{Malformed, Reader, put_text};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::descriptor::{Descriptor, MAX_BYTES};
use crate::identity::PeerKey;
use crate::policy::Profile;
use crate::reason::{Reason, Stage};

/// Longest message before the computation; also what a node keeps of a task it has not joined.
pub const CONTROL_BYTES: usize = 4_096;


/// Data of a peer that may wait here: one round's before this node has seen everybody's Ready, or one round's and the closing digest while it
/// computes.
const EARLY: usize = 2;

const HELLO: u8 = 1;
const READY: u8 = 2;
const DATA: u8 = net::KIND;
const ABORT: u8 = 4;

/// Milliseconds on a monotonic clock.
pub type Millis = u64;

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With a result (JSON text), and the parties that did not confirm it.
    Done {
        /// JSON text.
        result: String,
        /// Indices of parties.
        unconfirmed: Vec<usize>,
    },
    /// Without.
    Failed {
        /// Why.
        reason: Reason,
        /// The party that said so, if it was not this one.
        reported_by: Option<usize>,
    },
}

/// Work that may be heavy: run it anywhere, then give it back with [`Session::finish`].
pub struct Job {
    work: Work,
    /// Bytes to go through, to decide where to run it.
    pub weight: usize,
}

enum Work {
    Start(Prepared, net::Session),
    Step(Machine, Vec<(Party, Bytes)>),
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("weight", &self.weight)
            .finish_non_exhaustive()
    }
}

/// What came out of a [`Job`].
#[derive(Debug)]
pub struct JobDone {
    machine: Machine,
    state: State,
}

impl Job {
    /// Computes until a message is missing.
    pub fn run(self) -> JobDone {
        match self.work {
            Work::Start(prepared, session) => {
                let mut machine = prepared.start(session);
                let state = machine.step();
                JobDone { machine, state }
            }
            Work::Step(mut machine, messages) => {
                let delivered = messages
                    .into_iter()
                    .try_for_each(|(from, bytes)| machine.deliver(from, bytes));
                let state = match delivered {
                    Ok(()) => machine.step(),
                    Err(abort) => State::Aborted(abort),
                };
                JobDone { machine, state }
            }
        }
    }
}

struct Hello {
    profile: Profile,
    /// Whether the sender has this party's Hello. If not, and it was sent, it was lost and is sent again.
    has_ours: bool,
    nonce: [u8; 32],
    seed: Zeroizing<[u8; 32]>,
}

impl Hello {
    fn same_as(&self, other: &Hello) -> bool {
        self.profile == other.profile && self.nonce == other.nonce && bool::from(self.seed.ct_eq(&other.seed[..]))
    }
}

struct Ready {
    sid: [u8; 32],
    shape: [u8; 32],
}

struct Peer {
    key: Option<PeerKey>,
    my_seed: Zeroizing<[u8; 32]>,
    greeted: bool,
    /// The next Hello answers one of theirs.
    answering: bool,
    hello: Option<Hello>,
    ready: Option<Ready>,
    /// Its connection broke and is not back.
    away: bool,
    early: Vec<([u8; 32], Bytes)>,
}

enum Phase {
    Gathering,
    Running(Box<Run>),
    Ended(End),
}

struct Run {
    /// `None` while a job has it.
    machine: Option<Machine>,
    sid: [u8; 32],
    inbox: VecDeque<(Party, Bytes)>,
    opened: Option<String>,
    waiting: Vec<Party>,
    round: u32,
    started: Millis,
}

/// See the [module](self).
pub struct Session {
    descriptor: Descriptor,
    text: String,
    me: Party,
    profile: Profile,
    nonce: [u8; 32],
    peers: Vec<Peer>,
    input: Option<Prepared>,
    shape: Option<Shape>,
    /// The sid under which this party has said that it is ready.
    ready: Option<[u8; 32]>,
    phase: Phase,
    since: Millis,
    outgoing: Vec<(Party, Bytes)>,
    sent: u64,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("task", &self.descriptor.task)
            .field("me", &self.me)
            .finish_non_exhaustive()
    }
}

fn random() -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    // Without randomness from the operating system nothing here is safe to go on.
    #[allow(clippy::expect_used)]
    getrandom::fill(&mut bytes[..]).expect("the operating system gives random bytes");
    bytes
}

impl Session {
    /// A session of party `me` that has not greeted anybody yet. `keys` are those of the parties, as far as known; `key` is this node's own.
    pub fn new(descriptor: Descriptor, me: Party, key: PeerKey, profile: Profile, now: Millis) -> Session {
        let peer = |index| Peer {
            key: (index == me.index()).then_some(key),
            my_seed: random(),
            greeted: false,
            answering: false,
            hello: None,
            ready: None,
            away: false,
            early: Vec::new(),
        };
        let peers = (0..descriptor.nodes.len()).map(peer).collect();
        Session {
            text: descriptor.text(),
            descriptor,
            me,
            profile,
            nonce: *random(),
            peers,
            input: None,
            shape: None,
            ready: None,
            phase: Phase::Gathering,
            since: now,
            outgoing: Vec::new(),
            sent: 0,
        }
    }

    /// What it is about.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// This party.
    pub fn me(&self) -> Party {
        self.me
    }

    /// The strictest policy of all that have joined.
    pub fn profile(&self) -> Profile {
        self.peers
            .iter()
            .filter_map(|peer| peer.hello.as_ref())
            .map(|hello| hello.profile)
            .fold(self.profile, Profile::max)
    }

    /// The key of each party, as far as known.
    pub fn keys(&self) -> Vec<Option<PeerKey>> {
        self.peers.iter().map(|peer| peer.key).collect()
    }

    /// The party with that key.
    pub fn party_of(&self, key: &PeerKey) -> Option<Party> {
        Party::all(self.peers.len())
            .find(|party| *party != self.me && self.peers[party.index()].key.as_ref() == Some(key))
    }

    /// Whether a party has joined.
    pub fn joined(&self, party: usize) -> bool {
        party == self.me.index() || self.peers.get(party).is_some_and(|peer| peer.hello.is_some())
    }

    /// Whether a party has given its input, as far as this node knows.
    pub fn has_input(&self, party: usize) -> bool {
        if matches!(self.phase, Phase::Running(_) | Phase::Ended(End::Done { .. })) {
            return true;
        }
        if party == self.me.index() {
            return self.input.is_some();
        }
        self.peers.get(party).is_some_and(|peer| peer.ready.is_some())
    }

    /// How many have joined, this party included.
    pub fn joined_count(&self) -> usize {
        (0..self.peers.len()).filter(|party| self.joined(*party)).count()
    }

    /// When the stage it waits in began.
    pub fn since(&self) -> Millis {
        self.since
    }

    /// Puts a session back that had ended before a restart.
    pub fn restore(&mut self, end: End) {
        self.finish_with(end);
    }

    /// Messages of the computation sent so far: (number of peers) × (rounds + closing digest).
    pub fn data_messages_sent(&self) -> u64 {
        self.sent
    }

    /// Rounds that are complete.
    pub fn round(&self) -> u32 {
        match &self.phase {
            Phase::Running(run) => run.round,
            _ => 0,
        }
    }

    /// How it ended, if it has.
    pub fn end(&self) -> Option<&End> {
        match &self.phase {
            Phase::Ended(end) => Some(end),
            _ => None,
        }
    }

    /// Whether it computes.
    pub fn running(&self) -> bool {
        matches!(self.phase, Phase::Running(_))
    }

    /// The result, if it is there but not confirmed yet.
    pub fn opened(&self) -> bool {
        matches!(&self.phase, Phase::Running(run) if run.opened.is_some())
    }

    /// Who is being waited for, and for what.
    pub fn waiting_for(&self) -> (Stage, Vec<usize>) {
        let all = 0..self.peers.len();
        match &self.phase {
            Phase::Gathering if !self.all_joined() => (Stage::Join, all.filter(|party| !self.joined(*party)).collect()),
            Phase::Gathering => {
                let missing = |party: &usize| !self.has_input(*party) || self.peers[*party].away;
                (Stage::Input, all.filter(missing).collect())
            }
            Phase::Running(run) => (Stage::Run, run.waiting.iter().map(|party| party.index()).collect()),
            Phase::Ended(_) => (Stage::Run, Vec::new()),
        }
    }

    /// Messages to be sent, in order.
    pub fn outgoing(&mut self) -> Vec<(Party, Bytes)> {
        std::mem::take(&mut self.outgoing)
    }

    /// The longest message that peers may send now.
    pub fn limit(&self) -> usize {
        let data = self
            .shape
            .as_ref()
            .map_or(0, |shape| shape.message_bytes + net::HEADER);
        data.max(CONTROL_BYTES)
    }

    /// A peer's key became known: greet it.
    pub fn set_key(&mut self, party: Party, key: PeerKey) {
        if self.end().is_some() || party == self.me {
            return;
        }
        if let Some(other) = self.peers.iter().position(|peer| peer.key == Some(key))
            && other != party.index()
        {
            let (low, high) = (other.min(party.index()), other.max(party.index()));
            return self.fail(Reason::KeyTwice {
                party: low,
                other: high,
            });
        }
        self.peers[party.index()].key = Some(key);
        self.greet(party);
    }

    /// The peer's node was started anew and has forgotten its Hello and ours.
    pub fn peer_restarted(&mut self, party: Party, now: Millis) {
        match &self.phase {
            Phase::Gathering => {
                let peer = &mut self.peers[party.index()];
                peer.hello = None;
                peer.ready = None;
                peer.early.clear();
                peer.greeted = false;
                // The old seed may have been heard; the nonce is the same for all peers and stays.
                peer.my_seed = random();
                self.ready = None;
                self.since = now;
                self.greet(party);
            }
            Phase::Running(_) => self.lost(Reason::PeerRestarted { party: party.index() }, None),
            Phase::Ended(_) => {}
        }
    }

    /// The connection to a peer broke, or is there again. The computation does not begin while one is away: its node may be starting anew,
    /// and would find a computation that it can take no part in.
    pub fn set_away(&mut self, party: Party, away: bool, now: Millis) {
        self.peers[party.index()].away = away;
        self.start_if_all_ready(now);
    }

    /// Gives this party's input; only the first one counts.
    pub fn give_input(&mut self, input: Prepared, now: Millis) {
        if self.input.is_none() && matches!(self.phase, Phase::Gathering) {
            self.shape = Some(input.shape.clone());
            self.input = Some(input);
            self.announce(now);
        }
    }

    /// Ends it for all.
    pub fn cancel(&mut self) {
        let party = self.me.index();
        self.fail(Reason::Cancelled { party });
    }

    /// Ends it here with `reason` and tells the others.
    pub fn fail(&mut self, reason: Reason) {
        if self.end().is_some() {
            return;
        }
        let message = abort_message(&reason);
        for party in Party::all(self.peers.len()) {
            if self.peers[party.index()].greeted {
                self.outgoing.push((party, message.clone()));
            }
        }
        self.finish_with(End::Failed {
            reason,
            reported_by: None,
        });
    }

    /// What to tell a peer that joins after it has ended without a result, so that it does not wait for nothing.
    pub fn farewell(&self) -> Option<Bytes> {
        match self.end() {
            Some(End::Failed { reason, .. }) => Some(abort_message(reason)),
            _ => None,
        }
    }

    /// A message of a peer. Hostile bytes: what no correct peer sends ends the task.
    pub fn receive(&mut self, from: Party, message: &Bytes, now: Millis) {
        if self.end().is_some() || from == self.me {
            return;
        }
        let result = match message.first() {
            Some(&HELLO) => self.receive_hello(from, message, now),
            Some(&READY) => self.receive_ready(from, message, now),
            Some(&DATA) => self.receive_data(from, message),
            Some(&ABORT) => self.receive_abort(from, message),
            _ => Err(Malformed::Value),
        };
        if result.is_err() {
            self.lost(Reason::PeerMalformed { party: from.index() }, None);
        }
    }

    /// The next piece of work, if there is one.
    pub fn job(&mut self) -> Option<Job> {
        let weight = self.limit() * self.peers.len();
        let Phase::Running(run) = &mut self.phase else {
            return None;
        };
        if let Some(input) = self.input.take() {
            let session = net::Session {
                sid: run.sid,
                me: self.me,
                parties: self.peers.len(),
                pairs: pair_secrets(&self.peers, self.me),
                coins: random(),
            };
            return Some(Job {
                work: Work::Start(input, session),
                weight,
            });
        }
        if run.inbox.is_empty() {
            return None;
        }
        let machine = run.machine.take()?;
        Some(Job {
            work: Work::Step(machine, run.inbox.drain(..).collect()),
            weight,
        })
    }

    /// Takes a finished piece of work back; then ask for the next [`Session::job`].
    pub fn finish(&mut self, done: JobDone) {
        let JobDone { mut machine, state } = done;
        let Phase::Running(run) = &mut self.phase else { return };
        let outgoing = machine.outgoing();
        self.sent += outgoing.len() as u64;
        self.outgoing.extend(outgoing);
        run.round = machine.round();
        run.waiting = machine.waiting_for();
        run.machine = Some(machine);
        match state {
            State::Running => {}
            State::Opened(result) => run.opened = Some(result),
            State::Confirmed(result) => self.finish_with(End::Done {
                result,
                unconfirmed: Vec::new(),
            }),
            State::Aborted(abort) => {
                let reason = Reason::from_abort(abort, self.me);
                self.lost(reason, None);
            }
        }
    }

    /// When [`Session::tick`] is due. `heard[i]`: when anything was last heard of party i.
    pub fn next_deadline(&self, heard: &[Millis]) -> Option<Millis> {
        let durations = &self.descriptor.durations;
        match &self.phase {
            Phase::Gathering if self.all_joined() => Some(self.since.saturating_add(durations.input)),
            Phase::Gathering => Some(self.since.saturating_add(durations.join)),
            Phase::Running(run) => {
                let silence = run.waiting.iter().map(|party| self.silent_at(run, *party, heard)).min();
                let end = run.started.saturating_add(durations.run);
                Some(silence.map_or(end, |silence| silence.min(end)))
            }
            Phase::Ended(_) => None,
        }
    }

    /// Ends what has waited too long.
    pub fn tick(&mut self, now: Millis, heard: &[Millis]) {
        if self.next_deadline(heard).is_none_or(|deadline| now < deadline) {
            return;
        }
        let (stage, missing) = self.waiting_for();
        let reason = match &self.phase {
            Phase::Running(run) => {
                let silent = run
                    .waiting
                    .iter()
                    .find(|party| self.silent_at(run, **party, heard) <= now);
                silent.map(|party| Reason::PeerSilent { party: party.index() })
            }
            _ => None,
        };
        self.lost(reason.unwrap_or(Reason::Expired { stage, missing }), None);
    }

    fn silent_at(&self, run: &Run, party: Party, heard: &[Millis]) -> Millis {
        let last = heard.get(party.index()).copied().unwrap_or(0).max(run.started);
        last.saturating_add(self.descriptor.durations.silence)
    }

    fn all_joined(&self) -> bool {
        (0..self.peers.len()).all(|party| self.joined(party))
    }

    fn greet(&mut self, party: Party) {
        let peer = &mut self.peers[party.index()];
        if peer.greeted || peer.key.is_none() {
            return;
        }
        peer.greeted = true;
        let has_theirs = peer.hello.is_some() || std::mem::take(&mut peer.answering);
        let mut message = vec![HELLO, self.profile.to_byte(), u8::from(has_theirs)];
        message.extend_from_slice(&self.nonce);
        message.extend_from_slice(&peer.my_seed[..]);
        put_text(&mut message, &self.text);
        self.outgoing.push((party, Bytes::from(message)));
    }

    fn receive_hello(&mut self, from: Party, message: &[u8], now: Millis) -> Result<(), Malformed> {
        let (hello, text) = read_hello(message)?;
        if text != self.text {
            let theirs: Descriptor = serde_json::from_str(text).map_err(|_| Malformed::Value)?;
            let field = self.descriptor.difference(&theirs).ok_or(Malformed::Value)?;
            self.lost(
                Reason::DescriptorsDiffer {
                    party: from.index(),
                    field,
                },
                None,
            );
            return Ok(());
        }
        if !hello.has_ours && self.peers[from.index()].greeted {
            // Both may have greeted at once, or the peer has lost ours: a node keeps Hellos of tasks it has not joined only for a while.
            self.peers[from.index()].greeted = false;
            self.peers[from.index()].answering = true;
            self.greet(from);
        }
        let peer = &mut self.peers[from.index()];
        if peer.hello.as_ref().is_some_and(|known| known.same_as(&hello)) {
            return Ok(());
        }
        if matches!(self.phase, Phase::Running(_)) {
            self.lost(Reason::PeerRestarted { party: from.index() }, None);
            return Ok(());
        }
        peer.hello = Some(hello);
        peer.ready = None;
        peer.early.clear();
        self.ready = None;
        if self.all_joined() {
            self.since = now;
        }
        self.announce(now);
        Ok(())
    }

    /// Says Ready once everybody has joined and the input is there.
    fn announce(&mut self, now: Millis) {
        let (Some(sid), Some(shape)) = (self.sid(), &self.shape) else {
            return;
        };
        if self.input.is_none() || self.ready == Some(sid) {
            return;
        }
        let mut message = vec![READY];
        message.extend_from_slice(&sid);
        message.extend_from_slice(&self.keys_digest());
        message.extend_from_slice(&shape_digest(&sid, shape));
        self.ready = Some(sid);
        let message = Bytes::from(message);
        for party in Party::all(self.peers.len()).filter(|party| *party != self.me) {
            self.outgoing.push((party, message.clone()));
        }
        self.start_if_all_ready(now);
    }

    fn receive_ready(&mut self, from: Party, message: &[u8], now: Millis) -> Result<(), Malformed> {
        let mut reader = Reader::new(&message[1..]);
        let (sid, keys, shape) = (reader.array::<32>()?, reader.array::<32>()?, reader.array::<32>()?);
        reader.end()?;
        if self.running() || self.peers[from.index()].hello.is_none() {
            return Err(Malformed::Value);
        }
        if self.all_keys_known() && keys != self.keys_digest() {
            self.lost(Reason::KeysDiffer { party: from.index() }, None);
            return Ok(());
        }
        // A sid that is not ours yet: one of us has not heard a restarted peer's new Hello. It is compared again when all are ready.
        self.peers[from.index()].ready = Some(Ready { sid, shape });
        self.start_if_all_ready(now);
        Ok(())
    }

    fn start_if_all_ready(&mut self, now: Millis) {
        let (Phase::Gathering, Some(sid), Some(shape)) = (&self.phase, self.ready, &self.shape) else {
            return;
        };
        if self.peers.iter().any(|peer| peer.away) {
            return;
        }
        let digest = shape_digest(&sid, shape);
        for party in Party::all(self.peers.len()).filter(|party| *party != self.me) {
            match &self.peers[party.index()].ready {
                Some(ready) if ready.sid != sid => return,
                Some(ready) if ready.shape != digest => {
                    return self.lost(Reason::ShapesDiffer { party: party.index() }, None);
                }
                Some(_) => {}
                None => return,
            }
        }
        let mut inbox = VecDeque::new();
        for party in Party::all(self.peers.len()) {
            let early = std::mem::take(&mut self.peers[party.index()].early);
            inbox.extend(
                early
                    .into_iter()
                    .filter(|(theirs, _)| *theirs == sid)
                    .map(|(_, bytes)| (party, bytes)),
            );
        }
        let waiting = Party::all(self.peers.len()).filter(|party| *party != self.me).collect();
        let run = Run {
            machine: None,
            sid,
            inbox,
            opened: None,
            waiting,
            round: 0,
            started: now,
        };
        self.phase = Phase::Running(Box::new(run));
    }

    fn receive_data(&mut self, from: Party, message: &Bytes) -> Result<(), Malformed> {
        let mut reader = Reader::new(&message[1..]);
        let sid = reader.array::<32>()?;
        match &mut self.phase {
            Phase::Running(run) if run.sid == sid => {
                if run.inbox.iter().filter(|(sender, _)| *sender == from).count() >= EARLY {
                    return Err(Malformed::TooLong);
                }
                run.inbox.push_back((from, message.clone()));
            }
            Phase::Running(_) => {} // of a session that a restart has ended
            Phase::Gathering => {
                let early = &mut self.peers[from.index()].early;
                if early.len() >= EARLY {
                    return Err(Malformed::TooLong);
                }
                early.push((sid, message.clone()));
            }
            Phase::Ended(_) => {}
        }
        Ok(())
    }

    fn receive_abort(&mut self, from: Party, message: &[u8]) -> Result<(), Malformed> {
        if message.len() > Reason::MAX_BYTES {
            return Err(Malformed::TooLong);
        }
        let reason: Reason = serde_json::from_slice(&message[1..]).map_err(|_| Malformed::Value)?;
        if !reason.fits(self.peers.len()) {
            return Err(Malformed::Value);
        }
        self.lost(reason, Some(from));
        Ok(())
    }

    /// Something ends the computation. If the result is there already, it is given as unconfirmed, unless it is known to be wrong.
    fn lost(&mut self, reason: Reason, reported_by: Option<Party>) {
        if self.end().is_some() {
            return;
        }
        if let Phase::Running(run) = &self.phase
            && let Some(result) = &run.opened
            && reason != (Reason::StoriesDiffer {})
        {
            let mut unconfirmed: Vec<usize> = run.waiting.iter().map(|party| party.index()).collect();
            if unconfirmed.is_empty() {
                unconfirmed = (0..self.peers.len())
                    .filter(|party| *party != self.me.index())
                    .collect();
            }
            return self.finish_with(End::Done {
                result: result.clone(),
                unconfirmed,
            });
        }
        match reported_by {
            Some(party) => self.finish_with(End::Failed {
                reason,
                reported_by: Some(party.index()),
            }),
            None => self.fail(reason),
        }
    }

    /// Ends it and drops every secret.
    fn finish_with(&mut self, end: End) {
        self.phase = Phase::Ended(end);
        self.input = None;
        for peer in &mut self.peers {
            peer.my_seed = Zeroizing::new([0; 32]);
            if let Some(hello) = &mut peer.hello {
                hello.seed = Zeroizing::new([0; 32]);
            }
            peer.early.clear();
        }
    }

    fn all_keys_known(&self) -> bool {
        self.peers.iter().all(|peer| peer.key.is_some())
    }

    fn keys_digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("fdrtd 2026-11 keys of all parties, version 1");
        for peer in &self.peers {
            hasher.update(&peer.key.map_or([0; 32], |key| *key.as_bytes()));
        }
        *hasher.finalize().as_bytes()
    }

    /// Every field has a fixed length or carries it, so two different sessions cannot have one sid.
    fn sid(&self) -> Option<[u8; 32]> {
        if !self.all_joined() || !self.all_keys_known() {
            return None;
        }
        let mut hasher = blake3::Hasher::new_derive_key("fdrtd 2026-11 session id, version 1");
        hasher.update(self.descriptor.task.as_bytes());
        hasher
            .update(&(self.text.len() as u64).to_le_bytes())
            .update(self.text.as_bytes());
        hasher.update(&(self.peers.len() as u64).to_le_bytes());
        for (index, peer) in self.peers.iter().enumerate() {
            let own = index == self.me.index();
            let (profile, nonce) = match &peer.hello {
                _ if own => (self.profile, self.nonce),
                Some(hello) => (hello.profile, hello.nonce),
                None => return None,
            };
            hasher.update(peer.key.as_ref()?.as_bytes());
            hasher.update(&[profile.to_byte()]).update(&nonce);
        }
        Some(*hasher.finalize().as_bytes())
    }
}

/// What a Hello of a task that this node has not joined says.
///
/// # Errors
/// Bytes that are no Hello.
pub fn peek_hello(message: &[u8]) -> Result<(Descriptor, Profile), Malformed> {
    let (hello, text) = read_hello(message)?;
    let descriptor = serde_json::from_str(text).map_err(|_| Malformed::Value)?;
    Ok((descriptor, hello.profile))
}

/// Whether a message asks to take part.
pub fn is_hello(message: &[u8]) -> bool {
    message.first() == Some(&HELLO)
}

/// Whether a message belongs to the computation.
pub fn is_data(message: &[u8]) -> bool {
    message.first() == Some(&DATA)
}

/// Whether a message ends its task.
pub fn is_abort(message: &[u8]) -> bool {
    message.first() == Some(&ABORT)
}

fn read_hello(message: &[u8]) -> Result<(Hello, &str), Malformed> {
    let mut reader = Reader::new(message);
    if reader.u8()? != HELLO {
        return Err(Malformed::Value);
    }
    let profile = Profile::from_byte(reader.u8()?).ok_or(Malformed::Value)?;
    let has_ours = match reader.u8()? {
        0 => false,
        1 => true,
        _ => return Err(Malformed::Value),
    };
    let nonce = reader.array()?;
    let seed = Zeroizing::new(reader.array()?);
    let text = reader.text(MAX_BYTES)?;
    reader.end()?;
    Ok((
        Hello {
            profile,
            has_ours,
            nonce,
            seed,
        },
        text,
    ))
}

fn abort_message(reason: &Reason) -> Bytes {
    let mut message = vec![ABORT];
    message.extend_from_slice(serde_json::to_string(reason).unwrap_or_default().as_bytes());
    Bytes::from(message)
}

/// The shape travels only as this hash; the sid keeps anybody outside from guessing at it.
fn shape_digest(sid: &[u8; 32], shape: &Shape) -> [u8; 32] {
    *blake3::keyed_hash(sid, shape.exact.as_bytes()).as_bytes()
}

/// For each peer: the lower party's seed, then the higher one's.
fn pair_secrets(peers: &[Peer], me: Party) -> Vec<Zeroizing<[u8; 64]>> {
    let pair = |(index, peer): (usize, &Peer)| {
        let mut secret = Zeroizing::new([0; 64]);
        if let Some(hello) = &peer.hello {
            let (low, high) = if me.index() < index {
                (&peer.my_seed, &hello.seed)
            } else {
                (&hello.seed, &peer.my_seed)
            };
            secret[..32].copy_from_slice(&low[..]);
            secret[32..].copy_from_slice(&high[..]);
        }
        secret
    };
    peers.iter().enumerate().map(pair).collect()
}

#[cfg(test)]
mod tests;
