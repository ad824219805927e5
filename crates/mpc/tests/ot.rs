//! Oblivious transfer between parties of the simulator.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use fdrtd_mpc::net::{self, Abort, HEADER, Machine, Net, Party, Session};
use fdrtd_mpc::ot::{BASE_BYTES, Base, Ot, Pads};
use fdrtd_mpc::sim::{self, End, Fault, FaultAt, Outcome};

type All = Vec<Vec<Vec<(Party, Pads)>>>;

fn choices_of(party: usize, call: usize, count: usize) -> Vec<u64> {
    let mut bytes = vec![0; count.div_ceil(64) * 8];
    blake3::Hasher::new()
        .update(&[party as u8, call as u8])
        .finalize_xof()
        .fill(&mut bytes);
    bytes
        .as_chunks::<8>()
        .0
        .iter()
        .map(|word| u64::from_le_bytes(*word))
        .collect()
}

async fn protocol(net: &mut Net, counts: &[usize], out: &Mutex<All>) -> Result<String, Abort> {
    let me = net.session().me.index();
    let mut ot = Ot::new(net).await?;
    for (call, count) in counts.iter().enumerate() {
        let pads = ot.random(net, &choices_of(me, call, *count), *count).await?;
        out.lock().unwrap()[me].push(pads);
    }
    Ok("1".to_owned())
}

/// Runs it; the pads of each call by party, and the base transfers that were made.
fn run(sessions: Vec<Session>, counts: &[usize], faults: &[FaultAt]) -> (Outcome, All) {
    let out: Arc<Mutex<All>> = Arc::new(Mutex::new(sessions.iter().map(|_| Vec::new()).collect()));
    let machine = |session: Session| {
        let (out, counts) = (Arc::clone(&out), counts.to_vec());
        Machine::new(session, |mut net| async move {
            let result = protocol(&mut net, &counts, &out).await;
            (net, result)
        })
    };
    let outcome = sim::run(sessions.into_iter().map(machine).collect(), 7, faults);
    let pads = std::mem::take(&mut *out.lock().unwrap());
    (outcome, pads)
}

fn all_confirmed(outcome: &Outcome) -> bool {
    outcome.ends.iter().all(|end| *end == End::Confirmed("1".to_owned()))
}

fn check(pads: &All, counts: &[usize]) {
    for (me, calls) in pads.iter().enumerate() {
        for (call, count) in counts.iter().enumerate() {
            let choices = choices_of(me, call, *count);
            for (peer, own) in &calls[call] {
                let theirs = &pads[peer.index()][call];
                let (_, theirs) = theirs.iter().find(|(party, _)| party.index() == me).unwrap();
                assert_eq!((own.chosen.len(), theirs.offered.len()), (*count, *count));
                for (index, (chosen, offered)) in own.chosen.iter().zip(theirs.offered.iter()).enumerate() {
                    let choice = choices[index / 64] >> (index % 64) & 1;
                    assert_eq!(
                        *chosen, offered[choice as usize],
                        "party {me}, peer {peer}, transfer {index}"
                    );
                    assert_ne!(*chosen, offered[1 - choice as usize]);
                }
            }
        }
    }
}

fn with_bases(sessions: Vec<Session>, bases: &[Vec<Option<Arc<Base>>>]) -> Vec<Session> {
    let give = |(mut session, bases): (Session, &Vec<Option<Arc<Base>>>)| {
        session.bases.clone_from(bases);
        session
    };
    sessions.into_iter().zip(bases).map(give).collect()
}

#[test]
fn the_receiver_has_the_pad_of_its_choice() {
    for parties in 2..=5 {
        for (cold, counts) in [
            (true, &[0, 3][..]),
            (false, &[1, 127, 128, 129]),
            (false, &[8063, 8064, 8065, 17_000]),
        ] {
            let sessions = sim::sessions(parties, 3);
            let sessions = if cold { sessions } else { sim::warm(sessions, 4) };
            let (outcome, pads) = run(sessions, counts, &[]);
            assert!(all_confirmed(&outcome), "{:?}", outcome.ends);
            check(&pads, counts);
        }
    }
}

