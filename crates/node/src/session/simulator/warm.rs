//! Base oblivious transfers that are kept from one session to the next: whatever happens in whatever order, both sides of a pair come to the same.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use fdrtd_mpc::net::Party;
use serde_json::Value;

use super::world::{Random, descriptor, key};
use crate::policy::Profile;
use crate::session::message::{READY, Ready};
use crate::session::rehearsal::{Params, configured};
use crate::session::{End, Millis, Session};
use crate::task::Bases;

/// Nodes that outlive sessions.
struct Nodes {
    bases: Vec<Bases>,
    random: Random,
    tasks: u8,
    now: Millis,
}

/// One session of all of them.
struct Play<'a> {
    nodes: &'a mut Nodes,
    sessions: Vec<Session>,
    begun: Vec<bool>,
    ended: Vec<bool>,
    ways: Vec<Vec<VecDeque<Bytes>>>,
    /// Every Ready, with its way.
    ready: Vec<(usize, usize, Bytes)>,
}

impl Nodes {
    fn new(parties: usize, seed: u64) -> Nodes {
        Nodes {
            bases: (0..parties).map(|_| Bases::default()).collect(),
            random: Random(seed),
            tasks: 0,
            now: 1 << 40,
        }
    }

    fn parties(&self) -> usize {
        self.bases.len()
    }

    /// What `tasks.rs` does when a connection breaks or is there again, or the other node was started anew.
    fn part(&self, one: usize, other: usize) {
        self.bases[one].forget(&key(other));
        self.bases[other].forget(&key(one));
    }

    /// A session in which all have joined.
    fn play(&mut self, params: &Params) -> Play<'_> {
        let parties = self.parties();
        self.tasks += 1;
        let task = descriptor(parties, self.tasks);
        let session = |me: usize| {
            let me_party = Party::new(me, parties).unwrap();
            Session::new(task.clone(), me_party, key(me), Profile::Teaching, self.now)
        };
        let mut play = Play {
            sessions: (0..parties).map(session).collect(),
            begun: vec![false; parties],
            ended: vec![false; parties],
            ways: vec![vec![VecDeque::new(); parties]; parties],
            ready: Vec::new(),
            nodes: self,
        };
        for me in 0..parties {
            for other in play.others(me) {
                play.event(me, |session, _| session.set_key(other, key(other.index())));
            }
        }
        while play.step() {}
        for me in 0..parties {
            let prepared = configured(params).input(parties, &[]).unwrap();
            play.event(me, |session, now| session.give_input(prepared, now));
        }
        play
    }

    /// A whole session: with whom each party was warm.
    fn warm(&mut self) -> Vec<BTreeSet<usize>> {
        let mut play = self.play(&Params::default());
        while play.step() {}
        play.warm()
    }
}

impl Play<'_> {
    fn others(&self, me: usize) -> Vec<Party> {
        let all = Party::all(self.sessions.len());
        all.filter(|party| party.index() != me).collect()
    }

    /// What `task.rs` does at every event.
    fn event(&mut self, me: usize, change: impl FnOnce(&mut Session, Millis)) {
        let now = self.nodes.now;
        let (session, bases) = (&mut self.sessions[me], &self.nodes.bases[me]);
        bases.offer(session, now);
        change(session, now);
        while let Some(job) = session.job() {
            session.finish(job.run());
        }
        if session.running() && !std::mem::replace(&mut self.begun[me], true) {
            bases.begin(session);
        }
        if session.end().is_some() && !std::mem::replace(&mut self.ended[me], true) {
            bases.end(session, now);
        }
        for (to, message) in session.outgoing() {
            if message[0] == READY {
                self.ready.push((me, to.index(), message.clone()));
            }
            self.ways[me][to.index()].push_back(message);
        }
    }

    /// A message arrives, if there is one.
    fn step(&mut self) -> bool {
        let parties = self.sessions.len();
        let ways = (0..parties * parties).map(|way| (way / parties, way % parties));
        let full: Vec<_> = ways.filter(|(from, to)| !self.ways[*from][*to].is_empty()).collect();
        if full.is_empty() {
            return false;
        }
        let (from, to) = full[self.nodes.random.below(full.len())];
        let message = self.ways[from][to].pop_front().unwrap();
        let sender = Party::new(from, parties).unwrap();
        self.event(to, |session, now| session.receive(sender, &message, now));
        true
    }

    /// With whom each party was warm, as its owner alone is told.
    fn warm(&self) -> Vec<BTreeSet<usize>> {
        let of = |(me, session): (usize, &Session)| {
            assert!(
                matches!(session.end(), Some(End::Done { unconfirmed, .. }) if unconfirmed.is_empty()),
                "party {me}: {:?}",
                session.end()
            );
            let own: Value = serde_json::from_str(session.own().unwrap()).unwrap();
            assert_eq!(own["party"], me);
            let warm = own["warm"].as_array().unwrap().iter();
            warm.map(|party| party.as_u64().unwrap() as usize).collect()
        };
        let all: Vec<BTreeSet<usize>> = self.sessions.iter().enumerate().map(of).collect();
        for (me, warm) in all.iter().enumerate() {
            assert!(warm.iter().all(|other| all[*other].contains(&me)), "{all:?}");
        }
        all
    }
}

