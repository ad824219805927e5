//! The way to a computation: everybody says Hello, then Ready, and all compare what they are ready for.

use std::collections::VecDeque;

use bytes::Bytes;
use fdrtd_mpc::net::Party;
use fdrtd_mpc::wire::Malformed;
use subtle::ConstantTimeEq;

use super::binding::{first_difference, shape_digest};
use super::message::{Hello, Ready, sid_of_data};
use super::{EARLY, End, LIVES, Millis, Phase, Run, Session, random};
use crate::descriptor::Descriptor;
use crate::identity::PeerKey;
use crate::reason::Reason;

impl Session {
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
        let peer = &mut self.peers[party.index()];
        if peer.key.is_some_and(|known| known != key) {
            return self.fail(Reason::KeysDiffer { party: party.index() });
        }
        peer.key = Some(key);
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
                peer.base.forget();
                // The old seed may have been heard; the nonce is the same for all peers and stays.
                peer.my_seed = random();
                self.ready = None;
                self.since = now;
                self.greet(party);
            }
            Phase::Running(_) => self.lost(Reason::PeerRestarted { party: party.index() }),
            Phase::Ended(_) => {}
        }
    }

    /// The connection to a peer broke, or is there again. The computation does not begin while one is away: its node may be starting anew,
    /// and would find a computation that it can take no part in.
    pub fn set_away(&mut self, party: Party, away: bool, now: Millis) {
        let running = self.running();
        let peer = &mut self.peers[party.index()];
        peer.away = away;
        if running && away {
            peer.base.connection_broke();
        }
        self.start_if_all_ready(now);
    }

    fn greet(&mut self, party: Party) {
        let peer = &mut self.peers[party.index()];
        if peer.greeted || peer.key.is_none() {
            return;
        }
        peer.greeted = true;
        let hello = Hello {
            rules: self.rules,
            has_ours: peer.hello.is_some() || std::mem::take(&mut peer.answering),
            nonce: self.nonce,
            seed: peer.my_seed.clone(),
        };
        self.outgoing.push((party, hello.encode(&self.text)));
    }

    pub(super) fn receive_hello(&mut self, from: Party, message: &[u8], now: Millis) -> Result<(), Malformed> {
        let (hello, text) = Hello::decode(message)?;
        if text != self.text {
            let theirs: Descriptor = serde_json::from_str(text).map_err(|_| Malformed::Value)?;
            let field = self.descriptor.difference(&theirs).ok_or(Malformed::Value)?;
            let party = from.index();
            self.lost(Reason::DescriptorsDiffer { party, field });
            return Ok(());
        }
        let known = self.peers[from.index()].hello.as_ref();
        let known = known.is_some_and(|known| known.same_as(&hello));
        if !known && self.running() {
            let reason = Reason::PeerRestarted { party: from.index() };
            self.lost(reason.clone());
            if !matches!(self.end(), Some(End::Failed { .. })) {
                // There is a result without it; it must not wait for another one.
                self.outgoing.push((from, self.abort(&reason, None)));
            }
            return Ok(());
        }
        let peer = &mut self.peers[from.index()];
        if !hello.has_ours && peer.greeted {
            // Both may have greeted at once, or the peer has lost ours: a node keeps Hellos of tasks it has not joined only for a while.
            peer.greeted = false;
            peer.answering = true;
            self.greet(from);
        }
        if known {
            return Ok(());
        }
        let peer = &mut self.peers[from.index()];
        peer.lives += 1;
        if peer.lives > LIVES {
            self.lost(Reason::PeerRestarted { party: from.index() });
            return Ok(());
        }
        peer.hello = Some(hello);
        peer.ready = None;
        peer.early.clear();
        self.ready = None;
        if self.all_joined() {
            self.since = now;
            if let Some(reason) = self.refusal() {
                self.fail(reason);
                return Ok(());
            }
        }
        self.announce(now);
        Ok(())
    }

    /// Says Ready once everybody has joined and the input is there.
    pub(super) fn announce(&mut self, now: Millis) {
        let (Some(sid), Some(keys)) = (self.sid(), self.keys_digest()) else {
            return;
        };
        if self.input.is_none() || self.ready == Some(sid) || !self.has_enough_samples() || self.lacks_consent() {
            return;
        }
        let Some(shape) = &self.shape else { return };
        let shape = shape_digest(&sid, shape);
        self.ready = Some(sid);
        self.was_ready = true;
        let me = self.me;
        for party in Party::all(self.peers.len()).filter(|party| *party != me) {
            let pair = self.pair_digest(&sid, party);
            let base = self.tell_base(&sid, party);
            let ready = Ready {
                sid,
                keys,
                shape,
                pair,
                base,
            };
            self.outgoing.push((party, ready.encode()));
        }
        self.start_if_all_ready(now);
    }

    pub(super) fn receive_ready(&mut self, from: Party, message: &[u8], now: Millis) -> Result<(), Malformed> {
        let ready = Ready::decode(message)?;
        let peer = &mut self.peers[from.index()];
        // Two that an honest peer may send, and that say nothing here: one from before it noticed that this node was started anew, and one
        // for a session after this one, of which somebody's restart has told the peer first.
        if peer.hello.is_none() || !matches!(self.phase, Phase::Gathering) {
            return Ok(());
        }
        // A sid that is not ours yet: one of us has not heard a restarted peer's new Hello. It is compared again when all are ready.
        peer.ready = Some(ready);
        self.start_if_all_ready(now);
        Ok(())
    }

    /// Whether a peer is ready for the very session that this party is ready for.
    pub(super) fn agrees(&self, party: Party) -> bool {
        let (Some(sid), Some(ready)) = (&self.ready, &self.peers[party.index()].ready) else {
            return false;
        };
        ready.sid == *sid && bool::from(ready.pair.ct_eq(&self.pair_digest(sid, party)))
    }

    /// Whether all others are there, and ready for the very session that this party is ready for.
    pub(super) fn all_agree(&self) -> bool {
        let mut others = Party::all(self.peers.len()).filter(|party| *party != self.me);
        others.all(|party| !self.peers[party.index()].away && self.agrees(party))
    }

    pub(super) fn start_if_all_ready(&mut self, now: Millis) {
        if !matches!(self.phase, Phase::Gathering) {
            return;
        }
        if let Some(reason) = self.disagreement() {
            return self.lost(reason);
        }
        let Some(sid) = self.ready else { return };
        if !self.all_agree() || self.is_unrecorded() || self.lacks_clearance(&sid) {
            return;
        }
        let waiting = Party::all(self.peers.len()).filter(|party| *party != self.me).collect();
        let mut inbox = VecDeque::new();
        for party in Party::all(self.peers.len()) {
            let early = std::mem::take(&mut self.peers[party.index()].early);
            let of_this_session = early.into_iter().filter(|(theirs, _)| *theirs == sid);
            inbox.extend(of_this_session.map(|(_, bytes)| (party, bytes)));
        }
        let run = Run {
            machine: None,
            sid,
            inbox,
            opened: None,
            waiting,
            gone: Vec::new(),
            round: 0,
            heavy: false,
            started: now,
        };
        self.phase = Phase::Running(Box::new(run));
    }

    /// What the parties that are ready can be seen to disagree about.
    fn disagreement(&self) -> Option<Reason> {
        let own = self.me.index();
        let ready = |index: usize| self.peers[index].ready.as_ref();
        let all = 0..self.peers.len();
        let keys = |index: usize| match index {
            _ if index == own => self.keys_digest(),
            _ => ready(index).map(|ready| ready.keys),
        };
        if let Some(party) = first_difference(all.clone().map(keys)) {
            return Some(Reason::KeysDiffer { party });
        }
        let (sid, shape) = (self.ready?, self.shape.as_ref()?);
        let shapes = |index: usize| match index {
            _ if index == own => Some(shape_digest(&sid, shape)),
            _ => ready(index).filter(|ready| ready.sid == sid).map(|ready| ready.shape),
        };
        first_difference(all.map(shapes)).map(|party| Reason::ShapesDiffer { party })
    }

    pub(super) fn receive_data(&mut self, from: Party, message: &Bytes) -> Result<(), Malformed> {
        let sid = sid_of_data(message)?;
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
}
