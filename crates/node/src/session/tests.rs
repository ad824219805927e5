//! What binds messages, keys and inputs to one session of these very parties.
#![allow(clippy::unwrap_used)]

use fdrtd_mpc::microprotocol::Entry;
use uuid::Uuid;

use super::*;
use crate::descriptor::{Durations, PROTOCOL};
use crate::policy::Profile;
use crate::url::NodeUrl;

const N: usize = 3;

fn party(index: usize) -> Party {
    Party::new(index, N).unwrap()
}

fn key(index: usize) -> PeerKey {
    PeerKey::from_bytes([index as u8 + 1; 32])
}

fn descriptor() -> Descriptor {
    let url = |index: usize| NodeUrl::parse(&format!("http://127.0.0.1:9/{index}")).unwrap();
    Descriptor {
        protocol: PROTOCOL,
        task: Uuid::from_bytes([5; 16]),
        microprotocol: "SecureSum".to_owned(),
        parameters: Entry::find("SecureSum").unwrap().configure("{}").unwrap().canonical,
        nodes: (0..N).map(url).collect(),
        durations: Durations::default(),
        meeting: None,
    }
}

fn prepared(text: &str) -> Prepared {
    let configured = Entry::find("SecureSum").unwrap().configure("{}").unwrap();
    configured.input(N, &[text]).unwrap()
}

/// All parties, and everything that was sent.
struct Table {
    sessions: Vec<Session>,
    sent: Vec<(usize, usize, Bytes)>,
}

impl Table {
    fn new() -> Table {
        let session = |me| Session::new(descriptor(), party(me), key(me), Profile::Teaching, 0);
        Table {
            sessions: (0..N).map(session).collect(),
            sent: Vec::new(),
        }
    }

    /// Everybody learns everybody's key.
    fn meet(&mut self) {
        for me in 0..N {
            for other in (0..N).filter(|other| *other != me) {
                self.sessions[me].set_key(party(other), key(other));
            }
        }
        self.run();
    }

    fn input(&mut self, me: usize, text: &str) {
        self.sessions[me].give_input(prepared(text), 0);
    }

    /// Computes and delivers until nothing is left to do.
    fn run(&mut self) {
        self.run_where(|_, _, _| true);
    }

