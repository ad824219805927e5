//! Receipts between sessions whose messages are carried by hand: all parties come to the same one, and whatever one party sends names nobody but itself.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;

use fdrtd_mpc::microprotocol::Entry;
use uuid::Uuid;

use super::message::RECEIPT;
use super::*;
use crate::descriptor::{Durations, PROTOCOL};
use crate::identity::Identity;
use crate::policy::Profile;
use crate::receipt::Receipt;
use crate::url::NodeUrl;

const PARTIES: usize = 3;
const RESULT: &str = r#"{"samples":3,"sum":31}"#;

fn identity(index: usize) -> Identity {
    Identity::from_seed(&[u8::try_from(index).unwrap() + 1; 32])
}

fn party(index: usize) -> Party {
    Party::new(index, PARTIES).unwrap()
}

fn session(me: usize, task: u8) -> Session {
    let descriptor = Descriptor {
        protocol: PROTOCOL,
        task: Uuid::from_bytes([task; 16]),
        microprotocol: "SecureSum".to_owned(),
        parameters: Entry::find("SecureSum").unwrap().configure("{}").unwrap().canonical,
        nodes: (0..PARTIES)
            .map(|index| NodeUrl::parse(&format!("http://127.0.0.1:9/{index}")).unwrap())
            .collect(),
        durations: Durations::default(),
        meeting: None,
    };
    Session::new(descriptor, party(me), identity(me).key(), Profile::Teaching, 0)
}

struct World {
    sessions: Vec<Session>,
    signed: [bool; PARTIES],
    /// Has signed, and does not exchange signatures yet.
    busy: Option<usize>,
    /// From, to, message.
    carried: VecDeque<(usize, usize, Bytes)>,
    /// How many signatures were sent.
    told: usize,
}

impl World {
    /// All have given their inputs; nothing of the computation has been carried.
    fn new(task: u8) -> World {
        let mut world = World {
            sessions: (0..PARTIES).map(|me| session(me, task)).collect(),
            signed: [false; PARTIES],
            busy: None,
            carried: VecDeque::new(),
            told: 0,
        };
        for me in 0..PARTIES {
            for other in (0..PARTIES).filter(|other| *other != me) {
                world.sessions[me].set_key(party(other), identity(other).key());
            }
            world.collect(me);
        }
        world.carry(|_, _, _| true);
        for me in 0..PARTIES {
            let configured = Entry::find("SecureSum").unwrap().configure("{}").unwrap();
            let prepared = configured.input(PARTIES, &[["10", "7", "14"][me]]).unwrap();
            world.sessions[me].give_input(prepared, 0);
            world.collect(me);
        }
        world
    }

    /// What `task.rs` does after every event.
    fn collect(&mut self, me: usize) {
        let session = &mut self.sessions[me];
        while let Some(job) = session.job() {
            session.finish(job.run());
        }
        if session.end().is_some() && !std::mem::replace(&mut self.signed[me], true) {
            session.sign_receipt(&identity(me));
            if self.busy != Some(me) {
                session.exchange_signatures();
            }
        }
        for (to, bytes) in session.outgoing() {
            self.told += usize::from(bytes[0] == RECEIPT);
            self.carried.push_back((me, to.index(), bytes));
        }
    }

    fn deliver(&mut self, from: usize, to: usize, message: &Bytes) {
        self.sessions[to].receive(party(from), message, 0);
        self.collect(to);
    }

    /// Brings what may pass where it belongs, until nothing of it is left.
    fn carry(&mut self, pass: impl Fn(usize, usize, &Bytes) -> bool) {
        while let Some(place) = self
            .carried
            .iter()
            .position(|(from, to, message)| pass(*from, *to, message))
        {
            let (from, to, message) = self.carried.remove(place).unwrap();
            self.deliver(from, to, &message);
        }
    }

    /// A node with a result is started anew, with the record of its end. What was under way to and from it is lost.
    fn restart(&mut self, me: usize) {
        let end = self.sessions[me].end().unwrap().clone();
        let receipt = self.sessions[me].receipt().unwrap().shown(true).to_string();
        let task = self.sessions[me].descriptor().task.as_bytes()[0];
        self.sessions[me] = session(me, task);
        self.sessions[me].restore(end, None);
        self.sessions[me].restore_receipt(Receipt::parse(&receipt).unwrap());
        self.carried.retain(|(from, to, _)| *from != me && *to != me);
    }

