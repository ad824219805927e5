//! What becomes of a result that not everybody confirms, and how an end is told.

use bytes::Bytes;
use fdrtd_mpc::net::HEADER;

use super::world::{World, check_forgotten, key};
use crate::reason::{Reason, Report, Stage};
use crate::session::message::{ABORT, DATA, Hello, decode_abort, encode_abort};
use crate::session::{End, Session};

/// Everybody has the result, and party 0 misses the closing digests of `missing`, which are in `taken` if it is the one that is hostile.
fn opened(parties: usize, missing: &[usize], hostile: Option<usize>) -> World {
    let mut world = World::new(parties, 1);
    for me in 0..parties {
        world.join(me);
    }
    for me in 0..parties {
        for other in world.others(me) {
            world.find(me, other);
        }
    }
    world.run_without_inputs();
    for me in 0..parties {
        world.give_input(me);
    }
    world.run_without_those_to(0, missing, 1);
    world.hostile = hostile;
    assert!(world.session(0).opened());
    world
}

fn done(world: &World, unconfirmed: &[usize]) -> Option<End> {
    Some(End::Done {
        result: world.sum(),
        unconfirmed: unconfirmed.to_vec(),
    })
}

fn receive(world: &mut World, from: usize, message: &Bytes) {
    world.receive(from, 0, message);
}

fn abort(world: &mut World, from: usize, reason: Reason) {
    receive(world, from, &encode_abort(&reason, from));
}

fn benign(party: usize) -> Vec<Reason> {
    let missing = vec![party];
    vec![
        Reason::Cancelled { party },
        Reason::Internal { party },
        Reason::PeerRestarted { party },
        Reason::PeerSilent { party: 0 },
        Reason::Expired {
            stage: Stage::Run,
            missing,
        },
    ]
}

#[test]
fn who_leaves_does_not_keep_the_others_from_confirming() {
    for reason in benign(1) {
        let mut world = opened(4, &[1, 2, 3], None);
        abort(&mut world, 1, reason);
        assert_eq!(world.end(0), None);
        assert_eq!(world.session(0).waiting_for(), (Stage::Run, vec![2, 3]));
        world.run_without_those_to(0, &[1], 1);
        assert_eq!(world.end(0), done(&world, &[1]).as_ref());
        check_forgotten(world.session(0));
    }
}

#[test]
fn who_has_confirmed_may_leave() {
    for reason in benign(2) {
        let mut world = opened(4, &[1], None);
        abort(&mut world, 2, reason);
        assert_eq!(world.end(0), None);
        world.run_without_inputs();
        assert_eq!(world.end(0), done(&world, &[]).as_ref());
    }
}

#[test]
fn when_all_have_left_the_result_is_given_as_it_is() {
    let mut world = opened(4, &[1, 3], None);
    abort(&mut world, 3, Reason::Cancelled { party: 3 });
    assert_eq!(world.end(0), None);
    // Again and again: it changes nothing.
    for _ in 0..1_000 {
        abort(&mut world, 3, Reason::Cancelled { party: 3 });
    }
    let (peer, now) = (world.party(1), world.now);
    world.session(0).peer_restarted(peer, now);
    assert_eq!(world.end(0), done(&world, &[1, 3]).as_ref());
}

#[test]
fn whoever_says_that_somebody_is_not_honest_ends_it_without_a_result() {
    for reason in [
        Reason::StoriesDiffer {},
        Reason::PeerMalformed { party: 3 },
        Reason::KeysDiffer { party: 2 },
        Reason::ShapesDiffer { party: 2 },
        Reason::KeyTwice { party: 1, other: 2 },
    ] {
        let mut world = opened(4, &[1], None);
        abort(&mut world, 2, reason.clone());
        let reported_by = Some(Report {
            by: 2,
            passed_on_by: None,
        });
        assert_eq!(world.end(0), Some(&End::Failed { reason, reported_by }));
    }
}