fn sets<const N: usize>(all: [&[usize]; N]) -> Vec<BTreeSet<usize>> {
    all.iter().map(|warm| warm.iter().copied().collect()).collect()
}

#[test]
fn the_second_session_is_warm() {
    for seed in 0..50 {
        let mut nodes = Nodes::new(3, seed);
        assert_eq!(nodes.warm(), sets([&[], &[], &[]]));
        assert_eq!(nodes.warm(), sets([&[1, 2], &[0, 2], &[0, 1]]));
        assert_eq!(nodes.warm(), sets([&[1, 2], &[0, 2], &[0, 1]]));
        assert!(nodes.bases.iter().all(|bases| bases.count() == 2));
    }
}

#[test]
fn what_one_side_has_lost_both_make_anew() {
    let mut nodes = Nodes::new(2, 1);
    nodes.warm();
    nodes.bases[0].forget(&key(1));
    assert_eq!(nodes.warm(), sets([&[], &[]]));
    // Not for ever: what the other side still had gave way to the new one, whichever had the smaller id.
    assert_eq!(nodes.warm(), sets([&[1], &[0]]));
}

#[test]
fn pairs_are_warm_or_cold_on_their_own() {
    for seed in 0..50 {
        let mut nodes = Nodes::new(4, seed);
        nodes.warm();
        nodes.part(0, 1);
        nodes.bases[2].forget(&key(3));
        assert_eq!(nodes.warm(), sets([&[2, 3], &[2, 3], &[0, 1], &[0, 1]]));
        assert_eq!(nodes.warm(), sets([&[1, 2, 3], &[0, 2, 3], &[0, 1, 3], &[0, 1, 2]]));
    }
}

#[test]
fn an_hour_later_all_is_cold() {
    let mut nodes = Nodes::new(2, 1);
    nodes.warm();
    nodes.now += crate::task::bases::LIFE - 1;
    assert_eq!(nodes.warm(), sets([&[1], &[0]]));
    // The use of it does not make it last longer.
    nodes.now += 1;
    assert_eq!(nodes.warm(), sets([&[], &[]]));
}

#[test]
fn a_restart_before_the_computation_makes_its_pairs_cold() {
    let mut nodes = Nodes::new(3, 3);
    nodes.warm();
    let mut play = nodes.play(&Params::default());
    // Everybody is ready, nobody has heard so: party 1 is started anew, and the others notice.
    assert_eq!(play.ready.len(), 6);
    let fresh = Party::new(1, 3).unwrap();
    play.sessions[1] = {
        let descriptor = play.sessions[1].descriptor().clone();
        Session::new(descriptor, fresh, key(1), Profile::Teaching, play.nodes.now)
    };
    for other in [0, 2] {
        play.ways[1][other].clear();
        play.ways[other][1].clear();
    }
    play.nodes.bases[1] = Bases::default();
    for other in play.others(1) {
        play.nodes.bases[other.index()].forget(&key(1));
        play.event(other.index(), |session, now| session.peer_restarted(fresh, now));
        play.event(1, |session, _| session.set_key(other, key(other.index())));
    }
    while play.step() {}
    assert!(play.sessions.iter().all(|session| session.end().is_none()));
    let prepared = configured(&Params::default()).input(3, &[]).unwrap();
    play.event(1, |session, now| session.give_input(prepared, now));
    while play.step() {}
    assert_eq!(play.warm(), sets([&[2], &[], &[0]]));
    drop(play);
    assert_eq!(nodes.warm(), sets([&[1, 2], &[0, 2], &[0, 1]]));
}

#[test]
fn what_was_dropped_after_ready_still_serves_the_session_that_told_of_it() {
    let mut nodes = Nodes::new(2, 4);
    nodes.warm();
    let mut play = nodes.play(&Params::default());
    play.nodes.part(0, 1);
    while play.step() {}
    assert_eq!(play.warm(), sets([&[1], &[0]]));
    drop(play);
    // But no other one.
    assert_eq!(nodes.warm(), sets([&[], &[]]));
}