    /// What a node does with the receipts of an earlier life.
    fn ask(&mut self, me: usize) {
        for missing in self.sessions[me].unsigned() {
            self.sessions[me].ask_for_signature(missing);
        }
        self.collect(me);
    }

    fn receipt(&self, me: usize) -> &Receipt {
        self.sessions[me].receipt().unwrap()
    }

    fn assert_complete(&self) {
        for me in 0..PARTIES {
            assert!(self.receipt(me) == self.receipt(0));
            assert_eq!(
                self.receipt(me).problems(Some(RESULT)),
                Vec::<String>::new(),
                "party {me}"
            );
        }
    }
}

fn is_signature(message: &Bytes) -> bool {
    message[0] == RECEIPT
}

#[test]
fn all_parties_come_to_the_same_receipt() {
    let mut world = World::new(7);
    assert!(world.sessions.iter().all(|session| session.receipt().is_none()));
    world.carry(|_, _, _| true);
    world.assert_complete();
    assert_eq!(world.told, PARTIES * (PARTIES - 1), "one to each other, and no answers");
    // Another session of the same task has another one: its nonces are others.
    let mut other = World::new(7);
    other.carry(|_, _, _| true);
    assert_ne!(other.receipt(0).id(), world.receipt(0).id());
}

#[test]
fn signatures_that_come_before_the_own_result_count() {
    let mut world = World::new(7);
    // Party 0 hears everything but the closing digest of party 1: the others have signed long ago.
    let late = |from: usize, to: usize, message: &Bytes| {
        (from, to) == (1, 0) && message[0] == DATA && message[fdrtd_mpc::net::HEADER - 4] == 1
    };
    world.carry(|from, to, message| !late(from, to, message));
    assert_eq!(world.receipt(1).signed(), [1, 2]);
    assert!(world.sessions[0].receipt().is_none());
    world.carry(|_, _, _| true);
    world.assert_complete();
}

#[test]
fn signatures_that_come_while_answers_are_more_urgent_count() {
    for busy in 0..PARTIES {
        let mut world = World::new(7);
        world.busy = Some(busy);
        world.carry(|_, _, _| true);
        assert_eq!(
            world.receipt(busy).signed(),
            [busy],
            "its own, which is in the record of the end"
        );
        for me in (0..PARTIES).filter(|me| *me != busy) {
            assert!(!world.receipt(me).has(busy));
            world.ask(me);
        }
        world.carry(|_, _, _| true);
        assert_eq!(world.receipt(busy).signed(), [busy]);
        for _ in 0..2 {
            world.sessions[busy].exchange_signatures();
            world.collect(busy);
        }
        world.carry(|_, _, _| true);
        world.assert_complete();
        // Once is enough, but for those who have asked.
        assert_eq!(world.told, PARTIES * (PARTIES - 1) + 2 * (PARTIES - 1));
    }
}

#[test]
fn a_restart_between_result_and_signatures_heals() {
    for restarted in 0..PARTIES {
        let mut world = World::new(7);
        world.carry(|_, _, message| !is_signature(message));
        assert_eq!(world.receipt(restarted).signed(), [restarted]);
        world.restart(restarted);
        world.carry(|_, _, _| true);
        assert!(!world.receipt(restarted).complete());
        world.ask(restarted);
        world.carry(|_, _, _| true);
        world.assert_complete();
    }
    // All at once.
    let mut world = World::new(7);
    world.carry(|_, _, message| !is_signature(message));
    (0..PARTIES).for_each(|me| world.restart(me));
    (0..PARTIES).for_each(|me| world.ask(me));
    world.carry(|_, _, _| true);
    world.assert_complete();
}

#[test]
fn a_wrong_foreign_replayed_or_reflected_signature_leaves_its_sender_missing() {
    let mut foreign = World::new(8);
    foreign.carry(|_, _, _| true);
    let mut earlier = World::new(7);
    earlier.carry(|_, _, _| true);
    let message = |signature: &[u8; 64], lacking: u8| Bytes::from([&[RECEIPT, lacking], &signature[..]].concat());
    let hostile = 2;
    for lacking in [0, 1] {
        for case in 0..6 {
            let mut world = World::new(7);
            world.carry(|from, _, message| from != hostile || !is_signature(message));
            world.carried.clear();
            for victim in 0..2 {
                let receipt = world.receipt(victim);
                let other = 1 - victim;
                let wrong = match case {
                    0 => [0; 64],
                    1 => [0xff; 64],
                    2 => *foreign.receipt(0).signature(hostile).unwrap(),
                    3 => *earlier.receipt(0).signature(hostile).unwrap(),
                    4 => *receipt.signature(victim).unwrap(),
                    _ => *receipt.signature(other).unwrap(),
                };
                world.deliver(hostile, victim, &message(&wrong, lacking));
                assert_eq!(world.receipt(victim).signed(), [0, 1], "case {case}");
                assert_eq!(world.receipt(victim).problems(Some(RESULT)), ["party 2 has not signed"]);
            }
            // The right one still counts.
            let right = *world.receipt(hostile).signature(hostile).unwrap();
            for victim in 0..2 {
                world.deliver(hostile, victim, &message(&right, lacking));
                assert!(world.receipt(victim).complete());
            }
        }
    }
}

