//! Restarts and broken connections: three sessions whose messages are carried by hand, so that they can come at the worst moment.
#![allow(clippy::unwrap_used)]

use fdrtd_mpc::microprotocol::Entry;
use uuid::Uuid;

use super::*;
use crate::descriptor::{Durations, PROTOCOL};
use crate::policy::Profile;
use crate::url::NodeUrl;

const PARTIES: usize = 3;

struct World {
    sessions: Vec<Session>,
    /// From, to, message.
    carried: VecDeque<(usize, usize, Bytes)>,
}

fn key(index: usize) -> PeerKey {
    PeerKey::from_bytes([u8::try_from(index).unwrap() + 1; 32])
}

fn party(index: usize) -> Party {
    Party::new(index, PARTIES).unwrap()
}

fn session(me: usize) -> Session {
    let descriptor = Descriptor {
        protocol: PROTOCOL,
        task: Uuid::from_bytes([7; 16]),
        microprotocol: "SecureSum".to_owned(),
        parameters: Entry::find("SecureSum").unwrap().configure("{}").unwrap().canonical,
        nodes: (0..PARTIES)
            .map(|index| NodeUrl::parse(&format!("http://127.0.0.1:9/{index}")).unwrap())
            .collect(),
        durations: Durations::default(),
        meeting: None,
    };
    Session::new(descriptor, party(me), key(me), Profile::Teaching, 0)
}

impl World {
    /// All have joined.
    fn new() -> World {
        let mut world = World {
            sessions: (0..PARTIES).map(session).collect(),
            carried: VecDeque::new(),
        };
        for me in 0..PARTIES {
            world.meet(me);
        }
        world.carry();
        assert!(world.sessions.iter().all(|session| session.joined_count() == PARTIES));
        world
    }

    /// The keys of all others become known.
    fn meet(&mut self, me: usize) {
        for other in (0..PARTIES).filter(|other| *other != me) {
            self.sessions[me].set_key(party(other), key(other));
        }
        self.collect(me);
    }

    fn input(&mut self, me: usize) {
        let configured = Entry::find("SecureSum").unwrap().configure("{}").unwrap();
        let prepared = configured.input(PARTIES, &[["10", "7", "14"][me]]).unwrap();
        self.sessions[me].give_input(prepared, 0);
        self.collect(me);
    }

    /// Computes, and takes what is to be sent.
    fn collect(&mut self, me: usize) {
        let session = &mut self.sessions[me];
        while let Some(job) = session.job() {
            session.finish(job.run());
        }
        let messages = session.outgoing().into_iter();
        self.carried.extend(messages.map(|(to, bytes)| (me, to.index(), bytes)));
    }

    fn deliver(&mut self, from: usize, to: usize, message: &Bytes) {
        self.sessions[to].receive(party(from), message, 0);
        self.collect(to);
    }

    /// Brings everything where it belongs until nothing is left.
    fn carry(&mut self) {
        self.carry_where(|_, _| true);
    }

    /// The same for some of the ways (from, to); the rest waits.
    fn carry_where(&mut self, open: impl Fn(usize, usize) -> bool) {
        while let Some(place) = self.carried.iter().position(|(from, to, _)| open(*from, *to)) {
            let (from, to, message) = self.carried.remove(place).unwrap();
            self.deliver(from, to, &message);
        }
    }

    /// A node is started anew: its session knows nothing, and nothing that was under way to or from it arrives.
    fn restart(&mut self, me: usize) {
        self.sessions[me] = session(me);
        self.carried.retain(|(from, to, _)| *from != me && *to != me);
    }

    /// Another one notices it.
    fn notice_restart(&mut self, me: usize, restarted: usize) {
        self.sessions[me].peer_restarted(party(restarted), 0);
        self.collect(me);
    }

    fn assert_all_done(&self) {
        for session in &self.sessions {
            let result = r#"{"samples":3,"sum":31}"#.to_owned();
            let unconfirmed = Vec::new();
            assert_eq!(session.end(), Some(&End::Done { result, unconfirmed }));
        }
    }

    fn reason(&self, me: usize) -> Option<&Reason> {
        match self.sessions[me].end() {
            Some(End::Failed { reason, .. }) => Some(reason),
            _ => None,
        }
    }
}

#[test]
fn three_sessions_come_to_the_result() {
    let mut world = World::new();
    for me in 0..PARTIES {
        world.input(me);
        world.carry();
    }
    world.assert_all_done();
}

#[test]
fn a_ready_for_the_forgotten_session_is_no_fault() {
    // Party 0 gives its input just before it notices that party 1 was started anew: the first that the new party 1 hears is its Ready.
    let mut world = World::new();
    world.restart(1);
    world.input(0);
    world.carry();
    assert_eq!(world.reason(1), None);
    for me in [0, 2] {
        world.notice_restart(me, 1);
    }
    world.meet(1);
    world.carry();
    for me in [1, 2] {
        world.input(me);
        world.carry();
    }
    world.assert_all_done();
}

#[test]
fn a_ready_for_the_next_session_is_no_fault() {
    // Party 2 computes already. Party 0 does not, and is the first to notice that party 1 was started anew.
    let mut world = World::new();
    for me in 0..PARTIES {
        world.input(me);
    }
    world.carry_where(|_, to| to == 2);
    assert!(world.sessions[2].running() && !world.sessions[0].running());
    world.restart(1);
    world.notice_restart(0, 1);
    world.meet(1);
    world.carry_where(|from, to| from + to == 1);
    world.carry_where(|from, to| (from, to) == (0, 2));
    assert_eq!(world.reason(2), None);
    world.notice_restart(2, 1);
    world.carry();
    for me in 0..PARTIES {
        assert_eq!(world.reason(me), Some(&Reason::PeerRestarted { party: 1 }));
    }
}

#[test]
fn nothing_begins_while_a_peer_is_away() {
    let mut world = World::new();
    world.input(1);
    world.carry();
    world.sessions[0].set_away(party(1), true, 0);
    world.input(0);
    world.input(2);
    world.carry();
    assert!(!world.sessions[0].running());
    assert_eq!(world.sessions[0].waiting_for(), (Stage::Input, vec![1]));
    assert_eq!(world.sessions[0].data_messages_sent(), 0);
    world.sessions[0].set_away(party(1), false, 0);
    world.collect(0);
    world.carry();
    world.assert_all_done();
}

#[test]
fn a_peer_that_comes_back_in_mid_run_does_not_begin_it_again() {
    let mut world = World::new();
    for me in 0..PARTIES {
        world.input(me);
    }
    world.carry_where(|_, to| to == 0);
    assert!(world.sessions[0].running());
    for away in [true, false] {
        world.sessions[0].set_away(party(1), away, 0);
        world.collect(0);
    }
    world.carry();
    world.assert_all_done();
    assert!(world.sessions.iter().all(|session| session.data_messages_sent() == 4));
}