#[test]
fn one_digest_that_differs_is_enough() {
    // Party 1 keeps its own back, so that nobody hears of what party 2 has said.
    let mut world = opened(4, &[1, 2], Some(2));
    let mut digest = vec![0; HEADER + 32];
    digest[0] = DATA;
    digest[1..33].copy_from_slice(&world.session(0).sid().unwrap());
    digest[33] = 1;
    receive(&mut world, 2, &Bytes::from(digest));
    let reason = Reason::StoriesDiffer {};
    let reported_by = None;
    assert_eq!(world.end(0), Some(&End::Failed { reason, reported_by }));
    world.run();
    // The others hear of it. Those who had everybody's confirmation before keep it.
    for other in [1, 3] {
        assert!(matches!(
            world.end(other),
            Some(
                End::Failed {
                    reason: Reason::StoriesDiffer {},
                    ..
                } | End::Done { .. }
            )
        ));
    }
}

#[test]
fn who_leaves_while_its_digest_is_looked_at_has_confirmed_or_not() {
    for same in [true, false] {
        let mut world = opened(3, &[1], None);
        world.hold = 1;
        let mut digest = world.closing(1, 0);
        if !same {
            let mut changed = digest.to_vec();
            changed[HEADER] ^= 1;
            digest = Bytes::from(changed);
        }
        receive(&mut world, 1, &digest);
        abort(&mut world, 1, Reason::Cancelled { party: 1 });
        assert_eq!(world.end(0), None, "the digest is there, and it counts");
        world.hold = 0;
        world.compute(0);
        if same {
            assert_eq!(world.end(0), done(&world, &[]).as_ref());
        } else {
            let reason = Reason::StoriesDiffer {};
            let reported_by = None;
            assert_eq!(world.end(0), Some(&End::Failed { reason, reported_by }));
        }
    }
}

#[test]
fn a_closing_digest_that_is_none_ends_it() {
    let mut world = opened(3, &[1], None);
    let mut message = vec![0; HEADER + 31];
    message[0] = DATA;
    message[1..33].copy_from_slice(&world.session(0).sid().unwrap());
    message[33] = 1;
    receive(&mut world, 1, &Bytes::from(message));
    let reason = Reason::PeerMalformed { party: 1 };
    let reported_by = None;
    assert_eq!(world.end(0), Some(&End::Failed { reason, reported_by }));
}

#[test]
fn who_cancels_has_no_result_and_the_others_know_that_it_did_not_confirm() {
    let mut world = opened(3, &[1, 2], None);
    world.cancel(0);
    assert!(matches!(
        world.end(0),
        Some(End::Failed {
            reason: Reason::Cancelled { party: 0 },
            reported_by: None
        })
    ));
    world.run();
    for me in 1..3 {
        // Its digest was on its way before it left.
        assert_eq!(world.end(me), done(&world, &[]).as_ref());
    }
}

#[test]
fn a_reason_told_to_one_reaches_everybody_with_its_origin() {
    let mut world = World::new(4, 1);
    world.hostile = Some(3);
    for me in 0..4 {
        world.join(me);
        for other in world.others(me) {
            world.find(me, other);
        }
    }
    world.run_without_inputs();
    abort(&mut world, 3, Reason::PeerMalformed { party: 2 });
    world.run_without_inputs();
    let report = |passed_on_by| Some(Report { by: 3, passed_on_by });
    for (me, reported_by) in [(0, report(None)), (1, report(Some(0))), (2, report(Some(0)))] {
        let reason = Reason::PeerMalformed { party: 2 };
        assert_eq!(world.end(me), Some(&End::Failed { reason, reported_by }));
    }
}

fn hello(session: &Session, nonce: [u8; 32]) -> Bytes {
    let hello = Hello {
        rules: session.rules,
        has_ours: false,
        nonce,
        seed: zeroize::Zeroizing::new([3; 32]),
    };
    hello.encode(&session.text)
}

fn told(message: Option<Bytes>) -> Option<(Reason, usize)> {
    message.map(|message| decode_abort(&message, 3).unwrap())
}