#[test]
fn bytes_of_another_form_change_nothing_after_the_end() {
    let mut world = World::new(7);
    world.carry(|from, _, message| from != 2 || !is_signature(message));
    world.carried.clear();
    let end = world.sessions[0].end().cloned();
    let right = *world.receipt(2).signature(2).unwrap();
    for wrong in [
        Bytes::from(vec![RECEIPT]),
        Bytes::from([&[RECEIPT, 2], &right[..]].concat()),
        Bytes::from([&[RECEIPT, 0], &right[..63]].concat()),
        Bytes::from([&[RECEIPT, 0], &right[..], &[0]].concat()),
        Bytes::from(vec![RECEIPT; 4096]),
    ] {
        world.deliver(2, 0, &wrong);
        assert_eq!(world.sessions[0].end(), end.as_ref());
        assert_eq!(world.receipt(0).signed(), [0, 1]);
    }
    assert!(world.carried.is_empty());
}

#[test]
fn who_asks_without_end_is_not_answered_without_end() {
    let mut world = World::new(7);
    world.carry(|_, _, _| true);
    world.told = 0;
    let signature = *world.receipt(2).signature(2).unwrap();
    let asking = Bytes::from([&[RECEIPT, 1], &signature[..]].concat());
    for _ in 0..1_000 {
        world.deliver(2, 0, &asking);
    }
    assert!((1..20).contains(&world.told), "{}", world.told);
    // Nobody asks for what it has, and questions have an end as well.
    world.told = 0;
    world.ask(0);
    assert_eq!(world.told, 0);
    let mut world = World::new(7);
    world.carry(|_, _, message| !is_signature(message));
    world.told = 0;
    (0..1_000).for_each(|_| world.ask(0));
    assert!((2..40).contains(&world.told), "{}", world.told);
}

#[test]
fn a_result_that_is_not_confirmed_by_all_has_no_receipt() {
    let mut world = World::new(7);
    // Party 2 sends its data and falls silent: no closing digest of it.
    world.carry(|from, _, message| from != 2 || message[0] != DATA || message[fdrtd_mpc::net::HEADER - 4] == 0);
    world.carried.clear();
    let heard = [u64::MAX / 2, u64::MAX / 2, 0];
    let later = world.sessions[0].next_deadline(&heard).unwrap();
    for me in 0..2 {
        world.sessions[me].tick(later, &heard);
        world.collect(me);
        assert!(matches!(world.sessions[me].end(), Some(End::Done { unconfirmed, .. }) if unconfirmed == &[2]));
        assert!(world.sessions[me].receipt().is_none());
        assert!(world.sessions[me].unsigned().is_empty());
    }
    // A signature of a peer that has confirmed is no news then.
    let mut other = World::new(7);
    other.carry(|_, _, _| true);
    let signature = *other.receipt(2).signature(2).unwrap();
    world.deliver(2, 0, &Bytes::from([&[RECEIPT, 1], &signature[..]].concat()));
    assert!(world.sessions[0].receipt().is_none());
    assert!(world.carried.iter().all(|(_, _, message)| !is_signature(message)));
}

#[test]
fn a_signature_in_an_earlier_stage_is_ignored() {
    let mut world = World::new(7);
    let mut other = World::new(7);
    other.carry(|_, _, _| true);
    let signature = *other.receipt(2).signature(2).unwrap();
    // Gathering (nothing of Ready was carried), then computing.
    world.deliver(2, 0, &Bytes::from([&[RECEIPT, 1], &signature[..]].concat()));
    assert_eq!(world.sessions[0].end(), None);
    world.carry(|_, _, _| true);
    world.assert_complete();
}