#[test]
fn base_transfers_serve_later_sessions() {
    let bases = sim::bases(3, 1);
    let id = |a: usize, b: usize| *bases[a][b].as_ref().unwrap().id();
    assert_eq!((id(0, 1), id(0, 2), id(1, 2)), (id(1, 0), id(2, 0), id(2, 1)));
    let other = sim::bases(3, 2);
    let all: BTreeSet<[u8; 32]> = [id(0, 1), id(0, 2), id(1, 2), *other[0][1].as_ref().unwrap().id()].into();
    assert_eq!(all.len(), 4);
    let (outcome, pads) = run(with_bases(sim::sessions(3, 5), &bases), &[300], &[]);
    assert!(all_confirmed(&outcome));
    check(&pads, &[300]);
    // One message and the closing digest on each channel: no base transfers were made.
    assert_eq!(outcome.delivered.len(), 6 * 2);
    // Only one pair has lost its own: the others go on meanwhile.
    let mut some = bases.clone();
    some[0][2] = None;
    some[2][0] = None;
    let (outcome, pads) = run(with_bases(sim::sessions(3, 6), &some), &[300, 10], &[]);
    assert!(all_confirmed(&outcome), "{:?}", outcome.ends);
    check(&pads, &[300, 10]);
    assert_eq!(outcome.delivered.len(), 6 * 3 + 2);
}

/// 16 bytes of every message and pad: equal ones would show that a stream was used twice.
fn blocks(outcome: &Outcome, pads: &All) -> Vec<u128> {
    let mut all = Vec::new();
    // The closing digests are the same for all.
    let data = outcome
        .delivered
        .iter()
        .filter(|(_, _, message)| message.len() > HEADER + 32);
    for (_, _, message) in data {
        all.extend(
            message[HEADER..]
                .as_chunks::<16>()
                .0
                .iter()
                .map(|block| u128::from_le_bytes(*block)),
        );
    }
    for (_, pads) in pads.iter().flatten().flatten() {
        all.extend(pads.offered.iter().flatten());
    }
    all
}

#[test]
fn no_stream_is_used_twice() {
    let bases = sim::bases(2, 1);
    let session = |seed| with_bases(sim::sessions(2, seed), &bases);
    // The same choices in the same calls, twice in each session.
    let count = 1024;
    let (first, first_pads) = run(session(10), &[count, count], &[]);
    let (second, second_pads) = run(session(11), &[count, count], &[]);
    let (one, other) = (blocks(&first, &first_pads), blocks(&second, &second_pads));
    let mut seen: BTreeSet<u128> = BTreeSet::new();
    let distinct = one.iter().chain(&other).all(|block| seen.insert(*block));
    assert!(distinct, "a block came twice");
    // If a column's streams were the same in two sessions, the difference of its messages would be that of the choices: the same in every column.
    for (a, b) in first.delivered.iter().zip(&second.delivered) {
        let (a, b) = (&a.2[HEADER..], &b.2[HEADER..]);
        if a.len() < 1024 {
            continue;
        }
        // With the block that serves the check.
        let column = (count + 128) / 8;
        let differences: BTreeSet<Vec<u8>> = a
            .chunks(column)
            .zip(b.chunks(column))
            .take(128)
            .map(|(a, b)| a.iter().zip(b).map(|(a, b)| a ^ b).collect())
            .collect();
        assert_eq!(differences.len(), 128, "columns that differ alike");
    }
}

#[test]
fn lengths_depend_on_the_count_only() {
    let (outcome, _) = run(sim::sessions(2, 1), &[1000], &[]);
    let lengths: BTreeSet<usize> = outcome
        .delivered
        .iter()
        .map(|(_, _, message)| message.len() - HEADER)
        .collect();
    assert_eq!(lengths, [32, BASE_BYTES, Ot::message_bytes(1000)].into());
    // The matrix with a column's last block for the check; a digest of each column and of the choices.
    assert_eq!(Ot::message_bytes(1000), (1024 + 128) * 16 + 129 * 16);
    assert_eq!(Ot::message_bytes(0), 0);
}