    /// The same; what `passes` refuses is lost.
    fn run_where(&mut self, passes: impl Fn(usize, usize, &Bytes) -> bool) {
        loop {
            let mut quiet = true;
            for me in 0..N {
                while let Some(job) = self.sessions[me].job() {
                    self.sessions[me].finish(job.run());
                }
                for (to, message) in self.sessions[me].outgoing() {
                    quiet = false;
                    self.sent.push((me, to.index(), message.clone()));
                    if passes(me, to.index(), &message) {
                        self.sessions[to.index()].receive(party(me), &message, 0);
                    }
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn failed(&self, me: usize) -> Option<Reason> {
        match self.sessions[me].end() {
            Some(End::Failed { reason, .. }) => Some(reason.clone()),
            _ => None,
        }
    }

    fn is_done(&self) -> bool {
        let done =
            |session: &Session| matches!(session.end(), Some(End::Done { unconfirmed, .. }) if unconfirmed.is_empty());
        self.sessions.iter().all(done)
    }

    /// The messages of one kind from one party to another.
    fn sent(&self, kind: u8, from: usize, to: usize) -> Vec<Bytes> {
        let wanted = |sent: &&(usize, usize, Bytes)| sent.0 == from && sent.1 == to && sent.2[0] == kind;
        self.sent.iter().filter(wanted).map(|sent| sent.2.clone()).collect()
    }
}

/// Kind, profile, "I have yours", nonce, seed, rules, descriptor.
fn seed(hello: &[u8]) -> &[u8] {
    &hello[35..67]
}

#[test]
fn three_parties_have_the_sum() {
    let mut table = Table::new();
    table.meet();
    for (me, text) in ["10", "7", "14"].into_iter().enumerate() {
        table.input(me, text);
    }
    table.run();
    assert!(table.is_done());
    for session in &table.sessions {
        let Some(End::Done { result, .. }) = session.end() else {
            unreachable!()
        };
        assert_eq!(result, "{\"samples\":3,\"sum\":31}");
    }
}

#[test]
fn data_wait_for_the_record_of_the_input_and_nothing_else_does() {
    let mut table = Table::new();
    table.meet();
    table.sessions[1].require_record();
    for me in 0..N {
        table.input(me, "1");
    }
    table.run();
    let of_one = || table.sent.iter().filter(|(from, ..)| *from == 1);
    assert!(of_one().any(|(_, _, message)| message[0] == READY));
    assert!(of_one().all(|(_, _, message)| !is_data(message)));
    // All others have begun; this party waits for itself.
    assert!(table.sessions[0].running() && table.sessions[2].running());
    assert_eq!(table.sessions[1].waiting_for(), (Stage::Input, vec![1]));
    table.sessions[1].recorded(0);
    table.run();
    assert!(table.is_done());
}

#[test]
fn everything_agreed_on_is_in_the_session_id() {
    let of = |change: fn(&mut Session)| {
        let mut table = Table::new();
        table.meet();
        let session = &mut table.sessions[0];
        session.nonce = [1; 32];
        for (index, peer) in session.peers.iter_mut().enumerate() {
            if let Some(hello) = &mut peer.hello {
                hello.nonce = [index as u8; 32];
            }
        }
        change(session);
        session.sid().unwrap()
    };
    let same: fn(&mut Session) = |_| ();
    let changes: [fn(&mut Session); 8] = [
        same,
        |session| session.nonce = [2; 32],
        |session| session.peers[2].hello.as_mut().unwrap().nonce = [9; 32],
        |session| session.peers[0].key = Some(PeerKey::from_bytes([9; 32])),
        |session| session.peers[2].key = Some(PeerKey::from_bytes([9; 32])),
        |session| session.rules = Profile::Strict.into(),
        |session| session.peers[1].hello.as_mut().unwrap().rules.min_cell = 1,
        |session| session.text.push(' '),
    ];
    let mut sids: Vec<_> = changes.map(of).to_vec();
    assert_eq!(of(same), sids[0]);
    sids.sort_unstable();
    sids.dedup();
    assert_eq!(sids.len(), 8);
}

#[test]
fn seeds_are_fresh_for_every_peer_and_every_restart() {
    let mut table = Table::new();
    table.meet();
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for me in 0..N {
        for other in (0..N).filter(|other| *other != me) {
            seeds.push(seed(&table.sent(HELLO, me, other)[0]).to_vec());
        }
    }
    table.sent.clear();
    table.sessions[0].peer_restarted(party(1), 0);
    table.run_where(|_, _, _| false);
    seeds.push(seed(&table.sent(HELLO, 0, 1)[0]).to_vec());
    let all = seeds.len();
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!((seeds.len(), all), (7, 7));
}

#[test]
fn a_new_session_of_the_same_parties_has_another_id() {
    let sid = || {
        let mut table = Table::new();
        table.meet();
        table.sessions[0].sid().unwrap()
    };
    assert_ne!(sid(), sid());
}

#[test]
fn data_of_another_session_are_no_data_of_this_one() {
    let mut table = Table::new();
    table.meet();
    table.input(0, "10");
    table.input(1, "7");
    table.input(2, "14");
    // Party 1's data do not arrive for now, so that party 0 is in mid-run.
    table.run_where(|from, to, message| (from, to, message[0]) != (1, 0, DATA));
    assert!(table.sessions[0].running());
    let held = table.sent(DATA, 1, 0);
    let mut foreign = held[0].to_vec();
    foreign[1] ^= 1;
    table.sessions[0].receive(party(1), &Bytes::from(foreign), 0);
    table.run();
    assert_eq!(table.failed(0), None);
    for message in held {
        table.sessions[0].receive(party(1), &message, 0);
        table.run();
    }
    assert!(table.is_done());
}

#[test]
fn a_party_that_is_ready_for_another_session_is_waited_for() {
    let mut table = Table::new();
    table.meet();
    table.input(0, "10");
    table.input(1, "7");
    table.run();
    let mut ready = table.sent(READY, 1, 0)[0].to_vec();
    ready[1] ^= 1;
    table.sessions[0].receive(party(2), &Bytes::from(ready), 0);
    table.run();
    assert_eq!(table.failed(0), None);
    assert!(!table.sessions[0].running());
    table.input(2, "14");
    table.run();
    assert!(table.is_done());
}

#[test]
fn inputs_of_another_form_are_told_before_anything_is_sent() {
    let mut table = Table::new();
    table.meet();
    table.input(0, "{\"vectors\": [[1, 2]]}");
    table.input(1, "{\"vectors\": [[1, 2]]}");
    table.input(2, "{\"vectors\": [[1, 2, 3]]}");
    table.run();
    for me in 0..N {
        assert!(
            matches!(table.failed(me), Some(Reason::ShapesDiffer { .. })),
            "party {me}"
        );
    }
    assert!(table.sent.iter().all(|(_, _, message)| message[0] != DATA));
}

#[test]
fn who_sees_other_keys_is_told_before_anything_is_sent() {
    // Somebody stands between party 2 and party 1, with a key of their own.
    let mut table = Table::new();
    for (me, other) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0)] {
        table.sessions[me].set_key(party(other), key(other));
    }
    table.sessions[2].set_key(party(1), PeerKey::from_bytes([9; 32]));
    table.run();
    table.input(0, "10");
    table.input(1, "7");
    table.input(2, "14");
    table.run();
    assert!((0..N).all(|me| matches!(table.failed(me), Some(Reason::KeysDiffer { .. }))));
    assert!(table.sent.iter().all(|(_, _, message)| message[0] != DATA));
}

#[test]
fn a_party_that_describes_another_task_is_told_in_what() {
    let mut table = Table::new();
    let mut other = descriptor();
    other.durations.run += 1;
    table.sessions[2] = Session::new(other, party(2), key(2), Profile::Teaching, 0);
    table.meet();
    assert_eq!(
        table.failed(0),
        Some(Reason::DescriptorsDiffer {
            party: 2,
            field: crate::descriptor::Field::Durations
        })
    );
}

#[test]
fn a_peer_cannot_count_samples_by_raising_its_rule_in_one_task() {
    let hello = |nonce: u8, least: u32| {
        let mut rules = Rules::from(Profile::Teaching);
        rules.min_samples_own = least;
        let hello = Hello {
            rules,
            has_ours: true,
            nonce: [nonce; 32],
            seed: Zeroizing::new([nonce; 32]),
        };
        hello.encode(&descriptor().text())
    };
    let mut table = Table::new();
    table.meet();
    table.input(0, "10");
    table.run();
    let session = &mut table.sessions[0];
    // As if it had been started anew, with rules that say no more than before.
    session.receive(party(1), &hello(1, Rules::from(Profile::Teaching).min_samples_own), 0);
    assert_eq!(session.end(), None);
    session.receive(party(1), &hello(2, 2), 0);
    assert!(session.declined().is_none(), "the samples were compared once more");
    let rule = crate::policy::Rule::MinSamplesOwn;
    assert_eq!(table.failed(0), Some(Reason::PolicyRefused { rule, party: 1 }));
}