#[test]
fn who_comes_after_the_end_is_told() {
    let mut world = opened(3, &[1], None);
    world.run();
    assert_eq!(world.end(0), done(&world, &[]).as_ref());
    let (one, nonce) = (world.party(1), world.session(1).nonce);
    let session = world.session(0);
    // The Hello that the computation was made with, late.
    assert_eq!(told(session.farewell(Some(one), &hello(session, nonce))), None);
    // Its node was started anew and has lost that there was a result.
    let farewell = session.farewell(Some(one), &hello(session, [9; 32]));
    assert_eq!(told(farewell), Some((Reason::PeerRestarted { party: 1 }, 0)));
    // Somebody else.
    assert_eq!(told(session.farewell(None, &hello(session, [9; 32]))), None);
    assert_eq!(session.farewell(Some(one), &Bytes::from_static(&[ABORT])), None);
    assert_eq!(told(session.epitaph()), Some((Reason::Cancelled { party: 0 }, 0)));

    // This node was started anew, too, and has forgotten who took part.
    let end = session.end().unwrap().clone();
    world.join(0);
    let session = world.session(0);
    assert_eq!(session.epitaph(), None);
    session.restore(end, None);
    let farewell = session.farewell(None, &hello(session, [9; 32]));
    assert_eq!(told(farewell), Some((Reason::PeerRestarted { party: 0 }, 0)));
    check_forgotten(session);

    // Without a result, its reason.
    let reason = Reason::KeyTwice { party: 1, other: 2 };
    let reported_by = Some(Report {
        by: 2,
        passed_on_by: Some(1),
    });
    world.join(0);
    let session = world.session(0);
    let failed = End::Failed {
        reason: reason.clone(),
        reported_by,
    };
    session.restore(failed, None);
    for message in [session.farewell(None, &hello(session, [9; 32])), session.epitaph()] {
        assert_eq!(told(message), Some((reason.clone(), 2)));
    }
}

#[test]
fn a_party_that_comes_back_when_the_result_is_there_is_told() {
    let mut world = opened(3, &[1, 2], None);
    let message = hello(world.session(0), [9; 32]);
    receive(&mut world, 1, &message);
    assert_eq!(world.end(0), None);
    let now = world.now;
    let peer = world.party(2);
    world.session(0).peer_restarted(peer, now);
    assert_eq!(world.end(0), done(&world, &[1, 2]).as_ref());
    // What it was told before the end.
    world.run();
    assert_eq!(world.sent.get(&ABORT), Some(&1));
}

#[test]
fn a_key_that_changes_ends_it() {
    let mut world = World::new(3, 1);
    world.join(0);
    world.find(0, 1);
    let party = world.party(1);
    let session = world.session(0);
    session.set_key(party, key(1));
    assert_eq!(session.end(), None);
    session.set_key(party, key(77));
    let reason = Reason::KeysDiffer { party: 1 };
    let reported_by = None;
    assert_eq!(session.end(), Some(&End::Failed { reason, reported_by }));
}

#[test]
fn a_party_that_was_started_anew_has_neither_joined_nor_given_an_input() {
    let mut world = World::new(3, 1);
    for me in 0..3 {
        world.join(me);
        for other in world.others(me) {
            world.find(me, other);
        }
    }
    world.run_without_inputs();
    world.give_input(1);
    world.run_without_inputs();
    let (now, peer) = (world.now, world.party(1));
    let session = world.session(0);
    assert!(session.joined(1) && session.has_input(1));
    assert_eq!(session.waiting_for(), (Stage::Input, vec![0, 2]));
    session.peer_restarted(peer, now);
    assert!(!session.joined(1) && !session.has_input(1));
    assert_eq!(session.waiting_for(), (Stage::Join, vec![1]));
    // It joins again, with its input still to come.
    let message = hello(session, [9; 32]);
    session.receive(peer, &message, now);
    assert!(session.joined(1) && !session.has_input(1));
    assert_eq!(session.waiting_for(), (Stage::Input, vec![0, 1, 2]));
}
