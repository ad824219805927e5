//! Any bytes at any stage.

use bytes::Bytes;
use fdrtd_mpc::net::{HEADER, Party};
use proptest::prelude::*;

use super::world::{World, check_forgotten};
use crate::reason::{Reason, Stage};
use crate::session::message::DATA;
use crate::session::{CONTROL_BYTES, EARLY, End, Phase, Session, peek_hello};

/// Party 0 of three, whose peers have not joined, are not ready, have not sent data, or their closing digests: party 1 has just
/// sent what is missing, and what it sent after that is in `taken`.
fn at(stage: usize) -> (World, Vec<Bytes>) {
    let mut world = World::new(3, 1);
    world.hostile = Some(1);
    for me in 0..3 {
        world.join(me);
        for other in world.others(me) {
            world.find(me, other);
        }
    }
    world.run_without_inputs();
    let mut sent = std::mem::take(&mut world.taken);
    for stage in 0..stage {
        let (due, later): (Vec<_>, Vec<_>) = sent.into_iter().partition(|(_, message)| order(message) == stage);
        sent = later;
        for (to, message) in due {
            world.receive(1, to, &message);
        }
        world.run_without_inputs();
        if stage == 0 {
            for me in 0..3 {
                world.give_input(me);
            }
            world.run_without_inputs();
        }
        sent.append(&mut world.taken);
    }
    let (next, later): (Vec<_>, Vec<_>) = sent.into_iter().partition(|(_, message)| order(message) == stage);
    world.taken = later;
    let next = next.into_iter().filter(|(to, _)| *to == 0);
    let next = next.map(|(_, message)| message).collect();
    (world, next)
}

/// Hello, Ready, data, closing digest.
fn order(message: &[u8]) -> usize {
    match message[0] {
        DATA if message[HEADER - 4] == 0 => 2,
        DATA => 3,
        kind => usize::from(kind) - 1,
    }
}

fn party(index: usize) -> Party {
    Party::new(index, 3).unwrap()
}

fn within_bounds(session: &Session) {
    assert!(session.peers.iter().all(|peer| peer.early.len() <= EARLY));
    if let Phase::Running(run) = &session.phase {
        assert!(run.inbox.len() <= 2 * EARLY);
    }
}

/// Delivers to party 0 and lets it compute; whoever is to blame is party 1.
fn deliver(world: &mut World, message: &Bytes) {
    let now = world.now;
    let session = world.session(0);
    session.receive(party(1), message, now);
    within_bounds(session);
    while let Some(job) = session.job() {
        session.finish(job.run());
    }
    assert!(
        session
            .outgoing()
            .iter()
            .all(|(_, message)| message.len() <= CONTROL_BYTES)
    );
    match session.end() {
        Some(End::Failed { reason, .. }) => {
            let named = reason.party().is_none_or(|party| party == 1);
            assert!(named || *reason == Reason::StoriesDiffer {}, "{reason:?}");
            check_forgotten(session);
        }
        Some(End::Done { .. }) => panic!("a result without party 1"),
        None => {}
    }
}

#[test]
fn the_stages_are_what_they_should_be() {
    for stage in 0..4 {
        let (world, next) = at(stage);
        let kind = [1, 2, 3, 3][stage];
        assert!(
            !next.is_empty() && next.iter().all(|message| message[0] == kind),
            "stage {stage}: {next:?}"
        );
        let session = world.nodes[0].session.as_ref().unwrap();
        assert_eq!(session.joined_count() == 3, stage >= 1, "stage {stage}");
        assert_eq!(session.running(), stage >= 2, "stage {stage}");
        assert_eq!(session.opened(), stage >= 3, "stage {stage}");
    }
}

#[test]
fn aborts_that_speak_of_nobody_are_nonsense() {
    for (text, by) in [
        ("{\"code\":\"CANCELLED\",\"party\":3}", 1),
        ("{\"code\":\"CANCELLED\",\"party\":2}", 3),
        ("{\"code\":\"KEY_TWICE\",\"party\":0,\"other\":3}", 1),
        ("{\"code\":\"EXPIRED\",\"stage\":\"run\",\"missing\":[0,9]}", 1),
        ("{\"code\":\"STORIES_DIFFER\"", 1),
        ("", 1),
    ] {
        let (mut world, _) = at(1);
        world.receive(1, 0, &Bytes::from([&[4, by], text.as_bytes()].concat()));
        let reason = Reason::PeerMalformed { party: 1 };
        let reported_by = None;
        assert_eq!(world.end(0), Some(&End::Failed { reason, reported_by }), "{text}");
    }
    let (mut world, _) = at(1);
    let long = format!(
        "{{\"code\":\"CANCELLED\",\"party\":1}}{}",
        " ".repeat(Reason::MAX_BYTES)
    );
    world.receive(1, 0, &Bytes::from([&[4, 1], long.as_bytes()].concat()));
    assert!(matches!(
        world.end(0),
        Some(End::Failed {
            reason: Reason::PeerMalformed { party: 1 },
            ..
        })
    ));
}

#[test]
fn data_that_come_early_wait_for_their_session() {
    let (mut world, ready) = at(1);
    let foreign = Bytes::from([&[DATA][..], &[7; 60]].concat());
    world.receive(1, 0, &foreign);
    for message in ready {
        world.receive(1, 0, &message);
    }
    let session = world.nodes[0].session.as_ref().unwrap();
    assert!(session.running(), "those of another session are no fault");
    // Those of this one are not lost.
    let (mut world, ready) = at(1);
    let data = std::mem::take(&mut world.taken).into_iter();
    let data = data.filter(|(to, _)| *to == 0).map(|(_, message)| message);
    for message in data.chain(ready) {
        world.receive(1, 0, &message);
    }
    assert_eq!(world.session(0).waiting_for(), (Stage::Run, vec![2]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn is_survived(
        stage in 0usize..4,
        messages in prop::collection::vec((0u8..6, prop::collection::vec(any::<u8>(), 0..200)), 1..6),
    ) {
        let (mut world, _) = at(stage);
        for (kind, body) in messages {
            let message = Bytes::from([&[kind], &body[..]].concat());
            let _ = peek_hello(&message);
            // An abort may say anything of anybody, if it can be read.
            if kind != 4 {
                deliver(&mut world, &message);
            }
        }
    }

    #[test]
    fn so_are_changed_messages(stage in 0usize..4, which in 0usize..3, bit in any::<usize>(), cut in any::<usize>()) {
        let (mut world, next) = at(stage);
        if let Some(message) = next.get(which % next.len().max(1)) {
            let mut bytes = message.to_vec();
            let bit = bit % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes.truncate(bytes.len() - cut % 3 * (cut % 50).min(bytes.len()) / 3);
            deliver(&mut world, &Bytes::from(bytes));
        }
    }

    #[test]
    fn and_repeated_ones(stage in 0usize..4, count in 1usize..12) {
        let (mut world, next) = at(stage);
        for message in next.iter().cycle().take(count * next.len()) {
            let now = world.now;
            let session = world.session(0);
            session.receive(party(1), message, now);
            within_bounds(session);
        }
    }

    #[test]
    fn aborts_of_any_text(text in "[ -~]{0,80}", by in any::<u8>()) {
        let (mut world, _) = at(2);
        let message = Bytes::from([&[4, by], text.as_bytes()].concat());
        deliver(&mut world, &message);
        prop_assert!(world.end(0).is_some());
    }
}