#[test]
fn broken_messages_are_refused() {
    for index in 0..2 {
        for fault in [
            Fault::Truncate(1),
            Fault::Truncate(40),
            Fault::Drop,
            Fault::Repeat,
            Fault::Delay,
        ] {
            let faults = [FaultAt {
                from: 1,
                to: 0,
                index,
                fault,
            }];
            let (outcome, _) = run(sim::sessions(3, 1), &[200], &faults);
            let refused = matches!(outcome.ends[0], End::Aborted(Abort::Peer(party, _)) if party.index() == 1);
            match fault {
                Fault::Truncate(_) => assert!(refused, "{fault:?}: {:?}", outcome.ends[0]),
                Fault::Delay => assert!(all_confirmed(&outcome)),
                _ => assert!(!all_confirmed(&outcome), "{fault:?}"),
            }
        }
    }
    // Bits of points: most are none any more, others make keys that do not fit. Bits of the extension's message.
    for (of_base, bytes) in [(true, BASE_BYTES), (false, Ot::message_bytes(10))] {
        for bit in (0..bytes * 8).step_by(bytes * 8 / 11) {
            let faults = [FaultAt {
                from: 1,
                to: 0,
                index: 0,
                fault: Fault::Flip(bit),
            }];
            let sessions = sim::sessions(2, 1);
            let sessions = if of_base { sessions } else { sim::warm(sessions, 1) };
            let (outcome, _) = run(sessions, &[10], &faults);
            let malformed = |end: &End| matches!(end, End::Aborted(Abort::Peer(_, net::Fault::Malformed(_))));
            let inconsistent = |end: &End| matches!(end, End::Aborted(Abort::Peer(_, net::Fault::Inconsistent)));
            let ends = &outcome.ends;
            if of_base {
                assert!(malformed(&ends[0]) || ends.iter().any(inconsistent), "{bit}: {ends:?}");
            } else {
                assert!(inconsistent(&ends[0]), "{bit}: {ends:?}");
            }
        }
    }
}

#[test]
fn base_transfers_of_a_peer_that_was_found_out_are_used_no_more() {
    let bases = sim::bases(3, 1);
    let session = |seed| with_bases(sim::sessions(3, seed), &bases);
    let flip = FaultAt {
        from: 1,
        to: 0,
        index: 0,
        fault: Fault::Flip(100),
    };
    let refused =
        |end: &End| matches!(end, End::Aborted(Abort::Peer(party, net::Fault::Inconsistent)) if party.index() == 1);
    let (outcome, _) = run(session(2), &[10], &[flip]);
    assert!(refused(&outcome.ends[0]), "{:?}", outcome.ends);
    // In another session nobody deviates: but the first could by now have told the other something.
    let (outcome, pads) = run(session(3), &[10], &[]);
    assert!(refused(&outcome.ends[0]), "{:?}", outcome.ends);
    assert!(pads[0].is_empty() && !pads[2].is_empty());
}

#[test]
fn known_answers() {
    let (outcome, pads) = run(sim::sessions(2, 42), &[256], &[]);
    let message = |(from, to, message): &(Party, Party, bytes::Bytes)| {
        format!(
            "{} {} {} {}",
            from.index(),
            to.index(),
            message.len(),
            blake3::hash(message)
        )
    };
    let mut lines: Vec<String> = outcome.delivered.iter().map(message).collect();
    lines.sort();
    for (me, calls) in pads.iter().enumerate() {
        for (peer, pads) in calls.iter().flatten() {
            let mut hasher = blake3::Hasher::new();
            let all = pads.chosen.iter().chain(pads.offered.iter().flatten());
            all.for_each(|pad| {
                hasher.update(&pad.to_le_bytes());
            });
            lines.push(format!("{me} {} pads {}", peer.index(), hasher.finalize()));
        }
    }
    let expected = include_str!("../../../vectors/ot.txt");
    let expected: Vec<&str> = expected.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines, expected, "{}", lines.join("\n"));
}
