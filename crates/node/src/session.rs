//! One task between nodes: Hello, Ready, data, closing digest, abort. A pure state machine; the clock is an argument, messages are bytes.
//!
//! ```text
//! Hello(descriptor, rules, nonce, seed)  to each peer, as soon as its key is known     ─ all joined ─▶ sid
//! Ready(sid, keys, shape, pair, base)     once all have joined and the own input is there ─ all ready ─▶ data
//! Data(sid, round, bytes)                 one per peer and round, then the closing digest
//! Abort(reason)                           at any time
//! Receipt(signature)                      after a result that all have confirmed
//! ```
//!
//! **sid** = H(version, task, descriptor, all keys, all rules, all nonces). The secret of a pair is both parties' seeds; every key is derived
//! with the sid, so a new Hello of anybody (after a restart, with a fresh nonce) makes all keys new. Nothing is derived before all have said Hello
//! and nothing of the input leaves before all are Ready.
//!
//! **Ready** compares, before any data, what all of this depends on: the session, everybody's keys, the input's shape, and with each peer the secret of
//! the pair. The last two are hashes under the sid: seeds and column names do not travel. It also tells which base oblivious transfers of earlier
//! sessions this party holds together with that peer.
//!
//! **Rules.** When all have joined, every party computes the strictest of all rules. One that says no whatever the data are ends the task for all, with the
//! same reason everywhere. What depends on this party's data, and its owner's consent, comes before Ready; the records of its
//! input and of the release before the first data. To the others a party says no more than that it has declined.
//!
//! **The end.** A result is confirmed by everybody's closing digest. One digest that differs, or a peer that breaks the protocol, and there is none. A
//! party that leaves when the result is there does not keep the others from comparing theirs; a result that could not be confirmed by all is given
//! with the list of those who did not. Of two honest parties that can still reach each other, none has another result than the other.
//!
//! **Deadlines.** Joining and waiting for inputs begin anew when a node was started anew, and together never last longer than both durations.
//!
//! Read on: `gathering.rs` (up to Ready), `consent.rs` (what stands before it), `binding.rs` (what makes a session one), `bases.rs` (what is kept of
//! earlier sessions), `job.rs` (the computation), `receipts.rs` (what is signed after it), `message.rs` (bytes).

mod bases;
mod binding;
mod consent;
mod gathering;
mod job;
mod message;
mod receipts;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use fdrtd_mpc::microprotocol::{Prepared, Shape};
use fdrtd_mpc::net::{self, Machine, Party};
use fdrtd_mpc::ot::Base;
use fdrtd_mpc::threshold::Thresholds;
use fdrtd_mpc::wire::Malformed;
use zeroize::Zeroizing;

pub use consent::Declined;
pub use job::{Job, JobDone};
pub use message::{is_abort, is_data, is_hello, is_receipt, peek_hello};

use crate::descriptor::Descriptor;
use crate::identity::PeerKey;
use crate::policy::{Effective, Question, Rules};
use crate::reason::{Reason, Report, Stage};
use bases::PairBase;
use consent::Gate;
use message::{ABORT, DATA, HELLO, Hello, READY, RECEIPT, Ready, decode_abort, encode_abort};
use receipts::Receipts;

/// Longest message before the computation; also what a node keeps of a task it has not joined.
pub const CONTROL_BYTES: usize = 4_096;

/// Data of a peer that may wait here: one round's before this node has seen everybody's Ready, or one round's and the closing digest while it
/// computes.
const EARLY: usize = 2;

/// How often a party may say Hello in other words than before, as a node does that was started anew. Each time all others are told of the new session,
/// and those that are away have it waiting for them.
const LIVES: u32 = 256;

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
        /// Who said so, if it was not this party.
        reported_by: Option<Report>,
    },
}

struct Peer {
    key: Option<PeerKey>,
    my_seed: Zeroizing<[u8; 32]>,
    greeted: bool,
    /// The next Hello answers one of theirs.
    answering: bool,
    hello: Option<Hello>,
    /// How many different Hellos there were.
    lives: u32,
    ready: Option<Ready>,
    base: PairBase,
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
    /// `None` before it has started and while a job has it.
    machine: Option<Machine>,
    sid: [u8; 32],
    inbox: VecDeque<(Party, Bytes)>,
    opened: Option<String>,
    /// Whose messages the machine needed when it last ran.
    waiting: Vec<Party>,
    /// Who left after the result was there: nothing more is expected of them.
    gone: Vec<Party>,
    round: u32,
    /// The machine has paused before much work.
    heavy: bool,
    started: Millis,
}

impl Run {
    /// Whose messages are waited for: nobody's while this party computes.
    fn awaited(&self) -> Vec<Party> {
        match &self.machine {
            Some(_) => self.still_there().collect(),
            None => Vec::new(),
        }
    }