#[test]
fn nothing_of_a_session_that_fails_is_used_again() {
    for (params, cancel) in [
        (Params::default(), true),
        (
            Params {
                broken: true,
                ..Params::default()
            },
            false,
        ),
    ] {
        let mut nodes = Nodes::new(3, 5);
        nodes.warm();
        let mut play = nodes.play(&params);
        if cancel {
            play.event(1, |session, _| session.cancel());
        }
        while play.step() {}
        assert!(
            play.sessions
                .iter()
                .all(|session| matches!(session.end(), Some(End::Failed { .. })))
        );
        assert!(play.sessions.iter().all(|session| session.own().is_none()));
        assert!(nodes.bases.iter().all(|bases| bases.count() == 0));
        assert_eq!(nodes.warm(), sets([&[], &[], &[]]));
    }
    // Of a task that nobody was ready for, nothing was used.
    let mut nodes = Nodes::new(3, 5);
    nodes.warm();
    let mut play = nodes.play(&Params::default());
    play.sessions.truncate(0);
    drop(play);
    assert_eq!(nodes.warm(), sets([&[1, 2], &[0, 2], &[0, 1]]));
}

#[test]
fn what_not_all_have_confirmed_is_not_kept() {
    let mut nodes = Nodes::new(2, 6);
    let mut play = nodes.play(&Params::default());
    while !play.sessions[0].opened() {
        assert!(play.step());
    }
    let other = Party::new(1, 2).unwrap();
    play.event(0, |session, now| session.peer_restarted(other, now));
    assert!(matches!(play.sessions[0].end(), Some(End::Done { unconfirmed, .. }) if *unconfirmed == [1]));
    assert!(play.sessions[0].own().is_some());
    assert_eq!(nodes.bases[0].count(), 0);
}

#[test]
fn a_connection_that_broke_in_mid_run_leaves_nothing() {
    let mut nodes = Nodes::new(2, 7);
    let mut play = nodes.play(&Params::default());
    while !play.sessions[0].running() {
        assert!(play.step());
    }
    let other = Party::new(1, 2).unwrap();
    for away in [true, false] {
        play.event(0, |session, now| session.set_away(other, away, now));
    }
    while play.step() {}
    assert_eq!(play.warm(), sets([&[], &[]]));
    assert_eq!((nodes.bases[0].count(), nodes.bases[1].count()), (0, 1));
    assert_eq!(nodes.warm(), sets([&[], &[]]));
    assert_eq!(nodes.warm(), sets([&[1], &[0]]));
}

#[test]
fn sessions_at_once_may_share_what_is_kept_and_come_to_keep_the_same() {
    // Two sessions begin cold, and end in another order at either side.
    let mut nodes = Nodes::new(2, 8);
    let made = [9, 4].map(crate::session::test_base);
    for (me, order) in [(0, [0, 1]), (1, [1, 0])] {
        for index in order {
            nodes.bases[me].keep(key(1 - me), made[index].clone(), nodes.now);
        }
    }
    assert_eq!(nodes.warm(), sets([&[1], &[0]]));
}

#[test]
fn digests_tell_nothing_twice_and_zeros_are_no_match() {
    let mut nodes = Nodes::new(2, 9);
    let told = |play: &Play<'_>| -> Vec<[u8; 32]> {
        let ready = play.ready.iter();
        ready
            .map(|(_, _, message)| Ready::decode(message).unwrap().base)
            .collect()
    };
    let mut play = nodes.play(&Params::default());
    assert_eq!(told(&play), [[0; 32]; 2]);
    while play.step() {}
    assert_eq!(play.warm(), sets([&[], &[]]));
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        let mut play = nodes.play(&Params::default());
        let both = told(&play);
        assert!(both[0] == both[1] && both[0] != [0; 32] && seen.insert(both[0]));
        while play.step() {}
    }
    // Whoever tells another digest than the right one is cold, and not believed.
    let mut play = nodes.play(&Params::default());
    for message in play.ways[1][0].iter_mut().filter(|message| message[0] == READY) {
        let mut changed = message.to_vec();
        *changed.last_mut().unwrap() ^= 1;
        *message = Bytes::from(changed);
    }
    while play.step() {}
    let failed = |session: &Session| matches!(session.end(), Some(End::Failed { .. }));
    assert!(failed(&play.sessions[0]) && failed(&play.sessions[1]));
}

#[test]
fn rounds_with_some_peers_only_and_rounds_of_much_work() {
    for seed in 0..30 {
        let mut nodes = Nodes::new(2 + seed as usize % 4, seed);
        let params = Params {
            rounds: 12,
            bytes: seed as usize,
            pairs: seed % 2 == 0,
            work: if seed % 3 == 0 { 1 << 20 } else { 0 },
            ..Params::default()
        };
        let mut play = nodes.play(&params);
        while play.step() {}
        play.warm();
    }
}
