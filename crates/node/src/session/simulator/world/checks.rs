//! What holds at every step, whatever the others do.

use bytes::Bytes;

use super::{Record, World};
use crate::session::message::{ABORT, DATA, HELLO, Hello, READY, Ready, sid_of_data};
use crate::session::{EARLY, End, Peer, Phase, Session};

impl World {
    /// Computes, sends what is to be sent, and looks whether everything is as it must be.
    pub(super) fn settle(&mut self, me: usize) {
        loop {
            let session = self.nodes[me].session.as_mut().unwrap();
            let messages = session.outgoing();
            assert!(
                messages.is_empty() || !self.nodes[me].ended,
                "party {me} sends after its end"
            );
            for (to, message) in messages {
                assert!(self.session(me).keys()[to.index()].is_some(), "a message to nobody");
                self.check_sent(me, to.index(), &message);
                self.send(me, to.index(), message);
            }
            let Some(job) = self.session(me).job() else { break };
            if self.hold > 0 && self.random.one_in(self.hold) {
                assert!(self.nodes[me].job.replace(job).is_none(), "one job at a time");
                break;
            }
            self.session(me).finish(job.run());
        }
        self.check_kept(me);
        self.note_end(me);
    }

    fn note_end(&mut self, me: usize) {
        let node = &mut self.nodes[me];
        let session = node.session.as_ref().unwrap();
        assert!(
            !(node.writing && session.running()),
            "data do not wait for the record of the input"
        );
        if session.running() && !node.records.iter().any(|record| matches!(record, Record::Running)) {
            node.records.push(Record::Running);
        }
        self.began |= session.running();
        let Some(end) = session.end() else { return };
        self.began |= matches!(end, End::Done { .. });
        if !node.ended {
            node.ended = true;
            node.records.push(Record::Ended(end.clone()));
        }
        check_forgotten(session);
        // Whoever has said Hello and was not found in time is told.
        node.unknown.clear();
        let pending = std::mem::take(&mut node.pending);
        for (from, word) in pending {
            self.receive(from, me, &word);
        }
    }

    pub(super) fn note_heard(&mut self, me: usize, from: usize, message: &[u8]) {
        let node = &mut self.nodes[me];
        if node.session.as_ref().unwrap().running() {
            return;
        }
        match message.first() {
            Some(&HELLO) => {
                node.heard.entry(from).or_default();
            }
            Some(&READY) if node.heard.contains_key(&from) => {
                if let Ok(ready) = Ready::decode(message) {
                    node.heard.insert(from, Some(ready.sid));
                }
            }
            _ => {}
        }
    }

    /// Nothing but Hello and abort before all have said Hello, no data before all are ready for the same session.
    fn check_sent(&mut self, me: usize, to: usize, message: &Bytes) {
        let heard = &self.nodes[me].heard;
        match message[0] {
            HELLO => self.check_fresh(me, to, message),
            ABORT => {}
            READY => assert_eq!(heard.len(), self.parties() - 1, "party {me} is ready too early"),
            DATA => {
                let sid = sid_of_data(message).unwrap();
                assert!(
                    heard.len() == self.parties() - 1 && heard.values().all(|theirs| *theirs == Some(sid)),
                    "party {me} sends data too early"
                );
                let session = self.nodes[me].session.as_ref().unwrap();
                let nonce = |(index, peer): (usize, &Peer)| match &peer.hello {
                    Some(hello) => hello.nonce,
                    None => {
                        assert_eq!(index, me);
                        session.nonce
                    }
                };
                let nonces: Vec<_> = session.peers.iter().enumerate().map(nonce).collect();
                let known = self.sids.entry(sid).or_insert_with(|| nonces.clone());
                assert_eq!(*known, nonces, "one session id for two sessions");
                assert_eq!(
                    self.sids.values().filter(|other| **other == nonces).count(),
                    1,
                    "two session ids for one session"
                );
            }
            kind => panic!("party {me} sends a message of kind {kind}"),
        }
    }

    /// A life has one nonce of its own, and a seed for every peer and every life of it.
    fn check_fresh(&mut self, me: usize, to: usize, message: &[u8]) {
        let (hello, _) = Hello::decode(message).unwrap();
        self.nonces[me].insert(hello.nonce);
        let own = self.nodes[me].session.as_ref().unwrap();
        assert_eq!(own.nonce, hello.nonce);
        for (other, nonces) in self.nonces.iter().enumerate() {
            assert!(other == me || !nonces.contains(&hello.nonce), "a nonce of two parties");
        }
        let way = (me, to, hello.nonce);
        assert_eq!(
            *self.seeds.entry(*hello.seed).or_insert(way),
            way,
            "a seed for two peers or lives"
        );
        assert!(
            own.end().is_some() || *own.peers[to].my_seed == *hello.seed,
            "an old seed"
        );
    }

    /// What peers can make a session keep is bounded.
    fn check_kept(&self, me: usize) {
        let session = self.nodes[me].session.as_ref().unwrap();
        for (index, peer) in session.peers.iter().enumerate() {
            assert!(peer.early.len() <= EARLY);
            if let Phase::Running(run) = &session.phase {
                assert!(run.inbox.iter().filter(|(from, _)| from.index() == index).count() <= EARLY);
                assert!(run.gone.len() < session.peers.len());
            }
        }
    }
}

/// After the end no secret is left.
pub(in crate::session::simulator) fn check_forgotten(session: &Session) {
    assert!(session.input.is_none());
    for peer in &session.peers {
        assert_eq!(*peer.my_seed, [0; 32]);
        assert!(peer.early.is_empty());
        if let Some(hello) = &peer.hello {
            assert_eq!(*hello.seed, [0; 32]);
        }
    }
}