    fn still_there(&self) -> impl Iterator<Item = Party> {
        let waiting = self.waiting.iter().copied();
        waiting.filter(|party| !self.gone.contains(party))
    }
}

/// See the [module](self).
pub struct Session {
    descriptor: Descriptor,
    text: String,
    me: Party,
    rules: Rules,
    /// What the rules look at; `None` if this build does not know the microprotocol.
    question: Option<Question>,
    gate: Gate,
    nonce: [u8; 32],
    peers: Vec<Peer>,
    input: Option<Prepared>,
    shape: Option<Shape>,
    /// The sid under which this party has said that it is ready.
    ready: Option<[u8; 32]>,
    /// It has said so once, whatever became of it.
    was_ready: bool,
    /// Base oblivious transfers that the computation has made.
    made: Vec<(Party, Arc<Base>)>,
    /// What only this party's owner learns, as JSON text.
    own: Option<Zeroizing<String>>,
    phase: Phase,
    created: Millis,
    /// When the stage it waits in began.
    since: Millis,
    outgoing: Vec<(Party, Bytes)>,
    sent: u64,
    receipts: Receipts,
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
    /// A session of party `me` that has not greeted anybody yet; `key` is this node's own.
    pub fn new(descriptor: Descriptor, me: Party, key: PeerKey, rules: impl Into<Rules>, now: Millis) -> Session {
        let peer = |index| Peer {
            key: (index == me.index()).then_some(key),
            my_seed: random(),
            greeted: false,
            answering: false,
            hello: None,
            lives: 0,
            ready: None,
            base: PairBase::default(),
            away: false,
            early: Vec::new(),
        };
        let parties = descriptor.nodes.len();
        let peers = (0..parties).map(peer).collect();
        Session {
            text: descriptor.text(),
            question: Question::of(&descriptor),
            descriptor,
            me,
            rules: rules.into(),
            gate: Gate::default(),
            nonce: *random(),
            peers,
            input: None,
            shape: None,
            ready: None,
            was_ready: false,
            made: Vec::new(),
            own: None,
            phase: Phase::Gathering,
            created: now,
            since: now,
            outgoing: Vec::new(),
            sent: 0,
            receipts: Receipts::new(parties),
        }
    }

    /// The task was created or joined at that time: before this node was started anew.
    pub fn set_created(&mut self, created: Millis) {
        self.created = created.min(self.since);
    }

    /// Puts a session back that had ended before a restart, with what its owner alone had learnt.
    pub fn restore(&mut self, end: End, own: Option<Zeroizing<String>>) {
        self.own = own;
        self.finish_with(end);
    }

    /// What only this party's owner learns beside the result, as JSON text.
    pub fn own(&self) -> Option<&str> {
        let done = matches!(self.phase, Phase::Ended(End::Done { .. }));
        self.own.as_ref().filter(|_| done).map(|own| own.as_str())
    }

    /// What it is about.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// The public part of this party's input.
    pub fn shape(&self) -> Option<&Shape> {
        self.shape.as_ref()
    }

    /// How many parties there are.
    pub fn parties(&self) -> usize {
        self.peers.len()
    }

    /// This party.
    pub fn me(&self) -> Party {
        self.me
    }

    /// The strictest rules of all that have joined.
    pub fn rules(&self) -> Effective {
        let of = |(index, peer): (usize, &Peer)| {
            if index == self.me.index() {
                Some(self.rules)
            } else {
                peer.hello.as_ref().map(|hello| hello.rules)
            }
        };
        Effective::of(self.peers.iter().enumerate().map(of).collect())
    }

    /// What has to be compared before anything opens, under those.
    pub fn thresholds(&self) -> Thresholds {
        self.rules().rules.thresholds(self.peers.len())
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

    /// When the task was created or joined here.
    pub fn created(&self) -> Millis {
        self.created
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

    /// Who is being waited for, and for what. While this party computes, that is itself.
    pub fn waiting_for(&self) -> (Stage, Vec<usize>) {
        let all = 0..self.peers.len();
        match &self.phase {
            Phase::Gathering if !self.all_joined() => (Stage::Join, all.filter(|party| !self.joined(*party)).collect()),
            Phase::Gathering => {
                let missing = |party: &Party| {
                    let index = party.index();
                    let at_odds = *party != self.me && self.ready.is_some() && !self.agrees(*party);
                    let own = *party == self.me && (self.lacks_consent() || self.is_unrecorded());
                    !self.has_input(index) || self.peers[index].away || at_odds || own
                };
                let missing = Party::all(self.peers.len()).filter(missing);
                (Stage::Input, missing.map(Party::index).collect())
            }
            Phase::Running(run) if run.machine.is_none() => (Stage::Run, vec![self.me.index()]),
            Phase::Running(run) => (Stage::Run, run.awaited().into_iter().map(Party::index).collect()),
            Phase::Ended(_) => (Stage::Run, Vec::new()),
        }
    }

    /// Messages to be sent, in order.
    pub fn outgoing(&mut self) -> Vec<(Party, Bytes)> {
        std::mem::take(&mut self.outgoing)
    }

    /// The longest message that peers may send now.
    pub fn limit(&self) -> usize {
        let data = self.shape.as_ref().map_or(0, |shape| shape.message_bytes + net::HEADER);
        data.max(CONTROL_BYTES)
    }

    /// Gives this party's input; only the first one counts.
    pub fn give_input(&mut self, input: Prepared, now: Millis) {
        if self.input.is_none() && matches!(self.phase, Phase::Gathering) {
            self.shape = Some(input.shape.clone());
            self.gate.samples = input.fewest_samples();
            self.input = Some(input);
            self.announce(now);
        }
    }

    /// A message of a peer. Hostile bytes: what no correct peer sends ends the task.
    pub fn receive(&mut self, from: Party, message: &Bytes, now: Millis) {
        if from == self.me || (self.end().is_some() && !is_receipt(message)) {
            return;
        }
        let result = match message.first() {
            Some(&HELLO) => self.receive_hello(from, message, now),
            Some(&READY) => self.receive_ready(from, message, now),
            Some(&DATA) => self.receive_data(from, message),
            Some(&RECEIPT) => self.receive_receipt(from, message),
            Some(&ABORT) => decode_abort(message, self.peers.len()).map(|(reason, by)| self.told(from, reason, by)),
            _ => Err(Malformed::Value),
        };
        if result.is_err() {
            self.lost(Reason::PeerMalformed { party: from.index() });
        }
    }

    /// Ends it for all.
    pub fn cancel(&mut self) {
        let party = self.me.index();
        self.fail(Reason::Cancelled { party });
    }

    /// Ends it here with `reason` and tells the others.
    pub fn fail(&mut self, reason: Reason) {
        self.give_up(reason, None);
    }

    /// What to tell whoever says Hello after the end, so that it does not wait for nothing; `from` is its party, if its key is known.
    pub fn farewell(&self, from: Option<Party>, message: &[u8]) -> Option<Bytes> {
        let (hello, _) = Hello::decode(message).ok()?;
        match self.end()? {
            End::Failed { reason, reported_by } => Some(self.abort(reason, *reported_by)),
            End::Done { .. } => {
                // The sender has been started anew, since without it there would be no result; unless it is this node that has forgotten
                // who took part.
                let own = self.me.index();
                let forgotten = self.peers.iter().all(|peer| peer.hello.is_none());
                let known = from.and_then(|party| self.peers[party.index()].hello.as_ref());
                match from {
                    Some(party) if known.is_some_and(|known| known.nonce != hello.nonce) => {
                        Some(self.abort(&Reason::PeerRestarted { party: party.index() }, None))
                    }
                    _ if forgotten => Some(self.abort(&Reason::PeerRestarted { party: own }, None)),
                    _ => None,
                }
            }
        }
    }

    /// What to tell whoever says Hello after the task was deleted here.
    pub fn epitaph(&self) -> Option<Bytes> {
        match self.end()? {
            End::Failed { reason, reported_by } => Some(self.abort(reason, *reported_by)),
            End::Done { .. } => {
                let party = self.me.index();
                Some(self.abort(&Reason::Cancelled { party }, None))
            }
        }
    }

    fn abort(&self, reason: &Reason, reported_by: Option<Report>) -> Bytes {
        encode_abort(reason, reported_by.map_or(self.me.index(), |report| report.by))
    }

    /// When [`Session::tick`] is due. `heard[i]`: when anything was last heard of party i.
    pub fn next_deadline(&self, heard: &[Millis]) -> Option<Millis> {
        let durations = &self.descriptor.durations;
        match &self.phase {
            Phase::Gathering => {
                let stage = if self.all_joined() {
                    durations.input
                } else {
                    durations.join
                };
                // Restarts let a stage begin anew, but not for ever.
                let both = durations.join.saturating_add(durations.input);
                Some(self.since.saturating_add(stage).min(self.created.saturating_add(both)))
            }
            Phase::Running(run) => {
                let silences = run.awaited().into_iter().map(|party| self.silent_at(run, party, heard));
                Some(silences.fold(run.started.saturating_add(durations.run), Millis::min))
            }
            Phase::Ended(_) => None,
        }
    }

    /// Ends what has waited too long.
    pub fn tick(&mut self, now: Millis, heard: &[Millis]) {
        // Not always the end: when the result is there, a silent party is given up and the others are still waited for.
        while self.next_deadline(heard).is_some_and(|deadline| deadline <= now) {
            let reason = match self.silent(now, heard) {
                Some(party) => Reason::PeerSilent { party: party.index() },
                None => {
                    let (stage, missing) = self.waiting_for();
                    Reason::Expired { stage, missing }
                }
            };
            self.lost(reason);
        }
    }

    fn silent(&self, now: Millis, heard: &[Millis]) -> Option<Party> {
        let Phase::Running(run) = &self.phase else { return None };
        let mut awaited = run.awaited().into_iter();
        awaited.find(|party| self.silent_at(run, *party, heard) <= now)
    }

    fn silent_at(&self, run: &Run, party: Party, heard: &[Millis]) -> Millis {
        let last = heard.get(party.index()).copied().unwrap_or(0).max(run.started);
        last.saturating_add(self.descriptor.durations.silence)
    }

    fn all_joined(&self) -> bool {
        (0..self.peers.len()).all(|party| self.joined(party))
    }

    /// Something keeps the computation from being finished with everybody.
    ///
    /// When the result is there, a party that leaves only fails to confirm it: what it may have told others is found out by comparing the digests with
    /// them. But there is no result if anything says that somebody is not honest.
    fn lost(&mut self, reason: Reason) {
        let leaves = match &reason {
            Reason::PeerSilent { party } | Reason::PeerRestarted { party } => Party::new(*party, self.peers.len()),
            _ => None,
        };
        if !self.survives(&reason, leaves) {
            self.give_up(reason, None);
        }
    }

    /// The same, said by another party, which has left.
    fn told(&mut self, from: Party, reason: Reason, by: usize) {
        if !self.survives(&reason, Some(from)) {
            let passed_on_by = (by != from.index()).then_some(from.index());
            self.give_up(reason, Some(Report { by, passed_on_by }));
        }
    }

    /// Whether there is a result all the same: not without `leaves`, if that is one party.
    fn survives(&mut self, reason: &Reason, leaves: Option<Party>) -> bool {
        let Phase::Running(run) = &mut self.phase else {
            return false;
        };
        if run.opened.is_none() || reason.accuses() {
            return false;
        }
        match leaves {
            Some(party) => {
                if !run.gone.contains(&party) {
                    run.gone.push(party);
                }
                self.conclude_if_all_left();
            }
            None => self.conclude(),
        }
        true
    }

    /// Ends it without a result. All others are told, whoever found the reason: so it reaches everybody, whomever its finder knows or tells.
    fn give_up(&mut self, reason: Reason, reported_by: Option<Report>) {
        if self.end().is_some() {
            return;
        }
        let message = self.abort(&reason, reported_by);
        for party in Party::all(self.peers.len()) {
            if self.peers[party.index()].greeted {
                self.outgoing.push((party, message.clone()));
            }
        }
        self.finish_with(End::Failed { reason, reported_by });
    }

    /// Gives the result as it is if everybody that is waited for has left.
    fn conclude_if_all_left(&mut self) {
        if let Phase::Running(run) = &self.phase
            && run.machine.is_some()
            && run.still_there().next().is_none()
        {
            self.conclude();
        }
    }

    /// Gives the result, with those who did not confirm it.
    fn conclude(&mut self) {
        let Phase::Running(run) = &mut self.phase else { return };
        let Some(result) = run.opened.take() else { return };
        let mut unconfirmed: Vec<usize> = run.waiting.iter().map(|party| party.index()).collect();
        if unconfirmed.is_empty() {
            unconfirmed = (0..self.peers.len())
                .filter(|party| *party != self.me.index())
                .collect();
        }
        self.finish_with(End::Done { result, unconfirmed });
    }

    /// Ends it and drops every secret.
    fn finish_with(&mut self, end: End) {
        if matches!(end, End::Failed { .. }) {
            self.own = None;
        }
        self.phase = Phase::Ended(end);
        self.input = None;
        for peer in &mut self.peers {
            peer.my_seed = Zeroizing::new([0; 32]);
            if let Some(hello) = &mut peer.hello {
                hello.seed = Zeroizing::new([0; 32]);
            }
            peer.early.clear();
            peer.base.forget();
        }
    }
}

/// For tests: two halves with this id.
#[cfg(test)]
pub(crate) fn test_base(id: u8) -> Arc<Base> {
    Arc::new(fdrtd_mpc::sim::base([id; 32]))
}

#[cfg(test)]
mod receipt_tests;
#[cfg(test)]
pub(crate) mod rehearsal;
#[cfg(test)]
mod restarts;
#[cfg(test)]
mod simulator;
#[cfg(test)]
mod tests;
